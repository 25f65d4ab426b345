//! Permits and connections add up, whichever of closes, drains, evictions and a lower
//! capacity come together.

mod common;

use std::time::Duration;

use common::{Conn, Ledger, builder, check, handle, pool_of, with_group};
use loom::thread::{self, JoinHandle};
use slabpool::model::{permits, set_capacity};
use slabpool::{Clock, Pool, PutOptions};

const TIMEOUT: Duration = Duration::from_secs(32);
const TICK: Duration = Duration::from_secs(1);

fn maintainer(pool: &Pool<u8, Conn>) -> JoinHandle<()> {
    let pool = pool.clone();
    thread::spawn(move || {
        pool.maintain();
    })
}

fn shrinker(pool: &Pool<u8, Conn>, capacity: usize) -> JoinHandle<()> {
    let pool = pool.clone();
    thread::spawn(move || set_capacity(&pool, capacity))
}

/// As many permits are out as there are connections.
fn account(pool: &Pool<u8, Conn>) {
    let status = pool.status();
    assert_eq!(permits(pool), status.idle + status.leased);
}

/// Of two connections one goes when there is room for one: nothing that was too many
/// before is claimed still.
fn the_bound_holds(pool: &Pool<u8, Conn>, ledger: &Ledger, first: usize) {
    set_capacity(pool, 2);
    for number in first..first + 2 {
        pool.put(&9, ledger.connection(number)).unwrap();
    }
    set_capacity(pool, 1);
    assert_eq!((pool.status().idle, permits(pool)), (1, 1));
}

/// An eviction for an insertion, a close, and less room: in a closed pool nothing is
/// left, and its permits are free.
#[test]
fn close_against_eviction_and_shrink() {
    check(1, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let inserter = with_group(&group, move |group| {
            if let Ok(lease) = group.insert(connection) {
                lease.touch();
                lease.release();
            }
        });
        let shrinker = shrinker(&pool, 0);
        pool.close();
        inserter.join().unwrap();
        shrinker.join().unwrap();
        assert_eq!((pool.status().idle, permits(&pool)), (0, 0));
        assert_eq!(ledger.dropped_in_all(), 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// Whoever sees that a closed pool is empty sees what became of the connections: of one
/// that went for another, which did not come in.
#[test]
fn what_an_eviction_did_is_seen_in_an_empty_pool() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let inserter = with_group(&group, move |group| drop(group.insert(connection)));
        pool.close();
        if permits(&pool) == 0 {
            let stats = pool.stats();
            assert_eq!(stats.inserts, stats.closes.total());
            assert_eq!(pool.status().leased, 0);
        }
        inserter.join().unwrap();
        assert_eq!((permits(&pool), ledger.dropped_in_all()), (0, 2));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// As before, of one that was shed.
#[test]
fn what_a_shrink_did_is_seen_in_an_empty_pool() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let shrinker = shrinker(&pool, 0);
        pool.close();
        if permits(&pool) == 0 {
            assert_eq!(pool.stats().closes.total(), 1);
        }
        shrinker.join().unwrap();
        assert_eq!((permits(&pool), ledger.dropped(0)), (0, 1));
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Maintenance sheds what is too many while the pool is closed.
#[test]
fn close_against_shedding() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = group.get().unwrap();
        set_capacity(&pool, 0);
        lease.touch();
        lease.release();
        let reaper = maintainer(&pool);
        pool.close();
        reaper.join().unwrap();
        assert_eq!((ledger.dropped(0), permits(&pool)), (1, 0));
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A drain, an eviction for an insertion into another group, and less room.
#[test]
fn drain_against_eviction_and_shrink() {
    check(1, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let (group, other) = (handle(&pool, 1), handle(&pool, 2));
        group.put(ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let inserter = with_group(&other, move |other| drop(other.put(connection)));
        let shrinker = shrinker(&pool, 0);
        group.drain();
        inserter.join().unwrap();
        shrinker.join().unwrap();
        pool.maintain();
        assert_eq!((pool.status().idle, permits(&pool)), (0, 0));
        group.resume();
        drop((group, other));
        the_bound_holds(&pool, &ledger, 2);
        ledger.settle(pool, 4);
    });
}

/// The capacity is lowered and raised again while what is too many is closed: the claims
/// go, and no permit is lost.
#[test]
fn shrink_and_grow_against_shedding_and_get() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let reaper = maintainer(&pool);
        let getter = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.release();
            }
        });
        set_capacity(&pool, 1);
        set_capacity(&pool, 4);
        reaper.join().unwrap();
        getter.join().unwrap();
        account(&pool);
        assert!(pool.status().idle >= 1, "one was never too many");
        group.clear();
        assert_eq!(permits(&pool), 0);
        drop(group);
        the_bound_holds(&pool, &ledger, 2);
        ledger.settle(pool, 4);
    });
}

