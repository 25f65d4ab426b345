//! What goes wrong in `pingora-pool` 0.9.1, and does not here.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use pingora_pool::{ConnectionMeta, ConnectionPool};

use common::{Census, Counted, Peer, Shared, Step, now, release};

const ROUNDS: usize = if cfg!(debug_assertions) { 20_000 } else { 200_000 };

fn put<S: Send + 'static>(pool: &ConnectionPool<S>, key: u64, id: i32, connection: S) {
    drop(pool.put(&ConnectionMeta::new(key, id), connection));
}

/// Runs threads that begin together.
fn race(threads: usize, body: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        for index in 0..threads {
            let (barrier, body) = (&barrier, &body);
            scope.spawn(move || {
                barrier.wait();
                body(index);
            });
        }
    });
}

// "Capacity is not enforced under races."

#[test]
fn the_bound_holds_while_threads_race() {
    for size in [1, 2, 5] {
        let pool = ConnectionPool::new(size);
        let (census, worst) = (Census::default(), AtomicUsize::new(0));
        let putting = AtomicUsize::new(0);
        race(4, |thread| {
            for round in 0..ROUNDS / 4 {
                let key = (round % 3) as u64;
                putting.fetch_add(1, Relaxed);
                put(&pool, key, (thread * ROUNDS + round) as i32, census.born());
                putting.fetch_sub(1, Relaxed);
                if round % 5 == 0 {
                    drop(pool.get(&key));
                }
                if round % 64 == 0 {
                    let status = pool.status();
                    worst.fetch_max(status.idle + status.leased, Relaxed);
                }
            }
        });
        assert!(worst.into_inner() <= size);
        assert_eq!(census.alive(), pool.status().idle, "all others are closed");
        assert!(census.alive() <= size);
        drop(pool);
        assert_eq!(census.alive(), 0);
    }
}

/// The most that are alive at a time: those in the pool, and one in the hands of each thread.
#[test]
fn no_more_are_alive_than_the_bound_and_those_in_hand() {
    const THREADS: usize = 4;
    let (pool, census) = (ConnectionPool::new(3), Census::default());
    let worst = AtomicUsize::new(0);
    race(THREADS, |thread| {
        for round in 0..ROUNDS {
            let connection = pool.get(&7).unwrap_or_else(|| census.born());
            worst.fetch_max(census.alive(), Relaxed);
            put(&pool, 7, (thread * ROUNDS + round) as i32, connection);
        }
    });
    // Each thread holds one, or one that it is about to close.
    assert!(worst.into_inner() <= 3 + THREADS);
    assert!(census.alive() <= 3);
}

// "Size 0 means unbounded."

#[test]
fn a_pool_of_size_zero_pools_nothing() {
    let (pool, census) = (ConnectionPool::new(0), Census::default());
    for id in 0..100 {
        put(&pool, 1, id, census.born());
        assert_eq!(census.alive(), 0);
    }
    assert!(pool.get(&1).is_none());

    // It says that it was for want of room, as it does of one that gave way.
    let (pool, peer) = (ConnectionPool::<Shared>::new(0), Peer::default());
    let meta = ConnectionMeta::new(1, 1);
    let (guard, idle, watch_use) = release(&pool, &meta, peer.stream());
    assert!(now(pool.idle_poll(guard, &meta, None, idle, watch_use)));
    assert!(peer.is_closed());
}

#[test]
#[should_panic(expected = "capacity is 8388609, at most 8388608 is possible")]
fn a_size_that_is_too_large_is_named() {
    let _pool = ConnectionPool::<u8>::new((1 << 23) + 1);
}

#[test]
fn a_large_pool_takes_no_memory_beforehand() {
    let _pools: Vec<_> = (0..64).map(|_| ConnectionPool::<u64>::new(1 << 23)).collect();
}

// "A removal by id can hide or lose live connections while it rotates the queue."

#[test]
fn removals_hide_nothing_and_lose_nothing() {
    const THREADS: usize = 3;
    let pool = ConnectionPool::new(1_000);
    let (census, ended) = (Census::default(), AtomicBool::new(false));
    // As many as there are threads, so that each finds one at any time.
    (0..THREADS as i32).for_each(|id| put(&pool, 7, id, (id, census.born())));
    thread::scope(|scope| {
        let users: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let (id, connection) = pool.get(&7).expect("one for each thread");
                        put(&pool, 7, id, (id, connection));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut id = 1_000;
            while !ended.load(Relaxed) {
                // Unknown ones, and one that comes and goes.
                pool.pop_closed(&ConnectionMeta::new(7, 999));
                pool.pop_closed(&ConnectionMeta::new(8, 1));
                put(&pool, 9, id, (id, census.born()));
                pool.pop_closed(&ConnectionMeta::new(9, id));
                id += 1;
            }
        });
        users.into_iter().for_each(|user| user.join().unwrap());
        ended.store(true, Relaxed);
    });
    assert_eq!(census.alive(), THREADS);
    let ids: HashSet<i32> = std::iter::from_fn(|| pool.get(&7)).map(|(id, _)| id).collect();
    assert_eq!(ids.len(), THREADS);
}

