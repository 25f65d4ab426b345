//! Connections that are watched or asked, and that grow old in more than one way.

use slabpool::{GroupSettings, KeepAlive, RetirementBudget};

use super::*;

#[test]
fn an_exempt_connection_that_dies_goes() {
    for fate in [Liveness::Closed, Liveness::UnexpectedData] {
        let mut bench = Bench::new();
        let pool = bench.builder().min_idle_per_group(2).build().unwrap();
        let lines = [(); 3].map(|()| bench.put(&pool, 1));
        bench.pass(&pool, HOUR);
        assert_eq!(bench.closes(), [(1, CloseReason::Idle)]);
        lines[2].suffer(fate);
        assert_eq!(pool.maintain(), 1);
        let reason = match fate {
            Liveness::Closed => CloseReason::Dead,
            _ => CloseReason::UnexpectedData,
        };
        assert_eq!(bench.closes(), [(3, reason)]);
        bench.pass(&pool, HOUR);
        assert_eq!(idle(&pool), [2], "the other one stays");
        // As many as before are exempt again, and these are watched too.
        let young = bench.put(&pool, 1);
        bench.pass(&pool, HOUR);
        assert_eq!(idle(&pool), [2, 4]);
        young.suffer(Liveness::Closed);
        assert_eq!(pool.maintain(), 1);
        assert_accounted(&pool);
    }
}

#[test]
fn a_get_passes_over_dead_ones_to_one_that_is_exempt() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(3).build().unwrap();
    let lines = [(); 3].map(|()| bench.put(&pool, 1));
    bench.pass(&pool, HOUR);
    lines[2].suffer_unheard(Liveness::Closed);
    lines[1].suffer(Liveness::Closed);
    let lease = pool.get(&1).expect("an hour is no fault of an exempt one");
    assert_eq!(lease.id, 1);
    assert_eq!(bench.closes(), [(3, CloseReason::Dead), (2, CloseReason::Dead)]);
    lease.release();
    assert_eq!(pool.maintain(), 0);
    assert_eq!(idle(&pool), [1]);
    assert_accounted(&pool);
}

#[test]
fn exempt_ones_that_cannot_be_watched_are_asked_for_ever() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).probe_interval(5 * SECOND).build().unwrap();
    let lines = [(); 2].map(|()| bench.put_line(&pool, 1, |line| line.clone().unwatchable()));
    bench.pass(&pool, HOUR);
    let asked = lines[0].asked();
    assert!((718..=722).contains(&asked), "{asked} times in an hour");
    lines[0].suffer(Liveness::Closed);
    bench.pass(&pool, 5 * SECOND + pool.tick());
    assert_eq!(bench.closes(), [(1, CloseReason::Dead)]);
    assert_eq!(idle(&pool), [2]);
}

/// To be asked is not to be used.
#[test]
fn what_is_asked_every_second_is_trimmed_all_the_same() {
    for watched in [true, false] {
        let mut bench = Bench::new();
        let pool = bench
            .builder()
            .idle_timeout(None)
            .probe_interval(SECOND)
            .trim_window(60 * SECOND)
            .min_idle_per_group(1)
            .build()
            .unwrap();
        let lines: Vec<Line> = (0..9)
            .map(|_| match watched {
                true => bench.put(&pool, 1),
                false => bench.put_line(&pool, 1, |line| line.clone().unwatchable()),
            })
            .collect();
        // Watched ones are looked at as well: false alarms.
        for _ in 0..62 {
            lines.iter().for_each(|line| line.suffer(Liveness::Alive));
            bench.pass(&pool, SECOND);
        }
        assert!(lines[8].asked() > 55);
        let expected: Vec<_> = (1..5).map(|id| (id, CloseReason::Trimmed)).collect();
        assert_eq!(bench.closes(), expected, "watched: {watched}; 8 are surplus");
        // A dead one is no surplus any more: 5 are left, and one of them dies.
        lines[8].suffer(Liveness::Closed);
        bench.pass(&pool, 2 * SECOND);
        assert_eq!(bench.closes(), [(9, CloseReason::Dead)]);
        bench.pass(&pool, 60 * SECOND);
        assert_eq!(bench.closes(), [(5, CloseReason::Trimmed), (6, CloseReason::Trimmed)]);
        assert_eq!(idle(&pool), [7, 8]);
        assert_accounted(&pool);
    }
}

#[test]
fn the_death_of_those_that_wait_for_their_turn_costs_no_turn() {
    let mut bench = Bench::new();
    let budget = RetirementBudget::new().per_second(1);
    let builder = bench.builder().idle_timeout(None).max_lifetime(60 * SECOND);
    let pool = builder.retirement(budget).build().unwrap();
    let lines: Vec<Line> = (0..8).map(|_| bench.put(&pool, 1)).collect();
    bench.pass(&pool, 60 * SECOND);
    let first = bench.closes();
    assert!(first.iter().all(|&(_, reason)| reason == CloseReason::Lifetime), "{first:?}");
    assert_eq!(first.len(), 1);
    // Three of those that wait die, the next in turn among them.
    let waiting = idle(&pool);
    assert_eq!(waiting.len(), 7);
    let dead = [waiting[0], waiting[1], waiting[4]];
    dead.iter().for_each(|&id| lines[id as usize - 1].suffer(Liveness::Closed));
    assert_eq!(pool.maintain(), 3, "at once");
    assert_eq!(bench.closes(), dead.map(|id| (id, CloseReason::Dead)));
    for left in (0..4).rev() {
        bench.pass(&pool, SECOND);
        assert_eq!(bench.closes().len(), 1, "one goes in each second");
        assert_eq!(pool.status().idle, left);
    }
    assert_eq!(pool.stats().closes[CloseReason::Lifetime], 5);
    assert_accounted(&pool);
}

