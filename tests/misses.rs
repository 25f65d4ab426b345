//! Why gets miss, and which misses a longer wait would have spared.

mod common;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use slabpool::{
    Ago, Builder, Clock, CloseReason, GroupStats, ManualClock, Miss, Pool, PutOptions, Stats,
};

use common::{NANOSECOND, SECOND};

const MINUTE: Duration = Duration::from_secs(60);
/// Ghosts count in these.
const STEP: Duration = Duration::from_millis(125);

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

/// How long ago: from when the time was up, to the step of an eighth of a second.
#[test]
fn bands_are_exact_at_their_borders() {
    let ghost = |ago| (Miss::Expired, Some((CloseReason::Idle, ago)));
    let cases = [
        (Duration::ZERO, ghost(Ago::Second)),
        (SECOND, ghost(Ago::Second)),
        (SECOND + STEP - NANOSECOND, ghost(Ago::Second)),
        (SECOND + STEP, ghost(Ago::TenSeconds)),
        (10 * SECOND, ghost(Ago::TenSeconds)),
        (10 * SECOND + STEP, ghost(Ago::Minute)),
        (MINUTE, ghost(Ago::Minute)),
        (MINUTE + STEP, ghost(Ago::Longer)),
        (10 * MINUTE + STEP - NANOSECOND, ghost(Ago::Longer)),
    ];
    for closed_by_get in [false, true] {
        for (late, (miss, ghost)) in cases {
            let clock = Clock::manual();
            let pool = builder(&clock).idle_timeout(30 * SECOND).build().unwrap();
            pool.put(&1, 1).unwrap();
            if !closed_by_get {
                clock.advance(30 * SECOND);
                assert_eq!(pool.maintain(), 1);
                clock.advance(late);
            } else {
                clock.advance(30 * SECOND + late);
            }
            assert_miss(&pool, 1, miss, ghost);
        }
    }
}

#[test]
fn after_ten_minutes_a_ghost_is_none() {
    let clock = Clock::manual();
    let pool = builder(&clock).idle_timeout(30 * SECOND).build().unwrap();
    pool.put(&1, 1).unwrap();
    pool.put(&2, 2).unwrap();
    clock.advance(30 * SECOND);
    pool.get(&1).ok_or(()).unwrap_err();
    clock.advance(10 * MINUTE + STEP);
    assert_miss(&pool, 1, Miss::Cold, None);
    // The get meets it itself, so it knows why; but a rule that had waited ten minutes
    // more would not have spared the miss.
    assert_miss(&pool, 2, Miss::Expired, None);
}

#[test]
fn a_clock_that_never_turns_is_enough() {
    let pool = builder(&Clock::manual()).capacity(3).build().unwrap();
    for round in 0..50 {
        for id in 0..4 {
            pool.put(&1, round * 4 + id).unwrap();
        }
        let leases: Vec<_> = (0..3).map(|_| pool.get(&1).unwrap()).collect();
        // From the second round on, more were evicted than are missed.
        assert_miss(&pool, 1, Miss::Evicted, Some((CloseReason::Evicted, Ago::Second)));
        leases.into_iter().for_each(slabpool::Lease::release);
    }
}

#[test]
fn times_at_the_end_of_the_clock_are_times() {
    let clock = Clock::manual();
    clock.advance(Duration::MAX);
    let pool = builder(&clock).capacity(1).idle_timeout(None).build().unwrap();
    pool.put(&1, 1).unwrap();
    pool.put(&2, 2).unwrap();
    clock.advance(Duration::MAX);
    assert_miss(&pool, 1, Miss::Evicted, Some((CloseReason::Evicted, Ago::Second)));
    // What would end after the end of the clock does not end.
    let pool = builder(&clock).build().unwrap();
    pool.insert(&1, 1).unwrap().release();
    pool.get(&1).unwrap().release();
    // A jump over all of it.
    let clock = Clock::manual();
    let pool = builder(&clock).capacity(2).build().unwrap();
    fill(&pool, 1, 0..3);
    clock.advance(Duration::MAX);
    assert_miss(&pool, 1, Miss::Expired, None);
    assert_miss(&pool, 1, Miss::Cold, None);
}