#[test]
fn watchers_that_end_hide_nothing_and_lose_nothing() {
    const THREADS: usize = 3;
    let (pool, ended) = (ConnectionPool::<Shared>::new(1_000), AtomicBool::new(false));
    let peers: Vec<_> = (0..THREADS).map(|_| Peer::default()).collect();
    for (id, peer) in (0..).zip(&peers) {
        put(&pool, 7, id, peer.stream());
    }
    thread::scope(|scope| {
        let users: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        put(&pool, 7, 0, pool.get(&7).expect("one for each thread"));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                // With the number of one that is in use by then, and under the same key.
                let (peer, meta) = (Peer::default(), ConnectionMeta::new(8, 0));
                let (guard, idle, watch_use) = release(&pool, &meta, peer.stream());
                peer.does(Step::End);
                assert!(!now(pool.idle_poll(guard, &meta, None, idle, watch_use)));
                assert!(peer.is_closed());
            }
        });
        users.into_iter().for_each(|user| user.join().unwrap());
        ended.store(true, Relaxed);
    });
    assert!(peers.iter().all(|peer| !peer.is_closed()));
    assert_eq!(pool.status().idle, THREADS);
}

// "Ids are file descriptors, so a late removal hits the next owner of the number."

#[test]
fn a_late_watcher_does_not_touch_who_has_its_number() {
    let (pool, meta) = (ConnectionPool::<Shared>::new(10), ConnectionMeta::new(1, 5));
    let (first, second) = (Peer::default(), Peer::default());
    let (guard, idle, watch_use) = release(&pool, &meta, first.stream());
    // Somebody gets it, and closes it; its number is given to another one.
    drop(pool.get(&1));
    let _second = release(&pool, &meta, second.stream());
    first.does(Step::End);
    assert!(!now(pool.idle_poll(guard, &meta, Some(Duration::ZERO), idle, watch_use)));
    assert!(first.is_closed());
    assert!(!second.is_closed() && pool.get(&1).is_some());
}

#[test]
fn an_eviction_does_not_touch_who_has_the_same_number() {
    let (pool, census) = (ConnectionPool::new(2), Census::default());
    put(&pool, 1, 5, (1, census.born()));
    put(&pool, 2, 5, (2, census.born()));
    put(&pool, 3, 5, (3, census.born()));
    assert!(pool.get(&1).is_none(), "the oldest went, and it alone");
    assert_eq!(pool.get(&2).unwrap().0, 2);
    assert_eq!(pool.get(&3).unwrap().0, 3);
}

// "The order is FIFO for 16 entries and then random, not LIFO."

#[test]
fn the_last_one_comes_first() {
    let pool = ConnectionPool::new(1_000);
    (0..1_000).for_each(|id| put(&pool, 1, id, id));
    for id in (0..1_000).rev() {
        assert_eq!(pool.get(&1), Some(id));
        if id % 3 == 0 {
            put(&pool, 1, id, id);
            assert_eq!(pool.get(&1), Some(id), "it is the last one again");
        }
    }
    assert_eq!(pool.get(&1), None);
}

// "One put over the limit evicts up to 17."

#[test]
fn one_goes_for_one_that_comes_the_oldest_first() {
    let (pool, census) = (ConnectionPool::new(100), Census::default());
    let connection = |id: i32| (id, census.born());
    (0..100).for_each(|id| put(&pool, (id % 7) as u64, id, connection(id)));
    for id in 100..300 {
        put(&pool, (id % 7) as u64, id, connection(id));
        assert_eq!(census.alive(), 100);
    }
    let mut left: Vec<(i32, Counted)> = (0..7)
        .flat_map(|key| std::iter::from_fn(move || Some(key)))
        .scan(0, |key: &mut u64, _: u64| {
            while *key < 7 {
                match pool.get(key) {
                    Some(connection) => return Some(connection),
                    None => *key += 1,
                }
            }
            None
        })
        .collect();
    left.sort_by_key(|(id, _)| *id);
    assert!(left.iter().map(|(id, _)| *id).eq(200..300));
}

// "After a spike the overflow map stays slow for ever."

#[test]
fn a_spike_leaves_nothing_behind() {
    let pool = ConnectionPool::new(100_000);
    (0..20_000).for_each(|id| put(&pool, 1, id, id));
    while pool.get(&1).is_some() {}
    let status = pool.status();
    assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0));
}

// Groups that are empty: the map of groups grew for ever.

