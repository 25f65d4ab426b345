//! The bound holds at each moment, and room is made by closing what is idle.

mod common;

use std::sync::Arc;

use common::{Conn, Ledger, builder, check, handle, with_group};
use loom::sync::atomic::{AtomicUsize, Ordering};
use slabpool::Group;

/// Leases a new connection and counts it while it is in the pool.
fn insert(group: &Group<u8, Conn>, connection: Conn, inside: &AtomicUsize) -> usize {
    match group.insert(connection) {
        Ok(lease) => {
            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "the bound is one");
            lease.touch();
            inside.fetch_sub(1, Ordering::Relaxed);
            lease.close();
            1
        }
        Err(rejected) => {
            drop(rejected);
            0
        }
    }
}

/// One place, two insertions.
#[test]
fn two_insertions_into_one_place() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let group = handle(&pool, 1);
        let inside = Arc::new(AtomicUsize::new(0));
        let other = {
            let (connection, inside) = (ledger.connection(0), Arc::clone(&inside));
            with_group(&group, move |group| insert(&group, connection, &inside))
        };
        let own = insert(&group, ledger.connection(1), &inside);
        assert!(own + other.join().unwrap() >= 1, "there was room for one");
        assert_eq!(pool.status().leased, 0);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// One place, taken by an idle connection, and two insertions: the permit of the one
/// that goes passes to one of them.
#[test]
fn two_insertions_evict_for_one_place() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let inside = Arc::new(AtomicUsize::new(0));
        let other = {
            let (connection, inside) = (ledger.connection(1), Arc::clone(&inside));
            with_group(&group, move |group| insert(&group, connection, &inside))
        };
        let own = insert(&group, ledger.connection(2), &inside);
        assert!(own + other.join().unwrap() >= 1, "there was one to evict");
        assert_eq!(pool.status().leased, 0);
        drop(group);
        ledger.settle(pool, 3);
    });
}

/// The victim of an insertion is being leased. Either the insertion closes it first, or
/// finds no room.
#[test]
fn eviction_at_the_bound_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let (group, full) = (handle(&pool, 1), handle(&pool, 2));
        group.put(ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let other = with_group(&full, move |full| full.put(connection).is_ok());
        let lease = group.get_owned();
        if let Some(lease) = &lease {
            lease.touch();
        }
        let was_put = other.join().unwrap();
        assert_ne!(was_put, lease.is_some(), "one of them is in the pool");
        if let Some(lease) = lease {
            lease.release();
        }
        assert_eq!(pool.status().idle, 1);
        assert_eq!(ledger.dropped_in_all(), 1);
        drop((group, full));
        ledger.settle(pool, 2);
    });
}

/// The place that a close frees is there for an insertion that comes later.
#[test]
fn a_closed_lease_leaves_its_place() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let other = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.close();
            }
        });
        drop(group.put(ledger.connection(1)));
        other.join().unwrap();
        group.put(ledger.connection(2)).expect("there is room, or something to evict");
        assert_eq!(pool.status().idle, 1);
        drop(group);
        ledger.settle(pool, 3);
    });
}
