//! What has happened in a proxy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slabpool::managed::Meta;

/// Counts of a proxy.
#[derive(Debug, Default)]
pub struct Tally {
    /// Commands of clients, with an answer of whatever kind.
    pub commands: Counter,
    /// Commands answered with an error of ours.
    pub errors: Counter,
    /// Leases: each for one command, for some that came together, or for a transaction.
    pub leases: Counter,
    /// Leases of a connection that was there at once.
    pub hits: Counter,
    /// Leases for which the client had to wait: for somebody else's connection, or for a
    /// check of an idle one.
    pub waits: Counter,
    /// Time spent in acquires, in microseconds.
    waited_micros: Counter,
    /// Leases of a connection that was opened for this client.
    pub opened: Counter,
    /// Exchanges that were repeated, because a connection died while it was idle.
    pub retries: Counter,
    /// Connects that were started, and those that led to a connection.
    pub connects: Counter,
    pub connected: Counter,
    /// Pings of connections that were idle for long.
    pub checks: Counter,
}

impl Tally {
    pub fn leased(&self, meta: Meta) {
        self.leases.add();
        let kind = match meta {
            Meta { waited: Duration::ZERO, .. } => &self.hits,
            Meta { connected: true, .. } => &self.opened,
            _ => &self.waits,
        };
        kind.add();
        self.waited_micros.more(u64::try_from(meta.waited.as_micros()).unwrap_or(u64::MAX));
    }

    /// The part of the leases, from 0 to 1, for which a connection was there at once.
    pub fn hit_ratio(&self) -> f64 {
        self.hits.get() as f64 / self.leases.get().max(1) as f64
    }

    /// How long an acquire took, on average.
    pub fn waited_mean(&self) -> Duration {
        Duration::from_micros(self.waited_micros.get() / self.leases.get().max(1))
    }
}

/// A number that only grows. Relaxed: it stands for itself.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self) {
        self.more(1);
    }

    pub fn more(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
