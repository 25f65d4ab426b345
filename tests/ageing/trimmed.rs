//! What nobody needed over a whole window is trimmed, half of it.

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

fn builder(bench: &Bench) -> Builder<u8, Connection> {
    bench.builder().idle_timeout(None).trim_window(WINDOW)
}

#[test]
fn half_of_what_nobody_needed_goes_the_oldest_first() {
    let mut bench = Bench::new();
    let pool = builder(&bench).build().unwrap();
    for _ in 0..5 {
        bench.put(&pool, 1, 1);
        bench.clock.advance(NANOSECOND);
    }
    bench.put(&pool, 2, 4);
    for expected in [vec![4, 5], vec![5], vec![]] {
        bench.clock.advance(WINDOW);
        pool.maintain();
        assert_eq!(idle(&pool, 1), expected);
        assert_eq!(pool.maintain(), 0, "once in a window");
    }
    assert!(bench.journal.read().iter().all(|entry| entry.2 == CloseReason::Trimmed));
    assert_eq!(pool.group_status(&2).idle, 0);
}

#[test]
fn a_window_is_exact_to_the_nanosecond() {
    let mut bench = Bench::new();
    let pool = builder(&bench).build().unwrap();
    bench.put(&pool, 1, 4);
    bench.clock.advance(NANOSECOND);
    bench.put(&pool, 1, 4);
    bench.clock.advance(WINDOW - NANOSECOND);
    // Four were idle for the whole window, four for a nanosecond less.
    assert_eq!(pool.maintain(), 2);
    assert_eq!(idle(&pool, 1), [3, 4, 5, 6, 7, 8]);
    bench.clock.advance(WINDOW - NANOSECOND);
    assert_eq!(pool.maintain(), 0, "the next window is not over");
    bench.clock.advance(NANOSECOND);
    assert_eq!(pool.maintain(), 3);
}

#[test]
fn those_that_a_group_must_keep_are_no_surplus() {
    let mut bench = Bench::new();
    let pool = builder(&bench).min_idle_per_group(3).build().unwrap();
    bench.put(&pool, 1, 10);
    bench.put(&pool, 2, 2);
    pool.group(&2).configure(GroupSettings::new().min_idle(1)).unwrap();
    let mut sizes = Vec::new();
    for _ in 0..5 {
        bench.clock.advance(WINDOW);
        pool.maintain();
        sizes.push((pool.group_status(&1).idle, pool.group_status(&2).idle));
    }
    assert_eq!(sizes, [(6, 1), (4, 1), (3, 1), (3, 1), (3, 1)]);
}

/// The young ones are those that stay, so that all old ones are surplus.
#[test]
fn young_ones_count_for_those_that_must_stay() {
    let mut bench = Bench::new();
    let pool = builder(&bench).min_idle_per_group(3).build().unwrap();
    bench.put(&pool, 1, 4);
    bench.clock.advance(WINDOW);
    bench.put(&pool, 1, 3);
    assert_eq!(pool.maintain(), 2);
    assert_eq!(idle(&pool, 1), [3, 4, 5, 6, 7]);
}

/// So many leases at a time, in each round; returns how many gets missed.
fn load(bench: &mut Bench, pool: &Pool<u8, Connection>, leases: usize, time: Duration) -> usize {
    let mut misses = 0;
    let mut left = time;
    while !left.is_zero() {
        let held: Vec<_> = (0..leases)
            .map(|_| {
                pool.get(&1).unwrap_or_else(|| {
                    misses += 1;
                    pool.insert(&1, bench.connect()).unwrap()
                })
            })
            .collect();
        let step = left.min(7 * SECOND);
        bench.clock.advance(step);
        pool.maintain();
        held.into_iter().for_each(|lease| lease.release());
        pool.maintain();
        left -= step;
    }
    misses
}

#[test]
fn a_steady_demand_keeps_exactly_what_it_needs() {
    let mut bench = Bench::new();
    let pool = builder(&bench).build().unwrap();
    bench.put(&pool, 1, 100);
    assert_eq!(load(&mut bench, &pool, 12, 9 * WINDOW), 0);
    assert_eq!(pool.status().idle, 12);
    assert_eq!(load(&mut bench, &pool, 12, 100 * WINDOW), 0, "it never misses");
    assert_eq!(pool.status().idle, 12);
    assert_eq!(load(&mut bench, &pool, 30, 5 * WINDOW), 18);
    assert_eq!(pool.status().idle, 30);
    // A burst goes by halves.
    let mut sizes = vec![30];
    for _ in 0..7 {
        load(&mut bench, &pool, 12, WINDOW);
        sizes.push(pool.status().idle);
    }
    sizes.dedup();
    assert_eq!(sizes, [30, 21, 16, 14, 13, 12]);
}

