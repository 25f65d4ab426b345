//! Why gets miss, and which misses a longer wait would have spared.

#[path = "../common/mod.rs"]
mod common;
mod ghosts;
mod threads;

use std::ops::Range;
use std::time::Duration;

use slabpool::{
    Ago, Builder, Clock, CloseReason, GroupStats, ManualClock, Miss, Pool, PutOptions, Stats,
};

use common::SECOND;

fn builder(clock: &ManualClock) -> Builder<u8, u32> {
    Pool::builder().lifetime_jitter(0.0).clock(clock)
}

/// Puts these connections under a key, the last one on top.
fn fill(pool: &Pool<u8, u32>, key: u8, connections: Range<u32>) {
    for id in connections {
        pool.put(&key, id).unwrap();
    }
}

/// Asserts that a get by `key` misses for this reason, and at which rule's cost.
#[track_caller]
fn assert_miss(pool: &Pool<u8, u32>, key: u8, miss: Miss, ghost: Option<(CloseReason, Ago)>) {
    let before = pool.stats();
    assert!(pool.get(&key).is_none());
    check_one(&before, &pool.stats(), miss, ghost);
}

#[track_caller]
fn check_one(before: &Stats, after: &Stats, miss: Miss, ghost: Option<(CloseReason, Ago)>) {
    let misses: Vec<Miss> =
        Miss::ALL.into_iter().filter(|&kind| after.misses[kind] > before.misses[kind]).collect();
    let ghosts: Vec<(CloseReason, Ago)> = after
        .ghosts
        .iter()
        .map(|(rule, ago, _)| (rule, ago))
        .filter(|&at| after.ghosts[at] > before.ghosts[at])
        .collect();
    assert_eq!((misses, ghosts), (vec![miss], ghost.into_iter().collect()));
    assert_eq!(after.misses.total(), before.misses.total() + 1);
    assert_eq!(after.ghosts.total(), before.ghosts.total() + u64::from(ghost.is_some()));
}

#[test]
fn a_key_that_nobody_knows_is_cold() {
    let pool = builder(&Clock::manual()).build().unwrap();
    assert_miss(&pool, 1, Miss::Cold, None);
    let group = pool.group(&1);
    assert_miss(&pool, 1, Miss::Cold, None);
    assert!(group.get().is_none());
    assert!(group.get_owned().is_none());
    assert!(group.get_if(|_| true).is_none());
    assert!(group.get_if_owned(|_| true).is_none());
    drop(group);
    assert!(pool.get_owned(&1).is_none());
    assert!(pool.get_if(&1, |_| true).is_none());
    assert!(pool.get_if_owned(&1, |_| true).is_none());
    let stats = pool.stats();
    assert_eq!((stats.misses[Miss::Cold], stats.gets(), stats.ghosts.total()), (9, 9, 0));
}

#[test]
fn what_users_took_or_closed_leaves_the_key_cold() {
    let pool = builder(&Clock::manual()).build().unwrap();
    let token = pool.put(&1, 1).unwrap();
    assert_eq!(pool.take(token), Some(1));
    assert_miss(&pool, 1, Miss::Cold, None);
    let token = pool.put(&1, 2).unwrap();
    assert!(pool.evict(token));
    assert_miss(&pool, 1, Miss::Cold, None);
    drop(pool.insert(&1, 3).unwrap());
    assert_miss(&pool, 1, Miss::Cold, None);
    pool.insert(&1, 4).unwrap().close();
    assert_miss(&pool, 1, Miss::Cold, None);
    assert_eq!(pool.insert(&1, 5).unwrap().detach(), 5);
    assert_miss(&pool, 1, Miss::Cold, None);
    pool.put(&1, 6).unwrap();
    pool.clear();
    assert_miss(&pool, 1, Miss::Cold, None);
    pool.put(&1, 7).unwrap();
    pool.retain(|_, _, _| false);
    assert_miss(&pool, 1, Miss::Cold, None);
}

