//! Code of the user that panics wherever it is called, uses the pool while the pool calls
//! it, or keeps what it should give back.

#[path = "../common/mod.rs"]
mod common;

mod fuse;
mod outside;
mod panics;
mod reentry;
#[cfg(feature = "tokio")]
mod wakers;
