//! The reaper closes what has expired, once, and overlooks nothing.

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
    let pool = builder().idle_timeout(TIMEOUT).clock(clock.clone()).build().unwrap();
    let group = handle(&pool, 1);
    (clock, pool, group)
}

fn maintainer(pool: &Pool<u8, Conn>) -> thread::JoinHandle<()> {
    let pool = pool.clone();
    thread::spawn(move || {
        pool.maintain();
    })
}

/// An expired connection is closed by the reaper or by the get that meets it.
#[test]
fn reap_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        assert!(group.get().is_none(), "it has expired");
        reaper.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A live connection below an expired one is found all the while.
#[test]
fn the_reaper_hides_nothing_from_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        group.put(ledger.connection(0)).unwrap();
        let soon = PutOptions::new().idle_timeout(TICK);
        group.put_with(ledger.connection(1), soon).unwrap();
        clock.advance(TICK);
        let reaper = maintainer(&pool);
        let lease = group.get().expect("one is alive");
        assert_eq!(lease.number, 0);
        lease.touch();
        lease.release();
        reaper.join().unwrap();
        assert_eq!(ledger.dropped(1), 1);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// The alarm of a leased connection rings while it is released. The reaper looks at it
/// again in time.
#[test]
fn reap_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        group.put(ledger.connection(0)).unwrap();
        let lease = group.get().unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        lease.touch();
        lease.release();
        reaper.join().unwrap();
        assert_eq!(ledger.dropped(0), 0, "it was just released");
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// An expired connection is evicted and reaped: it is closed once.
#[test]
fn reap_against_evict() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let token = group.put(ledger.connection(0)).unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        pool.evict(token);
        reaper.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The reaper looks at a seat while a connection takes it.
#[test]
fn a_put_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let reaper = maintainer(&pool);
        group.put(ledger.connection(0)).unwrap();
        reaper.join().unwrap();
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// As before, with a connection that is leased first.
#[test]
fn an_insertion_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let reaper = maintainer(&pool);
        let lease = group.insert(ledger.connection(0)).unwrap();
        lease.touch();
        lease.release();
        reaper.join().unwrap();
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        // When it was seen leased, it is looked at again a timeout later.
        clock.advance(TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A connection takes a seat whose alarm was left by the one before, and rings now.
#[test]
fn the_next_occupant_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        let token = group.put(ledger.connection(0)).unwrap();
        pool.maintain();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        pool.evict(token);
        group.put(ledger.connection(1)).unwrap();
        reaper.join().unwrap();
        assert_eq!(ledger.dropped(1), 0, "it was just put in");
        clock.advance(TIMEOUT + TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(1), 1, "the reaper has forgotten it");
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A release shortens the spell, because the lifetime ends, while the reaper looks.
#[test]
fn a_shorter_spell_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let clock = Clock::manual();
        let pool = builder()
            .idle_timeout(TIMEOUT)
            .max_lifetime(TIMEOUT + 2 * TICK)
            .lifetime_jitter(0.0)
            .clock(clock.clone())
            .build()
            .unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let lease = group.get().unwrap();
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        lease.release();
        reaper.join().unwrap();
        clock.advance(3 * TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper looks too late");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The idle timeout was lowered while the connection was leased: its release moves the
/// alarm forward, while the reaper looks.
#[test]
fn a_lowered_limit_is_not_forgotten() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        group.put(ledger.connection(0)).unwrap();
        let lease = group.get().unwrap();
        group.configure(GroupSettings::new().idle_timeout(TICK)).unwrap();
        let reaper = maintainer(&pool);
        lease.release();
        reaper.join().unwrap();
        clock.advance(2 * TICK);
        pool.maintain();
        assert_eq!(ledger.dropped(0), 1, "the reaper looks too late");
        group.configure(GroupSettings::new()).unwrap();
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Two reapers: one of them goes away.
#[test]
fn two_reapers_close_once() {
    check(3, || {
        let ledger = Ledger::default();
        let (clock, pool, group) = timed();
        group.put(ledger.connection(0)).unwrap();
        let handle = with_group(&group, |group| drop(group.get()));
        clock.advance(TIMEOUT);
        let reaper = maintainer(&pool);
        pool.maintain();
        reaper.join().unwrap();
        handle.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}
