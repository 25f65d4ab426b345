//! A group that goes takes no connection with it.

mod common;

use common::{Ledger, builder, check};
use loom::thread;

/// The last connection of a group is closed while another is put in. Whichever group
/// that finds, it can be found there.
#[test]
fn a_put_survives_the_end_of_its_group() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        pool.put(&1, ledger.connection(0)).unwrap();
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                if let Some(lease) = pool.get(&1) {
                    lease.touch();
                    lease.close();
                }
            }
        });
        pool.put(&1, ledger.connection(1)).unwrap();
        other.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 1);
        let lease = pool.get(&1).expect("one of two is idle");
        lease.touch();
        lease.release();
        assert_eq!(pool.status().groups, 1);
        ledger.settle(pool, 2);
    });
}

/// Two threads make the same group. Both use the one that won.
#[test]
fn two_puts_make_one_group() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let connection = ledger.connection(0);
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.put(&1, connection).unwrap();
            }
        });
        pool.put(&1, ledger.connection(1)).unwrap();
        other.join().unwrap();
        assert_eq!(pool.status().groups, 1);
        assert_eq!(pool.group_status(&1).idle, 2);
        ledger.settle(pool, 2);
    });
}

/// The last two connections of a group leave at once: the group is retired once.
#[test]
fn the_last_of_two_retires_the_group() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        pool.put(&1, ledger.connection(0)).unwrap();
        pool.put(&1, ledger.connection(1)).unwrap();
        let close = |pool: &slabpool::Pool<u8, common::Conn>| {
            pool.get(&1).expect("one for each").close();
        };
        let other = thread::spawn({
            let pool = pool.clone();
            move || close(&pool)
        });
        close(&pool);
        other.join().unwrap();
        assert_eq!(pool.status().groups, 0);
        ledger.settle(pool, 2);
    });
}

/// A handle goes while a connection is put in by key.
#[test]
fn a_put_survives_the_end_of_a_handle() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let group = pool.group(&1);
        let other = thread::spawn(move || drop(group));
        pool.put(&1, ledger.connection(0)).unwrap();
        other.join().unwrap();
        assert!(pool.get(&1).is_some(), "it was put in");
        assert_eq!(ledger.dropped(0), 1, "a lease that is dropped closes it");
        assert_eq!(pool.status().groups, 0);
        ledger.settle(pool, 1);
    });
}

/// Two threads put under keys of their own, beside a third: both lengthen the same list.
#[test]
fn two_keys_come_at_once() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        pool.put(&1, ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.put(&2, connection).unwrap();
                assert!(pool.get(&2).map(|lease| lease.release()).is_some(), "it was put in");
            }
        });
        pool.put(&3, ledger.connection(2)).unwrap();
        assert!(pool.get(&3).map(|lease| lease.release()).is_some(), "it was put in");
        other.join().unwrap();
        assert_eq!(pool.status().groups, 3);
        for key in 1..=3 {
            assert_eq!(pool.group_status(&key).idle, 1);
        }
        ledger.settle(pool, 3);
    });
}

/// A group is found while another one comes.
#[test]
fn a_group_is_found_while_another_comes() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        pool.put(&1, ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.put(&2, connection).unwrap();
            }
        });
        let lease = pool.get(&1).expect("it is there all the time");
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(pool.group_status(&1).idle, 1);
        assert_eq!(pool.group_status(&2).idle, 1);
        ledger.settle(pool, 2);
    });
}

/// A group goes, and comes back, while another one comes.
#[test]
fn a_group_that_goes_while_another_comes_is_gone() {
    check(1, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        pool.put(&1, ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.put(&2, connection).unwrap();
            }
        });
        pool.get(&1).expect("it is idle").close();
        assert!(pool.get(&1).is_none(), "it was closed");
        pool.put(&1, ledger.connection(2)).unwrap();
        assert!(pool.get(&1).map(|lease| lease.release()).is_some(), "it was put in");
        other.join().unwrap();
        assert_eq!(pool.status().groups, 2);
        assert_eq!(pool.group_status(&1).idle, 1);
        assert_eq!(pool.group_status(&2).idle, 1);
        ledger.settle(pool, 3);
    });
}
