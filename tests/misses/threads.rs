//! Misses of several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

/// Threads that evict each other's connections and miss: every miss is counted once, and
/// no close is blamed twice.
#[test]
fn threads_agree_on_the_numbers() {
    let pool = Pool::<u8, u32>::builder().capacity(4).build().unwrap();
    fill(&pool, 0, 0..5);
    let leases: Vec<_> = (0..4).map(|_| pool.get(&0).unwrap()).collect();
    assert!(pool.get(&0).is_none(), "the fifth was evicted");
    drop(leases);
    let missed = AtomicUsize::new(1);
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (pool, missed) = (&pool, &missed);
            scope.spawn(move || {
                for n in 0..if cfg!(miri) { 20 } else { 5_000_u32 } {
                    let key = (n.wrapping_mul(7 + thread) % 3) as u8;
                    match pool.get(&key) {
                        Some(lease) => lease.release(),
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            drop(pool.put(&key, n));
                        }
                    }
                    if n % 5 == 0 {
                        drop(pool.put(&key, n));
                    }
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!(stats.misses.total(), missed.load(Ordering::Relaxed) as u64);
    assert_eq!(stats.misses[Miss::Closed] + stats.misses[Miss::Predicate], 0);
    assert!(stats.ghosts.total() > 0);
    for rule in slabpool::Ghosts::RULES {
        assert!(stats.ghosts.of(rule) <= stats.closes[rule], "{rule}: {stats:?}");
    }
    let blamed = stats.misses[Miss::Evicted] + stats.misses[Miss::Expired];
    assert!(stats.ghosts.total() <= blamed, "{stats:?}");
}

/// The pool closes while gets miss: from then on they say so.
#[test]
fn misses_while_the_pool_closes_are_counted() {
    let pool = Pool::<u8, u32>::builder().capacity(4).build().unwrap();
    let (closed, gets) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let last = closed.load(Ordering::Acquire);
                    drop(pool.get(&1));
                    drop(pool.put(&1, 1));
                    gets.fetch_add(1, Ordering::Relaxed);
                    if last {
                        return;
                    }
                }
            });
        }
        scope.spawn(|| {
            pool.close();
            closed.store(true, Ordering::Release);
        });
    });
    let stats = pool.stats();
    assert_eq!(stats.gets(), gets.load(Ordering::Relaxed) as u64);
    assert!(stats.misses[Miss::Closed] >= 2, "the last one of each");
}
