//! Exempt, retired and trimmed: maintenance decides by what it reads of connections that
//! are not its own, while others use them.

mod common;

#[path = "common/bench.rs"]
mod bench;

use std::time::Duration;

use bench::{Bench, spawn};
use common::{Conn, Handle, Ledger, builder, check, handle, with_group};
use loom::thread;
use slabpool::model::Claim;
use slabpool::{Builder, Clock, ManualClock, Pool, RetirementBudget};

const TIMEOUT: Duration = Duration::from_secs(32);
const TICK: Duration = Duration::from_secs(1);

fn timed(
    settings: impl Fn(Builder<u8, Conn>) -> Builder<u8, Conn>,
) -> (ManualClock, Pool<u8, Conn>, Handle) {
    let clock = Clock::manual();
    let pool = settings(builder().clock(clock.clone())).build().unwrap();
    let group = handle(&pool, 1);
    (clock, pool, group)
}

fn exempting(builder: Builder<u8, Conn>) -> Builder<u8, Conn> {
    builder.idle_timeout(TIMEOUT).min_idle_per_group(1)
}

fn trimming(builder: Builder<u8, Conn>) -> Builder<u8, Conn> {
    builder.trim_window(TIMEOUT)
}

fn retiring(builder: Builder<u8, Conn>) -> Builder<u8, Conn> {
    let budget = RetirementBudget::new().per_second(1);
    builder.max_lifetime(TIMEOUT).lifetime_jitter(0.0).retirement(budget)
}

fn maintainer(pool: &Pool<u8, Conn>) -> thread::JoinHandle<()> {
    let pool = pool.clone();
    thread::spawn(move || {
        pool.maintain();
    })
}

fn idle(group: &Handle) -> usize {
    group.status().idle
}

/// The reaper judges an exempt connection: a get finds it all the while.
#[test]
fn an_exempt_connection_is_never_missed() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(exempting);
        group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        let lease = group.get().expect("it is exempt");
        lease.touch();
        lease.release();
        reaper.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The youngest is taken while the reaper judges the one below.
