//! All of it while threads use the pool.

use super::*;

const ROUNDS: u32 = if cfg!(miri) { 20 } else { 20_000 };

/// As many exempt connections as threads: however far the clock runs and whatever
/// maintenance does, nobody misses, and nothing is closed.
#[test]
fn exempt_connections_are_never_missed() {
    for lanes in [1, 2] {
        let mut bench = Bench::new();
        let builder = bench.builder().min_idle_per_group(3).lanes(lanes).trim_window(SECOND);
        let pool = builder.build().unwrap();
        bench.put(&pool, 1, 3);
        thread::scope(|scope| {
            let users: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..ROUNDS {
                            pool.get(&1).expect("one for each").release();
                        }
                    })
                })
                .collect();
            while !users.iter().all(|user| user.is_finished()) {
                bench.clock.advance(20 * SECOND);
                pool.maintain();
            }
        });
        assert_eq!((pool.status().idle, bench.tally.dropped()), (3, 0));
    }
}

/// All of it at once: every connection has one owner and one end.
#[test]
fn nothing_is_lost_and_nothing_is_closed_twice() {
    let bench = Bench::new();
    let builder = bench.builder().capacity(40).min_idle_per_group(2).max_lifetime(70 * SECOND);
    let budget = RetirementBudget::new().per_second(2).group_share(0.3);
    let builder = builder.trim_window(9 * SECOND).retirement(budget).lanes(2);
    let pool = builder.build().unwrap();
    thread::scope(|scope| {
        let users: Vec<_> = (0..3_u8)
            .map(|thread| {
                let (pool, tally) = (&pool, &bench.tally);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let key = (round % 5) as u8;
                        match pool.get(&key) {
                            Some(lease) if round % 7 != u32::from(thread) => lease.release(),
                            Some(lease) => drop(lease),
                            None => {
                                let _ = pool.put(&key, tally.connect(round));
                            }
                        }
                        if round % 3 == 0 {
                            let _ = pool.put(&key, tally.connect(round));
                        }
                    }
                })
            })
            .collect();
        while !users.iter().all(|user| user.is_finished()) {
            bench.clock.advance(SECOND);
            pool.maintain();
        }
    });
    let status = pool.status();
    assert_eq!((status.leased, status.idle), (0, bench.tally.alive()));
    pass(&pool, &bench.clock, 200 * SECOND);
    assert_eq!(bench.tally.alive(), 0, "their lifetime is over");
}
