//! Stands in for `pingora-pool` 0.9.1 under an unmodified Pingora: the same names, and the
//! idle connections in a [`slabpool::Pool`].
//!
//! Two lines in the `Cargo.toml` of a program that uses Pingora put it in place:
//!
//! ```toml
//! [patch.crates-io]
//! pingora-pool = { path = "../slabpool/compat/pingora-pool" }
//! ```
//!
//! # What is different
//!
//! * The size of a pool is a bound that holds at every moment, whatever races; 0 pools
//!   nothing. At the bound one connection goes for one that comes, the one released longest
//!   ago.
//! * The connection released last is the first to be used again.
//! * A connection is known by a token that is never used twice, not by its file descriptor.
//!   What comes too late for it does nothing, whoever has its number by then.
//! * An idle connection is not locked: whoever gets it need not wait for its watcher.
//! * A get does not return a connection whose idle timeout is over, or whose end its watcher
//!   has seen. A timeout of zero means that it is not used again.
//! * Groups without connections are let go of, but for at most 256 that one was taken from
//!   last, and whose next one is put in sooner for that. [`ConnectionPool::status`] lets go
//!   of those too.
//! * No thread and no task is started, by nothing.
//!
//! What [`ConnectionPool::put`] returns has types of its own. Pingora hands it on to
//! [`ConnectionPool::idle_poll`] or [`ConnectionPool::idle_timeout`], and does not look.
//!
//! # What stays
//!
//! Keys are hashes that Pingora has made. The pool compares them, but two peers whose
//! hashes are equal are one to it.

mod idle;
mod kept;
mod meta;
mod node;
mod peek;
mod pool;
mod spoiled;
mod unused;
mod watch;

pub use idle::{Idle, WatchUse};
pub use meta::ConnectionMeta;
pub use node::PoolNode;
pub use pool::ConnectionPool;
