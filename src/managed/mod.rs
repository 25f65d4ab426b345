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
//!   is there, the connection is idle. A caller that goes away cancels none. One that is
//!   under way keeps the pool until it has ended; nothing else does but handles and leases.
//! * *A failed connect* is told to the caller that it was started for. If the peer has
//!   nothing else, no connection and no other connect, it is told to all who wanted one. As
//!   long as a peer has no connection, none is started in place of one that has failed.
//! * *One connection for several*, where it can serve them:
//!   [`acquire_shared`](Pool::acquire_shared) gives a stream of one that is in use already.
//! * *A permit for each connection*, which is freed when the connection is closed, wherever
//!   and however that happens. So closing a connection wakes who waits, as releasing one
//!   does.
//! * *Before they are needed*, connections are opened by [`Pool::prewarm`], by
//!   [increments](Builder::grow_by), and by maintenance, which keeps peers that are in use at
//!   their [minimum](Builder::keep_warm). Where connects fail, it waits
//!   [longer each time](Builder::backoff).
//! * *A peer that is down*, by hand or, if that was [asked for](Builder::down_after), because
//!   connects to it fail, turns callers away at once. One connect at a time finds out
//!   whether it is back.
//! * *A place in the pool for each connection*, taken before it is opened. An idle
//!   connection of another peer makes room, and if there is none, its caller waits, for a
//!   place and for a connection of its peer at once.

#[cfg(feature = "tokio")]
mod acquire;
#[cfg(feature = "tokio")]
mod agenda;
#[cfg(feature = "tokio")]
mod attempt;
#[cfg(feature = "tokio")]
mod builder;
pub(crate) mod channel;
#[cfg(feature = "tokio")]
mod condition;
pub(crate) mod desk;
#[cfg(feature = "tokio")]
mod error;
#[cfg(feature = "tokio")]
mod fairness;
#[cfg(feature = "tokio")]
mod fresh;
#[cfg(feature = "tokio")]
mod group_limits;
pub(crate) mod health;
#[cfg(feature = "tokio")]
mod histogram;
#[cfg(feature = "tokio")]
mod keeper;
#[cfg(feature = "tokio")]
mod lease;
pub(crate) mod limits;
pub(crate) mod line;
#[cfg(feature = "tokio")]
mod manager;
#[cfg(feature = "tokio")]
mod pool;
#[cfg(feature = "tokio")]
mod prewarm;
#[cfg(feature = "tokio")]
mod registry;
#[cfg(feature = "tokio")]
mod room;
#[cfg(feature = "tokio")]
mod settings;
#[cfg(feature = "tokio")]
mod shared;
#[cfg(feature = "tokio")]
mod sharing;
#[cfg(feature = "tokio")]
mod slot;
pub(crate) mod starved;
#[cfg(feature = "tokio")]
mod stats;
pub(crate) mod streams;
#[cfg(feature = "tokio")]
mod tally;
pub(crate) mod turn;
#[cfg(feature = "tokio")]
mod waiting;
#[cfg(feature = "tokio")]
mod whole;
pub(crate) mod word;

#[cfg(feature = "tokio")]
pub use self::{
    builder::{Builder, OnMiss},
    condition::Health,
    error::{AcquireError, ConfigError},
    fairness::Fairness,
    group_limits::GroupLimits,
    histogram::Histogram,
    lease::{Lease, Meta, Pooled, PooledOwned},
    manager::Manager,
    pool::Pool,
    settings::Settings,
    shared::{Shared, SharedOwned, SharedPooled},
    slot::Slot,
    stats::{Connects, Stats},
    whole::{Drained, GroupStatus, Status},
};