/// A seat whose connection died in the line is filled anew: the new one is young.
#[test]
fn who_takes_the_seat_of_a_dead_one_does_not_stand_in_its_line() {
    let mut bench = Bench::new();
    let budget = RetirementBudget::new().per_second(1);
    let builder = bench.builder().idle_timeout(None).max_lifetime(60 * SECOND);
    let pool = builder.retirement(budget).build().unwrap();
    let old: Vec<Line> = (0..4).map(|_| bench.put(&pool, 1)).collect();
    bench.pass(&pool, 60 * SECOND);
    assert_eq!(bench.closes().len(), 1);
    old.iter().for_each(|line| line.suffer(Liveness::Closed));
    assert_eq!(pool.maintain(), 3);
    let young: Vec<Line> = (0..4).map(|_| bench.put(&pool, 1)).collect();
    bench.closes();
    bench.pass(&pool, 59 * SECOND);
    assert_eq!(bench.closes(), []);
    assert!(young.iter().all(Line::is_watched));
    bench.pass(&pool, 8 * SECOND);
    assert_eq!(bench.closes().len(), 4);
    assert_accounted(&pool);
}

#[test]
fn what_the_server_says_ends_an_exemption() {
    let mut bench = Bench::new();
    let builder = bench.builder().min_idle_per_group(4).learn_idle_timeout(true);
    let pool = builder.build().unwrap();
    let line = bench.put(&pool, 1);
    bench.put(&pool, 1);
    bench.pass(&pool, HOUR);
    // Both are exempt. One is used, and the answer tells.
    let lease = pool.get(&1).unwrap();
    assert_eq!(lease.id, 2);
    lease.release_with(KeepAlive::parse("timeout=6"));
    bench.pass(&pool, 4 * SECOND);
    assert_eq!(bench.closes(), []);
    bench.pass(&pool, SECOND + pool.tick());
    assert_eq!(bench.closes(), [(2, CloseReason::Idle)], "5 s, though it was exempt");
    bench.pass(&pool, HOUR);
    assert_eq!(idle(&pool), [1], "nothing was said of the other");
    // It was said for that connection only, and nothing was learned.
    assert_eq!(pool.group(&1).idle_timeout(), Some(30 * SECOND));
    line.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
    assert_accounted(&pool);
}

#[test]
fn settings_that_change_hold_for_those_that_are_watched() {
    let mut bench = Bench::new();
    let pool = bench.builder().capacity(4).build().unwrap();
    let lines: Vec<Line> = (0..4).map(|_| bench.put(&pool, 1)).collect();
    lines[1].suffer(Liveness::Closed);
    // Its bell has rung, nobody has looked yet, and it is among those that go.
    pool.reconfigure(|settings| settings.capacity = 2).unwrap();
    assert_eq!(bench.closes(), [1, 2].map(|id| (id, CloseReason::Evicted)));
    assert_eq!(pool.maintain(), 0);
    // Others in these seats.
    pool.reconfigure(|settings| settings.capacity = 4).unwrap();
    let young: Vec<Line> = (0..2).map(|_| bench.put(&pool, 1)).collect();
    lines[0].suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 0, "it rings for one that has gone");
    young[0].suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
    assert_eq!(bench.closes(), [(5, CloseReason::Dead)]);
    // From the next release on they stay for ever, and are watched as long.
    pool.reconfigure(|settings| settings.idle_timeout = None).unwrap();
    [(); 3].map(|()| pool.get_owned(&1).unwrap()).into_iter().for_each(slabpool::Lease::release);
    bench.pass(&pool, HOUR);
    assert_eq!(idle(&pool), [3, 4, 6]);
    lines[2].suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 1);
    // Those that had no need to be asked, and now have.
    pool.reconfigure(|settings| settings.probe_after = HOUR).unwrap();
    lines[3].suffer_unheard(Liveness::Closed);
    let lease = pool.get(&1).unwrap();
    assert_eq!(lease.id, 6);
    drop(lease);
    assert!(pool.get(&1).is_none(), "an hour is no less than an hour");
    assert_accounted(&pool);
}

#[test]
fn a_group_that_is_configured_keeps_its_watch() {
    let mut bench = Bench::new();
    let pool = bench.builder().build().unwrap();
    let group = pool.group(&1);
    let line = bench.put(&pool, 1);
    group.configure(GroupSettings::new().idle_timeout(None).min_idle(1)).unwrap();
    pool.get(&1).unwrap().release();
    bench.pass(&pool, HOUR);
    assert_eq!(idle(&pool), [1]);
    line.suffer(Liveness::UnexpectedData);
    assert_eq!(pool.maintain(), 1);
    let stats = group.stats();
    assert_eq!((stats.closed_by_peer, stats.unexpected_data), (0, 1));
}

/// Exempt while its group had no idle timeout, and neither exempt nor in time afterwards.
#[test]
fn an_exemption_that_ends_after_the_timeout_was_away_ends() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(1).build().unwrap();
    bench.put(&pool, 1);
    pool.reconfigure(|settings| settings.idle_timeout = None).unwrap();
    bench.pass(&pool, 40 * SECOND);
    assert_eq!(idle(&pool), [1]);
    pool.reconfigure(|settings| {
        settings.idle_timeout = Some(30 * SECOND);
        settings.min_idle_per_group = 0;
    })
    .unwrap();
    bench.pass(&pool, 30 * SECOND / 8 + pool.tick());
    assert_eq!(bench.closes(), [(1, CloseReason::Idle)]);
}