/// A burst of closes under one key is remembered as a whole.
#[test]
fn a_burst_is_remembered() {
    let clock = Clock::manual();
    let pool = builder(&clock).idle_timeout(30 * SECOND).build().unwrap();
    fill(&pool, 1, 0..500);
    clock.advance(30 * SECOND);
    assert_eq!(pool.maintain(), 500);
    (0..500).for_each(|_| assert!(pool.get(&1).is_none()));
    assert_miss(&pool, 1, Miss::Cold, None);
    let stats = pool.stats();
    assert_eq!(stats.misses[Miss::Expired], 500);
    assert_eq!(stats.ghosts[(CloseReason::Idle, Ago::Second)], 500);
    assert_eq!(stats.ghosts.to_string(), "idle: 500 misses within 1 s");
}

/// What does not fit is forgotten, oldest first. No ghost is made up, and every miss is
/// still counted.
#[test]
fn what_does_not_fit_is_forgotten() {
    const KEYS: u32 = 100_000;
    let clock = Clock::manual();
    let pool = Pool::<u32, u32>::builder().capacity(10).clock(&clock).build().unwrap();
    for key in 0..KEYS {
        clock.advance(Duration::from_millis(1));
        pool.put(&key, key).unwrap();
    }
    // The last ones of those that were evicted, and the first ones.
    let misses = |keys: Range<u32>| {
        let before = pool.stats().misses[Miss::Evicted];
        keys.for_each(|key| assert!(pool.get(&key).is_none()));
        pool.stats().misses[Miss::Evicted] - before
    };
    assert!(misses(KEYS - 60..KEYS - 10) > 40, "500 ghosts fit, so most of 50 are there");
    assert!(misses(0..1_000) < 20, "a false match is as rare as one in half a million");
    let stats = pool.stats();
    assert_eq!(stats.misses.total(), 1_050);
    assert_eq!(stats.misses[Miss::Evicted] + stats.misses[Miss::Cold], 1_050);
    assert_eq!(stats.misses[Miss::Evicted], stats.ghosts.total());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A few connections are closed by their idle timeout, and as many gets miss:
    /// whatever the keys and the times, each miss knows of one close.
    #[test]
    fn few_ghosts_are_all_found(
        closes in prop::collection::vec((0..4_u8, 0..20_000_u64), 1..8),
    ) {
        let clock = Clock::manual();
        let pool = builder(&clock).build().unwrap();
        for &(key, ms) in &closes {
            let idle_timeout = Some(Duration::from_millis(ms + 1));
            pool.put_with(&key, 0, PutOptions::new().idle_timeout(idle_timeout)).unwrap();
        }
        clock.advance(Duration::from_secs(25));
        prop_assert_eq!(pool.maintain(), closes.len());
        for (key, _) in &closes {
            prop_assert!(pool.get(key).is_none());
        }
        let stats = pool.stats();
        prop_assert_eq!(stats.misses[Miss::Expired], closes.len() as u64);
        prop_assert_eq!(stats.ghosts.of(CloseReason::Idle), closes.len() as u64);
        // Closed 5 s to 25 s ago.
        prop_assert_eq!(stats.ghosts[(CloseReason::Idle, Ago::Second)], 0);
        for key in 0..4 {
            prop_assert!(pool.get(&key).is_none());
        }
        prop_assert_eq!(pool.stats().misses[Miss::Cold], 4);
    }
}

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
                for n in 0..5_000_u32 {
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

#[test]
fn a_group_that_is_not_there_has_seen_nothing() {
    let pool = builder(&Clock::manual()).build().unwrap();
    assert_eq!(pool.group_stats(&1), GroupStats::default());
    let group = pool.group(&1);
    drop(pool.insert(&1, 1).unwrap());
    assert_eq!((group.stats(), pool.group_stats(&1)), Default::default());
}
