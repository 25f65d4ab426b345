//! A keyed pool of reusable upstream connections, for the hot path of proxies and
//! clients.
//!
//! ```
//! use slabpool::Pool;
//!
//! # fn connect(_: &str) -> std::io::Result<String> { Ok(String::new()) }
//! # fn exchange(_: &mut String) {}
//! let pool = Pool::<String, _>::builder().capacity(1_000).build()?;
//!
//! // Take the connection released last, or open one.
//! let mut connection = match pool.get("10.0.0.7:443") {
//!     Some(connection) => connection,
//!     None => pool.insert("10.0.0.7:443", connect("10.0.0.7:443")?)?,
//! };
//! exchange(&mut connection);
//! // Clean again: the next request may have it. Dropping it would close it.
//! connection.release();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `get` and `release` take no lock and allocate nothing. Everything else happens
//! without a task, a timer, a lock or an allocation for each idle connection: idle
//! timeout and lifetime, a strict bound with least-recently-released eviction,
//! removal of one connection by its [`Token`], limits for each group; and, for
//! connections that implement [`Connection`], knowing at once when the peer of an idle one
//! has hung up.
//!
//! Begin with [`Pool`] and [`Builder`]. [`Group`] is a pool seen from one key, [`Lease`] a
//! connection in use; [`Stats`] says what has happened, and why gets missed.
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `tokio` | yes, by `net` | `Pool::reaper`, spawned by the first insertion; `Pool::drain` |
//! | `net` | yes | [`Connection`] for tokio's sockets |
//! | `std-net` | | ... for std's sockets, on Unix |
//! | `rustls` | | ... for tokio-rustls' `TlsStream` |
//! | `hyper`, `hyper-http2` | | ... for hyper's `SendRequest` |
//! | `http-client` | | `http`: an HTTP client on the managed pool; with `rustls`, of `https` too |
//! | `metrics` | | a pool's numbers for the `metrics` facade |
//! | `tracing` | | events when connections are closed or refused, and of administration |
//! | `serde` | | settings from a file; `Serialize` for what [`Pool::inspect`] returns |
//!
//! # What it is not
//!
//! [`Pool`] opens no connections, and nobody waits for one: [`Pool::get`] returns at
//! once, and each connection serves one at a time. The module `managed` (feature `tokio`) is
//! the layer above: it connects, lets callers wait, and shares connections that serve
//! several.

mod ageing;
mod builder;
mod capacity;
mod checked;
mod config;
mod connection;
mod core;
mod directory;
mod drain;
mod ending;
mod engine;
mod error;
mod events;
#[cfg(feature = "serde")]
pub mod file;
mod generation;
mod ghosts;
mod group;
mod handle;
#[cfg(feature = "http-client")]
pub mod http;
mod insert;
mod inspect;
mod keep_alive;
mod learned;
mod learning;
mod lease;
mod limits;
mod liveness;
mod look;
#[cfg(any(feature = "tokio", slabpool_loom))]
pub mod managed;
mod miss;
mod pool;
mod raw_lease;
mod reaper;
#[cfg(feature = "tokio")]
mod reaper_task;
mod reconfigure;
mod release;
mod remove;
mod retirement;
mod settings;
mod shelf;
#[cfg(feature = "tokio")]
mod standing;
mod stats;
mod store;
mod sync;
#[cfg(feature = "metrics")]
pub mod telemetry;
mod terms;
mod time;
mod token;
mod trim;
#[cfg(any(feature = "tokio", slabpool_loom))]
mod unit;
mod watch;

pub use builder::Builder;
pub use connection::{CloseMode, Connection, Liveness};
#[cfg(feature = "tokio")]
pub use drain::Drained;
pub use error::{CloseReason, ConfigError, RejectReason, Rejected};
pub use ghosts::{Ago, Ghosts};
pub use handle::Group;
pub use inspect::{ConnectionSnapshot, ConnectionState, GroupSnapshot, Snapshot};
pub use keep_alive::KeepAlive;
pub use lease::{Lease, Pooled, PooledOwned};
pub use miss::{Miss, Misses};
pub use pool::Pool;
pub use settings::{GroupSettings, PutOptions, RetirementBudget, Settings};
pub use stats::{Closes, GroupStats, Meta, Stats, Status};
pub use time::{Clock, ManualClock};
pub use token::Token;