/// More than one step looks at and closes, over groups of all sizes.
#[test]
fn many_are_trimmed_piece_by_piece() {
    for lanes in [1, 4] {
        let mut bench = Bench::new();
        let pool = builder(&bench).lanes(lanes).min_idle_per_group(10).build().unwrap();
        bench.put(&pool, 0, 20_000);
        for key in 1..100 {
            bench.put(&pool, key, usize::from(key));
        }
        bench.clock.advance(WINDOW);
        // A piece for each tick; a sweep takes several.
        pass(&pool, &bench.clock, 10 * pool.tick());
        for key in 1..100_usize {
            let expected = key - key.saturating_sub(10).div_ceil(2);
            assert_eq!(pool.group_status(&(key as u8)).idle, expected, "group {key}");
        }
        assert_eq!(pool.group_status(&0).idle, 20_000 - 9_995);
        let oldest =
            bench.journal.read().iter().filter(|entry| entry.0 == 0).all(|entry| entry.1 <= 9_995);
        assert!(oldest, "the oldest go");
    }
}

#[test]
fn what_is_used_while_a_sweep_is_under_way_stays() {
    let mut bench = Bench::new();
    let pool = builder(&bench).build().unwrap();
    // The first of them fill more than one piece.
    bench.put(&pool, 0, 9_000);
    bench.put(&pool, 1, 4);
    bench.clock.advance(WINDOW);
    assert_eq!(pool.maintain(), 0, "it has not seen them all");
    let leases: Vec<_> = (0..4).map(|_| pool.get(&1).unwrap()).collect();
    leases.into_iter().for_each(|lease| lease.release());
    pass(&pool, &bench.clock, 3 * pool.tick());
    assert_eq!((pool.group_status(&0).idle, pool.group_status(&1).idle), (4_500, 4));
}

#[test]
fn the_pool_is_cleared_while_a_sweep_is_under_way() {
    let mut bench = Bench::new();
    let pool = builder(&bench).build().unwrap();
    bench.put(&pool, 0, 9_000);
    bench.clock.advance(WINDOW);
    assert_eq!(pool.maintain(), 0);
    pool.clear();
    bench.put(&pool, 0, 9_000);
    pass(&pool, &bench.clock, 3 * pool.tick());
    assert_eq!(pool.status().idle, 9_000);
    pass(&pool, &bench.clock, WINDOW - 3 * pool.tick());
    pool.close();
    pass(&pool, &bench.clock, WINDOW);
    assert_eq!(bench.tally.alive(), 0);
    assert_eq!(pool.stats().closes[CloseReason::Trimmed], 0);
}

#[test]
fn what_ends_anyway_is_not_counted() {
    let mut bench = Bench::new();
    let pool = builder(&bench).min_idle_per_group(2).build().unwrap();
    bench.put(&pool, 1, 2);
    for _ in 0..6 {
        let connection = bench.connect();
        pool.put_with(&1, connection, keep_alive(WINDOW)).unwrap();
    }
    bench.clock.advance(WINDOW);
    pool.maintain();
    assert_eq!(idle(&pool, 1), [1, 2]);
    assert_eq!(pool.stats().closes[CloseReason::Idle], 6);
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, usize),
    Get(u8),
    Release(usize),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..3_u8, 1..6_usize).prop_map(|(key, count)| Op::Put(key, count)),
        4 => (0..3_u8).prop_map(Op::Get),
        4 => (0..99_usize).prop_map(Op::Release),
        4 => (0..25_u64).prop_map(Op::Advance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Maintenance runs after each operation.
    #[test]
    fn those_that_a_list_would_trim(
        min_idle in 0..4_usize,
        lanes in 1..3_usize,
        script in prop::collection::vec(op(), 1..120),
    ) {
        let mut bench = Bench::new();
        let pool = builder(&bench).min_idle_per_group(min_idle).lanes(lanes).build().unwrap();
        // Key, release, number.
        let (mut now, mut next, mut list) = (0, 0, Vec::<(u8, u64, u32)>::new());
        let mut leases = Vec::<PooledOwned<u8, Connection>>::new();
        for op in script {
            match op {
                Op::Put(key, count) => for _ in 0..count {
                    bench.put(&pool, key, 1);
                    list.push((key, now, bench.next_id));
                },
                Op::Get(key) => {
                    let at = list.iter().rposition(|entry| entry.0 == key);
                    let lease = pool.get_owned(&key);
                    prop_assert_eq!(lease.as_ref().map(|lease| lease.id), at.map(|at| list.remove(at).2));
                    leases.extend(lease);
                }
                Op::Release(at) if !leases.is_empty() => {
                    let lease = leases.swap_remove(at % leases.len());
                    list.push((*lease.key(), now, lease.id));
                    lease.release();
                }
                Op::Release(_) => {}
                Op::Advance(by) => {
                    now += by;
                    bench.clock.advance(Duration::from_secs(by));
                }
            }
            pool.maintain();
            let mut expected = Vec::new();
            if now >= next {
                next = now + 60;
                for key in 0..3 {
                    let group: Vec<_> = list.iter().filter(|entry| entry.0 == key).copied().collect();
                    let mut unused: Vec<_> =
                        group.iter().filter(|entry| now - entry.1 >= 60).map(|entry| (entry.1, entry.2)).collect();
                    unused.sort_unstable();
                    let surplus = unused.len().min(group.len().saturating_sub(min_idle));
                    expected.extend(unused[..surplus.div_ceil(2)].iter().map(|&(_, id)| (id, CloseReason::Trimmed)));
                }
            }
            expected.sort_unstable_by_key(|&(id, _)| id);
            list.retain(|entry| expected.iter().all(|&(id, _)| id != entry.2));
            prop_assert_eq!(bench.journal.reasons(), expected);
        }
    }
}
