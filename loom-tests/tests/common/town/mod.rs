//! Two peers at one pool, with all that a managed pool does when something becomes idle,
//! ends, or goes: in the order in which `managed/{registry,room,sharing}.rs` do it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use loom::thread;
use slabpool::model::{
    Blow, Bounds, Channels, Desk, Joins, Larder, Limits, News, Place, Policy, Spot, Starved,
    Starving, Trade, Unit, Vitals, any_idle, bequeath, looks, permits,
};
use slabpool::{Group, Pool, PooledOwned};

use crate::common::{Conn, Ledger};

mod people;
mod sharing;

pub use people::Sleeper;

pub type Lease = PooledOwned<u8, Slot>;

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
    pub group: Arc<Group<u8, Slot>>,
}

/// All that there is.
pub struct Town {
    pub bounds: Limits,
    pub pool: Pool<u8, Slot>,
    pub peers: [Peer; 2],
    pub starved: Starved,
    pub channels: Arc<Channels<Lease>>,
    pub barging: bool,
    /// How many a connection serves that is opened to others.
    pub limit: Cell<u32>,
}

thread_local! {
    /// All threads of a model run on one of the system.
    static TOWN: RefCell<Weak<Town>> = const { RefCell::new(Weak::new()) };
}

fn here() -> Option<Rc<Town>> {
    TOWN.with_borrow(Weak::upgrade)
}

/// The right to be a connection of a peer. Frees itself.
pub struct Permit {
    peer: usize,
    connecting: bool,
    spent: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Else the pool goes with what is idle in it.
        let Some(town) = here().filter(|_| !self.spent) else { return };
        let desk = &town.peers[self.peer].desk;
        if desk.word.free(self.connecting).is_waiting() {
            desk.freed(&town.bounds, || Grant::of(self.peer));
        }
    }
}

/// A connection with its permit, which goes first.
pub struct Slot {
    _permit: Permit,
    pub conn: Conn,
}

/// A permit to connect, and a place, once it has one.
pub struct Grant {
    permit: Permit,
    unit: Option<Unit<u8, Slot>>,
}

impl Grant {
    pub fn of(peer: usize) -> Self {
        Self { permit: Permit { peer, connecting: true, spent: false }, unit: None }
    }

    /// The desk frees the permit. The place goes after that.
    pub fn spend(mut self) -> Option<Unit<u8, Slot>> {
        self.permit.spent = true;
        self.unit.take()
    }
}

/// A pool that holds so many, and two peers without a connection that may have as many each.
pub fn town(capacity: usize, connections: u32, barging: bool) -> Rc<Town> {
    let pool: Pool<u8, Slot> =
        Pool::builder().capacity(capacity).idle_timeout(None).lanes(1).build().unwrap();
    let peers = [1, 2].map(|key| {
        let peer = Peer { desk: Desk::default(), group: Arc::new(pool.group(&key)) };
        peer.desk.word.enter();
        peer
    });
    bequeath(&pool, || here().into_iter().for_each(|town| town.look_out()));
    let bounds = Bounds { connections, connecting: 2, single_flight: false, waiters: 3 };
    let town = Rc::new(Town {
        bounds: Limits::new(bounds),
        pool,
        peers,
        starved: Starved::default(),
        channels: Arc::new(Channels::new()),
        barging,
        limit: Cell::new(2),
    });
    TOWN.set(Rc::downgrade(&town));
    town
}

/// What room there is, for those who starve.
struct Room<'a>(&'a Town);

impl Larder for Room<'_> {
    type Unit = Unit<u8, Slot>;

    fn starves(&self, spot: Spot, desk: u32) -> bool {
        self.0.peers[desk as usize].desk.starves(spot, &self.0.bounds)
    }

    fn take(&self) -> Option<Self::Unit> {
        Unit::take(&self.0.pool)
    }

    fn hand(&self, spot: Spot, desk: u32, unit: Self::Unit) -> Option<Self::Unit> {
        let (town, index, mut unit) = (self.0, desk as usize, Some(unit));
        let make = || Grant { unit: unit.take(), ..Grant::of(index) };
        town.peers[index].desk.feed(spot, (&town.bounds, &town.starved, desk), make);
        unit
    }
}

impl Town {
    pub fn desk(&self, peer: usize) -> &Desk<Model> {
        &self.peers[peer].desk
    }

    /// Somebody has a connection of this peer.
    pub fn lease(&self, peer: usize, conn: Conn) -> Lease {
        let desk = self.desk(peer);
        assert!(desk.word.reserve(self.bounds.load()));
        desk.word.opened();
        let permit = Permit { peer, connecting: false, spent: false };
        let slot = Slot { _permit: permit, conn };
        self.peers[peer].group.insert_owned(slot).unwrap_or_else(|_| panic!("there is room"))
    }

    fn look_out(&self) {
        if self.starved.is_hungry_now() {
            self.starved.feed(&Room(self));
        }
    }

    fn serve(&self, peer: usize) {
        let Peer { desk, group } = &self.peers[peer];
        let take = |()| if any_idle(group) { group.get_owned() } else { None };
        let release = |lease: Lease| {
            lease.release();
            self.look_out();
        };
        desk.serve(|()| (), take, release);
    }

    /// As `Registry::look`.
    pub fn look(&self, peer: usize) {
        let wanted = self.desk(peer).word.load().is_wanted(self.bounds.connections());
        if self.starved.is_hungry_after_push() || wanted {
            self.attend(peer);
        }
    }

