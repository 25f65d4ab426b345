//! Probing and watching, with connections whose peer is in the hands of the test.

mod common;

use std::time::Duration;

use slabpool::{Builder, Clock, CloseReason, Connection, Liveness, ManualClock, Pool};

use common::SECOND;
use common::line::Line;

fn builder(clock: &ManualClock) -> Builder<u8, Line> {
    Pool::builder().clock(clock)
}

fn watching() -> (Pool<u8, Line>, ManualClock) {
    let clock = Clock::manual();
    (builder(&clock).watch().build().unwrap(), clock)
}

#[test]
fn the_death_of_an_idle_connection_closes_exactly_that_one() {
    let (pool, _clock) = watching();
    let lines: Vec<Line> = (0..5).map(|_| Line::default()).collect();
    for line in &lines {
        pool.put(&1, line.clone()).unwrap();
    }
    lines[2].suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
    assert_eq!(pool.status().idle, 4);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
    assert!(lines[2].is_closed(), "not only forgotten");
    lines[4].suffer(Liveness::UnexpectedData);
    assert_eq!(pool.maintain(), 1);
    assert_eq!(pool.stats().closes[CloseReason::UnexpectedData], 1);
    assert_eq!(pool.stats().closes.total(), 2);
}

#[test]
fn a_false_alarm_leaves_the_connection_watched() {
    let (pool, _clock) = watching();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    for _ in 0..3 {
        line.twitch();
        assert!(!line.is_watched());
        assert_eq!(pool.maintain(), 0);
        assert!(line.is_watched());
    }
    line.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
    assert_eq!(pool.status().idle, 0);
}

#[test]
fn a_get_asks_and_goes_on_to_the_next() {
    let (pool, _clock) = watching();
    let lines: Vec<Line> = (0..4).map(|_| Line::default()).collect();
    for line in &lines {
        pool.put(&1, line.clone()).unwrap();
    }
    lines[3].suffer(Liveness::Closed);
    lines[2].suffer(Liveness::UnexpectedData);
    let lease = pool.get(&1).unwrap();
    assert!(lease.is_of(&lines[1]), "the newest that is alive");
    let stats = pool.stats();
    assert_eq!(stats.closes[CloseReason::Dead], 1);
    assert_eq!(stats.closes[CloseReason::UnexpectedData], 1);
    assert_eq!(stats.hits, 1);
    lease.release();
}

#[test]
fn a_connection_that_nobody_read_from_stays_registered() {
    let (pool, _clock) = watching();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    for _ in 0..5 {
        pool.get(&1).unwrap().release();
    }
    assert_eq!(line.polls(), 1);
    let lease = pool.get(&1).unwrap();
    lease.await_answer();
    lease.release();
    assert_eq!(line.polls(), 2, "the user's waker had taken the place");
    line.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
}

#[test]
fn what_happens_during_a_lease_is_seen_on_release() {
    let (pool, _clock) = watching();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    let lease = pool.get(&1).unwrap();
    line.twitch();
    assert_eq!(pool.maintain(), 0, "it is leased");
    lease.release();
    assert!(line.is_watched());
    let lease = pool.get(&1).unwrap();
    line.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 0);
    assert_eq!(pool.status().leased, 1);
    lease.release();
    assert_eq!(pool.status().idle, 0);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
}

#[test]
fn a_dead_connection_that_is_put_is_closed() {
    let (pool, _clock) = watching();
    let line = Line::default();
    line.suffer(Liveness::Closed);
    let token = pool.put(&1, line.clone()).unwrap();
    assert!(!pool.evict(token));
    assert_eq!(pool.status().idle, 0);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
}

#[test]
fn a_closure_that_reads_takes_no_connection_out_of_sight() {
    let (pool, _clock) = watching();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    pool.retain(|_, _, line| {
        line.await_answer();
        true
    });
    line.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
}

