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
    check(1, || {
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

fn set_capacity(pool: &slabpool::Pool<u8, Conn>, capacity: usize) {
    pool.reconfigure(|settings| settings.capacity = capacity).unwrap();
}

/// The capacity is lowered to one while connections are inserted: who comes in then
/// comes in alone.
#[test]
fn no_insertion_exceeds_a_lowered_capacity() {
    check(1, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(2).build().unwrap();
        let group = handle(&pool, 1);
        let inside = Arc::new(AtomicUsize::new(0));
        let other = {
            let (connection, inside) = (ledger.connection(0), Arc::clone(&inside));
            with_group(&group, move |group| insert(&group, connection, &inside))
        };
        set_capacity(&pool, 1);
        let own = insert(&group, ledger.connection(1), &inside);
        assert!(own + other.join().unwrap() >= 1, "there was room for one");
        assert_eq!((pool.status().leased, pool.status().capacity), (0, 1));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// The capacity is lowered while a connection is inserted. In whatever order, the idle
/// one goes, once, and the pool ends within its bound.
#[test]
fn shrink_against_insert() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(2).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let other = with_group(&group, move |group| {
            group.insert_owned(connection).expect("there is room, or one to evict")
        });
        set_capacity(&pool, 1);
        let lease = other.join().unwrap();
        lease.touch();
        assert_eq!((pool.status().idle, pool.status().leased), (0, 1));
        assert_eq!(ledger.dropped(0), 1);
        lease.release();
        assert_eq!((pool.maintain(), pool.status().idle), (0, 1));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// As before, in a full pool: the permit of the victim passes on only within the bound.
#[test]
fn shrink_against_eviction() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(2).build().unwrap();
        let group = handle(&pool, 1);
        let kept = group.insert_owned(ledger.connection(0)).unwrap();
        group.put(ledger.connection(1)).unwrap();
        let connection = ledger.connection(2);
        let other = with_group(&group, move |group| group.insert_owned(connection).ok());
        set_capacity(&pool, 1);
        let inserted = other.join().unwrap();
        // It came in before, and then there is one too many, or not at all.
        let leased = 1 + usize::from(inserted.is_some());
        assert_eq!((pool.status().idle, pool.status().leased), (0, leased));
        drop(inserted);
        assert_eq!(ledger.dropped_in_all(), 2);
        kept.release();
        assert_eq!((pool.maintain(), pool.status().idle), (0, 1));
        drop(group);
        ledger.settle(pool, 3);
    });
}

/// The capacity is lowered while a connection is released: it is closed now, or by
/// maintenance.
#[test]
fn shrink_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(2).build().unwrap();
        let group = handle(&pool, 1);
        let kept = group.insert_owned(ledger.connection(0)).unwrap();
        let released = group.insert_owned(ledger.connection(1)).unwrap();
        let other = loom::thread::spawn(move || {
            released.touch();
            released.release();
        });
        set_capacity(&pool, 1);
        other.join().unwrap();
        let idle = pool.status().idle;
        assert_eq!((pool.maintain(), pool.status().idle), (idle, 0));
        assert_eq!((ledger.dropped(0), ledger.dropped(1)), (0, 1));
        kept.touch();
        kept.release();
        assert_eq!((pool.maintain(), pool.status().idle), (0, 1));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// The capacity is lowered to nothing while a connection is leased: it is closed now, or
/// when it was released.
#[test]
fn shrink_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let group = handle(&pool, 1);
        group.put(ledger.connection(0)).unwrap();
        let other = with_group(&group, |group| match group.get() {
            Some(lease) => {
                lease.touch();
                lease.release();
                true
            }
            None => false,
        });
        set_capacity(&pool, 0);
        let was_leased = other.join().unwrap();
        let idle = pool.status().idle;
        assert!(idle == 0 || was_leased);
        assert_eq!((pool.maintain(), pool.status().idle), (idle, 0));
        assert_eq!(ledger.dropped(0), 1);
        drop(group.put(ledger.connection(1)).expect_err("nothing is pooled any more"));
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// Two threads close what is too many: no more than that.
#[test]
fn two_who_shrink_close_what_is_too_many() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(3).build().unwrap();
        let group = handle(&pool, 1);
        for number in 0..3 {
            group.put(ledger.connection(number)).unwrap();
        }
        let other = loom::thread::spawn({
            let pool = pool.clone();
            move || pool.maintain()
        });
        set_capacity(&pool, 2);
        other.join().unwrap();
        assert_eq!((pool.status().idle, ledger.dropped_in_all()), (2, 1));
        drop(group);
        ledger.settle(pool, 3);
    });
}

/// A pool holds one too many, and one is idle: that makes no room, whether an insertion
/// or maintenance closes it.
#[test]
fn no_permit_passes_on_above_the_capacity() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(2).build().unwrap();
        let group = handle(&pool, 1);
        let kept = group.insert_owned(ledger.connection(0)).unwrap();
        let released = group.insert_owned(ledger.connection(1)).unwrap();
        set_capacity(&pool, 1);
        released.release();
        let connection = ledger.connection(2);
        let other = with_group(&group, move |group| group.insert_owned(connection).is_err());
        pool.maintain();
        assert!(other.join().unwrap(), "the one place is taken");
        assert_eq!((pool.status().idle, pool.status().leased), (0, 1));
        assert_eq!(ledger.dropped_in_all(), 2);
        kept.touch();
        kept.release();
        drop(group);
        ledger.settle(pool, 3);
    });
}
