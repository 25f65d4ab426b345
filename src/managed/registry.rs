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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hashbrown::HashTable;
use tokio::time::Instant;

use crate::config::Landing;
use crate::core::arena::Arena;
use crate::group::Members;
use crate::lease::{Lease, PooledOwned};
use crate::managed::channel::Channels;
use crate::managed::desk::{Desk, Trade};
use crate::managed::error::Failure;
use crate::managed::slot::{Office, Permit, Slot};
use crate::managed::word::{Bounds, State};
use crate::pool::Pool;
use crate::sync::Ordering;

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
    type Grant = Permit;
    type Lease = PooledOwned<K, Slot<C>>;
    type Failure = Failure<E>;

    fn is_late(waiter: &Caller<K>) -> bool {
        Instant::now() >= waiter.connect_by
    }
}

/// A peer in its shard. Its group has the key; it may be another group by now that
/// connections are put into.
struct Entry<K> {
    members: Arc<Members<K>>,
    desk: u32,
}

/// See the module.
pub(crate) struct Registry<K, C, E> {
    me: Weak<Self>,
    pub bounds: Bounds,
    shards: Box<[Mutex<HashTable<Entry<K>>>]>,
    desks: Arena<Desk<Business<K, C, E>>>,
    pub channels: Arc<Channels<PooledOwned<K, Slot<C>>>>,
}

impl<K, C, E> Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            bounds,
            shards: (0..1 << SHARD_BITS).map(|_| Mutex::default()).collect(),
            desks: Arena::new(),
            channels: Arc::new(Channels::new()),
        })
    }

    #[inline(always)]
    pub fn desk(&self, desk: u32) -> &Desk<Business<K, C, E>> {
        self.desks.get(desk)
    }

    /// Visits the desk of the peer that this group is of.
    pub fn visit(self: &Arc<Self>, members: &Arc<Members<K>>) -> Visit<K, C, E> {
        let mut shard = self.shard(members.hash);
        let found = shard.find(members.hash, |entry| entry.members.key == members.key);
        let desk = found.map(|entry| entry.desk).unwrap_or_else(|| {
            let desk = self.desks.take().expect("there are more desks than connections");
            self.desk(desk).take_up(members.hash);
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

    /// The desk of the peer with this key, for a look.
    pub fn look_up<Q>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let found = shard.find(hash, |entry| entry.members.key.borrow() == key);
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

    /// Hands an idle connection, if there is one, to the first in the line.
    #[cold]
    pub fn serve(&self, pool: &Pool<K, Slot<C>>, index: u32) {
        let engine = pool.engine();
        self.desk(index).serve(
            |caller| Arc::clone(&caller.members),
            |members| {
                // A look first: to find nothing would count as a miss.
                let any = members.lanes.live(&engine.core) > 0;
                let raw = if any { engine.lease(&members) } else { None };
                raw.map(|raw| Lease::new(pool.clone(), raw))
            },
            Lease::release,
        );
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
            desk.freed(self.bounds, || self.permit(index));
        }
        self.part(index, state);
    }
}

/// Connections that maintenance has looked at become idle without a release.
impl<K, C, E> Landing<K, Slot<C>> for Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn mark(&self, slot: &Slot<C>) -> u32 {
        slot.permit().desk
    }

    fn landed(&self, pool: &Pool<K, Slot<C>>, desk: u32) {
        self.serve(pool, desk);
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

impl<K, C, E> fmt::Debug for Registry<K, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
