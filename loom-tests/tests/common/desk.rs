//! A peer with a desk, and those who come to it.

#![allow(dead_code, reason = "no test file uses everything")]

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;
use slabpool::model::{Bounds, Desk, Joins, Limits, News, Place, Trade, any_idle, looks};
use slabpool::{Pool, PooledOwned};

use crate::common::{Conn, Handle, Ledger};

pub struct Model;

impl Trade for Model {
    type Waiter = ();
    type Grant = Grant;
    type Lease = PooledOwned<u8, Conn>;
    type Failure = &'static str;

    fn is_late((): &()) -> bool {
        false
    }
}

/// A peer: its desk, and its group in the pool below.
pub struct Peer {
    pub desk: Desk<Model>,
    pub group: Handle,
    pub bounds: Limits,
}

/// A permit to connect.
pub struct Grant(pub Option<Rc<Peer>>);

impl Grant {
    pub fn of(peer: &Rc<Peer>) -> Self {
        Self(Some(Rc::clone(peer)))
    }

    /// Somebody else frees it.
    pub fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(peer) = self.0.take() {
            free(&peer, true);
        }
    }
}

/// A peer that may have one connection, and has it if `open`, and as many visitors as there
/// are threads.
pub fn peer(group: &Handle, open: bool) -> Rc<Peer> {
    let bounds = Bounds { connections: 1, connecting: 1, single_flight: false, waiters: 2 };
    let peer =
        Peer { desk: Desk::default(), group: Arc::clone(group), bounds: Limits::new(bounds) };
    peer.desk.word.enter();
    if open {
        assert!(peer.desk.word.reserve(bounds));
        peer.desk.word.opened();
    }
    Rc::new(peer)
}

/// The permit of a connection comes free.
pub fn free(peer: &Rc<Peer>, connecting: bool) {
    if peer.desk.word.free(connecting).is_waiting() {
        peer.desk.freed(&peer.bounds, || Grant::of(peer));
    }
}

pub fn serve(peer: &Peer) {
    let take = |()| if any_idle(&peer.group) { peer.group.get_owned() } else { None };
    peer.desk.serve(|()| (), take, PooledOwned::release);
}

pub fn release(peer: &Peer, lease: PooledOwned<u8, Conn>) {
    lease.touch();
    lease.release();
    if peer.desk.word.load().is_waiting() {
        serve(peer);
    }
}

pub fn pass_on(peer: &Peer, lease: PooledOwned<u8, Conn>) {
    if let Err(lease) = peer.desk.give(lease) {
        release(peer, lease);
    }
}

/// Joins the line, and looks then.
pub fn join(peer: &Rc<Peer>) -> Place {
    let place = peer.desk.join((), Joins::Wanting, &peer.bounds, || Grant::of(peer));
    let place = place.expect("two may wait");
    if looks(&peer.group) {
        serve(peer);
    }
    place
}

pub fn leave(peer: &Peer, place: Place) {
    let left = peer.desk.leave(place.id);
    if let Some(Ok(lease)) = left.outcome {
        pass_on(peer, lease);
    }
    assert!(left.stream.is_none(), "those who share leave otherwise");
}

/// A waker that counts.
#[derive(Default)]
pub struct Bell(pub AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One who is in the line, and what it got so far.
pub struct Sleeper {
    pub place: Place,
    pub bell: Arc<Bell>,
    pub first: Poll<News<Model>>,
}

/// Joins, and polls once, as a future would.
pub fn sleep(peer: &Rc<Peer>) -> Sleeper {
    let place = join(peer);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let first = peer.desk.poll(place.id, &mut Context::from_waker(&waker));
    Sleeper { place, bell, first }
}

impl Sleeper {
    /// What it got; it was woken for it, if it did not get it at once. Leaves the line.
    pub fn end(self, peer: &Peer) -> Option<News<Model>> {
        let news = match self.first {
            Poll::Ready(news) => Some(news),
            Poll::Pending => {
                let mut cx = Context::from_waker(Waker::noop());
                match peer.desk.poll(self.place.id, &mut cx) {
                    Poll::Ready(news) => {
                        assert_eq!(self.bell.0.load(Ordering::Relaxed), 1, "woken once");
                        Some(news)
                    }
                    Poll::Pending => None,
                }
            }
        };
        leave(peer, self.place);
        news
    }
}

pub fn leased(news: Option<News<Model>>) -> PooledOwned<u8, Conn> {
    match news {
        Some(News::Outcome(Ok(lease))) => lease,
        Some(News::Outcome(Err(failure))) => panic!("{failure}"),
        Some(News::Look) => panic!("nothing was nudged"),
        Some(News::Stream(_)) => panic!("nobody shares"),
        Some(News::Grant(_)) => panic!("there is one connection already"),
        None => panic!("forgotten"),
    }
}

pub fn spawn<R: 'static>(
    peer: &Rc<Peer>,
    body: impl FnOnce(Rc<Peer>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let peer = Rc::clone(peer);
    thread::spawn(move || body(peer))
}

/// Nothing is left but the pool, with so many connections ever made.
pub fn settle(peer: Rc<Peer>, group: Handle, pool: Pool<u8, Conn>, ledger: &Ledger, made: usize) {
    assert!(!peer.desk.word.load().is_waiting());
    assert!(!peer.desk.word.leave().is_waiting());
    drop(peer);
    drop(group);
    ledger.settle(pool, made);
}
