//! The managed pool: limits, waiting, connecting, and whoever goes away in between.
//!
//! Time is tokio's, paused, and the pool's manual clock. Names such as *A.3* are of known
//! mistakes of other pools; each test says which one it rules out.
#![cfg(feature = "tokio")]

mod cancel;
mod connects;
mod ends;
mod limits;
mod line;
mod misses;
mod shared;
mod support;
mod threads;
