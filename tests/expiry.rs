//! When connections expire: exactly at checkout, at most a tick late in the
//! background, never early.

mod common;

use std::time::Duration;

use proptest::prelude::*;
use slabpool::{Clock, CloseReason, GroupSettings, ManualClock, Pool};

use common::{Connection, Journal, NANOSECOND, SECOND, Tally, keep_alive};

fn pool(clock: &ManualClock, journal: &Journal<u8>) -> slabpool::Builder<u8, Connection> {
    Pool::builder().lifetime_jitter(0.0).clock(clock).on_close(journal.hook())
}

#[test]
fn a_get_is_exact_to_the_nanosecond() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).idle_timeout(30 * SECOND).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    clock.advance(30 * SECOND - NANOSECOND);
    let lease = pool.get(&1).expect("a nanosecond is left");
    assert_eq!(lease.meta().idle_for, 30 * SECOND - NANOSECOND);
    lease.release();
    clock.advance(30 * SECOND);
    assert!(pool.get(&1).is_none());
    assert_eq!(journal.read(), [(1, 1, CloseReason::Idle)]);
    assert_eq!((pool.stats().hits, pool.stats().misses.total()), (1, 1));
}

#[test]
fn the_newest_that_has_not_expired_is_found_below_those_that_have() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    for id in 2..20 {
        pool.put_with(&1, tally.connect(id), keep_alive(SECOND)).unwrap();
    }
    clock.advance(SECOND);
    assert_eq!(pool.get_if(&1, |_| true).unwrap().id, 1, "the others stay");
    assert_eq!(pool.status().idle, 18);
    pool.put(&1, tally.connect(20)).unwrap();
    pool.get(&1).unwrap().close();
    assert!(pool.get(&1).is_none());
    assert_eq!(pool.stats().closes[CloseReason::Idle], 18);
}

#[test]
fn with_a_timeout_of_zero_nothing_is_used_again() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).idle_timeout(Duration::ZERO).build().unwrap();
    pool.insert(&1, tally.connect(1)).unwrap().release();
    assert_eq!(journal.read(), [(1, 1, CloseReason::Idle)]);
    let rejected = pool.put(&1, tally.connect(2)).unwrap_err();
    assert_eq!(rejected.reason, slabpool::RejectReason::NeverIdle);
    let rejected = pool.put_with(&1, tally.connect(3), keep_alive(Duration::ZERO)).unwrap_err();
    assert_eq!(rejected.into_inner().id, 3);
    assert!(pool.get(&1).is_none());
    assert_eq!(tally.alive(), 1, "the rejected one that was not taken back");
}

#[test]
fn the_longest_times_do_not_overflow() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let builder = pool(&clock, &journal).idle_timeout(Duration::MAX).max_lifetime(Duration::MAX);
    let pool = builder.lifetime_jitter(1.0).build().unwrap();
    clock.advance(Duration::from_nanos(u64::MAX / 2));
    pool.put_with(&1, tally.connect(1), keep_alive(Duration::MAX)).unwrap();
    pool.insert(&1, tally.connect(2)).unwrap().release();
    clock.advance(Duration::from_nanos(u64::MAX / 4));
    assert_eq!(pool.maintain(), 0);
    let (top, below) = (pool.get(&1).unwrap(), pool.get(&1).unwrap());
    assert_eq!((top.id, below.id), (2, 1));
    top.release();
    below.release();
    assert_eq!(pool.status().idle, 2);
}

#[test]
fn without_a_timeout_idle_connections_stay() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).idle_timeout(None).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    pool.put_with(&1, tally.connect(2), keep_alive(SECOND)).unwrap();
    clock.advance(Duration::from_secs(100 * 365 * 86_400));
    assert_eq!(pool.maintain(), 1, "the one that said so itself");
    assert_eq!(pool.get(&1).unwrap().id, 1);
}

#[test]
fn a_lifetime_ends_at_get_and_at_release() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).max_lifetime(10 * SECOND).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    pool.put(&2, tally.connect(2)).unwrap();
    let busy = pool.insert(&3, tally.connect(3)).unwrap();
    clock.advance(10 * SECOND - NANOSECOND);
    pool.get(&1).expect("a nanosecond is left").release();
    let late = pool.get(&2).unwrap();
    clock.advance(NANOSECOND);
    assert!(pool.get(&1).is_none());
    late.release();
    busy.release();
    let lifetime = CloseReason::Lifetime;
    assert_eq!(journal.read(), [(1, 1, lifetime), (2, 2, lifetime), (3, 3, lifetime)]);
}

#[test]
fn jitter_only_shortens_a_lifetime() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let builder = pool(&clock, &journal).idle_timeout(None).max_lifetime(1_000 * SECOND);
    let pool = builder.lifetime_jitter(0.2).build().unwrap();
    for id in 0..500 {
        pool.put(&1, tally.connect(id)).unwrap();
    }
    clock.advance(800 * SECOND - NANOSECOND);
    assert_eq!(pool.maintain(), 0, "none ends before four fifths of its time");
    clock.advance(100 * SECOND);
    let first_half = pool.maintain();
    assert!((150..350).contains(&first_half), "{first_half} of 500 in the first half");
    clock.advance(100 * SECOND + NANOSECOND);
    assert_eq!(pool.maintain(), 500 - first_half, "none lives longer than it may");
}

