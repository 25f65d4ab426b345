//! Two peers at one pool, and those who wait for room in it.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;
use slabpool::model::{
    Bounds, Desk, Joins, Larder, Limits, News, Place, Spot, Starved, Starving, Trade, Unit,
    any_idle, bequeath, looks, permits,
};
use slabpool::{Pool, PooledOwned};

use crate::common::{Conn, Handle, Ledger, builder, handle};

type Lease = PooledOwned<u8, Conn>;

pub struct Model;

impl Trade for Model {
    type Waiter = ();
    type Grant = Grant;
    type Lease = Lease;
    type Failure = &'static str;

    fn is_late((): &()) -> bool {
        false
    }
}

pub struct Peer {
    pub desk: Desk<Model>,
    pub group: Handle,
}

/// All that there is. Freed places are told to the latest one.
pub struct World {
    bounds: Limits,
    pub pool: Pool<u8, Conn>,
    pub peers: [Peer; 2],
    pub starved: Starved,
}

const BOUNDS: Bounds = Bounds { connections: 3, connecting: 3, single_flight: false, waiters: 3 };

thread_local! {
    /// All threads of a model run on one of the system.
    static WORLD: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

/// A permit to connect, and a place, once it has one.
pub struct Grant {
    permit: Permit,
    pub unit: Option<Unit<u8, Conn>>,
}

struct Permit(Option<(Rc<World>, usize)>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((world, peer)) = self.0.take() {
            free(&world, peer, true);
        }
    }
}

impl Grant {
    fn of(world: &Rc<World>, peer: usize) -> Self {
        Self { permit: Permit(Some((Rc::clone(world), peer))), unit: None }
    }
}

/// A pool that holds so many, and two peers without a connection.
pub fn world(capacity: usize, _ledger: &Ledger) -> Rc<World> {
    let pool = builder().capacity(capacity).build().unwrap();
    let peers = [1, 2].map(|key| {
        let peer = Peer { desk: Desk::default(), group: handle(&pool, key) };
        peer.desk.word.enter();
        peer
    });
    bequeath(&pool, || {
        let world = WORLD.with_borrow(Weak::upgrade);
        world.into_iter().for_each(|world| look_out(&world));
    });
    let world =
        Rc::new(World { bounds: Limits::new(BOUNDS), pool, peers, starved: Starved::default() });
    WORLD.set(Rc::downgrade(&world));
    world
}

/// Somebody has a connection of this peer.
pub fn open(world: &Rc<World>, peer: usize, connection: Conn) -> Lease {
    let Peer { desk, group } = &world.peers[peer];
    assert!(desk.word.reserve(BOUNDS));
    desk.word.opened();
    group.insert_owned(connection).unwrap()
}

/// The permit of a connection comes free.
fn free(world: &Rc<World>, peer: usize, connecting: bool) {
    let desk = &world.peers[peer].desk;
    if desk.word.free(connecting).is_waiting() {
        desk.freed(&world.bounds, || Grant::of(world, peer));
    }
}

/// What room there is, for those who starve.
struct Room<'a>(&'a Rc<World>);

impl Larder for Room<'_> {
    type Unit = Unit<u8, Conn>;

    fn starves(&self, turn: Spot, desk: u32) -> bool {
        self.0.peers[desk as usize].desk.starves(turn, &self.0.bounds)
    }

    fn take(&self) -> Option<Self::Unit> {
        Unit::take(&self.0.pool)
    }

    fn hand(&self, turn: Spot, desk: u32, unit: Self::Unit) -> Option<Self::Unit> {
        let (world, index, mut unit) = (self.0, desk as usize, Some(unit));
        let make = || Grant { unit: unit.take(), ..Grant::of(world, index) };
        world.peers[index].desk.feed(turn, (&world.bounds, &world.starved, desk), make);
        unit
    }
}

fn look_out(world: &Rc<World>) {
    if world.starved.is_hungry_now() {
        world.starved.feed(&Room(world));
    }
}

fn serve(world: &Rc<World>, peer: usize) {
    let Peer { desk, group } = &world.peers[peer];
    let take = |()| if any_idle(group) { group.get_owned() } else { None };
    desk.serve(
        |()| (),
        take,
        |lease| {
            lease.release();
            look_out(world);
        },
    );
}

pub fn release(world: &Rc<World>, peer: usize, lease: Lease) {
    lease.touch();
    lease.release();
    let waiting = world.peers[peer].desk.word.load().is_waiting();
    if !world.starved.is_hungry_after_push() && !waiting {
        return;
    }
    if world.peers[peer].desk.word.load().is_waiting() {
        if world.starved.is_hungry() {
            world.starved.feed_others(&Room(world), peer as u32);
        }
        serve(world, peer);
    }
    look_out(world);
    // The permit of a connection that was closed for others is freed by the connection
    // itself, which those of models do not know: see `settle`.
}

/// A lease ends, and its connection with it: its permit first, as in a slot.
pub fn close(world: &Rc<World>, peer: usize, lease: Lease) {
    free(world, peer, false);
    lease.close();
}

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One who waits at a peer, and what it got so far.
pub struct Sleeper {
    peer: usize,
    place: Place,
    bell: Arc<Bell>,
    rung: usize,
    first: Option<News<Model>>,
}