#[test]
fn a_waker_outlives_connection_and_pool() {
    let (pool, _clock) = watching();
    let (taken, kept) = (Line::default(), Line::default());
    let token = pool.put(&1, taken.clone()).unwrap();
    pool.put(&1, kept.clone()).unwrap();
    let out = pool.take(token).unwrap();
    // Another one in the same seat.
    let next = Line::default();
    pool.put(&1, next.clone()).unwrap();
    out.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 0);
    assert_eq!(next.polls(), 1, "the bell of a connection that has gone is silent");
    let reader = kept.take_reader().unwrap();
    drop(pool);
    reader.wake();
}

#[test]
fn connections_that_cannot_be_watched_are_asked_now_and_then() {
    for watch in [false, true] {
        let clock = Clock::manual();
        let builder = builder(&clock).probe_interval(5 * SECOND);
        let builder = if watch { builder.watch() } else { builder.probe(Line::liveness) };
        let pool = builder.build().unwrap();
        let lines: Vec<Line> = (0..3).map(|_| Line::unwatchable()).collect();
        for line in &lines {
            pool.put(&1, line.clone()).unwrap();
        }
        let before: Vec<usize> = lines.iter().map(|line| line.asked() + line.polls()).collect();
        lines[1].suffer(Liveness::Closed);
        assert_eq!(pool.maintain(), 0);
        clock.advance(4 * SECOND);
        assert_eq!(pool.maintain(), 0);
        clock.advance(2 * SECOND);
        assert_eq!(pool.maintain(), 1, "watch: {watch}");
        assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
        clock.advance(6 * SECOND);
        assert_eq!(pool.maintain(), 0);
        let asked = lines[0].asked() + lines[0].polls() - before[0];
        assert_eq!(asked, 2, "once in each interval");
        clock.advance(30 * SECOND);
        assert_eq!(pool.maintain(), 2);
    }
}

#[test]
fn a_connection_used_just_now_need_not_be_asked() {
    let clock = Clock::manual();
    let pool = builder(&clock).probe(Line::liveness).probe_after(2 * SECOND).build().unwrap();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    clock.advance(Duration::from_millis(1_999));
    pool.get(&1).unwrap().release();
    assert_eq!(line.asked(), 0);
    clock.advance(2 * SECOND);
    pool.get(&1).unwrap().release();
    assert_eq!(line.asked(), 1);
}

#[test]
fn a_probe_that_panics_condemns_its_connection() {
    let clock = Clock::manual();
    let pool = builder(&clock)
        .probe(|line: &mut Line| match line.liveness() {
            Liveness::Closed => panic!("as the test wants"),
            other => other,
        })
        .build()
        .unwrap();
    let (good, bad) = (Line::default(), Line::default());
    pool.put(&1, good.clone()).unwrap();
    pool.put(&1, bad.clone()).unwrap();
    bad.suffer(Liveness::Closed);
    let lease = pool.get(&1).unwrap();
    assert!(lease.is_of(&good));
    assert_eq!(pool.stats().panics, 1);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
}

#[test]
fn a_conditional_get_asks_as_well() {
    let (pool, _clock) = watching();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    line.suffer(Liveness::Closed);
    assert!(pool.get_if(&1, |_| true).is_none());
    assert_eq!(pool.status().idle, 0);
}

#[test]
fn thousands_that_die_at_once_are_closed_in_bounded_steps() {
    let clock = Clock::manual();
    let pool = builder(&clock).capacity(20_000).watch().build().unwrap();
    let lines: Vec<Line> = (0..20_000).map(|_| Line::default()).collect();
    for (n, line) in lines.iter().enumerate() {
        pool.put(&((n % 100) as u8), line.clone()).unwrap();
    }
    lines.iter().for_each(|line| line.suffer(Liveness::Closed));
    assert_eq!(pool.maintain(), 20_000);
    assert_eq!(pool.status().idle, 0);
    assert_eq!(pool.status().groups, 0);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 20_000);
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn the_reaper_comes_when_a_bell_rings() {
    let closed = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = closed.clone();
    let pool = Pool::<u8, Line>::builder()
        .watch()
        .on_close(move |_, _, _| told.notify_one())
        .idle_timeout(None)
        .build()
        .unwrap();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    line.suffer(Liveness::Closed);
    closed.notified().await;
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
}
