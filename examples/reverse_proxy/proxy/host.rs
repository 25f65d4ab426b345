//! A host of an upstream, what is asked of it now, and what has happened with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use slabpool::http::Key;

/// One of the servers of an upstream.
#[derive(Debug)]
pub struct Host {
    /// As the file has it.
    pub address: String,
    /// Its group in the pool.
    pub key: Key,
    /// Requests that it has begun to answer, and those of the `errors`. Those that are turned
    /// away before they reach it are none.
    pub requests: Counter,
    /// Requests that it has not answered, and answers that broke off.
    pub errors: Counter,
    scheme: Scheme,
    authority: Authority,
    load: AtomicUsize,
    up: AtomicBool,
}

impl Host {
    /// One that is in service, until somebody finds otherwise.
    pub fn new(address: &str, key: Key, authority: Authority) -> Self {
        Self {
            address: address.to_owned(),
            scheme: if key.is_https() { Scheme::HTTPS } else { Scheme::HTTP },
            key,
            requests: Counter::default(),
            errors: Counter::default(),
            authority,
            load: AtomicUsize::new(0),
            up: AtomicBool::new(true),
        }
    }

    /// This path there.
    pub fn target(&self, path: PathAndQuery) -> Uri {
        let mut parts = hyper::http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("it has all parts")
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

/// Numbers drawn by lot: the generator SplitMix64.
#[derive(Debug, Default)]
pub struct Lots(AtomicU64);

impl Lots {
    pub fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        // Relaxed: any two numbers are as good.
        let state = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
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