/// Joins, and polls as a future would: until nothing is there, or a place is.
pub fn sleep(world: &Rc<World>, peer: usize) -> Sleeper {
    let Peer { desk, group } = &world.peers[peer];
    let place = desk.join((), Joins::Wanting, &world.bounds, || Grant::of(world, peer));
    let place = place.expect("three may wait");
    if looks(group) {
        serve(world, peer);
    }
    let mut sleeper = Sleeper { peer, place, bell: Arc::default(), rung: 0, first: None };
    sleeper.first = sleeper.poll(world);
    sleeper
}

impl Sleeper {
    fn poll(&mut self, world: &Rc<World>) -> Option<News<Model>> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        let desk = &world.peers[self.peer].desk;
        loop {
            self.rung = self.bell.0.load(Ordering::Relaxed);
            match desk.poll(self.place.id, &mut cx) {
                Poll::Ready(News::Grant(grant)) => match furnish(world, self, grant) {
                    Some(grant) => return Some(News::Grant(grant)),
                    None => continue,
                },
                Poll::Ready(news) => return Some(news),
                Poll::Pending => return None,
            }
        }
    }

    /// Whether it has got a place at once.
    pub fn has_place(&self) -> bool {
        matches!(self.first, Some(News::Grant(_)))
    }

    /// Whether something was there at once, or it was woken since.
    pub fn has_news(&self, _: &Rc<World>) -> bool {
        self.first.is_some() || self.bell.0.load(Ordering::Relaxed) > self.rung
    }

    /// What it has got, if it was woken. Does not look if it was not.
    fn news(&mut self, world: &Rc<World>) -> Option<News<Model>> {
        if self.first.is_none() && self.has_news(world) {
            self.first = self.poll(world);
        }
        self.first.take()
    }

    /// A permit with a place, which it was woken for, if it did not get it at once. Leaves
    /// the line.
    pub fn end(mut self, world: &Rc<World>) -> Option<Grant> {
        let news = self.news(world);
        self.leave(world);
        match news? {
            News::Grant(grant) => Some(grant),
            News::Outcome(_) | News::Look | News::Stream(_) => {
                panic!("nothing was opened, and nothing failed")
            }
        }
    }

    /// As [`Sleeper::end`], with a connection of its own peer or a place.
    pub fn end_with_any(mut self, world: &Rc<World>) {
        let (peer, news) = (self.peer, self.news(world));
        self.leave(world);
        match news.expect("forgotten") {
            News::Outcome(lease) => close(world, peer, lease.expect("nothing failed")),
            News::Grant(grant) => drop(grant),
            News::Look | News::Stream(_) => panic!("nobody is nudged, or shares"),
        }
    }

    /// Whether it was told of a failure.
    pub fn was_told(&self, world: &Rc<World>, why: &str) -> bool {
        let desk = &world.peers[self.peer].desk;
        let news = desk.poll(self.place.id, &mut Context::from_waker(Waker::noop()));
        matches!(news, Poll::Ready(News::Outcome(Err(told))) if told == why)
    }

    /// Goes away.
    pub fn leave(self, world: &Rc<World>) {
        let left = world.peers[self.peer].desk.leave(self.place.id);
        if let Some(Ok(lease)) = left.outcome {
            release(world, self.peer, lease);
        }
    }
}

/// Adds a place to a permit, or waits for both.
fn furnish(world: &Rc<World>, sleeper: &Sleeper, mut grant: Grant) -> Option<Grant> {
    if grant.unit.is_none() && !world.starved.is_hungry() {
        grant.unit = Unit::take(&world.pool);
    }
    if grant.unit.is_some() {
        return Some(grant);
    }
    // The desk frees it.
    drop(grant.permit.0.take());
    let (desk, peer) = (&world.peers[sleeper.peer].desk, sleeper.peer);
    let place = (&world.bounds, &world.starved, peer as u32);
    match desk.starve(sleeper.place.id, place, || Grant::of(world, peer)) {
        Starving::Waits { joined } => {
            assert!(!joined, "it was in the line");
            world.starved.feed(&Room(world));
        }
        Starving::Served => {}
        Starving::LineFull => panic!("three may wait"),
    }
    None
}

pub fn spawn<R: 'static>(
    world: &Rc<World>,
    body: impl FnOnce(Rc<World>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let world = Rc::clone(world);
    thread::spawn(move || body(world))
}

/// Nothing is left but what is idle, with so many connections ever made, and each place is
/// that of a connection.
pub fn settle(world: Rc<World>, ledger: &Ledger, made: usize) {
    let there = made - ledger.dropped_in_all();
    assert_eq!(permits(&world.pool), there);
    world.peers.iter().for_each(|peer| {
        let state = peer.desk.word.load();
        assert!(!state.is_waiting());
        assert_eq!((peer.desk.waiting(), state.connecting()), (0, 0));
    });
    if !world.pool.is_closed() {
        // Whoever comes now gets what there is: nobody stands in his way.
        let last = sleep(&world, 1);
        assert!(last.has_place(), "nobody starves any more");
        drop(last.end(&world));
        assert!(!world.starved.is_hungry());
    }
    let world = Rc::into_inner(world).expect("all others have gone");
    let World { pool, peers, starved, .. } = world;
    drop((peers, starved));
    ledger.settle(pool, made);
}
