//! Key to group. Readers take no lock and wait for nobody.
//!
//! The map is cut into shards, each an immutable table behind an `ArcSwap`. A new
//! group is added to a copy of its shard, which then replaces the shard
//! (read-copy-update). There are many shards, so a copy is short: with 100,000
//! groups it holds a hundred pointers.
//!
//! Keys are hashed with random keys, so that nobody can choose colliding ones, and
//! compared by `Eq`.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwap;
use hashbrown::HashTable;

use crate::group::Members;
use crate::sync::Step;

const SHARD_BITS: u32 = if cfg!(slabpool_loom) { 0 } else { 10 };

type Shard<K> = HashTable<Arc<Members<K>>>;

/// All groups of a pool.
#[derive(Debug)]
pub(crate) struct Directory<K> {
    hasher: RandomState,
    shards: Box<[ArcSwap<Shard<K>>]>,
    /// Groups that are not retired.
    count: AtomicUsize,
    step: Step,
}

impl<K> Directory<K> {
    pub fn new() -> Self {
        let empty = Arc::new(Shard::new());
        Self {
            hasher: hasher(),
            shards: (0..1 << SHARD_BITS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect(),
            count: AtomicUsize::new(0),
            step: Step::new(),
        }
    }

    /// The hash of a key in any borrowed form.
    #[inline(always)]
    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The shards take the high bits; the tables use the low and the highest ones.
    #[inline(always)]
    fn shard(&self, hash: u64) -> &ArcSwap<Shard<K>> {
        &self.shards[(hash >> 40) as usize & ((1 << SHARD_BITS) - 1)]
    }

    /// Calls `use_it` with the group of `key`, if there is one.
    #[inline(always)]
    pub fn with<Q, R>(&self, key: &Q, use_it: impl FnOnce(&Arc<Members<K>>) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.with_or(key, |group| Some(use_it(group)), |_| None)
    }

    /// Calls `use_it` with the group of `key`, or `otherwise` with the hash of the key if
    /// there is none.
    #[inline(always)]
    pub fn with_or<Q, R>(
        &self,
        key: &Q,
        use_it: impl FnOnce(&Arc<Members<K>>) -> R,
        otherwise: impl FnOnce(u64) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        self.step.observe();
        let shard = self.shard(hash).load();
        match shard.find(hash, |group| group.key.borrow() == key) {
            Some(group) => use_it(group),
            None => otherwise(hash),
        }
    }

    /// The group of `key` in which `enter` succeeds: the one that is there, or the
    /// one that `create` makes, entered already.
    ///
    /// `enter` fails for a group that was retired, which is then replaced.
    pub fn enter<Q>(
        &self,
        key: &Q,
        enter: impl Fn(&Members<K>) -> bool,
        create: impl FnOnce(u64) -> Members<K>,
    ) -> Arc<Members<K>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let mut create = Some(create);
        let mut created: Option<Arc<Members<K>>> = None;
        loop {
            self.step.observe();
            let current = shard.load();
            let found = current.find(hash, |group| group.key.borrow() == key);
            if let Some(group) = found.filter(|group| enter(group)) {
                return Arc::clone(group);
            }
            let group = match (&created, create.take()) {
                (None, Some(create)) => created.insert(Arc::new(create(hash))),
                (Some(group), _) => group,
                (None, None) => unreachable!("created is set when create is taken"),
            };
            let mut next =
                without(&current, |other| other.key.borrow() == key && other.hash == hash);
            next.insert_unique(hash, Arc::clone(group), |group| group.hash);
            self.step.publish();
            let previous = shard.compare_and_swap(&current, Arc::new(next));
            if Arc::ptr_eq(&previous, &current) {
                self.count.fetch_add(1, Ordering::Relaxed);
                return Arc::clone(group);
            }
        }
    }

    /// Takes out a group that the caller has retired.
    pub fn remove(&self, group: &Arc<Members<K>>) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        let shard = self.shard(group.hash);
        loop {
            self.step.observe();
            let current = shard.load();
            if current.find(group.hash, |other| Arc::ptr_eq(other, group)).is_none() {
                return; // replaced by its successor
            }
            let next = without(&current, |other| Arc::ptr_eq(other, group));
            self.step.publish();
            let previous = shard.compare_and_swap(&current, Arc::new(next));
            if Arc::ptr_eq(&previous, &current) {
                return;
            }
        }
    }

    /// Calls `each` with every group that is there when its shard's turn comes.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Members<K>>)) {
        for shard in &self.shards {
            self.step.observe();
            shard.load_full().iter().for_each(&mut each);
        }
    }

    /// The number of groups that are not retired.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A copy of a table but for some of its groups.
fn without<K>(table: &Shard<K>, leave_out: impl Fn(&Arc<Members<K>>) -> bool) -> Shard<K> {
    let mut copy = Shard::with_capacity(table.len() + 1);
    for group in table.iter().filter(|group| !leave_out(group)) {
        copy.insert_unique(group.hash, Arc::clone(group), |group| group.hash);
    }
    copy
}

/// Keyed at random, so that nobody can choose colliding keys.
#[cfg(not(slabpool_loom))]
fn hasher() -> RandomState {
    RandomState::new()
}

/// In models groups are where they were in the execution before.
#[cfg(slabpool_loom)]
fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}
