//! The capacity is never exceeded, not by one, not for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use slabpool::Pool;

use crate::support::{Dice, rounds};

/// A connection that counts those that exist.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Threads insert and close as fast as they can. A connection is counted from before
/// its insertion until it was closed, so that each thread has at most one that is
/// counted, and not in the pool.
fn racing(capacity: usize, lanes: usize) {
    let held = Arc::new(AtomicUsize::new(0));
    let pool = Pool::<usize, Counted>::builder().capacity(capacity).lanes(lanes).build().unwrap();
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, held, most) = (&pool, &held, &most);
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                for _ in 0..rounds(200_000) {
                    let key = dice.roll(3);
                    held.fetch_add(1, Ordering::SeqCst);
                    let connection = Counted(Arc::clone(held));
                    match dice.roll(3) {
                        0 => drop(pool.put(&key, connection)),
                        1 => drop(pool.insert(&key, connection)),
                        _ => match pool.insert(&key, connection) {
                            Ok(lease) => lease.release(),
                            Err(rejected) => drop(rejected),
                        },
                    }
                    most.fetch_max(held.load(Ordering::SeqCst), Ordering::Relaxed);
                }
            });
        }
    });
    let most = most.into_inner();
    assert!(most <= capacity + 4, "{most} connections for a capacity of {capacity}");
    let status = pool.status();
    assert!(status.idle <= capacity && status.leased == 0, "{status:?}");
    assert_eq!(held.load(Ordering::SeqCst), status.idle);
    pool.clear();
    assert_eq!(held.load(Ordering::SeqCst), 0);
}

#[test]
fn threads_that_race_do_not_exceed_a_capacity_of_one() {
    racing(1, 1);
}

#[test]
fn threads_that_race_do_not_exceed_a_capacity_of_sixty_four() {
    racing(64, 4);
}

/// Leases alone: those who hold one know for certain that it is in the pool.
#[test]
fn no_more_leases_are_out_than_the_capacity() {
    for capacity in [1, 3] {
        let (pool, out) =
            (Pool::<u8, u8>::builder().capacity(capacity).build().unwrap(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (pool, out) = (&pool, &out);
                scope.spawn(move || {
                    for round in 0..rounds(200_000) {
                        let lease = match pool.get(&(thread % 2)) {
                            Some(lease) => lease,
                            None => match pool.insert(&(thread % 2), 0) {
                                Ok(lease) => lease,
                                Err(_) => continue,
                            },
                        };
                        let now = out.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= capacity, "{now} leases for a capacity of {capacity}");
                        out.fetch_sub(1, Ordering::SeqCst);
                        if round % 7 == 0 { lease.close() } else { lease.release() }
                    }
                });
            }
        });
        assert_eq!(pool.status().leased, 0);
    }
}

#[test]
fn a_capacity_of_zero_pools_nothing() {
    let pool = Pool::<u8, u8>::builder().capacity(0).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..rounds(10_000) {
                    assert!(pool.put(&1, 1).is_err() && pool.insert(&1, 1).is_err());
                }
            });
        }
    });
    assert_eq!((pool.status().idle, pool.status().groups), (0, 0));
}
