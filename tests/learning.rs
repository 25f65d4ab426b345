//! Groups that learn after what time their peer closes idle connections: from what fails,
//! never from one restart, never above what is configured, and not for ever.

mod common;

use std::time::Duration;

use proptest::prelude::*;
use slabpool::{Clock, CloseReason, Group, GroupSettings, ManualClock, Pool};

use common::{NANOSECOND, SECOND};

const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

fn builder(clock: &ManualClock) -> slabpool::Builder<u8, ()> {
    Pool::builder().learn_idle_timeout(true).clock(clock)
}

fn learning() -> (ManualClock, Group<u8, ()>) {
    let clock = Clock::manual();
    let pool = builder(&clock).build().unwrap();
    (clock, pool.group(&1))
}

/// A connection is idle for so long, and then found closed.
fn found_closed_after(clock: &ManualClock, group: &Group<u8, ()>, idle_for: Duration) {
    group.put(()).unwrap();
    clock.advance(idle_for);
    group.get().expect("the timeout is longer").close_dead();
}

fn expire_one(clock: &ManualClock, group: &Group<u8, ()>) {
    group.put(()).unwrap();
    clock.advance(group.idle_timeout().unwrap());
    assert!(group.get().is_none());
}

#[test]
fn three_that_agree_make_a_timeout_a_second_below_the_smallest() {
    let (clock, group) = learning();
    for idle_for in [5_100, 5_400] {
        found_closed_after(&clock, &group, idle_for * MILLISECOND);
        assert_eq!(group.idle_timeout(), Some(30 * SECOND));
    }
    found_closed_after(&clock, &group, 5 * SECOND);
    assert_eq!(group.idle_timeout(), Some(4 * SECOND));
    group.put(()).unwrap();
    clock.advance(4 * SECOND - NANOSECOND);
    group.get().expect("a nanosecond is left").release();
    clock.advance(4 * SECOND);
    assert!(group.get().is_none());
    let closes = group.pool().stats().closes;
    assert_eq!((closes[CloseReason::Dead], closes[CloseReason::Idle]), (3, 1));
}

#[test]
fn of_a_short_timeout_half_is_left() {
    for (seen, learned) in [(1_500, 750), (2_000, 1_000), (2_100, 1_100), (1_000, 500), (200, 100)]
    {
        let (clock, group) = learning();
        (0..3).for_each(|_| found_closed_after(&clock, &group, seen * MILLISECOND));
        assert_eq!(group.idle_timeout(), Some(learned * MILLISECOND), "{seen}");
    }
}

#[test]
fn those_that_do_not_agree_make_none() {
    let (clock, group) = learning();
    for idle_for in [5, 5, 8, 5, 5, 12, 12, 20, 12, 12, 9] {
        found_closed_after(&clock, &group, idle_for * SECOND);
        assert_eq!(group.idle_timeout(), Some(30 * SECOND));
    }
    // At once, or after so long that nobody can tell why.
    let (clock, pool) = (Clock::manual(), Clock::manual());
    let pool = builder(&pool).idle_timeout(None).clock(&clock).build().unwrap();
    let group = pool.group(&1);
    for idle_for in [Duration::ZERO, 199 * MILLISECOND, 55 * MINUTE, Duration::from_secs(1 << 24)] {
        (0..9).for_each(|_| found_closed_after(&clock, &group, idle_for));
        assert_eq!(group.idle_timeout(), None, "{idle_for:?}");
    }
}

#[test]
fn nothing_is_learned_from_a_new_connection_or_without_being_told_to() {
    let (clock, group) = learning();
    for _ in 0..9 {
        let lease = group.insert(()).unwrap();
        clock.advance(5 * SECOND);
        lease.close_dead();
    }
    assert_eq!(group.idle_timeout(), Some(30 * SECOND));
    assert_eq!(group.pool().stats().closes[CloseReason::Dead], 9);
    let pool = Pool::<u8, ()>::builder().clock(&clock).build().unwrap();
    let group = pool.group(&1);
    (0..9).for_each(|_| found_closed_after(&clock, &group, 5 * SECOND));
    assert_eq!(group.idle_timeout(), Some(30 * SECOND), "that is the default");
}

#[test]
fn what_is_configured_is_never_exceeded() {
    let (clock, group) = learning();
    (0..3).for_each(|_| found_closed_after(&clock, &group, 11 * SECOND));
    assert_eq!(group.idle_timeout(), Some(10 * SECOND));
    for (configured, in_force) in [(3, 3), (60, 10), (10, 10), (9, 9), (30, 10)] {
        group.configure(GroupSettings::new().idle_timeout(configured * SECOND)).unwrap();
        assert_eq!(group.idle_timeout(), Some(in_force * SECOND), "{configured}");
    }
    group.configure(GroupSettings::new().idle_timeout(None)).unwrap();
    assert_eq!(group.idle_timeout(), Some(10 * SECOND));
    group.configure(GroupSettings::new().idle_timeout(Duration::ZERO)).unwrap();
    assert_eq!(group.idle_timeout(), Some(Duration::ZERO));
    group.configure(GroupSettings::new()).unwrap();
    assert_eq!(group.idle_timeout(), Some(10 * SECOND));
}

