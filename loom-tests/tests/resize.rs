//! Limits of a managed pool that change while it is in use: nobody sleeps whom a raised one
//! lets connect; a lowered one gives out no more, and closes what is idle above it, and no
//! more than that.

mod common;

#[path = "common/desk.rs"]
mod desk;

use std::rc::Rc;

use common::{Ledger, check, pool_of};
use desk::*;
use slabpool::model::{Bounds, Joins, News, Own, looks};

fn bounds(connections: u32) -> Bounds {
    Bounds { connections, connecting: 1, single_flight: false, waiters: 2 }
}

/// As `Registry::resized`.
fn resize(peer: &Rc<Peer>, connections: u32) {
    peer.bounds.store(bounds(connections));
    peer.desk.freed(&peer.bounds, || Grant::of(peer));
    let _any = looks(&peer.group);
    shed(peer);
}

fn shed(peer: &Rc<Peer>) {
    peer.desk.shed(
        &peer.bounds,
        || peer.group.get_owned(),
        |lease| {
            lease.close();
            free(peer, false);
        },
    );
}

/// As a release of the managed pool.
fn release_and_look(peer: &Rc<Peer>, lease: slabpool::PooledOwned<u8, common::Conn>) {
    lease.touch();
    lease.release();
    if peer.desk.word.load().is_wanted(peer.bounds.connections()) {
        shed(peer);
        serve(peer);
    }
}

/// The limit is raised while somebody comes to wait: he may connect.
#[test]
fn raised_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        resize(&peer, 2);
        let news = waiter.join().unwrap().end(&peer);
        assert!(matches!(news, Some(News::Grant(_))), "forgotten");
        drop(news);
        lease.close();
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The limit is raised while a connection is closed and somebody waits who may connect, and
/// another one comes: both may.
#[test]
fn raised_against_close() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        peer.bounds.store(Bounds { connecting: 2, ..bounds(1) });
        let lease = group.get_owned().unwrap();
        let first = sleep(&peer);
        let second = spawn(&peer, |peer| sleep(&peer));
        let closer = spawn(&peer, move |peer| {
            lease.close();
            free(&peer, false);
        });
        peer.bounds.store(Bounds { connecting: 2, ..bounds(2) });
        peer.desk.freed(&peer.bounds, || Grant::of(&peer));
        closer.join().unwrap();
        let second = second.join().unwrap();
        assert_eq!(peer.desk.word.load().connecting(), 2);
        let (first, second) = (first.end(&peer), second.end(&peer));
        assert!(matches!((&first, &second), (Some(News::Grant(_)), Some(News::Grant(_)))));
        drop((first, second));
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The limit is lowered while somebody comes who would connect: if he may, it was before.
#[test]
fn lowered_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        peer.bounds.store(bounds(2));
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| {
            let join = || Grant::of(&peer);
            peer.desk.join((), Joins::Wanting, &peer.bounds, join).expect("two may wait")
        });
        resize(&peer, 1);
        let after = peer.desk.word.load().connections();
        let place = waiter.join().unwrap();
        assert_eq!(peer.desk.word.load().connections(), after, "none is permitted any more");
        leave(&peer, place);
        lease.close();
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The limit is lowered while connections are released: one is left, the others are closed,
/// by whoever sees them.
#[test]
fn lowered_against_release() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer(&group, true);
        peer.bounds.store(bounds(2));
        assert!(peer.desk.word.reserve(bounds(2)));
        peer.desk.word.opened();
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let other = spawn(&peer, move |peer| release_and_look(&peer, a));
        let third = spawn(&peer, move |peer| release_and_look(&peer, b));
        resize(&peer, 1);
        other.join().unwrap();
        third.join().unwrap();
        assert_eq!(peer.desk.word.load().connections(), 1);
        assert!(looks(&group), "one may stay");
        free(&peer, false);
        settle(peer, group, pool, &ledger, 2);
    });
}

/// The limits of the pool change, twice, while a peer takes up a desk, with one of its own: in
/// the end the desk has the last ones, but for that.
#[test]
fn the_last_limits_of_the_pool_hold_at_the_desk() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let own = Own { waiters: Some(7), ..Own::default() };
        peer.desk.take_up(1, Some(Box::new(own)), &peer.bounds);
        // One after the other, as by `Engine::reconfigure_and`; what follows that, not.
        let turn = Rc::new(loom::sync::Mutex::new(2));
        let next = {
            let turn = Rc::clone(&turn);
            move |peer: &Rc<Peer>| {
                let mut turn = turn.lock().unwrap();
                *turn += 1;
                peer.bounds.store(bounds(*turn));
                drop(turn);
                peer.desk.relimit(&peer.bounds);
            }
        };
        let other = spawn(&peer, {
            let next = next.clone();
            move |peer| next(&peer)
        });
        next(&peer);
        other.join().unwrap();
        assert_eq!(peer.desk.limits.load(), Bounds { waiters: 7, ..bounds(4) });
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// So it is with a release that looks whether its peer has too many: it sees a limit that was
/// lowered before the heads were raised, or is seen by whoever has lowered it.
#[test]
fn lowered_at_the_desk_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer(&group, true);
        peer.bounds.store(bounds(2));
        peer.desk.take_up(1, None, &peer.bounds);
        assert!(peer.desk.word.reserve(bounds(2)));
        peer.desk.word.opened();
        let shed = |peer: &Rc<Peer>| {
            let close = |lease: slabpool::PooledOwned<u8, common::Conn>| {
                lease.close();
                free(peer, false);
            };
            peer.desk.shed(&peer.desk.limits, || peer.group.get_owned(), close);
        };
        let (lease, stays) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let releaser = spawn(&peer, move |peer| {
            lease.touch();
            lease.release();
            if peer.desk.word.load().is_wanted(peer.desk.limits.connections()) {
                shed(&peer);
            }
        });
        peer.bounds.store(bounds(1));
        peer.desk.relimit(&peer.bounds);
        let _any = looks(&peer.group);
        shed(&peer);
        releaser.join().unwrap();
        assert_eq!(peer.desk.word.load().connections(), 1, "the other one is leased");
        stays.close();
        free(&peer, false);
        settle(peer, group, pool, &ledger, 2);
    });
}
