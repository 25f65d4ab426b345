//! The managed pool: limits, waiting, connecting, and whoever goes away in between.
//!
//! Time is tokio's, paused, and the pool's manual clock. Names such as *A.3* are of known
//! mistakes of other pools; each test says which one it rules out.
#![cfg(feature = "tokio")]

mod barging;
mod cancel;
mod capacity;
mod connects;
mod ends;
mod fair;
mod fairness;
mod first;
mod fresh;
mod group_limits;
mod growth;
mod health;
mod hit;
mod lessons;
mod limits;
mod line;
mod minimum;
mod misses;
mod points;
mod prewarm;
mod recovery;
mod resize;
mod scarce;
mod shared;
mod starved;
mod stats;
mod support;
mod threads;
mod watched;
