//! What a server says of how long it keeps a connection: read from its header, and kept
//! to, exactly at checkout and at most a tick late in the background.

mod common;

use std::time::Duration;

use proptest::prelude::*;
use slabpool::{
    Clock, CloseReason, GroupSettings, KeepAlive, ManualClock, Pool, PooledOwned, PutOptions,
    RejectReason,
};

use common::{Connection, Journal, NANOSECOND, SECOND, Tally};

fn said(timeout: impl Into<Option<u64>>, max: impl Into<Option<u64>>) -> KeepAlive {
    KeepAlive { timeout: timeout.into().map(Duration::from_secs), max: max.into() }
}

#[test]
fn headers_as_servers_send_them() {
    for (header, expected) in [
        ("timeout=5, max=1000", said(5, 1_000)),
        ("timeout=5,max=1000", said(5, 1_000)),
        ("Timeout=5, MAX=100", said(5, 100)),
        ("  max = 7 ,\ttimeout = 15  ", said(15, 7)),
        ("timeout=\"5\", max=\"9\"", said(5, 9)),
        ("timeout=\"1\\5\"", said(15, None)),
        ("timeout=60; max=3", said(60, 3)),
        ("timeout=20", said(20, None)),
        ("max=0", said(None, 0)),
        ("timeout=0", said(0, None)),
        ("timeout=007", said(7, None)),
        ("timeout=9, timeout=5, timeout=7", said(5, None)),
        ("header=\"a, timeout=1\", timeout=5", said(5, None)),
        ("header=\"a\\\", timeout=1\", timeout=5", said(5, None)),
        ("q=1;w=2,,; ,max=4", said(None, 4)),
        ("timeout=18446744073709551616, max=99999999999999999999999", said(u64::MAX, u64::MAX)),
    ] {
        assert_eq!(KeepAlive::parse(header), expected, "{header}");
        assert_eq!(KeepAlive::parse(header.as_bytes()), expected, "{header}");
    }
}

#[test]
fn rubbish_says_nothing() {
    for header in [
        "",
        " ",
        ",",
        "=",
        "5",
        "timeout",
        "timeout=",
        "timeout=,",
        "timeout=five",
        "timeout=-5",
        "timeout=+5",
        "timeout=5.0",
        "timeout=5s",
        "timeout=0x10",
        "timeout=5 6",
        "timeout==5",
        "timeout=\"5",
        "timeout=5\"",
        "timeout=\"\"",
        "timeout=\"",
        "timeout=\"5\\\"",
        "time=5",
        "timeouts=5",
        "timeout 5",
        "\"timeout=5\"",
        "timeout=\u{665}",
        "max=\0",
        "\\,max=\\1",
    ] {
        assert_eq!(KeepAlive::parse(header), KeepAlive::default(), "{header}");
    }
    assert_eq!(
        KeepAlive::parse([0xff, b'=', 0xfe, b',', b'm', b'a', b'x', b'=', 0x80]),
        said(None, None)
    );
    assert_eq!(KeepAlive::parse("timeout=x, timeout=5"), said(5, None), "the other one counts");
}

#[test]
fn several_lines_are_joined_or_merged() {
    let (one, other) = ("timeout=5, max=3", "timeout=9, max=2");
    let merged = KeepAlive::parse(one).and(KeepAlive::parse(other));
    assert_eq!(merged, said(5, 2));
    assert_eq!(KeepAlive::parse(format!("{one}, {other}")), merged);
    assert_eq!(said(None, 1).and(said(2, None)), said(2, 1));
}

#[test]
fn options_stay_a_second_below_the_server() {
    let options = |header| PutOptions::from(KeepAlive::parse(header));
    assert_eq!(options("timeout=5, max=9"), PutOptions::new().idle_timeout(4 * SECOND).max_uses(9));
    assert_eq!(options("timeout=1"), PutOptions::new().idle_timeout(Duration::ZERO));
    assert_eq!(options("timeout=0"), PutOptions::new().idle_timeout(Duration::ZERO));
    assert_eq!(options("nothing"), PutOptions::default());
    let huge = options("timeout=99999999999999999999");
    assert_eq!(huge.idle_timeout, Some(Duration::from_secs(u64::MAX) - KeepAlive::GUARD));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        KeepAlive::parse(&bytes);
    }

    #[test]
    fn nothing_like_a_header_makes_it_panic(header in "([Tt]imeout|max|[ \t=,;\"\\\\]|[0-9]{1,25}){0,20}") {
        let alone = KeepAlive::parse(&header);
        let twice = KeepAlive::parse(format!("{header},{header}"));
        // But for an open quote, whose end is in the second one.
        prop_assert!(header.contains('"') || alone == twice);
    }

    #[test]
    fn what_is_written_is_read(
        timeout in prop::option::of(any::<u64>()),
        max in prop::option::of(any::<u64>()),
    ) {
        let keep_alive = said(timeout, max);
        prop_assert_eq!(KeepAlive::parse(keep_alive.to_string()), keep_alive);
        let shouted = format!("x=\"1,2\" ; {}", keep_alive.to_string().to_uppercase());
        prop_assert_eq!(KeepAlive::parse(shouted), keep_alive);
    }
}

