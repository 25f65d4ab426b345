//! Peers that are down: one trial at a time, and nobody is left behind who waits.

mod common;

#[path = "common/desk.rs"]
mod desk;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use common::{Handle, Ledger, check, pool_of};
use desk::*;
use slabpool::model::{Blow, Bounds, Desk, Limits, News, Place, Policy, Vitals};

/// May be tried again at once.
const OVER: Policy = Policy { backoff_min: 0, backoff_max: 0, down_after: 1 };
/// May not be tried again.
const FOR_EVER: Policy = Policy { backoff_min: u64::MAX, backoff_max: u64::MAX, down_after: 1 };

/// A peer that may have two connections, so that its health alone decides.
fn roomy_peer(group: &Handle) -> Rc<Peer> {
    let bounds = Bounds { connections: 2, connecting: 2, single_flight: false, waiters: 3 };
    let peer =
        Peer { desk: Desk::default(), group: Arc::clone(group), bounds: Limits::new(bounds) };
    peer.desk.word.enter();
    Rc::new(peer)
}

/// A connect that was granted fails, and the peer is down.
fn fail(peer: &Rc<Peer>, place: Place, grant: Grant, policy: Policy) {
    grant.spend();
    let strike = |vitals: &mut Vitals| {
        // A round of its own.
        vitals.strike(Blow { began: 1, now: 0, draw: 0 }, policy);
        Some("down")
    };
    let make = || Grant::of(peer);
    let _state = peer.desk.fail_and(Some(place.id), "refused", &peer.bounds, make, strike);
}

fn granted(peer: &Rc<Peer>) -> (Place, Grant) {
    let place = join(peer);
    match peer.desk.poll(place.id, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(News::Grant(grant)) => (place, grant),
        _ => panic!("it may connect"),
    }
}

/// A peer that is down.
fn downed_peer(group: &Handle, policy: Policy) -> Rc<Peer> {
    let peer = roomy_peer(group);
    let (place, grant) = granted(&peer);
    fail(&peer, place, grant, policy);
    leave(&peer, place);
    peer
}

/// Two come when it may be tried again: one of them tries. It fails, and both are told.
#[test]
fn two_callers_and_one_trial() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = downed_peer(&group, OVER);
        let other = spawn(&peer, |peer| sleep(&peer));
        let mut own = sleep(&peer);
        let mut other = other.join().unwrap();
        assert_eq!(peer.desk.word.load().connecting(), 1, "one trial");
        let tries = if grant_of(&own.first) { &mut own } else { &mut other };
        let Poll::Ready(News::Grant(grant)) = std::mem::replace(&mut tries.first, Poll::Pending)
        else {
            panic!("one of them may")
        };
        let place = tries.place;
        fail(&peer, place, grant, FOR_EVER);
        for sleeper in [own, other] {
            let told = peer.desk.poll(sleeper.place.id, &mut Context::from_waker(Waker::noop()));
            assert!(matches!(told, Poll::Ready(News::Outcome(Err("refused" | "down")))));
            leave(&peer, sleeper.place);
        }
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

fn grant_of(first: &Poll<News<Model>>) -> bool {
    matches!(first, Poll::Ready(News::Grant(_)))
}

/// The peer goes down while somebody comes to wait: he is told, or sees it himself.
#[test]
fn down_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = roomy_peer(&group);
        let (place, grant) = granted(&peer);
        let waiter = spawn(&peer, |peer| {
            let sleeper = sleep(&peer);
            (sleeper, peer.desk.refuses())
        });
        fail(&peer, place, grant, FOR_EVER);
        let (sleeper, refused) = waiter.join().unwrap();
        match sleeper.end(&peer) {
            Some(News::Outcome(Err("refused" | "down"))) => {}
            Some(News::Outcome(_) | News::Look | News::Stream(_)) => panic!("nothing was opened"),
            // It came first, and may connect.
            Some(News::Grant(_)) => {}
            None => assert!(refused, "forgotten"),
        }
        leave(&peer, place);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

