//! The idle connections of a connector.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use log::{debug, warn};
use slabpool::{CloseReason, Pool, RejectReason, Stats, Status, Token};
use tokio::time::Instant;

use crate::idle::{Idle, WatchUse};
use crate::kept::Kept;
use crate::meta::{ConnectionMeta, GroupKey, Id};
use crate::spoiled::Spoiled;
use crate::unused::Unused;
use crate::watch::{End, Watch};

/// An idle connection, in the pool.
struct Pooled<S> {
    connection: S,
    id: Id,
    watch: Arc<Watch>,
}

/// Idle connections, to be used again: those that were released last come first.
pub struct ConnectionPool<S> {
    pool: Pool<GroupKey, Pooled<S>>,
    kept: Kept<Pooled<S>>,
    unused: Unused,
    spoiled: Spoiled,
    scans: Scans,
    born: Instant,
}

impl<S: Send + 'static> ConnectionPool<S> {
    /// A pool of at most this many idle connections, over all groups. It holds no more at any
    /// moment; 0 pools nothing.
    ///
    /// Starts no thread and no task, then or later, and needs no runtime.
    ///
    /// # Panics
    ///
    /// If the size is more than 8,388,608.
    pub fn new(size: usize) -> Self {
        let build = Pool::builder()
            .capacity(size)
            // The watchers see to that: how long is said to them alone.
            .idle_timeout(None)
            .probe_interval(None)
            // Nothing is ever due.
            .spawn_reaper(false)
            .on_close(|_key, pooled: Pooled<S>, reason| {
                let Pooled { connection, id, watch } = pooled;
                if reason == CloseReason::Evicted {
                    debug!("idle connection {id} gives way");
                    watch.say(End::Evicted);
                } else {
                    watch.say(End::Gone);
                }
                drop(connection);
            });
        match build.build() {
            Ok(pool) => Self {
                pool,
                kept: Kept::new(),
                unused: Unused::default(),
                spoiled: Spoiled::default(),
                scans: Scans::default(),
                born: Instant::now(),
            },
            Err(error) => panic!("the size of a connection pool: {error}"),
        }
    }

    /// Takes the connection of this group that was released last. Its watcher lets go of it,
    /// if it has not yet.
    ///
    /// One whose end was seen, or whose idle timeout is over, is closed on the way. If the
    /// watcher is looking at it just now, this yields the processor until that is done, up
    /// to 64 times.
    pub fn get(&self, key: &GroupKey) -> Option<S> {
        loop {
            let Pooled { connection, watch, .. } = self.take(key)?;
            if watch.claim(|| self.nanos_at(Instant::now())) {
                return Some(connection);
            }
        }
    }

    /// Puts a connection in. If the pool is full, the one that was released longest ago
    /// goes, on this thread.
    ///
    /// What this returns is for [`idle_poll`](ConnectionPool::idle_poll) or
    /// [`idle_timeout`](ConnectionPool::idle_timeout). Without them nobody notices that the
    /// connection ends.
    pub fn put(&self, meta: &ConnectionMeta, connection: S) -> (Idle, WatchUse) {
        self.spoiled.tidy();
        let watch = Arc::new(Watch::new());
        if self.unused.has(meta.key) {
            drop(connection);
            watch.say(End::Gone);
        } else {
            let pooled = Pooled { connection, id: meta.id, watch: Arc::clone(&watch) };
            let put = match self.kept.borrow(meta.key) {
                Some(group) => group.put(pooled),
                None => self.pool.put(&meta.key, pooled),
            };
            match put {
                Ok(token) => watch.pooled_as(token),
                Err(rejected) => {
                    match rejected.reason() {
                        // Its size is zero, or all that is in it is on its way out.
                        RejectReason::Full { .. } => watch.say(End::Evicted),
                        reason => {
                            warn!("connection {} is not pooled: {reason}", meta.id);
                            watch.say(End::Gone);
                        }
                    }
                    drop(rejected);
                }
            }
        }
        (Idle { watch }, WatchUse(()))
    }

    /// Closes the idle connections of a group that have this number, if there are any.
    ///
    /// Reads all that is idle. The watchers do without it.
    pub fn pop_closed(&self, meta: &ConnectionMeta) {
        let (mut found, scan) = (Vec::new(), self.scans.begin());
        self.pool.retain(|key, _, pooled| {
            if *key == meta.key && pooled.id == meta.id {
                // One that is not named yet is put in just now, and so after this.
                found.extend(pooled.watch.token());
            }
            true
        });
        drop(scan);
        // Not sooner: this may close sockets.
        found.into_iter().for_each(|token| self.close(token));
    }

    /// What is in the pool. Reads all of it, and lets go of groups that have no connections.
    pub fn status(&self) -> Status {
        self.kept.clear();
        self.pool.status()
    }

    /// What has happened in the pool. Each get that hits counts as a connection that was
    /// taken, and each put as an insertion.
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }

    /// Takes a connection out of the pool, whatever its watcher knows of it.
    fn take(&self, key: &GroupKey) -> Option<Pooled<S>> {
        let scans = self.scans.ended();
        if let Some(pooled) = self.find(key) {
            return Some(pooled);
        }
        if !self.scans.began_since(scans) {
            return None;
        }
        // Perhaps `pop_closed` was looking at it.
        let _pause = self.scans.pause();
        self.find(key)
    }

    fn find(&self, key: &GroupKey) -> Option<Pooled<S>> {
        if let Some(group) = self.kept.borrow(*key) {
            return group.get().map(|lease| lease.detach());
        }
        let lease = self.pool.get(key)?;
        // Before the group is left, perhaps by the last one.
        self.kept.keep(*key, || self.pool.group(key));
        Some(lease.detach())
    }

    /// Closes a connection if it is still in the pool.
    pub(crate) fn close(&self, token: Token) {
        self.pool.evict(token);
    }

    /// Somebody has got this, and is not to use it.
    pub(crate) fn spoil<T: Send + 'static>(&self, share: Arc<tokio::sync::Mutex<T>>) {
        self.spoiled.keep(share);
    }

    pub(crate) fn note_unused(&self, key: GroupKey, unused: bool) {
        self.unused.note(key, unused);
    }

    pub(crate) fn nanos_at(&self, time: Instant) -> u64 {
        let nanos = time.saturating_duration_since(self.born).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl<S> fmt::Debug for ConnectionPool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Who reads all that is idle holds one connection after the other, and a get may miss
/// because of that. It then looks again when nobody does.
#[derive(Debug, Default)]
struct Scans {
    lock: Mutex<()>,
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Scans {
    fn begin(&self) -> impl Drop + '_ {
        struct Scan<'a>(&'a Scans, #[allow(dead_code)] std::sync::MutexGuard<'a, ()>);
        impl Drop for Scan<'_> {
            fn drop(&mut self) {
                // Release: pairs with the Acquire in `ended`.
                self.0.ended.fetch_add(1, Ordering::Release);
            }
        }
        let lock = self.pause();
        // Relaxed, with the fence: pairs with the one in `began_since`. Who finds a
        // connection held finds this as well.
        self.begun.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        Scan(self, lock)
    }

    fn pause(&self) -> std::sync::MutexGuard<'_, ()> {
        // It guards nothing that a panic could break.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> u64 {
        // Acquire: what these scans have held, they have let go of.
        self.ended.load(Ordering::Acquire)
    }

    fn began_since(&self, ended: u64) -> bool {
        fence(Ordering::Acquire);
        self.begun.load(Ordering::Relaxed) != ended
    }
}