/// The last connection of a group is evicted before its ticket is pushed, and the lanes
/// go to another group, which is drained: that is nothing to do with the connection of
/// the third, which has its seat.
#[test]
fn release_against_evict_and_a_drain_in_the_same_lanes() {
    check(1, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let token = pool.put(&1, ledger.connection(0)).unwrap();
        let lease = pool.get_owned(&1).unwrap();
        let releaser = thread::spawn(move || {
            lease.touch();
            lease.release();
        });
        assert!(pool.evict(token));
        pool.drain_group(&2);
        pool.put(&3, ledger.connection(1)).unwrap();
        releaser.join().unwrap();
        assert_eq!((ledger.dropped(0), ledger.dropped(1)), (1, 0));
        assert!(pool.get(&2).is_none());
        pool.resume_group(&2);
        pool.get(&3).expect("nobody closed it").release();
        account(&pool);
        ledger.settle(pool, 2);
    });
}

/// A shorter timeout, said twice with a lease in between, while the reaper looks and the
/// time goes on.
#[test]
fn releases_that_say_something_against_the_reaper() {
    check(2, || {
        let ledger = Ledger::default();
        let clock = Clock::manual();
        let pool = builder().idle_timeout(TIMEOUT).clock(&clock).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        pool.maintain();
        let timer = clock.clone();
        let user = with_group(&group, move |group| {
            let timeout = |ticks: u32| PutOptions::new().idle_timeout(ticks * TICK);
            group.get().unwrap().release_with(timeout(9));
            let lease = group.get().expect("its time is not up");
            timer.advance(3 * TICK);
            lease.release_with(timeout(2));
        });
        let reaper = maintainer(&pool);
        pool.maintain();
        user.join().unwrap();
        reaper.join().unwrap();
        clock.advance(3 * TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper looks too late");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A shorter timeout is told while the connection is evicted, and the next one takes its
/// seat, with a notice that is not its own.
#[test]
fn a_release_that_says_something_against_evict_and_put() {
    check(1, || {
        let ledger = Ledger::default();
        let clock = Clock::manual();
        let pool = builder().idle_timeout(TIMEOUT).clock(&clock).build().unwrap();
        let group = handle(&pool, 1);
        let token = group.put(ledger.connection(0)).unwrap();
        pool.maintain();
        let lease = group.get_owned().unwrap();
        let releaser = thread::spawn(move || {
            lease.release_with(PutOptions::new().idle_timeout(TICK));
        });
        let reaper = maintainer(&pool);
        assert!(pool.evict(token));
        group.put(ledger.connection(1)).unwrap();
        releaser.join().unwrap();
        reaper.join().unwrap();
        assert_eq!((ledger.dropped(0), ledger.dropped(1)), (1, 0));
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(1), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A user, the reaper with something to close, and the end.
#[test]
fn a_user_and_the_reaper_against_close() {
    check(1, || {
        let ledger = Ledger::default();
        let clock = Clock::manual();
        let pool = builder().idle_timeout(TIMEOUT).clock(&clock).build().unwrap();
        let group = handle(&pool, 1);
        let soon = PutOptions::new().idle_timeout(TICK);
        group.put_with(ledger.connection(0), soon).unwrap();
        clock.advance(TICK);
        let lease = group.insert_owned(ledger.connection(1)).unwrap();
        let reaper = maintainer(&pool);
        let user = thread::spawn(move || {
            lease.touch();
            lease.release();
        });
        pool.close();
        reaper.join().unwrap();
        user.join().unwrap();
        assert_eq!((pool.status().idle, permits(&pool)), (0, 0));
        assert_eq!(ledger.dropped_in_all(), 2);
        assert!(group.get().is_none());
        drop(group);
        ledger.settle(pool, 2);
    });
}