fn pool(clock: &ManualClock, journal: &Journal<u8>) -> slabpool::Builder<u8, Connection> {
    Pool::builder().lifetime_jitter(0.0).clock(clock).on_close(journal.hook())
}

#[test]
fn a_release_says_how_long_a_connection_may_stay() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    pool.insert(&1, tally.connect(1)).unwrap().release_with(KeepAlive::parse("timeout=5"));
    clock.advance(4 * SECOND - NANOSECOND);
    let lease = pool.get(&1).expect("a nanosecond is left");
    assert_eq!(lease.id, 1);
    lease.release();
    clock.advance(4 * SECOND - NANOSECOND);
    pool.get(&1).expect("said once, it holds for later spells").release_with(PutOptions::new());
    clock.advance(4 * SECOND);
    assert!(pool.get(&1).is_none(), "nothing said changes nothing");
    assert_eq!(journal.read(), [(1, 1, CloseReason::Idle)]);
}

#[test]
fn the_last_word_holds_within_what_the_group_allows() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    let options = PutOptions::new().idle_timeout(2 * SECOND).max_uses(9);
    pool.put_with(&1, tally.connect(1), options).unwrap();
    pool.get(&1).unwrap().release_with(PutOptions::new().idle_timeout(20 * SECOND));
    clock.advance(19 * SECOND);
    pool.get(&1).unwrap().release_with(PutOptions::new().idle_timeout(Duration::MAX));
    clock.advance(30 * SECOND - NANOSECOND);
    pool.get(&1).expect("up to the pool's timeout").release();
    clock.advance(30 * SECOND);
    assert!(pool.get(&1).is_none());
    assert_eq!(journal.read(), [(1, 1, CloseReason::Idle)]);
}

#[test]
fn a_server_that_closes_within_a_second_is_not_asked_again() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    let at_once = KeepAlive::parse("timeout=1");
    pool.insert(&1, tally.connect(1)).unwrap().release_with(at_once);
    assert_eq!(journal.read(), [(1, 1, CloseReason::Idle)]);
    let rejected = pool.put_with(&1, tally.connect(2), at_once).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::NeverIdle);
}

#[test]
fn uses_are_counted_from_when_they_were_said() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    let group = pool.group(&1);
    group.put_with(tally.connect(1), PutOptions::new().max_uses(2)).unwrap();
    group.get().unwrap().release();
    assert_eq!(group.get_if(|meta| meta.uses == 2).unwrap().meta().uses, 2, "and is dropped");
    assert_eq!(journal.read(), [(1, 1, CloseReason::Dropped)]);
    group.put_with(tally.connect(2), PutOptions::new().max_uses(1)).unwrap();
    group.get().unwrap().release();
    assert_eq!(journal.read(), [(1, 2, CloseReason::Uses)]);
    let rejected = group.put_with(tally.connect(3), PutOptions::new().max_uses(0)).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::NeverIdle);
    group.insert(tally.connect(4)).unwrap().release_with(PutOptions::new().max_uses(0));
    assert_eq!(journal.read(), [(1, 4, CloseReason::Uses)]);
    // A server that counts down.
    group.insert(tally.connect(5)).unwrap().release_with(KeepAlive::parse("max=3"));
    for left in (0..3).rev() {
        group.get().unwrap().release_with(KeepAlive::parse(format!("max={left}")));
    }
    assert_eq!(journal.read(), [(1, 5, CloseReason::Uses)]);
    // One that says the same each time never ends.
    group.insert(tally.connect(6)).unwrap().release();
    (0..50).for_each(|_| group.get().unwrap().release_with(KeepAlive::parse("max=1")));
    group.get().unwrap().release_with(PutOptions::new().max_uses(u64::MAX));
    (0..50).for_each(|_| group.get().unwrap().release());
    assert!(journal.read().is_empty(), "it was lifted");
    group.configure(GroupSettings::new().max_uses(103)).unwrap();
    group.get().unwrap().release_with(PutOptions::new().max_uses(9));
    assert_eq!(journal.read(), [(1, 6, CloseReason::Uses)], "the group's limit holds as well");
}

