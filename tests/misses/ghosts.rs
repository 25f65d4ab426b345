//! What is remembered of connections that a rule has closed, how exactly, and for how long.

use proptest::prelude::*;

use super::*;
use crate::common::NANOSECOND;

const MINUTE: Duration = Duration::from_secs(60);
/// Ghosts count in these.
const STEP: Duration = Duration::from_millis(125);

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
