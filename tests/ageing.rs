//! How idle connections age: who is exempt from the idle timeout, how fast lifetimes end,
//! what is trimmed because nobody needs it.

mod common;

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use slabpool::{
    Builder, Clock, CloseReason, GroupSettings, ManualClock, Pool, PooledOwned, PutOptions,
    RetirementBudget,
};

use common::{Connection, Journal, NANOSECOND, SECOND, Tally};

const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    clock: ManualClock,
    journal: Journal<u8>,
    tally: Tally,
    next_id: u32,
}

impl Bench {
    fn new() -> Self {
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        Self { clock, journal, tally, next_id: 0 }
    }

    fn builder(&self) -> Builder<u8, Connection> {
        let builder = Pool::builder().capacity(200_000).lifetime_jitter(0.0);
        builder.clock(&self.clock).on_close(self.journal.hook())
    }

    fn connect(&mut self) -> Connection {
        self.next_id += 1;
        self.tally.connect(self.next_id)
    }

    fn put(&mut self, pool: &Pool<u8, Connection>, key: u8, count: usize) {
        for _ in 0..count {
            let connection = self.connect();
            pool.put(&key, connection).unwrap();
        }
    }
}

fn keep_alive(timeout: Duration) -> PutOptions {
    PutOptions { idle_timeout: Some(timeout) }
}

/// The numbers of a group's idle connections, in order of their release.
fn idle(pool: &Pool<u8, Connection>, key: u8) -> Vec<u32> {
    let mut idle = Vec::new();
    pool.retain(|&other, meta, connection| {
        if other == key {
            idle.push((std::cmp::Reverse(meta.idle_for), connection.id));
        }
        true
    });
    idle.sort_unstable();
    idle.into_iter().map(|(_, id)| id).collect()
}

/// Lets a time pass, with maintenance in each tick.
fn pass(pool: &Pool<u8, Connection>, clock: &ManualClock, mut time: Duration) {
    while !time.is_zero() {
        let step = time.min(pool.tick());
        clock.advance(step);
        pool.maintain();
        time -= step;
    }
}

mod exempt {
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
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

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
                        let options = PutOptions { idle_timeout: own.map(Duration::from_secs) };
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
}

mod retired {
    use super::*;

    fn budget(per_second: u32, group_share: f64) -> RetirementBudget {
        RetirementBudget { per_second, group_share }
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
}

mod trimmed {
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
    fn load(
        bench: &mut Bench,
        pool: &Pool<u8, Connection>,
        leases: usize,
        time: Duration,
    ) -> usize {
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
            let oldest = bench
                .journal
                .read()
                .iter()
                .filter(|entry| entry.0 == 0)
                .all(|entry| entry.1 <= 9_995);
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
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

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
}

mod threads {
    use super::*;

    const ROUNDS: u32 = 20_000;

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
        let budget = RetirementBudget { per_second: 2, group_share: 0.3 };
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
}
