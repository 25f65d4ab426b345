//! Limits of a managed pool that change while it is in use: nobody sleeps whom a raised one
//! lets connect; a lowered one gives out no more, and closes what is idle above it, and no
//! more than that.

mod common;

#[path = "common/desk.rs"]
mod desk;

use std::rc::Rc;

use common::{Ledger, check, pool_of};
use desk::*;
use slabpool::model::{Bounds, Joins, News, looks};

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
