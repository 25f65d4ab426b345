//! Those who are nudged: what the managed pool does about them outside the desk.

#![allow(dead_code, reason = "no test file uses everything")]

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use slabpool::PooledOwned;
use slabpool::model::{Bounds, Desk, Limits, News, Place, looks, may_be_idle};

use crate::common::{Conn, Handle};
use crate::desk::{self, Bell, Model, Peer, join, pass_on, serve};

pub type Lease = PooledOwned<u8, Conn>;

/// A peer that has two connections, and may have no more.
pub fn peer_of_two(group: &Handle) -> Rc<Peer> {
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
pub fn tell(peer: &Peer) {
    if !peer.desk.word.load().is_waiting() {
        return;
    }
    if peer.desk.turn.is_spent() { serve(peer) } else { peer.desk.nudge() }
}

pub fn release(peer: &Peer, lease: Lease) {
    lease.touch();
    lease.release();
    tell(peer);
}

/// As `Waiter::look`.
pub fn look(peer: &Peer, place: Place) -> bool {
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
pub fn barge(peer: &Peer) {
    let Some(lease) = peer.group.get_owned() else { return };
    if peer.desk.word.load().is_waiting() && !peer.desk.turn.pass() {
        return pass_on(peer, lease);
    }
    release(peer, lease);
}

/// One who waits, and is awake only if it was woken.
pub struct Waiter {
    pub place: Place,
    pub got: Option<News<Model>>,
    pub bell: Arc<Bell>,
}

impl Waiter {
    pub fn join(peer: &Rc<Peer>) -> Self {
        let mut waiter = Self { place: join(peer), got: None, bell: Arc::default() };
        waiter.poll(peer);
        waiter
    }

    /// As `Waiter::outcome`.
    pub fn poll(&mut self, peer: &Peer) {
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
    pub fn run(&mut self, peer: &Peer) {
        while self.got.is_none() && self.bell.0.load(Ordering::Relaxed) > 0 {
            self.poll(peer);
        }
    }

    pub fn leave(mut self, peer: &Peer) -> Option<News<Model>> {
        desk::leave(peer, self.place);
        self.got.take()
    }

    /// What it has got, now that nobody else does anything.
    pub fn end(mut self, peer: &Peer) -> Option<News<Model>> {
        self.run(peer);
        self.leave(peer)
    }
}
