//! Getting and releasing: one owner at a time, and no connection is lost or missed.

mod common;

use common::{Ledger, check, check_all, pool_of, with_group};

/// Two threads want the only connection. One gets it; the other misses, which is
/// right, since it is in use.
#[test]
fn one_connection_is_leased_once() {
    check_all(|| {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let leaser = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.close();
            }
        });
        if let Some(lease) = group.get() {
            lease.touch();
            lease.close();
        }
        leaser.join().unwrap();
        assert_eq!(ledger.dropped(0), 1, "somebody got it");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Two connections, two threads: nobody misses.
#[test]
fn with_a_connection_for_each_thread_nobody_misses() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let round = |group: &slabpool::Group<u8, common::Conn>| {
            let lease = group.get().expect("one is idle");
            lease.touch();
            lease.release();
        };
        let other = with_group(&group, move |group| round(&group));
        round(&group);
        other.join().unwrap();
        assert_eq!(group.status().idle, 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A thread releases, another gets. It may miss; it may not get something half-way.
#[test]
fn a_release_hands_over_all_that_was_done() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let releaser = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.release();
            }
        });
        if let Some(lease) = group.get() {
            lease.touch();
            lease.release();
        }
        releaser.join().unwrap();
        let lease = group.get().expect("both are through with it");
        assert!(lease.touch() >= 1);
        lease.release();
        drop(group);
        ledger.settle(pool, 1);
    });
}
