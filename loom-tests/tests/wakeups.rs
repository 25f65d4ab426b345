//! Wake-ups without hand-over (barging): who is nudged looks for itself, and no idle
//! connection is left beside somebody who sleeps. And the first connect to a peer.

mod common;

#[path = "common/desk.rs"]
mod desk;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use common::{Conn, Handle, Ledger, check, check_all, pool_of};
use desk::{Bell, Grant, Model, Peer, free, join, leased, pass_on, peer, serve, settle, spawn};
use slabpool::PooledOwned;
use slabpool::model::{
    BYPASS_MAX, Bounds, Desk, Joins, Limits, News, Place, Turn, looks, may_be_idle,
};

type Lease = PooledOwned<u8, Conn>;

/// A peer that has two connections, and may have no more.
fn peer_of_two(group: &Handle) -> Rc<Peer> {
    let bounds = Bounds { connections: 2, connecting: 2, single_flight: false, waiters: 2 };
    let peer =
        Peer { desk: Desk::default(), group: Arc::clone(group), bounds: Limits::new(bounds) };
    peer.desk.word.enter();
    for _ in 0..2 {
        assert!(peer.desk.word.reserve(bounds));
        peer.desk.word.opened();
    }
    Rc::new(peer)
}

/// As `Registry::tell`.
fn tell(peer: &Peer) {
    if !peer.desk.word.load().is_waiting() {
        return;
    }
    if peer.desk.turn.is_spent() { serve(peer) } else { peer.desk.nudge() }
}

fn release(peer: &Peer, lease: Lease) {
    lease.touch();
    lease.release();
    tell(peer);
}

/// As `Waiter::look`.
fn look(peer: &Peer, place: Place) -> bool {
    if !looks(&peer.group) {
        return false;
    }
    let Some(lease) = peer.group.get_owned() else { return false };
    if let Err(lease) = peer.desk.take(place.id, lease) {
        pass_on(peer, lease);
    }
    if may_be_idle(&peer.group) && peer.desk.word.load().is_waiting() {
        peer.desk.nudge();
    }
    true
}

/// A newcomer that takes what it finds if it may, and leaves it to the first if not.
fn barge(peer: &Peer) {
    let Some(lease) = peer.group.get_owned() else { return };
    if peer.desk.word.load().is_waiting() && !peer.desk.turn.pass() {
        return pass_on(peer, lease);
    }
    release(peer, lease);
}

/// One who waits, and is awake only if it was woken.
struct Waiter {
    place: Place,
    got: Option<News<Model>>,
    bell: Arc<Bell>,
}

impl Waiter {
    fn join(peer: &Rc<Peer>) -> Self {
        let mut waiter = Self { place: join(peer), got: None, bell: Arc::default() };
        waiter.poll(peer);
        waiter
    }

