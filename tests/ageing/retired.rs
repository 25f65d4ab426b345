//! Lifetimes end within a budget.

use super::*;

fn budget(per_second: u32, group_share: f64) -> RetirementBudget {
    RetirementBudget::new().per_second(per_second).group_share(group_share)
}

fn closes(bench: &Bench) -> BTreeMap<(u8, &'static str), usize> {
    let mut closes = BTreeMap::new();
    for (key, _, reason) in bench.journal.read() {
        *closes.entry((key, reason.name())).or_default() += 1;
    }
    closes
}

/// As many as in a large proxy, all opened in the same second.
#[test]
fn a_hundred_thousand_go_one_second_after_the_other() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(HOUR);
    let pool = builder.retirement(budget(5_000, 1.0)).build().unwrap();
    for key in 0..50 {
        bench.put(&pool, key, 2_000);
    }
    pass(&pool, &bench.clock, 10 * SECOND);
    bench.clock.advance(HOUR - 10 * SECOND - NANOSECOND);
    assert_eq!(pool.maintain(), 0, "not a nanosecond early");
    bench.clock.advance(NANOSECOND);
    let mut left = 100_000;
    while left > 0 {
        assert_eq!(pool.maintain(), 5_000);
        // The rest of the second has no more.
        bench.clock.advance(SECOND - NANOSECOND);
        assert_eq!(pool.maintain(), 0);
        bench.clock.advance(NANOSECOND);
        let closes = closes(&bench);
        assert_eq!(closes.len(), 50);
        assert!(closes.iter().all(|(key, &count)| key.1 == "lifetime" && count == 100));
        left -= 5_000;
        assert_eq!(pool.status().idle, left);
    }
}

#[test]
fn what_a_second_does_not_use_is_not_carried_over() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(10 * SECOND);
    let pool = builder.retirement(budget(3, 1.0)).build().unwrap();
    bench.put(&pool, 1, 5);
    bench.clock.advance(1_000 * SECOND);
    assert_eq!(pool.maintain(), 3);
    assert_eq!(pool.maintain(), 0);
    bench.clock.advance(SECOND);
    assert_eq!(pool.maintain(), 2);
}

#[test]
fn a_group_gives_its_share_in_each_tick() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(10 * SECOND);
    let pool = builder.retirement(budget(u32::MAX, 0.25)).build().unwrap();
    bench.put(&pool, 1, 100);
    bench.put(&pool, 2, 3);
    pass(&pool, &bench.clock, 10 * SECOND);
    let mut sizes = vec![(100, 3)];
    while pool.status().idle > 0 {
        sizes.push((pool.group_status(&1).idle, pool.group_status(&2).idle));
        assert_eq!(pool.maintain(), 0, "the same tick");
        bench.clock.advance(pool.tick());
        pool.maintain();
    }
    assert_eq!(sizes[..5], [(100, 3), (75, 2), (57, 1), (43, 0), (33, 0)]);
    assert_eq!(sizes.last(), Some(&(1, 0)));
    assert_eq!(pool.stats().closes[CloseReason::Lifetime], 103);
}

#[test]
fn a_large_group_does_not_starve_the_others() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(10 * SECOND);
    let pool = builder.retirement(budget(4, 1.0)).build().unwrap();
    bench.put(&pool, 1, 1_000);
    bench.put(&pool, 2, 3);
    bench.clock.advance(10 * SECOND);
    pool.maintain();
    assert_eq!(closes(&bench), [((1, "lifetime"), 2), ((2, "lifetime"), 2)].into());
    // One that comes later waits behind none of another group.
    bench.put(&pool, 3, 1);
    pass(&pool, &bench.clock, 11 * SECOND);
    assert_eq!(pool.group_status(&3).idle, 0);
}

