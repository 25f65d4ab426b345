//! A pool that opens its connections, and whose callers wait: ask for a connection, and
//! get an idle one, a new one, or a clear error by a deadline.
//!
//! ```
//! use slabpool::managed::Pool;
//!
//! # #[derive(Debug)] struct Connection;
//! # async fn dial(_: String) -> std::io::Result<Connection> { Ok(Connection) }
//! # async fn exchange(_: &mut Connection) -> std::io::Result<()> { Ok(()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder(|peer: &String| dial(peer.clone()))
//!     .max_connections_per_group(16)
//!     .build()?;
//!
//! let mut connection = pool.acquire("10.0.0.7:6379").await?;
//! exchange(&mut connection).await?;  // an error drops the lease, which closes it
//! connection.release();
//! # Ok(())
//! # }
//! ```
//!
//! An idle connection costs what it costs in the [pool below](crate::Pool), and one load
//! more for each way. Who finds none goes to the desk of the peer, where there is a lock:
//!
//! * *Who waits, waits in line.* Connections are handed over, to whoever waits longest. A
//!   newcomer that finds an idle connection while others wait leaves it to them.
//! * *Connects are nobody's own.* They run in tasks, as many as there are callers that want
//!   one, within the limits. What comes of one goes to the first in the line, and if nobody
//!   is there, the connection is idle. A caller that goes away cancels none.
//! * *A failed connect* is told to the caller that it was started for. If the peer has
//!   nothing else, no connection and no other connect, it is told to all who wanted one. As
//!   long as a peer has no connection, none is started in place of one that has failed.
//! * *One connection for several*, where it can serve them:
//!   [`acquire_shared`](Pool::acquire_shared) gives a stream of one that is in use already.
//! * *A permit for each connection*, which is freed when the connection is closed, wherever
//!   and however that happens. So closing a connection wakes who waits, as releasing one
//!   does.

#[cfg(feature = "tokio")]
mod attempt;
#[cfg(feature = "tokio")]
mod builder;
pub(crate) mod channel;
pub(crate) mod desk;
#[cfg(feature = "tokio")]
mod error;
#[cfg(feature = "tokio")]
mod lease;
pub(crate) mod line;
#[cfg(feature = "tokio")]
mod manager;
#[cfg(feature = "tokio")]
mod pool;
#[cfg(feature = "tokio")]
mod registry;
#[cfg(feature = "tokio")]
mod shared;
#[cfg(feature = "tokio")]
mod sharing;
#[cfg(feature = "tokio")]
mod slot;
pub(crate) mod streams;
#[cfg(feature = "tokio")]
mod waiting;
#[cfg(feature = "tokio")]
mod whole;
pub(crate) mod word;

#[cfg(feature = "tokio")]
pub use self::{
    builder::{Builder, OnMiss},
    error::{AcquireError, ConfigError},
    lease::{Lease, Meta, Pooled, PooledOwned},
    manager::Manager,
    pool::Pool,
    shared::{Shared, SharedOwned, SharedPooled},
    slot::Slot,
    whole::{GroupStatus, Status},
};