    /// As `Waiter::outcome`.
    fn poll(&mut self, peer: &Peer) {
        if self.got.is_some() {
            return;
        }
        // A bell for each time that it falls asleep.
        self.bell = Arc::default();
        let waker = Waker::from(Arc::clone(&self.bell));
        loop {
            match peer.desk.poll(self.place.id, &mut Context::from_waker(&waker)) {
                Poll::Ready(News::Look) => {
                    if !look(peer, self.place) {
                        return;
                    }
                }
                Poll::Ready(news) => {
                    self.got = Some(news);
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    /// Runs as long as somebody wakes it.
    fn run(&mut self, peer: &Peer) {
        while self.got.is_none() && self.bell.0.load(Ordering::Relaxed) > 0 {
            self.poll(peer);
        }
    }

    fn leave(mut self, peer: &Peer) -> Option<News<Model>> {
        desk::leave(peer, self.place);
        self.got.take()
    }

    /// What it has got, now that nobody else does anything.
    fn end(mut self, peer: &Peer) -> Option<News<Model>> {
        self.run(peer);
        self.leave(peer)
    }
}

/// A connection that is released while somebody comes to wait, or looks in vain, is his.
#[test]
fn nudge_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| Waiter::join(&peer));
        release(&peer, lease);
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// A newcomer takes it before whoever was nudged: that one falls asleep again, and is nudged
/// when the newcomer is done.
#[test]
fn nudge_against_take() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let mut waiter = Waiter::join(&peer);
        let newcomer = spawn(&peer, |peer| barge(&peer));
        let releaser = spawn(&peer, move |peer| release(&peer, lease));
        waiter.run(&peer);
        newcomer.join().unwrap();
        releaser.join().unwrap();
        let lease = leased(waiter.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// ... also if that comes just while it looks in vain.
#[test]
fn a_look_in_vain_against_release() {
    check_all(|| {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let mut waiter = Waiter::join(&peer);
        release(&peer, lease);
        // A newcomer has it.
        let lease = group.get_owned().unwrap();
        assert!(peer.desk.turn.pass());
        let newcomer = spawn(&peer, move |peer| release(&peer, lease));
        waiter.run(&peer);
        newcomer.join().unwrap();
        let lease = leased(waiter.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Whoever goes away passes its nudge on.
#[test]
fn nudge_against_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let goes = Waiter::join(&peer);
        let stays = Waiter::join(&peer);
        let other = spawn(&peer, move |peer| drop(goes.leave(&peer)));
        release(&peer, lease);
        other.join().unwrap();
        let lease = leased(stays.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// ... also if it goes while it looks, and with what it has found.
#[test]
fn nudge_against_a_look_and_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let mut goes = Waiter::join(&peer);
        let stays = Waiter::join(&peer);
        let other = spawn(&peer, move |peer| {
            goes.poll(&peer);
            if let Some(News::Outcome(Ok(lease))) = goes.leave(&peer) {
                pass_on(&peer, lease);
            }
        });
        release(&peer, lease);
        other.join().unwrap();
        let lease = leased(stays.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Two are released, and one may be nudged at a time: whoever looks says that there is more.
#[test]
fn two_releases_against_one_nudge() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer_of_two(&group);
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let mut first = Waiter::join(&peer);
        let second = Waiter::join(&peer);
        release(&peer, a);
        let releaser = spawn(&peer, move |peer| release(&peer, b));
        first.run(&peer);
        releaser.join().unwrap();
        first.run(&peer);
        let (a, b) = (leased(first.end(&peer)), leased(second.end(&peer)));
        assert_ne!(a.number, b.number);
        for lease in [a, b] {
            release(&peer, lease);
            free(&peer, false);
        }
        settle(peer, group, pool, &ledger, 2);
    });
}

/// Whoever is served by another way, before it has looked, passes its nudge on.
#[test]
fn nudge_against_hand_over() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer_of_two(&group);
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let first = Waiter::join(&peer);
        let second = Waiter::join(&peer);
        let releaser = spawn(&peer, move |peer| release(&peer, a));
        pass_on(&peer, b);
        releaser.join().unwrap();
        let (first, second) = (leased(first.end(&peer)), leased(second.end(&peer)));
        assert_ne!(first.number, second.number);
        for lease in [first, second] {
            release(&peer, lease);
            free(&peer, false);
        }
        settle(peer, group, pool, &ledger, 2);
    });
}

/// Of all who try at a time, no more go past the first than may.
#[test]
fn so_many_and_no_more() {
    check_all(|| {
        let turn = Arc::new(Turn::default());
        let others = [(); 2].map(|()| {
            let turn = Arc::clone(&turn);
            loom::thread::spawn(move || usize::from(turn.pass()) + usize::from(turn.pass()))
        });
        let own = usize::from(turn.pass());
        let passed: usize = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(own + passed, BYPASS_MAX as usize);
        assert!(turn.is_spent());
    });
}

/// When as many have gone past the first as may, it gets what comes next.
#[test]
fn the_bound_of_bypasses() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer_of_two(&group);
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let waiter = Waiter::join(&peer);
        a.release();
        b.release();
        let newcomer = spawn(&peer, |peer| (0..2).for_each(|_| barge(&peer)));
        (0..2).for_each(|_| barge(&peer));
        newcomer.join().unwrap();
        // Four have come.
        assert!(waiter.got.is_some() || waiter.bell.0.load(Ordering::Relaxed) > 0);
        let lease = leased(waiter.end(&peer));
        release(&peer, lease);
        for _ in 0..2 {
            free(&peer, false);
        }
        settle(peer, group, pool, &ledger, 2);
    });
}

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
