//! What the watcher finds dead tells how long the peer keeps idle connections.

use slabpool::KeepAlive;

use super::*;

const PATIENCE_OF_THE_PEER: Duration = Duration::from_secs(5);

fn learning(bench: &Bench) -> Builder<u8, Line> {
    bench.builder().learn_idle_timeout(true)
}

/// A connection is idle for as long as its peer bears it, with maintenance in each tick.
fn idle_until_the_peer_closes(bench: &mut Bench, pool: &Pool<u8, Line>) {
    let line = bench.put(pool, 1);
    bench.pass(pool, PATIENCE_OF_THE_PEER);
    line.suffer(Liveness::Closed);
    pool.maintain();
}

#[test]
fn after_three_that_the_bells_told_of_none_is_found_dead() {
    let mut bench = Bench::new();
    let pool = learning(&bench).build().unwrap();
    for _ in 0..3 {
        idle_until_the_peer_closes(&mut bench, &pool);
    }
    assert_eq!(bench.closes(), [1, 2, 3].map(|id| (id, CloseReason::Dead)));
    assert_eq!(pool.group(&1).idle_timeout(), Some(4 * SECOND));
    // Its group was empty and gone each time, and what it had learned was not.
    for id in 4..20 {
        idle_until_the_peer_closes(&mut bench, &pool);
        assert_eq!(bench.closes(), [(id, CloseReason::Idle)]);
    }
    assert_eq!(pool.stats().closes[CloseReason::Dead], 3);
    // By a get it is exact.
    bench.put(&pool, 1);
    bench.clock.advance(4 * SECOND - common::NANOSECOND);
    pool.get(&1).expect("a nanosecond is left").release();
    bench.clock.advance(4 * SECOND);
    assert!(pool.get(&1).is_none());
    assert_accounted(&pool);
}

#[test]
fn probes_by_get_and_by_the_reaper_teach_as_well() {
    for by_get in [true, false] {
        let mut bench = Bench::new();
        let pool = learning(&bench).probe_interval(SECOND).build().unwrap();
        let group = pool.group(&1);
        for _ in 0..3 {
            let line = bench.put_line(&pool, 1, |line| line.clone().unwatchable());
            bench.clock.advance(PATIENCE_OF_THE_PEER);
            line.suffer_unheard(Liveness::Closed);
            if by_get {
                assert!(group.get().is_none());
            } else {
                bench.pass(&pool, SECOND);
            }
        }
        assert_eq!(group.stats().closed_by_peer, 3);
        let learned = group.idle_timeout().unwrap();
        // Found by the reaper up to an interval and a tick later.
        let latest = if by_get { 4 * SECOND } else { 6 * SECOND };
        assert!((4 * SECOND..=latest).contains(&learned), "by get {by_get}: {learned:?}");
    }
}

#[test]
fn data_that_nobody_asked_for_teach_nothing() {
    let mut bench = Bench::new();
    let pool = learning(&bench).build().unwrap();
    let group = pool.group(&1);
    for _ in 0..6 {
        let line = bench.put(&pool, 1);
        bench.pass(&pool, PATIENCE_OF_THE_PEER);
        line.suffer(Liveness::UnexpectedData);
        pool.maintain();
    }
    assert_eq!(group.idle_timeout(), Some(30 * SECOND));
    assert_eq!(group.stats().unexpected_data, 6);
}

/// What comes at equal intervals cannot be told from a timeout; restarts do not.
#[test]
fn restarts_teach_nothing() {
    let mut bench = Bench::new();
    let pool = learning(&bench).build().unwrap();
    let group = pool.group(&1);
    for count in [20, 8, 14, 25, 11] {
        let lines: Vec<Line> = (0..count)
            .map(|_| {
                bench.pass(&pool, SECOND);
                bench.put(&pool, 1)
            })
            .collect();
        lines.iter().for_each(|line| line.suffer(Liveness::Closed));
        pool.maintain();
        assert_eq!(pool.status().idle, 0);
        assert_eq!(group.idle_timeout(), Some(30 * SECOND));
    }
    assert_eq!(group.stats().closed_by_peer, 78);
}

/// Those that are exempt from the idle timeout are exempt from a learned one: what a user
/// wants to have is worth the attempt, and a dead one is not handed out.
#[test]
fn exempt_ones_outstay_what_was_learned() {
    let mut bench = Bench::new();
    let pool = learning(&bench).min_idle_per_group(1).build().unwrap();
    let group = pool.group(&1);
    (0..3).for_each(|_| idle_until_the_peer_closes(&mut bench, &pool));
    assert_eq!(group.idle_timeout(), Some(4 * SECOND));
    let lines = [(); 3].map(|()| bench.put(&pool, 1));
    bench.closes();
    bench.pass(&pool, 4 * SECOND + pool.tick());
    let mut closes = bench.closes();
    closes.sort_by_key(|&(id, _)| id);
    assert_eq!(closes, [4, 5].map(|id| (id, CloseReason::Idle)));
    // As it was said to this server, it closes the one that was left at 5 s.
    bench.pass(&pool, SECOND);
    lines[2].suffer(Liveness::Closed);
    pool.maintain();
    assert_eq!(bench.closes(), [(6, CloseReason::Dead)]);
    assert!(group.get().is_none());
    assert_eq!(pool.status().idle, 0);
    assert_accounted(&pool);
}

/// What the server says of one connection is below what was learned, or above it.
#[test]
fn the_shorter_one_of_said_and_learned_holds() {
    let mut bench = Bench::new();
    let pool = learning(&bench).build().unwrap();
    (0..3).for_each(|_| idle_until_the_peer_closes(&mut bench, &pool));
    for (said, ends) in [("timeout=3", 2), ("timeout=60", 4)] {
        let line = bench.line();
        pool.insert(&1, line.clone()).unwrap().release_with(KeepAlive::parse(said));
        bench.clock.advance(ends * SECOND - common::NANOSECOND);
        pool.get(&1).expect("a nanosecond is left").release();
        bench.clock.advance(ends * SECOND);
        assert!(pool.get(&1).is_none(), "{said}");
    }
    assert_eq!(pool.stats().closes[CloseReason::Idle], 2);
    assert_accounted(&pool);
}
