//! The desk of a managed pool: nobody sleeps while there is something for him, no permit
//! is lost or given twice, whoever releases, closes, fails or goes away meanwhile.

mod common;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use common::{Conn, Handle, Ledger, check, pool_of};
use loom::thread;
use slabpool::model::{Bounds, Desk, Joins, News, Place, Trade, any_idle, looks};
use slabpool::{Pool, PooledOwned};

struct Model;

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
struct Peer {
    desk: Desk<Model>,
    group: Handle,
    bounds: Bounds,
}

/// A permit to connect.
struct Grant(Option<Rc<Peer>>);

impl Grant {
    fn of(peer: &Rc<Peer>) -> Self {
        Self(Some(Rc::clone(peer)))
    }

    /// Somebody else frees it.
    fn spend(mut self) {
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
fn peer(group: &Handle, open: bool) -> Rc<Peer> {
    let bounds = Bounds { connections: 1, connecting: 1, waiters: 2 };
    let peer = Peer { desk: Desk::default(), group: Arc::clone(group), bounds };
    peer.desk.word.enter();
    if open {
        assert!(peer.desk.word.reserve(bounds));
        peer.desk.word.opened();
    }
    Rc::new(peer)
}

/// The permit of a connection comes free.
fn free(peer: &Rc<Peer>, connecting: bool) {
    if peer.desk.word.free(connecting).is_waiting() {
        peer.desk.freed(peer.bounds, || Grant::of(peer));
    }
}

fn serve(peer: &Peer) {
    let take = |()| if any_idle(&peer.group) { peer.group.get_owned() } else { None };
    peer.desk.serve(|()| (), take, PooledOwned::release);
}

fn release(peer: &Peer, lease: PooledOwned<u8, Conn>) {
    lease.touch();
    lease.release();
    if peer.desk.word.load().is_waiting() {
        serve(peer);
    }
}

fn pass_on(peer: &Peer, lease: PooledOwned<u8, Conn>) {
    if let Err(lease) = peer.desk.give(lease) {
        release(peer, lease);
    }
}

/// Joins the line, and looks then.
fn join(peer: &Rc<Peer>) -> Place {
    let place = peer.desk.join((), Joins::Wanting, peer.bounds, || Grant::of(peer));
    let place = place.expect("two may wait");
    if looks(&peer.group) {
        serve(peer);
    }
    place
}

fn leave(peer: &Peer, place: Place) {
    let left = peer.desk.leave(place.id);
    if let Some(Ok(lease)) = left.outcome {
        pass_on(peer, lease);
    }
}

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One who is in the line, and what it got so far.
struct Sleeper {
    place: Place,
    bell: Arc<Bell>,
    first: Poll<News<Model>>,
}

/// Joins, and polls once, as a future would.
fn sleep(peer: &Rc<Peer>) -> Sleeper {
    let place = join(peer);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let first = peer.desk.poll(place.id, &mut Context::from_waker(&waker));
    Sleeper { place, bell, first }
}

impl Sleeper {
    /// What it got; it was woken for it, if it did not get it at once. Leaves the line.
    fn end(self, peer: &Peer) -> Option<News<Model>> {
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

fn leased(news: Option<News<Model>>) -> PooledOwned<u8, Conn> {
    match news {
        Some(News::Outcome(Ok(lease))) => lease,
        Some(News::Outcome(Err(failure))) => panic!("{failure}"),
        Some(News::Grant(_)) => panic!("there is one connection already"),
        None => panic!("forgotten"),
    }
}

fn spawn<R: 'static>(
    peer: &Rc<Peer>,
    body: impl FnOnce(Rc<Peer>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let peer = Rc::clone(peer);
    thread::spawn(move || body(peer))
}

/// Nothing is left but the pool, with so many connections ever made.
fn settle(peer: Rc<Peer>, group: Handle, pool: Pool<u8, Conn>, ledger: &Ledger, made: usize) {
    assert!(!peer.desk.word.load().is_waiting());
    assert!(!peer.desk.word.leave().is_waiting());
    drop(peer);
    drop(group);
    ledger.settle(pool, made);
}

/// A connection that is released while somebody comes to wait is his.
#[test]
fn release_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        release(&peer, lease);
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The same with a newcomer who may get it first: he leaves it to the one who waits, or has
/// come before him.
#[test]
fn release_against_wait_and_get() {
    check(1, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        let newcomer = spawn(&peer, |peer| {
            let Some(lease) = peer.group.get_owned() else { return };
            if peer.desk.word.load().is_waiting() {
                pass_on(&peer, lease);
            } else {
                release(&peer, lease);
            }
        });
        release(&peer, lease);
        newcomer.join().unwrap();
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// What is handed to one who goes away goes to the next in line.
#[test]
fn hand_over_against_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let goes = join(&peer);
        let stays = sleep(&peer);
        let other = spawn(&peer, move |peer| leave(&peer, goes));
        release(&peer, lease);
        other.join().unwrap();
        let lease = leased(stays.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// ... and if nobody else is there, it is idle.
#[test]
fn hand_over_against_the_last_to_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let goes = join(&peer);
        let other = spawn(&peer, move |peer| leave(&peer, goes));
        release(&peer, lease);
        other.join().unwrap();
        assert!(any_idle(&group));
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Two come to wait while the only connection is closed: one of them may connect, and when
/// he goes without having done so, the other may.
#[test]
fn limit_against_close() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let other = spawn(&peer, |peer| sleep(&peer));
        let closer = spawn(&peer, move |peer| {
            lease.close();
            free(&peer, false);
        });
        let own = sleep(&peer);
        closer.join().unwrap();
        let other = other.join().unwrap();
        assert_eq!(peer.desk.word.load().connections(), 1);
        let granted = |news: &Option<News<Model>>| matches!(news, Some(News::Grant(_)));
        let own = own.end(&peer);
        let own_was_granted = granted(&own);
        drop(own);
        let other = other.end(&peer);
        assert!(granted(&other), "the first has gone, or was second: {own_was_granted}");
        drop(other);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Whoever comes to wait while the pool is closed learns it, by himself or from the closer.
#[test]
fn close_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| {
            let sleeper = sleep(&peer);
            (sleeper, peer.group.pool().is_closed())
        });
        pool.close();
        peer.desk.fail_all("closed");
        let (sleeper, saw_it) = waiter.join().unwrap();
        let told = matches!(sleeper.end(&peer), Some(News::Outcome(Err("closed"))));
        assert!(saw_it || told, "forgotten");
        lease.close();
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The last connect fails while somebody comes: he is told, or may connect himself.
#[test]
fn a_failed_connect_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = peer(&group, false);
        let first = sleep(&peer);
        let Poll::Ready(News::Grant(grant)) = first.first else { panic!("nothing is there") };
        let by = first.place.id;
        let waiter = spawn(&peer, |peer| sleep(&peer));
        // The desk frees the permit itself.
        grant.spend();
        let make = || Grant::of(&peer);
        let _state = peer.desk.fail(by, "refused", peer.bounds, make);
        match waiter.join().unwrap().end(&peer) {
            Some(News::Outcome(Err("refused"))) | Some(News::Grant(_)) => {}
            Some(News::Outcome(_)) => panic!("nothing was opened"),
            None => panic!("forgotten"),
        }
        leave(&peer, first.place);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

/// A late connection that nobody waits for is idle; whoever comes meanwhile gets it.
#[test]
fn a_late_connection_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = peer(&group, false);
        let gone = join(&peer);
        let News::Grant(grant) = poll_now(&peer, gone) else { panic!("nothing is there") };
        leave(&peer, gone);
        grant.spend();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        let make = || Grant::of(&peer);
        if peer.desk.has_taker(gone.id) {
            let lease = group.insert_owned(ledger.connection(0)).unwrap();
            if let Err(lease) = peer.desk.give_new(lease, gone.id, peer.bounds, make) {
                pass_on(&peer, lease);
            }
        } else {
            group.put(ledger.connection(0)).unwrap();
            peer.desk.shelved_new(peer.bounds, make);
            if peer.desk.word.load().is_waiting() {
                serve(&peer);
            }
        }
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

fn poll_now(peer: &Peer, place: Place) -> News<Model> {
    match peer.desk.poll(place.id, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(news) => news,
        Poll::Pending => panic!("nothing there"),
    }
}

/// The sum of all: one releases, one waits, one gives up.
#[test]
fn release_against_wait_and_cancel() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let stays = spawn(&peer, |peer| sleep(&peer));
        let goes = spawn(&peer, |peer| {
            let place = join(&peer);
            leave(&peer, place);
        });
        release(&peer, lease);
        goes.join().unwrap();
        let lease = leased(stays.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}