#[test]
fn empty_groups_are_gone() {
    let (pool, census) = (ConnectionPool::new(64), Census::default());
    for key in 0..10_000 {
        put(&pool, key, key as i32, census.born());
        match key % 4 {
            0 => drop(pool.get(&key)),
            1 => pool.pop_closed(&ConnectionMeta::new(key, key as i32)),
            _ => {} // until it gives way
        }
        let status = pool.status();
        assert_eq!(status.groups, status.idle);
        assert!(status.groups <= 64);
    }
    assert_eq!(census.alive(), 64);
}

#[test]
fn a_group_that_goes_takes_nothing_with_it() {
    let (pool, census) = (ConnectionPool::new(1_000), Census::default());
    race(4, |thread| {
        for round in 0..ROUNDS {
            let key = (round % 2) as u64;
            let id = (thread * ROUNDS + round) as i32;
            put(&pool, key, id, census.born());
            assert!(pool.get(&key).is_some(), "there is one for each thread");
        }
    });
    assert_eq!(census.alive(), 0);
    assert_eq!(pool.status().groups, 0);
}

// "`idle_timeout = 0` still reuses."

#[test]
fn a_timeout_of_zero_closes_at_once() {
    let (pool, meta) = (ConnectionPool::<Shared>::new(10), ConnectionMeta::new(1, 5));
    let peer = Peer::default();
    let (guard, idle, watch_use) = release(&pool, &meta, peer.stream());
    assert!(!now(pool.idle_poll(guard, &meta, Some(Duration::ZERO), idle, watch_use)));
    assert!(peer.is_closed() && peer.polls() == 0 && pool.get(&1).is_none());

    // Those that follow are not even for a moment there.
    for _ in 0..10 {
        let peer = Peer::default();
        let (guard, idle, watch_use) = release(&pool, &meta, peer.stream());
        assert!(pool.get(&1).is_none());
        assert!(!now(pool.idle_poll(guard, &meta, Some(Duration::ZERO), idle, watch_use)));
        assert!(peer.is_closed());
    }
    // Others are not concerned.
    put(&pool, 2, 6, Peer::default().stream());
    assert!(pool.get(&2).is_some());

    // When the timeout is another one, the next connection is used again.
    let (guard, idle, watch_use) = release(&pool, &meta, Peer::default().stream());
    assert!(!now(pool.idle_poll(guard, &meta, None, idle, watch_use)));
    put(&pool, 1, 5, Peer::default().stream());
    assert!(pool.get(&1).is_some());
}

#[test]
fn a_timeout_of_zero_drops_what_others_look_after() {
    let (pool, meta) = (ConnectionPool::new(10), ConnectionMeta::new(1, 5));
    let (census, (_closed, closed)) = (Census::default(), tokio::sync::watch::channel(false));
    for _ in 0..3 {
        let (idle, watch_use) = pool.put(&meta, census.born());
        let watch = pool.idle_timeout(&meta, Some(Duration::ZERO), idle, closed.clone(), watch_use);
        assert!(!now(watch));
        assert_eq!(census.alive(), 0);
    }
}

// "Keys are bare u64 hashes, never compared."

#[test]
fn keys_that_look_alike_are_told_apart() {
    let pool = ConnectionPool::new(100_000);
    let keys = || {
        let powers = (0..64).map(|bit| 1_u64 << bit);
        let neighbours = 0..1_000;
        let high = (0..1_000).map(|high| high << 48);
        powers.chain(neighbours).chain(high).collect::<HashSet<u64>>()
    };
    keys().into_iter().for_each(|key| put(&pool, key, 1, key));
    for key in keys() {
        assert_eq!(pool.get(&key), Some(key));
        assert_eq!(pool.get(&key), None);
    }
}

// "A health check can throw a good connection away."

#[test]
fn a_watcher_that_looks_does_not_throw_away_what_is_well() {
    let (pool, peer) = (ConnectionPool::<Shared>::new(10), Peer::default());
    let meta = ConnectionMeta::new(1, 5);
    let stream = peer.stream();
    let guard = Arc::clone(&stream).try_lock_owned().unwrap();
    drop(guard);
    let mut stream = Some(stream);
    for _ in 0..ROUNDS / 10 {
        let (guard, idle, watch_use) = release(&pool, &meta, stream.take().unwrap());
        thread::scope(|scope| {
            let watch = pool.idle_poll(guard, &meta, None, idle, watch_use);
            let watcher = scope.spawn(|| {
                let mut watch = common::Hand::new(watch);
                while watch.poll().is_pending() {
                    thread::yield_now();
                }
            });
            let got = pool.get(&1).expect("it is there all the time");
            watcher.join().unwrap();
            stream = Some(got);
        });
        assert_eq!(Arc::strong_count(stream.as_ref().unwrap()), 1);
    }
    assert!(!peer.is_closed());
}