/// The same beside another connect, which is not to be waited for.
#[test]
fn down_beside_another_connect_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = roomy_peer(&group);
        let (place, grant) = granted(&peer);
        let late = peer
            .desk
            .spare(&peer.bounds, |bounds| bounds, || Grant::of(&peer))
            .expect("there is room");
        let waiter = spawn(&peer, |peer| {
            let sleeper = sleep(&peer);
            (sleeper, peer.desk.refuses())
        });
        fail(&peer, place, grant, FOR_EVER);
        let (sleeper, refused) = waiter.join().unwrap();
        match sleeper.end(&peer) {
            Some(News::Outcome(Err("down"))) => {}
            Some(_) => panic!("nothing was opened, and there is no room"),
            None => assert!(refused, "forgotten"),
        }
        drop(late);
        leave(&peer, place);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

/// The trial succeeds while somebody comes: he may connect, or gets what was opened.
#[test]
fn a_trial_that_succeeds_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = downed_peer(&group, OVER);
        let (gone, grant) = granted(&peer);
        leave(&peer, gone);
        let waiter = spawn(&peer, |peer| sleep(&peer));
        grant.spend();
        let make = || Grant::of(&peer);
        if peer.desk.has_taker(gone.id) {
            let lease = group.insert_owned(ledger.connection(0)).unwrap();
            if let Err(lease) = peer.desk.give_new(lease, gone.id, &peer.bounds, make) {
                pass_on(&peer, lease);
            }
        } else {
            group.put(ledger.connection(0)).unwrap();
            peer.desk.shelved_new(&peer.bounds, make);
            if peer.desk.word.load().is_waiting() {
                serve(&peer);
            }
        }
        assert!(peer.desk.health().is_up());
        match waiter.join().unwrap().end(&peer) {
            Some(News::Grant(grant)) => drop(grant),
            news => release(&peer, leased(news)),
        }
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// A trial that is given up before it has begun is left to whoever waits.
#[test]
fn a_trial_that_is_given_up_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = downed_peer(&group, OVER);
        let (goes, grant) = granted(&peer);
        let waiter = spawn(&peer, |peer| sleep(&peer));
        drop(grant);
        leave(&peer, goes);
        let news = waiter.join().unwrap().end(&peer);
        assert!(matches!(news, Some(News::Grant(_))), "forgotten");
        drop(news);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

/// It is taken into service by hand while somebody waits who was refused a connect.
#[test]
fn resumed_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = downed_peer(&group, FOR_EVER);
        let waiter = spawn(&peer, |peer| {
            let sleeper = sleep(&peer);
            (sleeper, peer.desk.refuses())
        });
        peer.desk.recover(&peer.bounds, || Grant::of(&peer));
        let (sleeper, refused) = waiter.join().unwrap();
        let may = matches!(sleeper.end(&peer), Some(News::Grant(_)));
        assert!(may || refused, "forgotten");
        settle(peer, group, pool, &ledger, 0);
    });
}

/// A connect that nobody waits for fails while somebody comes to wait for it.
#[test]
fn a_spare_connect_that_fails_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = peer(&group, false);
        let grant = peer
            .desk
            .spare(&peer.bounds, |bounds| bounds, || Grant::of(&peer))
            .expect("there is room");
        let waiter = spawn(&peer, |peer| sleep(&peer));
        grant.spend();
        let make = || Grant::of(&peer);
        let _state = peer.desk.fail_and(None, "refused", &peer.bounds, make, |_| None);
        match waiter.join().unwrap().end(&peer) {
            Some(News::Outcome(Err("refused"))) | Some(News::Grant(_)) => {}
            Some(News::Outcome(_) | News::Look | News::Stream(_)) => panic!("nothing was opened"),
            None => panic!("forgotten"),
        }
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}