#[test]
fn connections_in_use_are_all_leased() {
    let pool = builder(&Clock::manual()).build().unwrap();
    let lease = pool.insert(&1, 1).unwrap();
    assert_miss(&pool, 1, Miss::AllLeased, None);
    assert_miss(&pool, 2, Miss::Cold, None);
    let before = pool.stats();
    assert!(pool.get_if(&1, |_| panic!("there is none to ask about")).is_none());
    check_one(&before, &pool.stats(), Miss::AllLeased, None);
    lease.close();
    assert_miss(&pool, 1, Miss::Cold, None);
}

#[test]
fn a_predicate_that_refuses_is_to_blame() {
    let clock = Clock::manual();
    let pool = builder(&clock).build().unwrap();
    pool.put(&1, 1).unwrap();
    // It would be a ghost, but not of these gets.
    pool.put_with(&1, 2, PutOptions::new().idle_timeout(SECOND)).unwrap();
    clock.advance(2 * SECOND);
    pool.maintain();
    for group in [false, true] {
        let before = pool.stats();
        let handle = pool.group(&1);
        let lease = if group {
            handle.get_if(|meta| meta.idle_for < SECOND)
        } else {
            pool.get_if(&1, |meta| meta.idle_for < SECOND)
        };
        assert!(lease.is_none());
        check_one(&before, &pool.stats(), Miss::Predicate, None);
    }
    // The ghost is still there.
    let lease = pool.get(&1).unwrap();
    assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Idle, Ago::Second)));
    assert_miss(&pool, 1, Miss::AllLeased, None);
    drop(lease);
}

#[test]
fn a_get_if_that_meets_only_what_has_expired_is_not_the_predicates_fault() {
    let clock = Clock::manual();
    let pool = builder(&clock).idle_timeout(SECOND).build().unwrap();
    pool.put(&1, 1).unwrap();
    clock.advance(SECOND);
    for _ in 0..2 {
        let before = pool.stats();
        assert!(pool.get_if(&1, |_| panic!("it has expired")).is_none());
        check_one(&before, &pool.stats(), Miss::Expired, None);
    }
    assert_eq!(pool.maintain(), 1);
    assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Idle, Ago::Second)));
    pool.put(&1, 2).unwrap();
    pool.invalidate();
    let before = pool.stats();
    assert!(pool.get_if(&1, |_| panic!("it was invalidated")).is_none());
    check_one(&before, &pool.stats(), Miss::Expired, None);
    // One that has expired, and one that is refused.
    pool.put(&1, 3).unwrap();
    let before = pool.stats();
    assert!(pool.get_if(&1, |_| false).is_none());
    check_one(&before, &pool.stats(), Miss::Expired, None);
}

#[test]
fn a_closed_pool_is_closed_whatever_was_there() {
    let clock = Clock::manual();
    let pool = builder(&clock).idle_timeout(SECOND).build().unwrap();
    pool.put(&1, 1).unwrap();
    clock.advance(SECOND);
    pool.maintain();
    let lease = pool.insert(&1, 2).unwrap();
    pool.put(&2, 3).unwrap();
    pool.close();
    for key in 1..4 {
        assert_miss(&pool, key, Miss::Closed, None);
        let before = pool.stats();
        assert!(pool.get_if(&key, |_| true).is_none());
        check_one(&before, &pool.stats(), Miss::Closed, None);
    }
    lease.release();
    assert_miss(&pool, 1, Miss::Closed, None);
}