#[test]
fn exempt_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(exempting);
        group.put(ledger.connection(0)).unwrap();
        clock.advance(TICK);
        group.put(ledger.connection(1)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        let lease = group.get().expect("the youngest is exempt");
        assert_eq!(lease.number, 1);
        lease.touch();
        reaper.join().unwrap();
        lease.release();
        // It is looked at again.
        clock.advance(TIMEOUT);
        pool.maintain();
        assert_eq!((idle(&group), ledger.dropped(0)), (1, 1));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A younger one comes back while the reaper judges.
#[test]
fn exempt_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(exempting);
        group.put(ledger.connection(0)).unwrap();
        let lease = group.insert(ledger.connection(1)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        lease.touch();
        lease.release();
        reaper.join().unwrap();
        assert_eq!(ledger.dropped(1), 0, "it was just released");
        clock.advance(TIMEOUT);
        pool.maintain();
        assert_eq!((idle(&group), ledger.dropped(0)), (1, 1));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// The judged connection is evicted, and another one takes its seat.
#[test]
fn exempt_against_evict_and_put() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(exempting);
        let token = group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        assert!(pool.evict(token));
        pool.put(&2, ledger.connection(1)).unwrap();
        reaper.join().unwrap();
        assert_eq!((ledger.dropped(0), ledger.dropped(1)), (1, 0));
        clock.advance(2 * TIMEOUT);
        pool.maintain();
        assert_eq!(ledger.dropped(1), 0, "it is exempt in its group");
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// The last connection of a group goes while the reaper asks for its group.
#[test]
fn judged_while_the_group_goes() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(exempting);
        let token = pool.put(&2, ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        assert!(pool.evict(token));
        reaper.join().unwrap();
        assert_eq!(pool.status().groups, 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Half of two that nobody needed goes, the older one; a get finds the other.
#[test]
fn trim_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(trimming);
        group.put(ledger.connection(0)).unwrap();
        group.put(ledger.connection(1)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        let lease = group.get().expect("one is left");
        assert_eq!(lease.number, 1);
        lease.touch();
        lease.release();
        reaper.join().unwrap();
        assert_eq!((idle(&group), ledger.dropped(0)), (1, 1));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// One that is leased and released while it is counted and trimmed has one owner.
#[test]
fn trim_against_get_and_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(trimming);
        group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        let used = group.get().is_some_and(|lease| {
            lease.touch();
            lease.release();
            true
        });
        reaper.join().unwrap();
        // It may be counted before, and closed after.
        assert_eq!((ledger.dropped(0), idle(&group)), if used { (0, 1) } else { (1, 0) });
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A connection takes the seat of one that was counted.
#[test]
fn trim_against_evict_and_put() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(trimming);
        let token = group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        pool.evict(token);
        group.put(ledger.connection(1)).unwrap();
        reaper.join().unwrap();
        assert_eq!((ledger.dropped(0), ledger.dropped(1)), (1, 0));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A sweep counts while the group is cleared.
#[test]
fn trim_against_clear() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(trimming);
        group.put(ledger.connection(0)).unwrap();
        group.put(ledger.connection(1)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        group.clear();
        reaper.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// Two have reached their lifetime, one may go: a get closes what it meets.
#[test]
fn retire_against_get() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(retiring);
        group.put(ledger.connection(0)).unwrap();
        group.put(ledger.connection(1)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        assert!(group.get().is_none(), "their time is up");
        reaper.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A connection takes the seat of one that waits for its turn, and is retired in its own
/// time.
#[test]
fn retire_against_evict_and_put() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(retiring);
        let token = group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        pool.evict(token);
        group.put(ledger.connection(1)).unwrap();
        reaper.join().unwrap();
        assert_eq!((ledger.dropped(0), ledger.dropped(1)), (1, 0));
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(1), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// `retain` looks at one whose turn it is.
#[test]
fn retire_against_retain() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(retiring);
        group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        pool.retain(|_, _, _| true);
        reaper.join().unwrap();
        clock.advance(2 * TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Two maintainers and a group that is shared: every connection goes once.
#[test]
fn two_maintainers_trim_once() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed(trimming);
        group.put(ledger.connection(0)).unwrap();
        group.put(ledger.connection(1)).unwrap();
        clock.advance(TIMEOUT);
        let user = with_group(&group, |group| drop(group.get()));
        let reaper = maintainer(&pool);
        pool.maintain();
        user.join().unwrap();
        reaper.join().unwrap();
        assert!(ledger.dropped(0) == 1 && ledger.dropped(1) == 1);
        drop(group);
        ledger.settle(pool, 2);
    });
}

fn claim(bench: &Bench, seat: u32) -> Claim {
    Claim { seat, incarnation: bench.core.seats.get(seat).state.load().incarnation() }
}

/// Those in a lane are counted right or not at all while their tickets are copied.
#[test]
fn a_rank_while_a_lane_is_compacted() {
    check(2, || {
        let bench = Bench::new(2);
        bench.release(bench.fresh());
        assert!(bench.lanes.compact(&bench.core));
        bench.release(bench.fresh());
        bench.core.seats.iter().for_each(|(_, seat)| seat.stamp.set(5));
        let bench = std::sync::Arc::new(bench);
        let compactor = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        let count = || bench.lanes.rank_of_top(&bench.core, 4, 9, 9, |_| true);
        assert!(count().is_none_or(|count| count == 2));
        compactor.join().unwrap();
        assert_eq!(count(), Some(2));
        bench.account(2);
    });
}

/// A rank is that of some moment while the top is taken and comes back.
#[test]
fn a_rank_while_the_top_is_used() {
    check(3, || {
        let bench = std::sync::Arc::new(Bench::layered(0, 3));
        let oldest = claim(&bench, 0);
        let user = spawn(&bench, |bench| {
            let held = bench.get().expect("three are there");
            bench.release(held);
        });
        let rank = bench.lanes.rank(&bench.core, oldest, 9, 9, true, |_| true);
        assert!(rank.is_none_or(|rank| rank == 1 || rank == 2), "{rank:?}");
        user.join().unwrap();
        bench.account(3);
    });
}
