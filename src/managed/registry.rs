//! The peers that somebody has something to do with, by key.
//!
//! A peer has a desk while it has a connection, a connect or a visitor. Desks come from an
//! arena, and so may be looked at by whoever once knew their number: a release looks at the
//! desk of the connection that it has given up. If the desk has gone to another peer
//! meanwhile, that look finds nothing that it could do harm to.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use hashbrown::HashTable;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::mix;
use crate::core::arena::Arena;
use crate::group::Members;
use crate::lease::{Lease, PooledOwned};
use crate::managed::agenda::Agenda;
use crate::managed::channel::Channels;
use crate::managed::desk::{Desk, Trade};
use crate::managed::error::Failure;
use crate::managed::fairness::Fairness;
use crate::managed::group_limits::LimitsOf;
use crate::managed::health::Policy;
use crate::managed::keeper::{Ward, moment};
use crate::managed::limits::{Limits, Own};
use crate::managed::room::Grant;
use crate::managed::slot::{Office, Permit, Slot};
use crate::managed::starved::Starved;
use crate::managed::tally::Tally;
use crate::managed::word::{Bounds, State};
use crate::pool::Pool;
use crate::watch::Belfry;

const SHARD_BITS: u32 = 6;

/// One who waits: what others must know.
pub(crate) struct Caller<K> {
    /// Where connections for it are idle.
    pub members: Arc<Members<K>>,
    /// When it is too late to start a connect for it.
    pub connect_by: Instant,
}

/// What the desks deal in.
pub(crate) struct Business<K, C, E>(PhantomData<fn(K, C, E)>);

impl<K, C, E> Trade for Business<K, C, E> {
    type Waiter = Caller<K>;
    type Grant = Grant<K, C>;
    type Lease = PooledOwned<K, Slot<C>>;
    type Failure = Failure<E>;

    fn is_late(waiter: &Caller<K>) -> bool {
        Instant::now() >= waiter.connect_by
    }

    fn now() -> u64 {
        moment()
    }
}

/// A peer in its shard. Its group has the key; it may be another group by now that
/// connections are put into.
struct Entry<K> {
    members: Arc<Members<K>>,
    desk: u32,
}

/// See the module.
pub(crate) struct Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    me: Weak<Self>,
    /// Of the pool; what holds for a peer is at its desk (M7).
    pub bounds: Limits,
    pub limits_of: Option<LimitsOf<K>>,
    pub fairness: Fairness,
    pub tally: Tally,
    shards: Box<[Mutex<HashTable<Entry<K>>>]>,
    desks: Arena<Desk<Business<K, C, E>>>,
    pub policy: Policy,
    /// Peers that maintenance looks after.
    pub agenda: Agenda<Ward<K, C, E>>,
    /// Told whenever a connect has ended, or was given up, and when peers go out of service.
    pub ended: Notify,
    /// Where the reaper is woken; of the pool below, once there is one.
    pub belfry: OnceLock<Arc<Belfry>>,
    lots: AtomicU64,
    /// Those whose callers wait for room in the pool.
    pub starved: Starved,
    pub channels: Arc<Channels<PooledOwned<K, Slot<C>>>>,
    /// Whether maintenance must look for channels that serve nobody for now.
    pub barren: AtomicBool,
}

