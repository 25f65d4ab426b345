//! The first connect to a peer, where one runs at a time while nothing is open.

mod common;

#[path = "common/desk.rs"]
mod desk;
#[path = "common/nudged.rs"]
mod nudged;

use std::rc::Rc;
use std::sync::Arc;

use common::{Ledger, check, pool_of};
use desk::{Grant, Peer, free, leased, pass_on, settle, spawn};
use loom::sync::atomic::{AtomicUsize, Ordering};
use nudged::Waiter;
use slabpool::model::{Bounds, Desk, Joins, Limits, News};

/// Two callers of a cold peer that may connect one at a time: there is one connect, and when
/// it has come to its end the other one is served or told as well.
#[test]
fn the_first_connect() {
    for fails in [false, true] {
        check(3, move || {
            let ledger = Ledger::default();
            let (pool, group) = pool_of(0, &ledger);
            let bounds = Bounds { connections: 2, connecting: 2, single_flight: true, waiters: 2 };
            let peer = Peer {
                desk: Desk::default(),
                group: Arc::clone(&group),
                bounds: Limits::new(bounds),
            };
            peer.desk.word.enter();
            let peer = Rc::new(peer);
            let mut first = Waiter::join(&peer);
            let Some(News::Grant(grant)) = first.got.take() else { panic!("nothing is there") };
            // It starts the connect, and sleeps.
            first.poll(&peer);
            let by = first.place.id;
            let other = spawn(&peer, |peer| Waiter::join(&peer));
            assert_eq!(peer.desk.word.load().connecting(), 1);
            grant.spend();
            let make = || Grant::of(&peer);
            if fails {
                let _state = peer.desk.fail(by, "refused", &peer.bounds, make);
                let told = other.join().unwrap().end(&peer);
                // It came before the end of the connect, or after it.
                assert!(matches!(told, Some(News::Outcome(Err("refused"))) | Some(News::Grant(_))));
                drop(told);
                assert!(matches!(first.end(&peer), Some(News::Outcome(Err("refused")))));
                settle(peer, group, pool, &ledger, 0);
            } else {
                let lease = group.insert_owned(ledger.connection(0)).unwrap();
                if let Err(lease) = peer.desk.give_new(lease, by, &peer.bounds, make) {
                    pass_on(&peer, lease);
                }
                let other = other.join().unwrap();
                let lease = leased(first.end(&peer));
                let granted = other.end(&peer);
                assert!(matches!(granted, Some(News::Grant(_))), "one is open, another may be");
                drop(granted);
                lease.release();
                free(&peer, false);
                settle(peer, group, pool, &ledger, 1);
            }
        });
    }
}

/// However many try, one connect runs while nothing is open.
#[test]
fn the_word_while_nothing_is_open() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let bounds = Bounds { connections: 3, connecting: 3, single_flight: true, waiters: 2 };
        let peer =
            Peer { desk: Desk::default(), group: Arc::clone(&group), bounds: Limits::new(bounds) };
        peer.desk.word.enter();
        let peer = Rc::new(peer);
        let running = Arc::new(AtomicUsize::new(0));
        let attempt = |peer: &Peer, running: &AtomicUsize| {
            if !peer.desk.word.reserve(peer.bounds.load()) {
                return;
            }
            // A step of the model, so that others come in between.
            let before = running.fetch_add(1, Ordering::Relaxed);
            assert_eq!(before, 0, "each fails, so nothing is open");
            running.fetch_sub(1, Ordering::Relaxed);
            let _state = peer.desk.word.free(true);
        };
        let others = [(); 2].map(|()| {
            let running = Arc::clone(&running);
            spawn(&peer, move |peer| attempt(&peer, &running))
        });
        attempt(&peer, &running);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

/// Its own connect, begun while nothing is open, keeps others from beginning one.
#[test]
fn the_first_connect_apart() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let bounds = Bounds { connections: 2, connecting: 2, single_flight: true, waiters: 2 };
        let peer =
            Peer { desk: Desk::default(), group: Arc::clone(&group), bounds: Limits::new(bounds) };
        peer.desk.word.enter();
        let peer = Rc::new(peer);
        let come = |peer: &Rc<Peer>| {
            let place = peer.desk.join((), Joins::Apart, &peer.bounds, || Grant::of(peer)).unwrap();
            let mut waiter = Waiter { place, got: None, bell: Arc::default() };
            waiter.poll(peer);
            waiter
        };
        let other = spawn(&peer, move |peer| come(&peer));
        let own = come(&peer);
        let other = other.join().unwrap();
        let granted = |waiter: &Waiter| matches!(waiter.got, Some(News::Grant(_)));
        assert!(granted(&own) != granted(&other), "one of them");
        assert_eq!(peer.desk.word.load().connections(), 1);
        let (mut begins, waits) = if granted(&own) { (own, other) } else { (other, own) };
        let Some(News::Grant(grant)) = begins.got.take() else { unreachable!() };
        // Not used: the other one may.
        drop(grant);
        let granted = waits.end(&peer);
        assert!(matches!(granted, Some(News::Grant(_))));
        drop(begins.leave(&peer));
        drop(granted);
        settle(peer, group, pool, &ledger, 0);
    });
}
