//! After a close nothing is idle, whoever was releasing or inserting; what is cleared
//! or invalidated is cleared or invalidated once.

mod common;

use common::{Ledger, builder, check, check_all, pool_of, with_group};
use loom::thread;

/// Either the close finds the connection idle, or the release finds the pool closed.
#[test]
fn close_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| group.pool().close());
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert!(group.get().is_none());
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A put into a group that exists finds the pool closed, or is undone.
#[test]
fn close_against_put() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| group.pool().close());
        drop(group.put(ledger.connection(0)));
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(pool.status().idle, 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A put makes a group which the close may not find in the directory.
#[test]
fn close_against_put_into_a_new_group() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.close()
        });
        drop(pool.put(&1, ledger.connection(0)));
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(pool.status().idle, 0);
        ledger.settle(pool, 1);
    });
}

/// A connection that was inserted while the pool was closed is not released into it.
#[test]
fn close_against_insert_and_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| group.pool().close());
        if let Ok(lease) = group.insert(ledger.connection(0)) {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(pool.status().idle, 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// One is idle, one is released, a third thread gets one of them.
#[test]
fn close_against_release_and_get() {
    check(1, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let lease = group.get().unwrap();
        let closer = with_group(&group, |group| group.pool().close());
        let getter = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.release();
            }
        });
        lease.touch();
        lease.release();
        closer.join().unwrap();
        getter.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A clear takes what is idle, and loses nothing.
#[test]
fn clear_against_release() {
    check_all(|| {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| group.clear());
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1, "it was idle all the while");
        assert_eq!(group.status().idle, 1 - ledger.dropped(1));
        assert_eq!(group.get().is_some(), ledger.dropped(1) == 0);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// Maintenance that runs while the pool is invalidated, or the next one, closes what is
/// idle.
#[test]
fn invalidate_against_maintain() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        pool.invalidate();
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.maintain();
            }
        });
        // Perhaps the maintenance above has closed the first by now.
        group.put(ledger.connection(1)).unwrap();
        pool.invalidate();
        other.join().unwrap();
        pool.maintain();
        assert_eq!(ledger.dropped_in_all(), 2);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A get after an invalidation finds nothing.
#[test]
fn invalidate_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| {
            group.invalidate();
            assert!(group.get().is_none());
        });
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert!(group.get().is_none());
        drop(group);
        ledger.settle(pool, 1);
    });
}