#[test]
fn tokens_may_be_used_while_a_release_says_something() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).build().unwrap();
    let token = pool.put(&1, tally.connect(1)).unwrap();
    let taken = std::thread::scope(|scope| {
        let taker = scope.spawn(|| (0..5_000).find_map(|_| pool.take(token)));
        for n in 1..5_000 {
            let Some(lease) = pool.get(&1) else { continue };
            lease.release_with(PutOptions::new().idle_timeout(n * SECOND).max_uses(9_000));
        }
        taker.join().unwrap()
    });
    assert_eq!(pool.status().idle, usize::from(taken.is_none()), "it is here or there");
    drop((pool, taken));
    assert_eq!(tally.alive(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    /// A new connection, under a key of its own.
    Insert,
    /// Releases it if it is leased, with a timeout of its own in milliseconds or none;
    /// else leases it if it is idle.
    Turn(usize, Option<u64>),
    /// Time goes by, in steps of a tick or less, so many milliseconds each; the reaper
    /// looks after each.
    Pass(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let span = prop_oneof![0..50_u64, 0..4_000_u64, 0..40_000_u64];
    prop_oneof![
        2 => Just(Step::Insert),
        6 => (0..8_usize, prop::option::weighted(0.7, span)).prop_map(|(n, said)| Step::Turn(n, said)),
        4 => (1..30_usize, 1..938_u64).prop_map(|(steps, by)| Step::Pass(steps, by)),
    ]
}

/// What should become of a connection. Times are in milliseconds.
struct Expected {
    lease: Option<PooledOwned<u8, Connection>>,
    retire_at: u64,
    patience: u64,
    /// When it is to be closed, if it is idle.
    due: Option<u64>,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever releases say, and whether the reaper has looked before.
    #[test]
    fn the_reaper_is_never_early_and_at_most_a_tick_late(
        pool_timeout in prop_oneof![Just(None), Just(Some(30_000))],
        lifetime in prop::option::weighted(0.3, 1..60_000_u64),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let ms = Duration::from_millis;
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        let builder = pool(&clock, &journal).idle_timeout(pool_timeout.map(ms));
        let pool = builder.max_lifetime(lifetime.map(ms)).build().unwrap();
        let tick = pool.tick().as_millis() as u64;
        let (mut now, mut all) = (0, Vec::new());
        // Closes that were told, against what was expected.
        let check = |all: &mut Vec<Expected>, now: u64| {
            for (id, _) in journal.reasons() {
                let due = all[id as usize].due.take();
                prop_assert!(due.is_some_and(|due| due <= now), "{} is early: {:?}", id, due);
            }
            for (id, one) in all.iter().enumerate() {
                prop_assert!(one.due.is_none_or(|due| due.saturating_add(tick) > now), "{} is late", id);
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Insert => {
                    let (key, id) = (all.len() as u8, all.len() as u32);
                    all.push(Expected {
                        lease: Some(pool.insert_owned(&key, tally.connect(id)).unwrap()),
                        retire_at: now + lifetime.unwrap_or(u64::MAX - now),
                        patience: u64::MAX,
                        due: None,
                    });
                }
                Step::Turn(n, said) if !all.is_empty() => {
                    let index = n % all.len();
                    let one = &mut all[index];
                    if let Some(lease) = one.lease.take() {
                        one.patience = said.unwrap_or(one.patience);
                        let patience = one.patience.min(pool_timeout.unwrap_or(u64::MAX));
                        one.due = Some(now.saturating_add(patience).min(one.retire_at));
                        lease.release_with(PutOptions::new().idle_timeout(said.map(ms)));
                    } else if one.due.is_some_and(|due| due > now) {
                        one.lease = pool.get_owned(&(index as u8));
                        prop_assert!(one.lease.is_some(), "{} has time left", index);
                        one.due = None;
                    }
                    check(&mut all, now)?;
                }
                Step::Turn(..) => {}
                Step::Pass(steps, by) => {
                    for _ in 0..steps {
                        clock.advance(ms(by.min(tick)));
                        now += by.min(tick);
                        pool.maintain();
                        check(&mut all, now)?;
                    }
                }
            }
        }
        drop(all);
        drop(pool);
        prop_assert_eq!(tally.alive(), 0);
    }
}

#[test]
fn thousands_of_first_leases_longer_than_their_timeout_end_in_time() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool(&clock, &journal).capacity(20_000).build().unwrap();
    let leases: Vec<_> =
        (0..20_000).map(|id| pool.insert_owned(&1, tally.connect(id)).unwrap()).collect();
    let pass = |span: Duration| {
        let steps = (span.as_nanos() / pool.tick().as_nanos()) as u32;
        (0..steps).map(|_| (clock.advance(pool.tick()), pool.maintain()).1).sum::<usize>()
    };
    // So long that the reaper has planned its next look for later than they expire.
    assert_eq!(pass(25 * SECOND), 0);
    // Every third says nothing.
    for (n, lease) in leases.into_iter().enumerate() {
        if n % 3 == 0 {
            lease.release();
        } else {
            lease.release_with(KeepAlive::parse("timeout=3"));
        }
    }
    clock.advance(2 * SECOND - NANOSECOND);
    assert_eq!(pool.maintain(), 0);
    clock.advance(pool.tick() + NANOSECOND);
    assert_eq!(pool.maintain(), 13_333);
    assert_eq!(pass(26 * SECOND), 0);
    assert_eq!(pass(3 * SECOND), 6_667);
}
