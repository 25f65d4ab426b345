//! More contenders at the pair that keep connections by key, and what a lookup costs.
//!
//! As those of `pairs`, none of them is ever without an idle connection.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ahash::RandomState;
use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use dashmap::DashMap;
use hyper_util::client::legacy::pool;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use sharded_slab::Slab;

use super::pairs::{IDLE_PER_GROUP, fill, keyed};
use super::{Connection, IDLE, Work};

/// A map of vectors, locked in parts; each vector has a lock of its own.
pub type MapOfStacks<K> = DashMap<K, Mutex<Vec<Connection>>, RandomState>;

/// Takes a connection, and puts it back, with the hash function that slabpool uses.
pub fn dash_map<K>(lists: Vec<Vec<K>>, idle: u64) -> Work
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    let map = MapOfStacks::<K>::default();
    fill(&lists, idle, |key, connection| dash_put(&map, key, connection));
    keyed(lists, move |key| {
        let connection = black_box(dash_get(&map, key));
        dash_put(&map, key, connection);
    })
}

/// The connection that was put last.
#[inline(always)]
pub fn dash_get<K: Hash + Eq>(map: &MapOfStacks<K>, key: &K) -> Connection {
    let taken = map.get(key).and_then(|stack| stack.lock().pop());
    taken.expect(IDLE)
}

/// Makes a stack where there is none.
#[inline(always)]
pub fn dash_put<K: Hash + Eq + Clone>(map: &MapOfStacks<K>, key: &K, connection: Connection) {
    match map.get(key) {
        Some(stack) => stack.lock().push(connection),
        None => map.entry(key.clone()).or_default().lock().push(connection),
    }
}

/// The pool of hyper-util's legacy client, which is public but not documented: it gives no
/// way to put a connection but to have one made.
pub type LegacyPool<K> = pool::Pool<Exclusive, K>;

/// A connection that serves one at a time, as those of HTTP/1.
#[derive(Debug)]
pub struct Exclusive(Connection);

impl pool::Poolable for Exclusive {
    fn is_open(&self) -> bool {
        true
    }

    fn reserve(self) -> pool::Reservation<Self> {
        pool::Reservation::Unique(self)
    }

    fn can_share(&self) -> bool {
        false
    }
}

/// Drops the task that would close what has expired: nothing does.
#[derive(Clone, Copy, Debug)]
struct Nobody;

impl<F> hyper::rt::Executor<F> for Nobody {
    fn execute(&self, _: F) {}
}

/// An empty one, with the timeout that the client has by default.
pub fn legacy_pool<K>() -> LegacyPool<K>
where
    K: Hash + Eq + Clone + Debug + Unpin + Send + 'static,
{
    let timeout = Some(Duration::from_secs(90));
    let config = pool::Config { idle_timeout: timeout, max_idle_per_host: usize::MAX };
    LegacyPool::new(config, Nobody, Some(TokioTimer::new()))
}

/// An idle connection. The answer is there at once, or never.
#[inline(always)]
pub fn legacy_get<K>(pool: &LegacyPool<K>, key: &K) -> pool::Pooled<Exclusive, K>
where
    K: Hash + Eq + Clone + Debug + Unpin + Send + 'static,
{
    let checkout = pin!(pool.checkout(key.clone()));
    match checkout.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(pooled)) => pooled,
        _ => panic!("{IDLE}"),
    }
}

/// Has a connection made, and drops it, which makes it idle.
pub fn legacy_put<K>(pool: &LegacyPool<K>, key: &K, connection: Connection)
where
    K: Hash + Eq + Clone + Debug + Unpin + Send + 'static,
{
    let connecting = pool.connecting(key, pool::Ver::Auto).expect("HTTP/1 may always connect");
    drop(pool.pooled(connecting, Exclusive(connection)));
}

/// Checks a connection out, and drops it.
pub fn legacy<K>(lists: Vec<Vec<K>>, idle: u64) -> Work
where
    K: Hash + Eq + Clone + Debug + Unpin + Send + Sync + 'static,
{
    let pool = legacy_pool::<K>();
    fill(&lists, idle, |key, connection| legacy_put(&pool, key, connection));
    keyed(lists, move |key| {
        let pooled = legacy_get(&pool, key);
        black_box(pooled.0);
    })
}

/// A sharded slab by itself: a connection is taken out by its number, and inserted again.
/// Nobody looks for one that is idle.
pub fn sharded_slab(groups: usize) -> Work {
    let slab = Slab::<Connection>::new();
    let new = |connection| {
        let place = slab.insert(connection).expect("there is room");
        CachePadded::new(AtomicUsize::new(place))
    };
    let places: Vec<_> = (0..groups as u64 * IDLE_PER_GROUP).map(new).collect();
    Box::new(move |thread, pairs| {
        // Each thread has one of its own. Relaxed: nobody else writes it.
        let mine = &places[thread];
        let mut place = mine.load(Ordering::Relaxed);
        for _ in 0..pairs {
            let connection = black_box(slab.take(place).expect(IDLE));
            place = slab.insert(connection).expect("there is room");
        }
        mine.store(place, Ordering::Relaxed);
    })
}

/// One lookup of a key: what a directory costs that is read without a lock.
pub fn lookup<K>(lists: Vec<Vec<K>>) -> Work
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    let hasher = RandomState::new();
    let mut map = HashMap::<K, Connection, RandomState>::with_hasher(hasher);
    fill(&lists, 1, |key, connection| _ = map.insert(key.clone(), connection));
    let map = ArcSwap::from_pointee(map);
    keyed(lists, move |key| {
        black_box(map.load().get(key).copied().expect("no key goes"));
    })
}
