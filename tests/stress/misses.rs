//! A get misses no connection that is idle, whatever is done to the pool meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use slabpool::{Clock, Pool};

use crate::common::SECOND;
use crate::support::rounds;

const WORKERS: u32 = 3;

/// As many connections as threads that want one, and `spare` more: whenever a thread
/// asks, one is idle. Returns how often it got none.
fn misses_beside(lanes: usize, spare: u32, disturb: impl Fn(&Pool<u32, u32>) + Sync) -> usize {
    let build = Pool::<u32, u32>::builder().capacity(10_000).lanes(lanes).clock(Clock::manual());
    let pool = build.idle_timeout(SECOND).build().unwrap();
    for at in 0..WORKERS + spare {
        pool.put(&0, at).unwrap();
    }
    let (misses, running) = (AtomicUsize::new(0), AtomicUsize::new(WORKERS as usize));
    let started = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while !started.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                for _ in 0..rounds(300_000) {
                    match pool.get(&0) {
                        Some(lease) => lease.release(),
                        None => drop(misses.fetch_add(1, Ordering::Relaxed)),
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        disturb(&pool);
        started.store(true, Ordering::Release);
        while running.load(Ordering::Acquire) > 0 {
            disturb(&pool);
        }
    });
    pool.clear_group(&1);
    assert!(pool.status().idle >= (WORKERS + spare) as usize);
    misses.into_inner()
}

/// Leaves void tickets in the group, so that it is compacted again and again.
fn litter(pool: &Pool<u32, u32>) {
    let tokens: Vec<_> = (0..80).map(|at| pool.put(&0, 1_000 + at).unwrap()).collect();
    for token in tokens {
        pool.evict(token);
    }
}

fn stale_tokens_and_other_groups(pool: &Pool<u32, u32>) {
    let stale = pool.put(&1, 0).unwrap();
    assert!(pool.evict(stale));
    pool.put(&1, 0).unwrap();
    pool.clear_group(&1);
    assert!(!pool.evict(stale) && pool.take(stale).is_none());
    pool.maintain();
    assert!(pool.get(&1).is_none());
}

#[test]
fn beside_maintenance_stale_tokens_and_other_groups() {
    assert_eq!(misses_beside(1, 0, stale_tokens_and_other_groups), 0);
    assert_eq!(misses_beside(4, 0, stale_tokens_and_other_groups), 0);
}

#[test]
fn beside_compaction() {
    assert_eq!(misses_beside(1, 0, litter), 0);
    assert_eq!(misses_beside(4, 0, litter), 0);
}

#[test]
fn beside_retain_which_holds_one_connection_at_a_time() {
    let look = |pool: &Pool<u32, u32>| pool.retain(|_, meta, _| meta.reused);
    assert_eq!(misses_beside(1, 1, look), 0);
    assert_eq!(misses_beside(4, 1, look), 0);
}

#[test]
fn beside_a_search_by_predicate() {
    let search = |pool: &Pool<u32, u32>| {
        if let Some(lease) = pool.get_if(&0, |meta| meta.uses % 3 == 0) {
            lease.release();
        }
    };
    assert_eq!(misses_beside(1, 1, search), 0);
}
