//! What peers and machines do to idle connections, on real sockets.
//!
//! In each test: no connection is handed out whose death was known, none is left in
//! `CLOSE_WAIT` after two steps of the reaper, all descriptors are given back, and the
//! counters are exact.

#![cfg(target_os = "linux")]

mod abort;
mod busy;
mod crowd;
mod learned;
mod peer;
mod restart;
mod single;
mod stall;
mod tls;
mod world;