#[test]
fn it_grows_back_by_an_eighth_every_ten_minutes() {
    let (clock, group) = learning();
    (0..3).for_each(|_| found_closed_after(&clock, &group, 9 * SECOND));
    clock.advance(9 * MINUTE);
    expire_one(&clock, &group);
    assert_eq!(group.idle_timeout(), Some(8 * SECOND));
    clock.advance(MINUTE);
    expire_one(&clock, &group);
    assert_eq!(group.idle_timeout(), Some(9 * SECOND));
    clock.advance(100 * MINUTE);
    let grown = group.idle_timeout().unwrap();
    assert!((28 * SECOND..29 * SECOND).contains(&grown), "{grown:?}, 9 s grew ten times");
    clock.advance(10 * MINUTE);
    assert_eq!(group.idle_timeout(), Some(30 * SECOND), "no more than is configured");
    // Without a limit as well it ends.
    group.configure(GroupSettings::new().idle_timeout(None)).unwrap();
    (0..3).for_each(|_| found_closed_after(&clock, &group, 300 * MILLISECOND));
    assert_eq!(group.idle_timeout(), Some(150 * MILLISECOND));
    clock.advance(24 * 60 * MINUTE);
    assert_eq!(group.idle_timeout(), None);
}

#[test]
fn one_that_confirms_is_enough_and_makes_it_last() {
    let (clock, group) = learning();
    (0..3).for_each(|_| found_closed_after(&clock, &group, 5 * SECOND));
    for period in [10, 40, 160, 640, 640] {
        // To the minute.
        clock.advance((2 * period - 2) * MINUTE);
        assert_eq!(group.idle_timeout(), Some(4_500 * MILLISECOND), "once, after {period} min");
        clock.advance(3 * MINUTE);
        let grown = group.idle_timeout().unwrap();
        assert!(grown > 5 * SECOND, "twice: {grown:?}");
        found_closed_after(&clock, &group, 5 * SECOND);
        assert_eq!(group.idle_timeout(), Some(4 * SECOND), "one is enough");
    }
}

#[test]
fn a_peer_that_closes_sooner_than_before_is_learned_again() {
    let (clock, group) = learning();
    (0..3).for_each(|_| found_closed_after(&clock, &group, 20 * SECOND));
    assert_eq!(group.idle_timeout(), Some(19 * SECOND));
    (0..3).for_each(|_| found_closed_after(&clock, &group, 8 * SECOND));
    assert_eq!(group.idle_timeout(), Some(7 * SECOND));
}

#[test]
fn what_was_learned_outlives_the_group() {
    let clock = Clock::manual();
    let pool = builder(&clock).build().unwrap();
    for failed in 0..4 {
        // No handle keeps the group: it goes with the connection, each time.
        assert_eq!(pool.status().groups, 0);
        pool.put(&1, ()).unwrap();
        clock.advance(5 * SECOND);
        match pool.get(&1) {
            Some(lease) => lease.close_dead(),
            None => assert_eq!(failed, 3, "learned too soon"),
        }
    }
    assert_eq!(pool.stats().closes[CloseReason::Dead], 3);
    assert_eq!(pool.group(&1).idle_timeout(), Some(4 * SECOND));
    assert_eq!(pool.group(&2).idle_timeout(), Some(30 * SECOND), "of another peer");
    clock.advance(25 * MINUTE);
    let grown = pool.group(&1).idle_timeout().unwrap();
    assert!(grown > 5 * SECOND && grown < 6 * SECOND, "{grown:?}: forgotten while it was gone");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// All connections are closed in one moment, whatever their ages. Requests find that
    /// out one after the other, sooner or later. None of it must pass for a timeout.
    #[test]
    fn a_restart_teaches_nothing(
        releases in prop::collection::vec(0..400_u64, 3..200),
        until_restart in 0..400_u64,
        requests in prop::collection::vec(prop_oneof![Just(0), 0..40_u64, 0..400_u64], 1..20),
        timeout in prop_oneof![Just(3_600), 100..200_u32],
    ) {
        let clock = Clock::manual();
        let pool = builder(&clock).idle_timeout(timeout * SECOND).build().unwrap();
        let group = pool.group(&1);
        for pause in releases {
            clock.advance(pause as u32 * MILLISECOND);
            group.put(()).unwrap();
        }
        clock.advance(until_restart as u32 * MILLISECOND);
        for &pause in requests.iter().cycle() {
            clock.advance(pause as u32 * MILLISECOND);
            let Some(lease) = group.get() else { break };
            lease.close_dead();
            prop_assert_eq!(group.idle_timeout(), Some(timeout * SECOND));
        }
    }
}