impl<K, C, E> Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    pub fn new(
        bounds: Bounds,
        limits_of: Option<LimitsOf<K>>,
        fairness: Fairness,
        policy: Policy,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            bounds: Limits::new(bounds),
            limits_of,
            fairness,
            tally: Tally::new(),
            shards: (0..1 << SHARD_BITS).map(|_| Mutex::default()).collect(),
            desks: Arena::new(),
            policy,
            agenda: Agenda::new(),
            ended: Notify::new(),
            belfry: OnceLock::new(),
            lots: AtomicU64::new(ahash::RandomState::new().hash_one(())),
            starved: Starved::default(),
            channels: Arc::new(Channels::new()),
            barren: AtomicBool::new(false),
        })
    }

    /// A number drawn by lot.
    pub fn draw(&self) -> u64 {
        // Relaxed: any two numbers are as good.
        mix(self.lots.fetch_add(1, Ordering::Relaxed))
    }

    /// Has maintenance look at a peer by then, if it looks after that one.
    pub fn hasten(&self, desk: u32, at: u64) {
        if !self.agenda.is_empty() && self.agenda.hasten(desk, at) {
            self.belfry.get().into_iter().for_each(|belfry| belfry.wake_reaper());
        }
    }

    #[inline(always)]
    pub fn desk(&self, desk: u32) -> &Desk<Business<K, C, E>> {
        self.desks.get(desk)
    }

    /// Visits the desk of the peer that this group is of. If it has none, it gets one, and
    /// this of its own.
    pub fn visit_with(
        self: &Arc<Self>,
        members: &Arc<Members<K>>,
        own: Option<Box<Own>>,
    ) -> Visit<K, C, E> {
        let mut shard = self.shard(members.hash);
        let found = shard.find(members.hash, |entry| entry.members.key == members.key);
        let desk = found.map(|entry| entry.desk).unwrap_or_else(|| {
            let desk = self.desks.take().expect("there are more desks than connections");
            self.desk(desk).take_up(members.hash, own, &self.bounds);
            let entry = Entry { members: Arc::clone(members), desk };
            shard.insert_unique(members.hash, entry, |entry| entry.members.hash);
            desk
        });
        self.desk(desk).word.enter();
        // Release: pairs with the Acquire of who goes by it, so that the desk is there.
        members.annex.store(desk + 1, Ordering::Release);
        Visit { registry: Arc::clone(self), desk }
    }

    /// Stays at a desk. The caller has a connection of this peer.
    pub fn stay(self: &Arc<Self>, desk: u32) -> Visit<K, C, E> {
        self.desk(desk).word.enter();
        Visit { registry: Arc::clone(self), desk }
    }

    /// Has maintenance look at all peers that it looks after.
    pub fn hasten_all(&self) {
        if !self.agenda.is_empty() {
            self.agenda.hasten_all(moment());
            self.belfry.get().into_iter().for_each(|belfry| belfry.wake_reaper());
        }
    }

    /// As [`Registry::visit`], of a peer that has a desk.
    pub fn revisit<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Option<Visit<K, C, E>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let found = shard.find(hash, |entry| (*entry.members.key).borrow() == key);
        let desk = found.map(|entry| entry.desk)?;
        self.desk(desk).word.enter();
        Some(Visit { registry: Arc::clone(self), desk })
    }

    /// The desk of the peer with this key, for a look.
    pub fn look_up<Q>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let found = shard.find(hash, |entry| (*entry.members.key).borrow() == key);
        found.map(|entry| entry.desk)
    }

    /// All desks that peers have. Who visits one that is not among them takes the lock of
    /// its shard after this.
    pub fn all(&self) -> Vec<u32> {
        let mut desks = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            desks.extend(shard.iter().map(|entry| entry.desk));
        }
        desks
    }

    /// Makes a permit of what was reserved in the word of a desk.
    pub fn permit(&self, desk: u32) -> Permit {
        let office = self.me.upgrade().expect("whoever reserves holds the registry");
        Permit::new(office, desk)
    }

    /// As [`Registry::permit`], for a connect that has no place in the pool yet.
    pub fn grant(&self, desk: u32) -> Grant<K, C> {
        Grant { permit: self.permit(desk), unit: None }
    }

    /// Hands an idle connection, if there is one, to the first in the line.
    #[cold]
    pub fn serve(&self, pool: &Pool<K, Slot<C>>, index: u32) {
        let engine = pool.engine();
        // Where all is handed over nothing stays idle, and maintenance would never find
        // what a lowered capacity has made too many.
        engine.shrink(1);
        self.desk(index).serve(
            |caller| Arc::clone(&caller.members),
            |members| {
                // A look first, which is less than a search.
                let any = members.lanes.live(&engine.core) > 0;
                if any { self.lease_again(pool, &members) } else { None }
            },
            |lease| {
                lease.release();
                self.look_out(pool);
            },
        );
    }

    /// Leases what is idle, for another purpose than to serve who has just asked for it.
    pub fn lease_again(
        &self,
        pool: &Pool<K, Slot<C>>,
        members: &Members<K>,
    ) -> Option<PooledOwned<K, Slot<C>>> {
        let raw = pool.engine().lease_again(members)?;
        self.tally.diverted();
        Some(Lease::new(pool.clone(), raw))
    }

    /// After a release: sees to what has become idle if it is somebody's concern, of this
    /// desk or of one that starves.
    #[inline(always)]
    pub fn look(&self, pool: &Pool<K, Slot<C>>, index: u32) {
        // Both after the push.
        let desk = self.desk(index);
        let wanted = desk.word.load().is_wanted(desk.limits.connections());
        if self.starved.is_hungry_after_push() || wanted {
            self.attend(pool, index);
        }
    }

    /// Whether a newcomer may take what it has found, although others wait.
    #[cold]
    pub fn may_pass(&self, index: u32) -> bool {
        self.fairness == Fairness::Barging && self.desk(index).turn.pass()
    }

    /// A desk that was left empty goes.
    pub fn part(&self, index: u32, state: State) {
        if state.is_empty() {
            self.retire(index);
        }
    }

    #[cold]
    fn retire(&self, index: u32) {
        let desk = self.desk(index);
        // If the desk is another peer's by now, the hash may be either's: in the wrong shard
        // it is not found, and in the right one it goes if it is empty (M2).
        let hash = desk.hash();
        let mut shard = self.shard(hash);
        let Ok(entry) = shard.find_entry(hash, |entry| entry.desk == index) else { return };
        if !desk.word.load().is_empty() {
            return;
        }
        let entry = entry.remove().0;
        drop(shard);
        desk.clear();
        self.desks.give(index);
        // Perhaps the last reference to the key.
        drop(entry);
    }

    /// The peer that has this desk, if it is one with this hash.
    pub fn peer_of(&self, index: u32) -> Option<Arc<Members<K>>> {
        let hash = self.desk(index).hash();
        let shard = self.shard(hash);
        let found = shard.find(hash, |entry| entry.desk == index);
        found.map(|entry| Arc::clone(&entry.members))
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashTable<Entry<K>>> {
        // The tables use the low and the highest bits.
        let shard = &self.shards[(hash >> 40) as usize & ((1 << SHARD_BITS) - 1)];
        // Poisoned by a comparison of keys that has panicked, before anything was changed.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, C, E> Office for Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn freed(&self, index: u32, connecting: bool) {
        let desk = self.desk(index);
        let state = desk.word.free(connecting);
        if state.is_waiting() {
            desk.freed(&desk.limits, || self.grant(index));
        }
        if connecting {
            self.ended.notify_waiters();
        }
        if !self.agenda.is_empty() {
            self.hasten(index, moment());
        }
        self.part(index, state);
    }
}

/// One who has something to do with a peer, and keeps its desk.
pub(crate) struct Visit<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    pub registry: Arc<Registry<K, C, E>>,
    pub desk: u32,
}

impl<K, C, E> Visit<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    pub fn desk(&self) -> &Desk<Business<K, C, E>> {
        self.registry.desk(self.desk)
    }
}

impl<K, C, E> Drop for Visit<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn drop(&mut self) {
        let state = self.desk().word.leave();
        self.registry.part(self.desk, state);
    }
}

impl<K, C, E> fmt::Debug for Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
