//! Numbers about a managed pool.

use std::hash::Hash;

use crate::managed::histogram::Histogram;
use crate::managed::manager::Manager;
use crate::managed::pool::Pool;
use crate::managed::tally::Now;

/// What has happened in a managed pool since it was built, and what is going on in it. From
/// [`Pool::stats`].
///
/// A call of `acquire`, `acquire_shared` or `try_acquire` counts once, when it ends: as one of
/// the [`hits`](Stats::hits), as one that has [`joined`](Stats::joined) others, as one of the [`waits`](Stats::waits), as
/// [`turned away`](Stats::turned_away), or as [`missed`](Stats::missed); together they are
/// the [`gets`](Stats::gets). Read while others work, the numbers may be off by what
/// happened meanwhile; of a pool at rest they are exact, and all that is said here of sums
/// holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that were served at once: a connection was idle, and nobody waited.
    pub hits: u64,
    /// Calls of `acquire_shared` that were served at once with a stream of a connection that
    /// others were using. Its first stream is one of the `hits`, or `served`.
    pub joined: u64,
    /// Calls of `try_acquire` that got nothing.
    pub missed: u64,
    /// Callers that were told at once that too many waited.
    pub turned_away: u64,
    /// Waits that have ended with a connection.
    pub served: u64,
    /// Connections that another caller had used before, and that one who stood in the line
    /// got and saw. If its check failed after that, the wait went on.
    pub handed_over: u64,
    /// Waits that have ended because the caller's time was up.
    pub timeouts: u64,
    /// Waits that have ended with an error of a connect, its timeout, its abortion, or
    /// because the pool did not take the connection.
    pub failed: u64,
    /// Waits that have ended because the pool was closed, or the peer out of service; most
    /// of them as soon as they had begun.
    pub refused: u64,
    /// Waits whose caller went away.
    pub cancelled: u64,
    /// How long waits took, however they ended: its count is [`waits`](Stats::waits). A
    /// check is part of it.
    pub wait_time: Histogram,
    /// Callers that stand in a line now, or wait for a connect of their own.
    pub waiting: usize,
    /// Connects.
    pub connects: Connects,
    /// What has happened in the pool below. A caller that finds nothing at once is one miss
    /// there, whatever it gets in the end. A connection that is handed over, met by one who
    /// leaves it to others, or closed because its peer has too many is a hit there, and
    /// none here.
    pub pool: crate::Stats,
}

impl Stats {
    /// All calls that have ended.
    pub fn gets(&self) -> u64 {
        self.hits + self.joined + self.missed + self.turned_away + self.waits()
    }

    /// Calls that were not served at once, and have ended: `served`, `timeouts`, `failed`,
    /// `refused` and `cancelled` together.
    pub fn waits(&self) -> u64 {
        self.served + self.timeouts + self.failed + self.refused + self.cancelled
    }
}

/// The part of [`Stats`] that is about connects.
///
/// At rest, `started` is the sum of `opened`, `errors`, `timeouts` and `aborted`; while
/// some are being opened, these are missing in the sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connects {
    /// Connects that were started.
    pub started: u64,
    /// ... that have led to a connection.
    pub opened: u64,
    /// ... that have failed, as the manager said.
    pub errors: u64,
    /// ... that took longer than they may.
    pub timeouts: u64,
    /// ... that have panicked, or whose runtime has shut down.
    pub aborted: u64,
    /// Of the opened ones, those that the pool did not take: it was full, or closed, or the
    /// peer out of service.
    pub rejected: u64,
    /// Of the opened ones, those that came too late for whoever had wanted them, and became
    /// idle, or went to one who came meanwhile.
    pub kept: u64,
    /// How long connects took that were opened, have failed, or took too long.
    pub time: Histogram,
    /// Connections that are being opened now, or may be, by a caller that was told so.
    pub connecting: usize,
}

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// What has happened in this pool since it was built, and what is going on in it.
    ///
    /// Reads every seat, and goes to every desk. Nothing is counted where a caller is
    /// served at once.
    pub fn stats(&self) -> Stats {
        let registry = &self.inner.registry;
        let mut now = Now::default();
        for desk in registry.all() {
            let desk = registry.desk(desk);
            now.connecting += desk.word.load().connecting() as usize;
            now.waiting += desk.waiting();
            now.joined += desk.bench().joined;
        }
        registry.tally.stats(self.inner.core.stats(), now)
    }
}
