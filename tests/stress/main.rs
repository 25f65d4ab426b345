//! Real threads on one pool. Bounded by what they do, not by time.

#[path = "../common/mod.rs"]
mod common;
mod support;

mod bound;
mod expiry;
mod misses;
mod ownership;
mod sockets;
mod watching;
mod width;