// The slab's keys need 64 bits for its threads, places and generations.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("slabpool needs a 64-bit target");

/// The code in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What `loom-tests` may see of the inside. Not part of the public API, and absent
/// from the published crate.
#[cfg(slabpool_loom)]
#[doc(hidden)]
pub mod model {
    pub use crate::core::batch::Batch;
    pub use crate::core::ghost::{GhostTable, STEP};
    pub use crate::core::index::{Index, Sought};
    pub use crate::core::lane::Lane;
    pub use crate::core::lanes::Lanes;
    use crate::core::lanes::NUMBER;
    pub use crate::core::lru::Lru;
    pub use crate::core::seat::{Alarm, Card, Seat};
    pub use crate::core::state::Phase;
    pub use crate::core::strained::Watched;
    pub use crate::core::tagged::{Head, NIL};
    pub use crate::core::ticket::{Claim, IN_PLACE, Ticket};
    pub use crate::core::{Core, Found};
    pub use crate::managed::channel::{Channel, Channels};
    pub use crate::managed::desk::{Desk, Joins, News, Starving, Ticket as Place, Trade, Way};
    pub use crate::managed::health::{Blow, Policy, Struck, Vitals};
    pub use crate::managed::limits::{Limits, Own};
    pub use crate::managed::starved::{Larder, Spot, Starved};
    pub use crate::managed::streams::{Begun, Streams};
    pub use crate::managed::turn::{BYPASS_MAX, Turn};
    pub use crate::managed::word::{Bounds, Word};
    pub use crate::unit::Unit;

    /// Raises the tags of a group, and tells whether anything is idle in it then.
    pub fn looks<K, C>(group: &crate::Group<K, C>) -> bool
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        C: Send + 'static,
    {
        group.members().lanes.barrier();
        any_idle(group)
    }

    /// Whether anything is idle in a group.
    pub fn any_idle<K, C>(group: &crate::Group<K, C>) -> bool
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        C: Send + 'static,
    {
        group.members().lanes.live(&group.pool().engine().core) > 0
    }

    /// False if nothing was idle in a group at one moment, and nothing void there either.
    pub fn may_be_idle<K, C>(group: &crate::Group<K, C>) -> bool
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        C: Send + 'static,
    {
        !group.members().lanes.were_bare()
    }

    /// Allots lanes to a group, as maintenance does for one that is strained.
    pub fn widen<K, C>(group: &crate::Group<K, C>)
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        C: Send + 'static,
    {
        group.members().lanes.widen();
    }

    /// How many connections hold a permit of this pool.
    pub fn permits<K, C>(pool: &crate::Pool<K, C>) -> usize {
        pool.engine().capacity.used()
    }

    /// Changes the capacity as `reconfigure` does, and no other setting, so that models of
    /// the capacity are of that alone.
    pub fn set_capacity<K, C>(pool: &crate::Pool<K, C>, capacity: usize) {
        pool.engine().capacity.set_max(capacity);
        pool.engine().shrink(usize::MAX);
        pool.engine().capacity.tell();
    }

    /// Calls `hook` whenever there may be room in the pool. Once for each pool.
    pub fn bequeath<K, C>(pool: &crate::Pool<K, C>, hook: fn()) {
        #[derive(Debug)]
        struct Hook(fn());
        impl crate::capacity::Heir for Hook {
            fn freed(&self) {
                self.0();
            }
        }
        pool.engine().capacity.bequeath(std::sync::Arc::new(Hook(hook)));
    }

    /// Says which lane this thread uses, modulo their number.
    pub fn choose_lane(number: usize) {
        NUMBER.with(|own| own.set(number));
    }
}
