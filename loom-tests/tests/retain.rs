//! `retain` looks at idle connections in place: it keeps them from others for a moment,
//! and loses none.

mod common;

use common::{Conn, Ledger, check, pool_of, with_group};
use slabpool::Group;

/// Shows every idle connection to a closure that writes to it.
fn retain(group: &Group<u8, Conn>, keep: bool) {
    group.pool().retain(|_, _, connection| {
        connection.touch();
        keep
    });
}

/// The getter waits, and sees what the closure wrote; the connection is there afterwards.
#[test]
fn retain_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| retain(&group, true));
        let lease = group.get().expect("it is idle, or is so in a moment");
        lease.touch();
        lease.release();
        other.join().unwrap();
        let lease = group.get().expect("nobody closed it");
        lease.touch();
        lease.release();
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// One of two connections is looked at: there is another one to get.
#[test]
fn retain_hides_one_at_a_time() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let other = with_group(&group, |group| retain(&group, true));
        let lease = group.get().expect("one of them is idle");
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(group.status().idle, 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// What the closure refuses is closed, unless it was leased before.
#[test]
fn a_refusal_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| retain(&group, false));
        if let Some(lease) = group.get() {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        assert_eq!(group.status().idle, 1 - ledger.dropped(0));
        assert_eq!(group.get().is_some(), ledger.dropped(0) == 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// An eviction that comes while the closure looks takes effect when that is done.
#[test]
fn retain_against_evict() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let token = group.put(ledger.connection(0)).unwrap();
        let other = with_group(&group, |group| retain(&group, true));
        assert!(pool.evict(token));
        assert!(group.get().is_none(), "an evicted connection is not leased again");
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// As before, and a getter removes the ticket meanwhile.
#[test]
fn retain_against_evict_and_get() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let token = group.put(ledger.connection(0)).unwrap();
        let retainer = with_group(&group, |group| retain(&group, true));
        let getter = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.release();
            }
        });
        assert!(pool.evict(token));
        retainer.join().unwrap();
        getter.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A close that comes while the closure looks takes effect when that is done.
#[test]
fn retain_against_close() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| retain(&group, true));
        pool.close();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A clear may miss what `retain` holds, but does not lose it.
#[test]
fn retain_against_clear() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| retain(&group, true));
        group.clear();
        other.join().unwrap();
        assert_eq!(group.status().idle, 1 - ledger.dropped(0));
        assert_eq!(group.get().is_some(), ledger.dropped(0) == 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Compaction copies the tickets of connections that are looked at.
#[test]
fn retain_against_retain() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| retain(&group, true));
        retain(&group, true);
        other.join().unwrap();
        group.get().expect("nobody closed it").release();
        drop(group);
        ledger.settle(pool, 1);
    });
}
