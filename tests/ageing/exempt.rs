//! Exempt from the idle timeout: the youngest, and nothing else of them.

use super::*;

#[test]
fn the_youngest_stay_and_no_others() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(3).build().unwrap();
    for _ in 0..10 {
        bench.put(&pool, 1, 1);
        bench.clock.advance(SECOND);
    }
    bench.put(&pool, 2, 2);
    pass(&pool, &bench.clock, HOUR);
    assert_eq!((idle(&pool, 1), idle(&pool, 2)), (vec![8, 9, 10], vec![11, 12]));
    let expected = (1..8).map(|id| (id, CloseReason::Idle)).collect::<Vec<_>>();
    assert_eq!(bench.journal.reasons(), expected);
}

#[test]
fn a_thousand_that_expire_together_leave_as_many_as_are_exempt() {
    for lanes in [1, 3] {
        let mut bench = Bench::new();
        let pool = bench.builder().min_idle_per_group(5).lanes(lanes).build().unwrap();
        let batches: Vec<Vec<Connection>> =
            (0..6).map(|_| (0..500).map(|_| bench.connect()).collect()).collect();
        for batch in batches {
            // Each thread has a lane of its own.
            thread::scope(|scope| {
                scope.spawn(|| batch.into_iter().for_each(|c| drop(pool.put(&1, c))));
            });
        }
        bench.clock.advance(30 * SECOND);
        assert_eq!(pool.maintain(), 2_995, "{lanes} lanes");
        pass(&pool, &bench.clock, HOUR);
        assert_eq!(pool.group_status(&1).idle, 5, "{lanes} lanes");
    }
}

#[test]
fn a_get_leases_it_and_its_release_begins_a_new_spell() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(1).build().unwrap();
    bench.put(&pool, 1, 1);
    bench.clock.advance(HOUR);
    let lease = pool.get(&1).expect("it is exempt");
    assert_eq!(lease.meta().idle_for, HOUR);
    lease.release();
    bench.clock.advance(HOUR);
    pool.get_if(&1, |meta| meta.idle_for == HOUR).expect("it is exempt").release();
    assert!(pool.get_if(&1, |meta| meta.uses > 9).is_none(), "the predicate holds for it");
    bench.put(&pool, 1, 1);
    bench.clock.advance(30 * SECOND);
    // Both are past the timeout, of the same time. The upper one is exempt.
    assert_eq!(pool.maintain(), 1);
    assert_eq!(bench.journal.reasons(), [(1, CloseReason::Idle)]);
    assert_eq!(pool.group(&1).get_owned().unwrap().id, 2);
}

#[test]
fn get_if_skips_those_that_are_not() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).build().unwrap();
    bench.put(&pool, 1, 5);
    bench.clock.advance(30 * SECOND);
    let mut shown = 0;
    assert!(
        pool.get_if(&1, |_| {
            shown += 1;
            false
        })
        .is_none()
    );
    assert_eq!(shown, 2);
    assert_eq!(pool.status().idle, 5, "the others are left to maintenance");
}

#[test]
fn a_lifetime_ends_all_the_same() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(9).max_lifetime(HOUR).build().unwrap();
    bench.put(&pool, 1, 3);
    bench.clock.advance(HOUR - NANOSECOND);
    assert_eq!(pool.maintain(), 0);
    pool.get(&1).expect("a nanosecond is left").release();
    bench.clock.advance(NANOSECOND);
    assert!(pool.get(&1).is_none());
    let expected = [1, 2, 3].map(|id| (id, CloseReason::Lifetime));
    assert_eq!(bench.journal.reasons(), expected);
    bench.put(&pool, 1, 3);
    pass(&pool, &bench.clock, HOUR);
    assert_eq!(pool.status().idle, 0, "the reaper is in time");
    let expected = [4, 5, 6].map(|id| (id, CloseReason::Lifetime));
    assert_eq!(bench.journal.reasons(), expected);
}

#[test]
fn a_timeout_of_its_own_ends_all_the_same() {
    for by_get in [true, false] {
        let mut bench = Bench::new();
        let pool = bench.builder().min_idle_per_group(9).build().unwrap();
        let (short, long) = (bench.connect(), bench.connect());
        pool.put_with(&1, short, keep_alive(5 * SECOND)).unwrap();
        pool.put_with(&2, long, keep_alive(HOUR)).unwrap();
        bench.clock.advance(5 * SECOND - NANOSECOND);
        pool.get(&1).expect("a nanosecond is left").release();
        pass(&pool, &bench.clock, 5 * SECOND - NANOSECOND);
        assert_eq!(pool.status().idle, 2);
        bench.clock.advance(NANOSECOND);
        if by_get {
            assert!(pool.get(&1).is_none());
        }
        pass(&pool, &bench.clock, SECOND);
        assert_eq!(bench.journal.reasons(), [(1, CloseReason::Idle)]);
        pass(&pool, &bench.clock, HOUR - 12 * SECOND);
        pool.get(&2).expect("its own timeout is longer than the group's").release();
        bench.clock.advance(HOUR);
        assert!(pool.get(&2).is_none(), "its own timeout");
    }
}

