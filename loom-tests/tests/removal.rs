//! Removal by token is exact: this connection, no other, once, and never used again.

mod common;

use common::{Conn, Handle, Ledger, builder, check, check_all, handle, pool_of, with_group};
use loom::thread;
use slabpool::{Pool, Token};

/// A pool with one connection, idle, its group and its token.
fn pool_with_token(ledger: &Ledger) -> (Pool<u8, Conn>, Handle, Token) {
    let pool = builder().build().unwrap();
    let group = handle(&pool, 1);
    let token = group.put(ledger.connection(0)).unwrap();
    (pool, group, token)
}

/// The getter may be faster, and then the lease is the last one.
#[test]
fn evict_against_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let other = with_group(&group, move |group| {
            assert!(group.pool().evict(token), "it is there until it is evicted");
            assert!(group.get().is_none(), "an evicted connection is not leased again");
        });
        if let Some(lease) = group.get() {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(group.status().idle, 0);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The doom handshake: either the release sees that the connection is doomed, or the
/// evictor sees that it is idle.
#[test]
fn evict_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, move |group| {
            assert!(group.pool().evict(token));
            assert!(group.get().is_none(), "an evicted connection is not leased again");
        });
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1, "closed by now, not at the next get");
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// As before, and a third thread gets it in between.
#[test]
fn evict_against_release_and_get() {
    check(1, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let lease = group.get().unwrap();
        let evictor = with_group(&group, move |group| {
            assert!(group.pool().evict(token));
        });
        let getter = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                lease.release();
            }
        });
        lease.touch();
        lease.release();
        evictor.join().unwrap();
        getter.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The lease ends by a close while it is being doomed.
#[test]
fn evict_against_close_of_the_lease() {
    check_all(|| {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, move |group| {
            group.pool().evict(token);
        });
        lease.touch();
        lease.close();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// Two evictions with one token: one connection goes, once.
#[test]
fn evict_against_evict() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let other = with_group(&group, move |group| usize::from(group.pool().evict(token)));
        let evicted = usize::from(pool.evict(token));
        assert_eq!(evicted + other.join().unwrap(), 1);
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A connection is taken, or leased: not both.
#[test]
fn take_against_get() {
    check_all(|| {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let other = with_group(&group, move |group| match group.pool().take(token) {
            Some(connection) => {
                connection.touch();
                1
            }
            None => 0,
        });
        let leased = match group.get() {
            Some(lease) => {
                lease.touch();
                lease.close();
                1
            }
            None => 0,
        };
        assert_eq!(leased + other.join().unwrap(), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// The seat of an evicted connection goes to one of another group. The old ticket,
/// which still lies in the old lane, leads nowhere.
#[test]
fn an_old_ticket_does_not_reach_the_next_occupant() {
    check(3, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(1).build().unwrap();
        let (group, next) = (handle(&pool, 1), handle(&pool, 2));
        group.put(ledger.connection(0)).unwrap();
        let connection = ledger.connection(1);
        let other = with_group(&next, move |next| {
            if let Err(rejected) = next.put(connection) {
                drop(rejected);
            }
        });
        if let Some(lease) = group.get() {
            assert_eq!(lease.number, 0, "connections of other groups are out of reach");
            lease.touch();
            lease.close();
        }
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1, "closed by its user, or to make room");
        assert!(group.get().is_none());
        drop((group, next));
        ledger.settle(pool, 2);
    });
}

/// An evictor with the token of a former occupant is slow. It neither evicts the next
/// one nor undoes that its doom is lifted by nobody.
#[test]
fn an_old_token_does_not_reach_the_next_occupant() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let lease = group.get().unwrap();
        let other = with_group(&group, move |group| {
            group.pool().evict(token);
        });
        lease.close();
        let lease = group.insert(ledger.connection(1)).unwrap();
        assert!(pool.evict(lease.token()));
        lease.touch();
        lease.release();
        assert_eq!(ledger.dropped(1), 1, "it was doomed");
        group.put(ledger.connection(2)).unwrap();
        other.join().unwrap();
        assert_eq!(ledger.dropped(2), 0, "nobody evicted this one");
        assert_eq!(group.get().expect("it is idle").number, 2);
        drop(group);
        ledger.settle(pool, 3);
    });
}

/// An idle neighbour is not hidden by an eviction above it.
#[test]
fn evict_hides_nothing_from_get() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let token = group.put(ledger.connection(1)).unwrap();
        let other = with_group(&group, move |group| assert!(group.pool().evict(token)));
        let lease = group.get().expect("one is idle");
        lease.touch();
        lease.release();
        other.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 1);
        drop(group);
        ledger.settle(pool, 2);
    });
}

/// A lease by predicate and an eviction want the same connection in the middle.
#[test]
fn get_if_against_evict() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                assert!(pool.evict(token));
                drop(pool);
            }
        });
        if let Some(lease) = group.get_if(|_| true) {
            lease.touch();
            lease.release();
        }
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1);
        drop(group);
        ledger.settle(pool, 1);
    });
}

/// A vacant seat has the incarnation with which its next connection begins. Who comes with the
/// token of the former one takes that, or nothing.
#[test]
fn take_against_a_removal_and_an_insertion() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group, token) = pool_with_token(&ledger);
        let other =
            with_group(&group, move |group| usize::from(group.pool().take(token).is_some()));
        let taken = usize::from(pool.take(token).is_some());
        group.put(ledger.connection(1)).unwrap();
        assert_eq!(taken + other.join().unwrap(), 1, "once");
        assert_eq!(ledger.dropped(0), 1);
        assert_eq!(group.status().idle, 1, "the other one has another token");
        drop(group);
        ledger.settle(pool, 2);
    });
}
