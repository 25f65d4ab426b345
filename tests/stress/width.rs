//! Groups that get more lanes and fewer, while they are in use.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use slabpool::{Clock, Pool};

use crate::common::SECOND;
use crate::support::rounds;

const USERS: usize = 4;

/// As many connections as threads, so that none of them may miss; each connection has one
/// user at a time. A fifth thread maintains the pool, by a clock that leaps, so that every step of
/// maintenance looks at the lanes: they come and go all the time.
#[test]
fn nobody_misses_while_lanes_come_and_go() {
    let clock = Clock::manual();
    let builder = Pool::<u8, AtomicBool>::builder().capacity(USERS).idle_timeout(None);
    let pool = builder.clock(&clock).build().unwrap();
    (0..USERS).for_each(|_| assert!(pool.put(&0, AtomicBool::new(false)).is_ok()));
    let (working, misses) = (AtomicUsize::new(USERS), AtomicUsize::new(0));
    let user = |group: &slabpool::Group<u8, AtomicBool>| match group.get() {
        Some(lease) => {
            assert!(!lease.swap(true, Ordering::Relaxed), "two users");
            black_box(&*lease);
            lease.store(false, Ordering::Relaxed);
            lease.release();
        }
        None => drop(misses.fetch_add(1, Ordering::Relaxed)),
    };
    thread::scope(|scope| {
        for _ in 0..USERS {
            scope.spawn(|| {
                let group = pool.group(&0);
                for _ in 0..rounds(2_000_000) {
                    user(&group);
                }
                working.fetch_sub(1, Ordering::Release);
            });
        }
        scope.spawn(|| {
            while working.load(Ordering::Acquire) > 0 {
                clock.advance(SECOND);
                pool.maintain();
                thread::yield_now();
            }
        });
    });
    assert_eq!(misses.into_inner(), 0);
    assert_eq!((pool.status().idle, pool.stats().closes.total()), (USERS, 0));
    // Quiet for long: one lane will do again, however many there were.
    for _ in 0..200 {
        clock.advance(SECOND);
        pool.maintain();
    }
    assert_eq!(pool.inspect().groups[0].lanes, 1);
    let leases: Vec<_> = std::iter::from_fn(|| pool.get(&0)).collect();
    assert_eq!(leases.len(), USERS, "whichever lane they lie in");
}
