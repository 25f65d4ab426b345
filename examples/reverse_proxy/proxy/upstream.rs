//! An upstream, and what has happened with it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use slabpool::CloseReason;

/// Latencies above this count as this.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// A server that requests are passed on to.
#[derive(Debug)]
pub struct Upstream {
    /// Requests for a host of this name go here.
    pub name: String,
    pub address: SocketAddr,
    pub tally: Tally,
}

impl Upstream {
    pub fn new(name: impl Into<String>, address: SocketAddr) -> Self {
        Self { name: name.into(), address, tally: Tally::new() }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.parse() == Ok(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{} ({})", self.name, self.address)
        }
    }
}

/// Counts of one upstream.
#[derive(Debug)]
pub struct Tally {
    pub requests: Counter,
    /// Requests answered with an error of ours, and answers that broke off.
    pub errors: Counter,
    /// Connections opened.
    pub opened: Counter,
    /// Answers that came over a connection that had been idle.
    pub reused: Counter,
    /// Requests repeated, because a reused connection failed them.
    pub retries: Counter,
    closes: [Counter; CloseReason::ALL.len()],
    /// Microseconds from a request's head to its answer's.
    latency: Mutex<Histogram<u64>>,
}

impl Tally {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3);
        Self {
            requests: Counter::default(),
            errors: Counter::default(),
            opened: Counter::default(),
            reused: Counter::default(),
            retries: Counter::default(),
            closes: Default::default(),
            latency: Mutex::new(latency.expect("the bounds are possible")),
        }
    }

    pub fn closed(&self, reason: CloseReason) {
        self.closes[reason.index()].add();
    }

    /// How many connections the pool gave up for this reason.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.closes[reason.index()].get()
    }

    /// Connections that died while they were idle. Most are found before a request is put
    /// on them; a request that meets one of the others is repeated if it may be.
    pub fn dead(&self) -> u64 {
        self.closes(CloseReason::Dead)
    }

    pub fn answered_after(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// The latency that this part of the requests, from 0 to 1, did not exceed.
    pub fn latency(&self, part: f64) -> Duration {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(latency.value_at_quantile(part))
    }

    /// The part of the requests, from 0 to 1, answered over a reused connection.
    pub fn reuse_ratio(&self) -> f64 {
        let requests = self.requests.get();
        if requests == 0 { 0.0 } else { self.reused.get() as f64 / requests as f64 }
    }
}

/// A number that only grows. Relaxed: it stands for itself.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
