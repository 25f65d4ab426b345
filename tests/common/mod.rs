//! What several tests need.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slabpool::{CloseReason, PutOptions};
use tokio::runtime::{Builder, Runtime};

pub mod line;

pub const SECOND: Duration = Duration::from_secs(1);
pub const NANOSECOND: Duration = Duration::from_nanos(1);

/// What a server says that keeps idle connections for so long.
pub fn keep_alive(timeout: Duration) -> PutOptions {
    PutOptions::new().idle_timeout(timeout)
}

/// A runtime whose time passes only when all tasks wait.
pub fn paused_runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Counts the connections that it has made, and those that were dropped.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

impl Tally {
    pub fn connect(&self, id: u32) -> Connection {
        self.0.made.fetch_add(1, Ordering::Relaxed);
        Connection { id, tally: self.clone(), dropped: false }
    }

    pub fn made(&self) -> usize {
        self.0.made.load(Ordering::Relaxed)
    }

    pub fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::Relaxed)
    }

    pub fn alive(&self) -> usize {
        self.made() - self.dropped()
    }
}

/// A connection that knows when it is dropped twice.
#[derive(Debug)]
pub struct Connection {
    pub id: u32,
    tally: Tally,
    dropped: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        assert!(!mem::replace(&mut self.dropped, true), "{} was dropped twice", self.id);
        self.tally.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `on_close` was told.
#[derive(Debug)]
pub struct Journal<K>(Arc<Mutex<Vec<(K, u32, CloseReason)>>>);

impl<K> Clone for Journal<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Send + 'static> Journal<K> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn write(&self, key: &K, id: u32, reason: CloseReason) {
        self.0.lock().unwrap().push((key.clone(), id, reason));
    }

    /// A hook for connections that tell their number.
    pub fn hook(&self) -> impl Fn(&K, Connection, CloseReason) + Send + Sync + 'static {
        let journal = self.clone();
        move |key, connection, reason| journal.write(key, connection.id, reason)
    }

    /// A hook for connections that are numbers.
    pub fn hook_plain(&self) -> impl Fn(&K, u32, CloseReason) + Send + Sync + 'static {
        let journal = self.clone();
        move |key, id, reason| journal.write(key, id, reason)
    }

    /// What was written since the last call.
    pub fn read(&self) -> Vec<(K, u32, CloseReason)> {
        mem::take(&mut self.0.lock().unwrap())
    }

    /// As [`Journal::read`], and it stays.
    pub fn written(&self) -> Vec<(K, u32, CloseReason)> {
        self.0.lock().unwrap().clone()
    }

    /// As [`Journal::read`], without the keys, in order of the numbers.
    pub fn reasons(&self) -> Vec<(u32, CloseReason)> {
        let mut entries: Vec<_> =
            self.read().into_iter().map(|(_, id, reason)| (id, reason)).collect();
        entries.sort_by_key(|&(id, reason)| (id, reason.index()));
        entries
    }
}