    fn attend(&self, peer: usize) {
        self.shed(peer);
        let desk = self.desk(peer);
        if desk.word.load().is_waiting() {
            if self.starved.is_hungry() {
                self.starved.feed_others(&Room(self), peer as u32);
            }
            if self.barging && !desk.turn.is_spent() { desk.nudge() } else { self.serve(peer) }
        }
        self.look_out();
    }

    fn shed(&self, peer: usize) {
        let Peer { desk, group } = &self.peers[peer];
        if desk.word.load().connections() > self.bounds.connections() {
            desk.shed(&self.bounds, || group.get_owned(), Lease::close);
        }
    }

    /// As `Registry::resized`.
    pub fn resize(&self, connections: u32) {
        self.bounds.store(Bounds { connections, ..self.bounds.load() });
        for (index, peer) in self.peers.iter().enumerate() {
            peer.desk.freed(&self.bounds, || Grant::of(index));
            let _any = looks(&peer.group);
            self.shed(index);
        }
    }

    pub fn release(&self, peer: usize, lease: Lease) {
        lease.conn.touch();
        lease.release();
        self.look(peer);
    }

    fn pass_on(&self, peer: usize, lease: Lease) {
        if let Err(lease) = self.desk(peer).give(lease) {
            lease.release();
            self.attend(peer);
        }
    }

    /// Comes, and waits.
    pub fn sleep(&self, peer: usize) -> Sleeper {
        let desk = self.desk(peer);
        let place = desk.join((), Joins::Wanting, &self.bounds, || Grant::of(peer));
        self.begin(peer, place.expect("three may wait"), false)
    }

    fn begin(&self, peer: usize, place: Place, shares: bool) -> Sleeper {
        if looks(&self.peers[peer].group) {
            self.serve(peer);
        }
        Sleeper::begin(self, peer, place, shares)
    }

    /// As `Inner::furnish`.
    fn furnish(&self, sleeper: &Sleeper, mut grant: Grant) -> Option<Grant> {
        if grant.unit.is_none() && !self.starved.is_hungry() {
            grant.unit = Unit::take(&self.pool);
        }
        if grant.unit.is_some() {
            return Some(grant);
        }
        let (desk, peer) = (self.desk(sleeper.peer), sleeper.peer);
        assert!(grant.spend().is_none());
        let place = (&self.bounds, &self.starved, peer as u32);
        match desk.starve(sleeper.place.id, place, || Grant::of(peer)) {
            Starving::Waits { joined } => {
                assert!(!joined, "it was in the line");
                self.starved.feed(&Room(self));
            }
            Starving::Served => {}
            Starving::LineFull => panic!("three may wait"),
        }
        None
    }

    /// One who waits starts the connect that it was permitted, and sleeps.
    pub fn start(&self, sleeper: &mut Sleeper) -> Grant {
        let Some(News::Grant(grant)) = sleeper.news.take() else { panic!("it may connect") };
        sleeper.poll(self);
        grant
    }

    /// That connect fails, and brings the peer down, or does not.
    pub fn fail(&self, sleeper: &Sleeper, grant: Grant, down: bool) {
        const FOR_EVER: Policy =
            Policy { backoff_min: u64::MAX, backoff_max: u64::MAX, down_after: 1 };
        let _unit = grant.spend();
        let strike = |vitals: &mut Vitals| {
            down.then(|| vitals.strike(Blow { began: 1, now: 0, draw: 0 }, FOR_EVER))
                .map(|_| "down")
        };
        let (desk, peer) = (self.desk(sleeper.peer), sleeper.peer);
        let by = Some(sleeper.place.id);
        let _state = desk.fail_and(by, "refused", &self.bounds, || Grant::of(peer), strike);
    }

    /// All who wait get something one after the other, whoever was woken first.
    pub fn satisfy(&self, mut waiting: Vec<Sleeper>) {
        while !waiting.is_empty() {
            let woken = waiting.iter().position(Sleeper::is_awake).expect("forgotten");
            let mut sleeper = waiting.remove(woken);
            sleeper.poll(self);
            match sleeper.news.take() {
                Some(news) => sleeper.end(self, news),
                None => waiting.push(sleeper),
            }
        }
    }

    /// Nothing is left but what is idle, of so many that were ever made.
    pub fn settle(self: Rc<Self>, ledger: &Ledger, made: usize) {
        let there = made - ledger.dropped_in_all();
        assert_eq!(permits(&self.pool), there);
        let mut connections = 0;
        for peer in &self.peers {
            let state = peer.desk.word.load();
            assert!(!state.is_waiting());
            assert_eq!((peer.desk.waiting(), state.connecting()), (0, 0));
            assert_eq!((peer.desk.bench().channels, state.visitors()), (0, 1));
            connections += state.connections() as usize;
        }
        assert_eq!(connections, there);
        // Whoever comes now gets what there is: nobody stands in his way.
        self.satisfy(vec![self.sleep(0), self.sleep(1)]);
        assert!(!self.starved.is_hungry());
        let town = Rc::into_inner(self).expect("all others have gone");
        let Town { pool, peers, .. } = town;
        drop(peers);
        drop(pool);
        assert_eq!(ledger.dropped_in_all(), made);
    }
}

pub fn spawn<R: 'static>(
    town: &Rc<Town>,
    body: impl FnOnce(&Town) -> R + 'static,
) -> thread::JoinHandle<R> {
    let town = Rc::clone(town);
    thread::spawn(move || body(&town))
}
