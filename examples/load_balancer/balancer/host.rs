//! A host, what is asked of it now, and what has happened with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One of the servers that the load is spread over.
#[derive(Debug)]
pub struct Host {
    pub address: SocketAddr,
    pub tally: Tally,
    load: AtomicUsize,
    up: AtomicBool,
}

impl Host {
    /// One that is in service, until somebody finds otherwise.
    pub fn new(address: SocketAddr) -> Self {
        let (tally, load, up) = (Tally::default(), AtomicUsize::new(0), AtomicBool::new(true));
        Self { address, tally, load, up }
    }

    /// Requests that wait for a connection to it, or are on one, body and all.
    ///
    /// The same as `waiting` and `leased` of the pool's `group_status`, which reads a record
    /// of each connection: too much to be asked twice for each request.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Whether it is in service, as the health checks have it. What the pool knows itself it
    /// says when it is asked for a connection.
    pub fn is_up(&self) -> bool {
        // Relaxed: whoever reads the old value is told by the pool.
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}

/// A request that a host has to do with. It counts until this is dropped.
pub struct Load(Arc<Host>);

impl Load {
    pub fn on(host: &Arc<Host>) -> Self {
        // Relaxed, as in `Host::load`: a number that stands for itself.
        host.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(host))
    }

    pub fn host(&self) -> &Host {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The less loaded of two that are drawn by lot: the power of two choices. To look at all
/// and take the least loaded one is worse where several do so at a time: they would all find
/// the same one. `draw` is a number drawn by lot.
pub fn choose<'a>(hosts: &[&'a Arc<Host>], draw: u64) -> Option<&'a Arc<Host>> {
    let many = hosts.len() as u64;
    if many < 2 {
        return hosts.first().copied();
    }
    let first = draw % many;
    // Any other one.
    let second = (first + 1 + (draw >> 32) % (many - 1)) % many;
    let (first, second) = (hosts[first as usize], hosts[second as usize]);
    Some(if second.load() < first.load() { second } else { first })
}

/// Counts of one host.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that it has answered.
    pub answers: Counter,
    /// Requests that were sent to it.
    pub requests: Counter,
    /// Connections opened.
    pub connects: Counter,
    /// Requests that got no connection to it, and went to another host.
    pub refused: Counter,
    /// Requests that failed on a connection, and were sent once more, to another host where
    /// there is one.
    pub moved: Counter,
    /// Requests that failed on a connection and may not be repeated, and answers that broke
    /// off.
    pub errors: Counter,
    /// Times that the health checks took it out of service.
    pub outages: Counter,
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