#[test]
fn get_and_release_do_not_wait() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(10 * SECOND);
    let pool = builder.retirement(budget(1, 1.0)).build().unwrap();
    bench.put(&pool, 1, 5);
    let busy = pool.get(&1).unwrap();
    bench.clock.advance(10 * SECOND);
    assert_eq!(pool.maintain(), 1);
    busy.release();
    assert_eq!(bench.journal.read().len(), 2);
    assert!(pool.get_if(&1, |_| true).is_none());
    assert!(pool.get(&1).is_none());
    assert_eq!(pool.stats().closes[CloseReason::Lifetime], 5);
    assert_eq!(pool.status().idle, 0);
    pass(&pool, &bench.clock, 10 * SECOND);
}

/// Who waits is not exempt from anything else.
#[test]
fn an_idle_timeout_ends_the_waiting() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(10 * SECOND).max_lifetime(30 * SECOND);
    let pool = builder.retirement(budget(1, 1.0)).build().unwrap();
    bench.put(&pool, 1, 100);
    for _ in 0..5 {
        pass(&pool, &bench.clock, 5 * SECOND);
        let leases: Vec<_> = (0..100).map(|_| pool.get(&1).unwrap()).collect();
        leases.into_iter().for_each(|lease| lease.release());
    }
    pass(&pool, &bench.clock, 10 * SECOND - NANOSECOND);
    let waiting = pool.status().idle;
    assert!((90..=99).contains(&waiting), "{waiting} wait");
    bench.journal.read();
    pass(&pool, &bench.clock, pool.tick());
    let closes = closes(&bench);
    assert_eq!(closes[&(1, "idle")] + closes.get(&(1, "lifetime")).unwrap_or(&0), waiting);
    assert_eq!(pool.status().idle, 0);
}

/// Exempt connections wait as well, as their successors would be opened together.
#[test]
fn exempt_ones_wait_for_their_turn() {
    let mut bench = Bench::new();
    let builder = bench.builder().min_idle_per_group(20).max_lifetime(HOUR);
    let pool = builder.retirement(budget(2, 1.0)).build().unwrap();
    bench.put(&pool, 1, 20);
    pass(&pool, &bench.clock, HOUR - NANOSECOND);
    assert_eq!(pool.status().idle, 20);
    bench.clock.advance(NANOSECOND);
    for round in 1..=10 {
        pool.maintain();
        assert_eq!(pool.status().idle, 20 - 2 * round);
        bench.clock.advance(SECOND);
    }
    assert_eq!(closes(&bench), [((1, "lifetime"), 20)].into());
}

/// Their seats are taken by others, who are not retired in their place.
#[test]
fn those_that_leave_the_pool_leave_the_line() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(10 * SECOND);
    let pool = builder.retirement(budget(1, 0.5)).build().unwrap();
    bench.put(&pool, 1, 10);
    bench.clock.advance(10 * SECOND);
    assert_eq!(pool.maintain(), 1);
    pool.clear();
    for key in [1, 2, 3] {
        bench.put(&pool, key, 3);
    }
    pass(&pool, &bench.clock, 10 * SECOND - NANOSECOND);
    assert_eq!(pool.status().idle, 9, "they are young");
    bench.clock.advance(NANOSECOND);
    for round in 1..=9 {
        assert_eq!(pool.maintain(), 1, "round {round}");
        bench.clock.advance(SECOND);
    }
    bench.put(&pool, 1, 3);
    bench.clock.advance(10 * SECOND);
    pool.maintain();
    pool.close();
    pass(&pool, &bench.clock, 3 * SECOND);
    assert_eq!(bench.tally.alive(), 0);
}

#[test]
fn one_that_retain_looks_at_is_not_forgotten() {
    let mut bench = Bench::new();
    let builder = bench.builder().idle_timeout(None).max_lifetime(10 * SECOND);
    let pool = builder.retirement(budget(1, 1.0)).build().unwrap();
    bench.put(&pool, 1, 2);
    bench.clock.advance(10 * SECOND);
    assert_eq!(pool.maintain(), 1);
    bench.clock.advance(SECOND);
    pool.retain(|_, _, _| {
        assert_eq!(pool.maintain(), 0);
        true
    });
    bench.clock.advance(pool.tick());
    assert_eq!(pool.maintain(), 1);
}