#[test]
fn uses_are_counted_from_the_first() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).max_uses(3).build().unwrap();
    let lease = pool.insert(&1, tally.connect(1)).unwrap();
    assert_eq!((lease.meta().uses, lease.meta().reused), (1, false));
    lease.release();
    pool.put(&2, tally.connect(2)).unwrap();
    for (key, uses) in [(1, 2), (1, 3), (2, 1), (2, 2), (2, 3)] {
        let lease = pool.get(&key).unwrap();
        assert_eq!((lease.meta().uses, lease.meta().reused), (uses, true));
        lease.release();
    }
    assert_eq!(journal.read(), [(1, 1, CloseReason::Uses), (2, 2, CloseReason::Uses)]);
}

#[test]
fn lowered_limits_hold_from_the_next_release_on() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).idle_timeout(60 * SECOND).build().unwrap();
    let group = pool.group(&1);
    for id in 1..5 {
        group.put(tally.connect(id)).unwrap();
    }
    pool.maintain();
    let released = group.get().unwrap();
    group.configure(GroupSettings::new().idle_timeout(5 * SECOND)).unwrap();
    released.release();
    clock.advance(5 * SECOND - NANOSECOND);
    assert_eq!(pool.maintain(), 0);
    clock.advance(pool.tick());
    assert_eq!(pool.maintain(), 1, "the reaper looks in time");
    assert_eq!(journal.read(), [(1, 4, CloseReason::Idle)]);
    group.configure(GroupSettings::new().max_uses(1)).unwrap();
    group.get().unwrap().release();
    assert_eq!(journal.read(), [(1, 3, CloseReason::Uses)]);
    group.configure(GroupSettings::new().idle_timeout(Duration::ZERO)).unwrap();
    group.get().unwrap().release();
    assert_eq!(journal.read(), [(1, 2, CloseReason::Idle)]);
    group.configure(GroupSettings::new().max_idle(0)).unwrap();
    group.get().unwrap().release();
    assert_eq!(journal.read(), [(1, 1, CloseReason::GroupFull)]);
}

#[test]
fn used_up_connections_hide_none_that_is_fresh() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    pool.put(&1, tally.connect(0)).unwrap();
    let leases: Vec<_> = (1..30).map(|id| pool.insert(&1, tally.connect(id)).unwrap()).collect();
    leases.into_iter().for_each(|lease| lease.release());
    pool.group(&1).configure(GroupSettings::new().max_uses(1)).unwrap();
    assert_eq!(pool.get_if(&1, |_| true).expect("one was never used").id, 0);
}

#[test]
fn an_expired_connection_that_retain_held_is_not_forgotten() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).idle_timeout(60 * SECOND).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    pool.maintain();
    clock.advance(60 * SECOND);
    pool.retain(|_, _, _| {
        assert_eq!(pool.maintain(), 0, "it is being looked at");
        true
    });
    clock.advance(pool.tick());
    assert_eq!(pool.maintain(), 1);
    assert_eq!(journal.read(), [(1, 1, CloseReason::Idle)]);
}

/// A connection's own timeout, and that of its group, in milliseconds.
fn timeouts() -> impl Strategy<Value = Vec<(u64, u8)>> {
    prop::collection::vec((1..20_000_u64, 0..4_u8), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reaper_is_never_early_and_at_most_a_tick_late(
        timeouts in timeouts(),
        pool_timeout in 1..20_000_u64,
        steps in prop::collection::vec(1..400_u64, 1..100),
    ) {
        let ms = Duration::from_millis;
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        let pool = pool(&clock, &journal)
            .idle_timeout(ms(pool_timeout))
            .group_settings(move |&key| match key {
                0 => GroupSettings::new(),
                key => GroupSettings::new().idle_timeout(ms(300 * u64::from(key))),
            })
            .build()
            .unwrap();
        let tick = pool.tick().as_millis() as u64;
        let mut due = Vec::new();
        let mut now = 0;
        for (id, &(own, key)) in timeouts.iter().enumerate() {
            let group = if key == 0 { pool_timeout } else { 300 * u64::from(key) };
            pool.put_with(&key, tally.connect(id as u32), keep_alive(ms(own))).unwrap();
            due.push(now + own.min(group));
            // Some are put while time goes by.
            clock.advance(ms(own % 7));
            now += own % 7;
        }
        for step in steps {
            clock.advance(ms(step.min(tick)));
            now += step.min(tick);
            let closed = pool.maintain();
            let reasons = journal.reasons();
            prop_assert_eq!(closed, reasons.len());
            for (id, reason) in reasons {
                prop_assert_eq!(reason, CloseReason::Idle);
                prop_assert!(due[id as usize] <= now, "{id} is early");
                due[id as usize] = u64::MAX;
            }
            for (id, &due) in due.iter().enumerate() {
                prop_assert!(due > now - tick.min(now), "{id} is more than a tick late");
            }
        }
    }
}
