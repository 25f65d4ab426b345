//! The capacity is not exceeded, not by one, not for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use slabpool::Pool;

use crate::support::{Dice, rounds};

/// Counts a connection from when the pool has taken it until its hook is told, which
/// is before another one may take its place.
fn never_above(capacity: usize, threads: usize) {
    let inside = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&inside);
    let pool = Pool::<usize, usize>::builder()
        .capacity(capacity)
        .on_close(move |_, _, _| {
            counted.fetch_sub(1, Ordering::AcqRel);
        })
        .build()
        .unwrap();
    // In the pool a connection may be closed before it is counted: hence the distance.
    let above = |now: usize| now > capacity && now < usize::MAX / 2;
    let exceeded = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 0..threads {
            let (pool, inside, exceeded) = (&pool, &inside, &exceeded);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for round in 0..rounds(100_000) {
                    let key = dice.roll(3);
                    if let Some(lease) = pool.get(&key) {
                        if dice.roll(8) > 0 { lease.release() } else { lease.close() }
                    } else if let Ok(lease) = pool.insert(&key, round) {
                        let now = inside.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
                        exceeded.fetch_add(usize::from(above(now)), Ordering::Relaxed);
                        lease.release();
                    }
                }
            });
        }
    });
    assert_eq!(exceeded.into_inner(), 0, "of {capacity}");
    assert!(pool.status().idle <= capacity);
    let (status, stats) = (pool.status(), pool.stats());
    assert_eq!(stats.inserts, stats.closes.total() + status.idle as u64);
    pool.close();
    assert_eq!(inside.load(Ordering::Relaxed), 0);
}

#[test]
fn of_one_connection() {
    never_above(1, 4);
}

#[test]
fn of_a_few_connections() {
    never_above(5, 4);
}

#[test]
fn of_none_nothing_is_pooled() {
    let pool = Pool::<usize, usize>::builder().capacity(0).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..1_000 {
                    assert_eq!(pool.put(&1, round).unwrap_err().into_inner(), round);
                    assert!(pool.insert(&1, round).is_err() && pool.get(&1).is_none());
                }
            });
        }
    });
    assert_eq!((pool.status().groups, pool.stats().rejects), (0, 8_000));
}
