//! After a drain nothing of the group is idle, whoever was inserting, putting, releasing
//! or looking; and no maintenance is needed for that.

mod common;

use common::{Conn, Handle, Ledger, builder, check, handle, pool_of, with_group};
use loom::thread;
use slabpool::model::permits;
use slabpool::{CloseReason, GroupSettings, Pool};

/// Nothing is idle, all that went was drained, and the rest was never taken.
fn account(pool: Pool<u8, Conn>, group: Handle, ledger: &Ledger, made: usize) {
    let (status, stats) = (pool.status(), pool.stats());
    assert_eq!((status.idle, status.leased), (0, 0));
    assert_eq!(stats.inserts, stats.closes[CloseReason::Drained]);
    assert_eq!(stats.inserts + stats.rejects, made as u64);
    assert_eq!(ledger.dropped_in_all(), made);
    assert!(group.get().is_none());
    drop(group);
    assert_eq!(pool.status().groups, 1, "the drain keeps it");
    pool.resume_group(&1);
    assert_eq!(pool.status().groups, 0);
    ledger.settle(pool, made);
}

/// Either the drain finds the connection idle, or the release finds the group draining.
#[test]
fn drain_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| {
            group.drain();
            assert!(group.get().is_none());
        });
        lease.touch();
        lease.release();
        other.join().unwrap();
        account(pool, group, &ledger, 1);
    });
}

/// A put is rejected, or undone.
#[test]
fn drain_against_put() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| group.drain());
        drop(group.put(ledger.connection(0)));
        other.join().unwrap();
        account(pool, group, &ledger, 1);
    });
}

/// A put and a drain by key, each of which may make the group.
#[test]
fn drain_against_put_into_a_new_group() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.drain_group(&1)
        });
        drop(pool.put(&1, ledger.connection(0)));
        other.join().unwrap();
        let group = handle(&pool, 1);
        account(pool, group, &ledger, 1);
    });
}

/// A connection that was inserted while the group was drained is not released into it.
#[test]
fn drain_against_insert_and_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| group.drain());
        if let Ok(lease) = group.insert(ledger.connection(0)) {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        account(pool, group, &ledger, 1);
    });
}

/// Whoever gets a connection before it is drained gives it back in vain.
#[test]
fn drain_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let other = with_group(&group, |group| group.drain());
        if let Some(lease) = group.get() {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        account(pool, group, &ledger, 2);
    });
}

/// As before, with a connection that is leased in place, whose ticket stays behind.
#[test]
fn drain_against_get_if() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| group.drain());
        if let Some(lease) = group.get_if(|_| true) {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        account(pool, group, &ledger, 1);
    });
}

/// What `retain` holds meanwhile is closed when that is done.
#[test]
fn drain_against_retain() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| {
            group.pool().retain(|_, _, connection| {
                connection.touch();
                true
            });
        });
        group.drain();
        other.join().unwrap();
        account(pool, group, &ledger, 1);
    });
}

/// As before, and a getter removes the ticket.
#[test]
fn drain_against_retain_and_get() {
    check(1, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let retainer = with_group(&group, |group| {
            group.pool().retain(|_, _, connection| {
                connection.touch();
                true
            });
        });
        let getter = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.close();
            }
        });
        group.drain();
        retainer.join().unwrap();
        getter.join().unwrap();
        assert_eq!((pool.status().idle, ledger.dropped(0)), (0, 1));
        assert_eq!(pool.stats().closes.total(), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A connection from before a drain that is over is not used again; one that was put
/// after it is.
#[test]
fn drain_and_resume_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| {
            group.drain();
            group.resume();
        });
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(pool.stats().closes[CloseReason::Drained], 1);
        group.put(ledger.connection(1)).expect("it takes connections again");
        assert_eq!(group.get().expect("it is of now").touch(), 0);
        drop(group);
        assert_eq!(pool.status().groups, 0);
        ledger.settle(pool, 2);
    });
}

/// Whether it came before or after, what was put is found by get or not there.
#[test]
fn drain_and_resume_against_put() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| {
            group.drain();
            group.resume();
        });
        drop(group.put(ledger.connection(0)));
        other.join().unwrap();
        let idle = pool.status().idle;
        assert_eq!(idle, 1 - ledger.dropped(0));
        assert_eq!(group.get().is_some(), idle == 1);
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The one handle that the threads share keeps the group, whoever ends the drain.
#[test]
fn drain_against_resume() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| group.drain());
        group.resume();
        other.join().unwrap();
        let draining = group.is_draining();
        drop(group);
        assert_eq!(pool.status().groups, usize::from(draining));
        pool.resume_group(&1);
        assert_eq!(pool.status().groups, 0);
        ledger.settle(pool, 0);
    });
}

/// Two drains leave one member in the group.
#[test]
fn drain_against_drain() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let other = with_group(&group, |group| group.drain());
        group.drain();
        other.join().unwrap();
        account(pool, group, &ledger, 1);
    });
}

/// As with drains: who configures says who keeps the group.
#[test]
fn configure_against_configure() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let other = with_group(&group, |group| {
            group.configure(GroupSettings::new().max_idle(2)).unwrap();
        });
        group.configure(GroupSettings::new()).unwrap();
        other.join().unwrap();
        group.put(ledger.connection(0)).expect("the handle keeps the group");
        assert_eq!(pool.status().groups, 1);
        assert!(pool.get(&1).is_some(), "the key leads to the same group");
        group.configure(GroupSettings::new()).unwrap();
        drop(group);
        assert_eq!(pool.status().groups, 0);
        ledger.settle(pool, 1);
    });
}

/// The last connection of a drained group goes while the drain is ended.
#[test]
fn resume_against_the_last_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = pool.get(&1).unwrap();
        group.drain();
        drop(group);
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.resume_group(&1)
        });
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(pool.status().groups, 0);
        pool.put(&1, ledger.connection(1)).unwrap();
        assert!(pool.get(&1).is_some());
        ledger.settle(pool, 2);
    });
}

/// What a release makes idle while its group is invalidated, the sweep finds that the
/// invalidation asks for, or the release removes it.
#[test]
fn invalidate_against_release_and_sweep() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, |group| {
            group.invalidate();
            group.pool().maintain();
        });
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(pool.status().idle, 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// When all permits of a closed pool are free, none is given out any more, and what
/// became of the connections is seen.
#[test]
fn an_empty_closed_pool_stays_empty() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let connection = ledger.connection(0);
        let other = with_group(&group, |group| {
            if let Ok(lease) = group.insert(connection) {
                lease.touch();
                lease.close();
            }
        });
        pool.close();
        let empty = permits(&pool) == 0;
        let stats = pool.stats();
        assert!(!empty || stats.inserts == stats.closes.total());
        other.join().unwrap();
        assert!(!empty || stats.inserts == pool.stats().inserts);
        assert_eq!((permits(&pool), ledger.dropped(0)), (0, 1));
        drop(group);
        ledger.settle(pool, 1);
    });
}