/// Those that go for another reason at the same time do not count as younger.
#[test]
fn who_is_about_to_go_takes_nobodys_place() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).build().unwrap();
    bench.put(&pool, 1, 4);
    for _ in 0..9 {
        let connection = bench.connect();
        pool.put_with(&1, connection, keep_alive(30 * SECOND)).unwrap();
    }
    bench.clock.advance(30 * SECOND);
    pool.maintain();
    assert_eq!(idle(&pool, 1), [3, 4]);
}

#[test]
fn what_was_invalidated_goes() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).build().unwrap();
    bench.put(&pool, 1, 2);
    bench.clock.advance(HOUR);
    pool.invalidate();
    assert!(pool.get(&1).is_none());
    bench.put(&pool, 2, 2);
    bench.clock.advance(HOUR);
    pool.invalidate_group(&2);
    pool.maintain();
    assert_eq!(pool.stats().closes[CloseReason::Invalidated], 4);
}

#[test]
fn one_that_is_used_up_goes() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).max_uses(3).build().unwrap();
    bench.put(&pool, 1, 1);
    for _ in 0..3 {
        bench.clock.advance(HOUR);
        pool.get(&1).expect("uses are left").release();
    }
    assert!(pool.get(&1).is_none());
    assert_eq!(bench.journal.reasons(), [(1, CloseReason::Uses)]);
}

#[test]
fn a_timeout_of_zero_still_means_never_again() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).build().unwrap();
    let group = pool.group(&1);
    bench.put(&pool, 1, 2);
    group.configure(GroupSettings::new().idle_timeout(Duration::ZERO)).unwrap();
    group.get().unwrap().release();
    assert_eq!(bench.journal.reasons(), [(2, CloseReason::Idle)]);
    bench.clock.advance(30 * SECOND);
    assert!(group.get().is_none());
}

#[test]
fn younger_ones_end_an_exemption() {
    let mut bench = Bench::new();
    let pool = bench.builder().min_idle_per_group(2).build().unwrap();
    bench.put(&pool, 1, 2);
    pass(&pool, &bench.clock, 100 * SECOND);
    assert_eq!(idle(&pool, 1), [1, 2]);
    bench.put(&pool, 1, 1);
    pass(&pool, &bench.clock, 30 * SECOND / 8 + 2 * pool.tick());
    assert_eq!(idle(&pool, 1), [2, 3]);
    bench.put(&pool, 1, 5);
    pass(&pool, &bench.clock, 30 * SECOND / 8 + 2 * pool.tick());
    assert_eq!(idle(&pool, 1), [3, 4, 5, 6, 7, 8]);
    pass(&pool, &bench.clock, HOUR);
    assert_eq!(idle(&pool, 1), [7, 8]);
}

/// Runs `body` on a thread that uses the other one of two lanes.
fn in_other_lane(body: impl Fn() + Sync) {
    let probe = Pool::<u8, u8>::builder().lanes(2).build().unwrap();
    let turn = Barrier::new(2);
    let attempt = || {
        probe.put(&1, 2).unwrap();
        turn.wait();
        turn.wait();
        // Its own, unless what came later lies on top of it.
        let other = *probe.get(&1).unwrap() == 2;
        if other {
            body();
        }
        other
    };
    let done = || {
        thread::scope(|scope| {
            let thread = scope.spawn(attempt);
            turn.wait();
            probe.put(&1, 1).unwrap();
            turn.wait();
            thread.join().unwrap()
        })
    };
    while !done() {
        probe.clear();
    }
}

/// What is on top of one lane may be the oldest of all.
#[test]
fn a_get_looks_at_all_lanes() {
    for min_idle in [3, 4] {
        let mut bench = Bench::new();
        let builder = bench.builder().min_idle_per_group(min_idle).lanes(2);
        let pool = builder.build().unwrap();
        bench.put(&pool, 1, 1);
        let clock = bench.clock.clone();
        let fresh: Vec<Connection> = (0..3).map(|_| bench.connect()).collect();
        let fresh = Mutex::new(fresh);
        in_other_lane(|| {
            for connection in fresh.lock().unwrap().drain(..) {
                pool.put(&1, connection).unwrap();
            }
        });
        clock.advance(30 * SECOND);
        // Three are released again in the other lane; the first one has expired.
        in_other_lane(|| {
            let leases: Vec<_> = (0..3).map(|_| pool.get(&1).unwrap()).collect();
            leases.into_iter().for_each(|lease| lease.release());
        });
        // In the very moment of their release, they might have come from where the get
        // has looked already.
        clock.advance(NANOSECOND);
        let lease = pool.get(&1).unwrap();
        if min_idle == 3 {
            assert_ne!(lease.id, 1, "three are younger");
            assert_eq!(bench.journal.reasons(), [(1, CloseReason::Idle)]);
        } else {
            assert_eq!(lease.id, 1, "it is the fourth");
        }
    }
}