#[test]
fn what_a_get_meets_and_refuses_has_expired() {
    let clock = Clock::manual();
    let idle = (CloseReason::Idle, Ago::Second);
    let pool = builder(&clock).idle_timeout(30 * SECOND).build().unwrap();
    pool.put(&1, 1).unwrap();
    clock.advance(30 * SECOND);
    assert_miss(&pool, 1, Miss::Expired, Some(idle));
    assert_miss(&pool, 1, Miss::Cold, None);
    pool.put(&1, 2).unwrap();
    pool.invalidate_group(&1);
    // No rule has closed it.
    assert_miss(&pool, 1, Miss::Expired, None);
    // Several, below one another, while one is in use. Each is a ghost of its own.
    let lease = pool.insert(&1, 3).unwrap();
    fill(&pool, 1, 4..7);
    clock.advance(30 * SECOND);
    for _ in 0..3 {
        assert_miss(&pool, 1, Miss::Expired, Some(idle));
    }
    assert_miss(&pool, 1, Miss::AllLeased, None);
    drop(lease);
}

/// A get that finds something below what it refuses is no miss. The ghosts stay.
#[test]
fn a_hit_takes_no_ghost() {
    let clock = Clock::manual();
    let pool = builder(&clock).build().unwrap();
    pool.put(&1, 1).unwrap();
    pool.put_with(&1, 2, PutOptions::new().idle_timeout(SECOND)).unwrap();
    clock.advance(SECOND);
    let lease = pool.get(&1).unwrap();
    assert_eq!((*lease, pool.stats().misses.total()), (1, 0));
    assert_eq!(pool.stats().ghosts.total(), 0);
    assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Idle, Ago::Second)));
}

#[test]
fn a_lifetime_and_uses_expire_as_well() {
    let clock = Clock::manual();
    let pool = builder(&clock).max_lifetime(SECOND).build().unwrap();
    pool.put(&1, 1).unwrap();
    clock.advance(SECOND);
    pool.maintain();
    assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Lifetime, Ago::Second)));
    let lease = pool.insert(&1, 2).unwrap();
    clock.advance(5 * SECOND);
    lease.release();
    // Its time was up 4 s ago, though it was closed just now.
    assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Lifetime, Ago::TenSeconds)));
    let pool = builder(&clock).max_uses(1).build().unwrap();
    pool.insert(&1, 3).unwrap().release();
    assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Uses, Ago::Second)));
    assert_miss(&pool, 1, Miss::Cold, None);
}

#[test]
fn bounds_evict() {
    let clock = Clock::manual();
    let pool = builder(&clock).capacity(1).build().unwrap();
    pool.put(&1, 1).unwrap();
    pool.put(&2, 2).unwrap();
    assert_miss(&pool, 1, Miss::Evicted, Some((CloseReason::Evicted, Ago::Second)));
    assert_miss(&pool, 1, Miss::Cold, None);
    let pool = builder(&clock).max_idle_per_group(1).build().unwrap();
    let leases = [1, 2, 3].map(|id| pool.insert(&1, id).unwrap());
    leases.into_iter().for_each(slabpool::Lease::release);
    let lease = pool.get(&1).unwrap();
    for _ in 0..2 {
        assert_miss(&pool, 1, Miss::Evicted, Some((CloseReason::GroupFull, Ago::Second)));
    }
    // It says more than that all are leased, as long as it lasts.
    assert_miss(&pool, 1, Miss::AllLeased, None);
    drop(lease);
}

#[test]
fn a_timeout_of_zero_is_to_blame_for_every_miss() {
    let clock = Clock::manual();
    let pool = builder(&clock).idle_timeout(Duration::ZERO).build().unwrap();
    for id in 0..20 {
        pool.insert(&1, id).unwrap().release();
        assert_miss(&pool, 1, Miss::Expired, Some((CloseReason::Idle, Ago::Second)));
    }
}

#[test]
fn a_group_that_is_not_there_has_seen_nothing() {
    let pool = builder(&Clock::manual()).build().unwrap();
    assert_eq!(pool.group_stats(&1), GroupStats::default());
    let group = pool.group(&1);
    drop(pool.insert(&1, 1).unwrap());
    assert_eq!((group.stats(), pool.group_stats(&1)), Default::default());
}
