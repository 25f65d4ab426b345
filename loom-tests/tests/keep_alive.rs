//! What a release says of its connection is not overlooked, and what is learned of a peer
//! is in force whoever else sets limits.

mod common;

use std::time::Duration;

use common::{Conn, Handle, Ledger, builder, check, handle, with_group};
use loom::thread;
use slabpool::{Clock, GroupSettings, ManualClock, Pool, PutOptions};

const TIMEOUT: Duration = Duration::from_secs(32);
const TICK: Duration = Duration::from_secs(1);

/// A pool whose connections expire when the test says so, and a group.
fn timed() -> (ManualClock, Pool<u8, Conn>, Handle) {
    let clock = Clock::manual();
    let builder = builder().idle_timeout(TIMEOUT).learn_idle_timeout(true);
    let pool = builder.clock(clock.clone()).build().unwrap();
    let group = handle(&pool, 1);
    (clock, pool, group)
}

fn maintainer(pool: &Pool<u8, Conn>) -> thread::JoinHandle<()> {
    let pool = pool.clone();
    thread::spawn(move || {
        pool.maintain();
    })
}

fn soon() -> PutOptions {
    PutOptions::new().idle_timeout(TICK)
}

/// The reaper looks at a new connection while it is released with a timeout of its own.
#[test]
fn a_first_release_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let lease = group.insert(ledger.connection(0)).unwrap();
        let reaper = maintainer(&pool);
        lease.touch();
        lease.release_with(soon());
        reaper.join().unwrap();
        clock.advance(2 * TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper looks too late");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// As before, when the reaper has planned to look later than that.
#[test]
fn a_late_first_release_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let lease = group.insert(ledger.connection(0)).unwrap();
        clock.advance(9 * TICK);
        pool.maintain();
        let reaper = maintainer(&pool);
        lease.release_with(soon());
        reaper.join().unwrap();
        clock.advance(2 * TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper looks too late");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Two releases tell the reaper at once, while it looks.
#[test]
fn two_shorter_timeouts_are_not_forgotten() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        group.put(ledger.connection(0)).unwrap();
        group.put(ledger.connection(1)).unwrap();
        pool.maintain();
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| group.get().unwrap().release_with(soon()));
        let reaper = maintainer(&pool);
        lease.release_with(soon());
        other.join().unwrap();
        reaper.join().unwrap();
        clock.advance(2 * TICK);
        pool.maintain();
        // The other thread may have leased the same one again.
        let both = ledger.dropped_in_all() == 2;
        let one = ledger.dropped(0) == 0 && ledger.dropped(1) == 1;
        assert!(both || one, "the reaper looks too late");
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A connection is evicted and replaced, and its release had told the reaper.
#[test]
fn the_next_occupant_of_a_hurried_seat_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let token = group.put(ledger.connection(0)).unwrap();
        pool.maintain();
        group.get().unwrap().release_with(soon());
        let reaper = maintainer(&pool);
        assert!(pool.evict(token));
        group.put(ledger.connection(1)).unwrap();
        reaper.join().unwrap();
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(1), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// Two observations were made; connection 2 was idle for as long.
fn about_to_learn(ledger: &Ledger) -> (ManualClock, Pool<u8, Conn>, Handle) {
    let (clock, pool, group) = timed();
    for number in 0..2 {
        group.put(ledger.connection(number)).unwrap();
        clock.advance(9 * TICK);
        group.get().unwrap().close_dead();
    }
    group.put(ledger.connection(2)).unwrap();
    clock.advance(9 * TICK);
    (clock, pool, group)
}

/// The shorter of both is in force, whoever was last to say so.
#[test]
fn learning_against_configure() {
    for configured in [5, 20] {
        check(3, move || {
            let ledger = Ledger::default();
            let (_clock, pool, group) = about_to_learn(&ledger);
            let lease = group.get().unwrap();
            let other = with_group(&group, move |group| {
                let settings = GroupSettings::new().idle_timeout(configured * TICK);
                group.configure(settings).unwrap();
            });
            lease.close_dead();
            other.join().unwrap();
            assert_eq!(group.idle_timeout(), Some(8.min(configured) * TICK));
            group.configure(GroupSettings::new()).unwrap();
            assert_eq!(group.idle_timeout(), Some(8 * TICK));
            drop(group);
            ledger.settle(pool, 3);
        });
    }
}

/// Two learn at once, and a third expires a connection and forgets.
#[test]
fn learning_against_learning_and_forgetting() {
    check(2, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = about_to_learn(&ledger);
        let lease = group.get().unwrap();
        group.put(ledger.connection(3)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        lease.close_dead();
        let seen = group.idle_timeout();
        assert!(seen == Some(8 * TICK) || seen == Some(TIMEOUT), "{seen:?}");
        reaper.join().unwrap();
        assert_eq!(group.idle_timeout(), Some(8 * TICK));
        assert_eq!(ledger.dropped(3), 1);
        drop(group);
        ledger.settle(pool, 4);
    });
}