#[test]
fn a_group_may_have_its_own_number() {
    let mut bench = Bench::new();
    let of = |key: &u8| match key {
        2 => GroupSettings::new().min_idle(2),
        _ => GroupSettings::new(),
    };
    let pool = bench.builder().group_settings(of).build().unwrap();
    for key in 1..4 {
        bench.put(&pool, key, 5);
    }
    pool.group(&3).configure(GroupSettings::new().min_idle(4)).unwrap();
    pass(&pool, &bench.clock, HOUR);
    let left: Vec<usize> = (1..4).map(|key| pool.group_status(&key).idle).collect();
    assert_eq!(left, [0, 2, 4]);
    pool.group(&3).configure(GroupSettings::new().min_idle(1)).unwrap();
    pass(&pool, &bench.clock, 30 * SECOND);
    assert_eq!(pool.group_status(&3).idle, 1);
    // Also when the first to have one is given it late.
    let pool = bench.builder().build().unwrap();
    bench.put(&pool, 1, 2);
    pool.group(&1).configure(GroupSettings::new().min_idle(1)).unwrap();
    pass(&pool, &bench.clock, HOUR);
    assert_eq!(pool.group_status(&1).idle, 1);
}

#[test]
fn the_bound_and_the_callers_wishes_come_first() {
    let mut bench = Bench::new();
    let pool = bench.builder().capacity(3).min_idle_per_group(9).build().unwrap();
    bench.put(&pool, 1, 3);
    bench.clock.advance(HOUR);
    pool.maintain();
    bench.put(&pool, 2, 1);
    assert_eq!(bench.journal.reasons(), [(1, CloseReason::Evicted)]);
    pool.clear_group(&1);
    pool.close();
    assert_eq!(pool.status().idle, 0);
}

/// On one thread: gets are exact, the reaper takes only what may go, and when all is
/// quiet the youngest are left.
#[derive(Clone, Debug)]
enum Op {
    Put { own: Option<u64> },
    Get,
    Release(usize),
    Advance(u64),
    Maintain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => prop_oneof![4 => Just(None), 1 => (1..60_u64).prop_map(Some)]
            .prop_map(|own| Op::Put { own }),
        4 => Just(Op::Get),
        4 => (0..9_usize).prop_map(Op::Release),
        3 => (0..40_u64).prop_map(Op::Advance),
        3 => Just(Op::Maintain),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: u32,
    stamp: u64,
    own: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn those_that_a_list_would_spare(min_idle in 0..4_usize, script in prop::collection::vec(op(), 1..80)) {
        let mut bench = Bench::new();
        let pool = bench.builder().min_idle_per_group(min_idle).build().unwrap();
        let (mut now, mut list, mut leases) = (0, Vec::<Known>::new(), Vec::new());
        for op in script {
            match op {
                Op::Put { own } => {
                    let connection = bench.connect();
                    list.push(Known { id: connection.id, stamp: now, own: own.unwrap_or(u64::MAX) });
                    let options = PutOptions::new().idle_timeout(own.map(Duration::from_secs));
                    pool.put_with(&1, connection, options).unwrap();
                }
                Op::Get => {
                    let lease = pool.get_owned(&1);
                    let mut expected = None;
                    while expected.is_none() && let Some(top) = list.pop() {
                        let hard = now - top.stamp >= top.own;
                        let soft = now - top.stamp >= 30;
                        expected = (!hard && (!soft || min_idle > 0)).then_some(top);
                    }
                    prop_assert_eq!(lease.as_ref().map(|lease| lease.id), expected.map(|top| top.id));
                    leases.extend(lease.zip(expected));
                }
                Op::Release(at) if !leases.is_empty() => {
                    let at = at % leases.len();
                    let (lease, known): (PooledOwned<u8, Connection>, Known) = leases.swap_remove(at);
                    lease.release();
                    list.push(Known { stamp: now, ..known });
                }
                Op::Release(_) => {}
                Op::Advance(by) => {
                    now += by;
                    bench.clock.advance(Duration::from_secs(by));
                }
                Op::Maintain => {
                    pool.maintain();
                    let left = idle(&pool, 1);
                    let fits = |known: &&Known| now - known.stamp < known.own;
                    let spared: Vec<u32> =
                        list.iter().filter(fits).rev().take(min_idle).map(|known| known.id).collect();
                    for known in &list {
                        let expired = now - known.stamp >= known.own.min(30);
                        let gone = !left.contains(&known.id);
                        prop_assert!(!gone || expired && !spared.contains(&known.id), "{:?}", known);
                    }
                    list.retain(|known| left.contains(&known.id));
                }
            }
        }
        pass(&pool, &bench.clock, 200 * SECOND);
        let lasting = list.iter().filter(|known| known.own == u64::MAX);
        let spared: Vec<u32> = lasting.clone().rev().take(min_idle).map(|known| known.id).collect();
        let found = idle(&pool, 1);
        prop_assert!(found.iter().all(|id| spared.contains(id)), "{:?} of {:?}", found, spared);
        // Those that went by a timeout of their own were among the youngest for a while.
        if lasting.count() == list.len() {
            prop_assert_eq!(found.len(), spared.len());
        }
    }
}
