//! Key to group. Readers take no lock and wait for nobody.
//!
//! The map is cut into shards, each an immutable table behind an `ArcSwap`. A new
//! group is added to a copy of its shard's table, which then replaces it
//! (read-copy-update). So that a copy stays short, a shard whose table is full is split
//! into two.
//!
//! # Layout
//!
//! The shards are places of an array that grows by levels, each twice as large as the one
//! before. A hash leads to one place in each level: place `p` was split into `2p` and
//! `2p + 1`. Almost all groups are in one level or the next, and a reader begins where
//! most of them are. If nothing is there yet, the shard above was not split; if there is
//! nothing any more, it goes on below.
//!
//! ```text
//!   1024 ... 2047        level 0, from the beginning
//!   2048 ... 4095        level 1, when there are more than 100,000 groups
//!   ...
//! ```
//!
//! Keys are hashed with random keys, so that nobody can choose colliding ones, and
//! compared by `Eq`.
//!
//! # Invariants
//!
//! * **D1** What is in a place is first nothing, then one table after the other, then a
//!   frozen table, and then for ever the word that it was split. It is in this order that
//!   a thread which looks again finds them.
//! * **D2** The places below get their first tables while the table above is frozen, each
//!   once, and change only after it was split. So a frozen table is never out of date.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::Guard;

use crate::core::arena::{Arena, FIRST};
use crate::group::Members;
use crate::shard::{
    FIRST_LEVEL_BITS, GROUPS_MAX, LEVELS, LEVELS_AHEAD, Leaf, Node, Path, Shard, Table, table_of,
    with_room, without,
};
use crate::sync::Step;

/// All groups of a pool.
#[derive(Debug)]
pub(crate) struct Directory<K> {
    hasher: RandomState,
    /// By place, less [`FIRST`].
    shards: Arena<Shard<K>>,
    /// How many levels there are above the last one, from that on where readers begin.
    above: AtomicU32,
    /// How many shards of each level were split.
    splits: [AtomicU32; LEVELS as usize],
    empty: Arc<Node<K>>,
    split: Arc<Node<K>>,
    /// Groups that are not retired.
    count: AtomicUsize,
    step: Step,
}

impl<K> Directory<K> {
    pub fn new() -> Self {
        let directory = Self {
            hasher: hasher(),
            shards: Arena::new(),
            above: AtomicU32::new(LEVELS),
            splits: std::array::from_fn(|_| AtomicU32::new(0)),
            empty: Arc::new(Node::Groups(Table::new())),
            split: Arc::new(Node::Split),
            count: AtomicUsize::new(0),
            step: Step::new(),
        };
        // In models all levels: what publishes them later is a step that loom does not know.
        let levels = if cfg!(slabpool_loom) { LEVELS } else { 0 };
        (0..=levels).for_each(|level| directory.cover(1 << (FIRST_LEVEL_BITS + level)));
        for place in 1 << FIRST_LEVEL_BITS..2 << FIRST_LEVEL_BITS {
            directory.shard(place).0.store(Some(Arc::clone(&directory.empty)));
        }
        directory
    }

    /// The hash of a key in any borrowed form.
    #[inline(always)]
    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Makes sure of a place, and of all in the same level.
    fn cover(&self, place: u32) {
        self.shards.cover(place - FIRST);
    }

    #[inline(always)]
    fn shard(&self, place: u32) -> &Shard<K> {
        self.shards.get(place - FIRST)
    }

    /// The place of a hash in one level, as it is now.
    fn look(&self, hash: u64, above: u32) -> Leaf<'_, K> {
        let place = Path::new(hash).place(above);
        let shard = self.shard(place);
        self.step.observe();
        Leaf { shard, node: shard.0.load(), above, place }
    }

    /// The node that has the groups of a hash.
    #[inline(always)]
    fn node_of(&self, hash: u64) -> Guard<Option<Arc<Node<K>>>> {
        // Acquire: pairs with the Release in `finish`, so that the level is there.
        let shard = self.shard(Path::new(hash).place(self.above.load(Ordering::Acquire)));
        self.step.observe();
        let node = shard.0.load();
        match node.as_deref() {
            Some(Node::Groups(_)) => node,
            _ => self.leaf(hash).node,
        }
    }

    /// The shard that has the groups of a hash.
    ///
    /// Goes back and forth only when others have split the shard meanwhile (D1).
    #[cold]
    #[inline(never)]
    fn leaf(&self, hash: u64) -> Leaf<'_, K> {
        // Acquire: as in `node_of`.
        let mut above = self.above.load(Ordering::Acquire);
        loop {
            let leaf = self.look(hash, above);
            match leaf.node.as_deref() {
                None => above += 1,
                Some(Node::Split) => above -= 1,
                Some(Node::Groups(_) | Node::Frozen(_)) => return leaf,
            }
        }
    }

    /// As [`Directory::leaf`], to be changed: neither that shard nor the one above it is
    /// frozen (D2).
    fn leaf_to_change(&self, hash: u64) -> Leaf<'_, K> {
        loop {
            let leaf = self.leaf(hash);
            if leaf.is_frozen() {
                self.finish(&leaf);
            } else if leaf.above == LEVELS {
                return leaf;
            } else {
                let parent = self.look(hash, leaf.above + 1);
                if !parent.is_frozen() {
                    return leaf;
                }
                self.finish(&parent);
            }
        }
    }

    fn may_split(&self, leaf: &Leaf<'_, K>) -> bool {
        // Relaxed: a heuristic.
        let begin = self.above.load(Ordering::Relaxed);
        leaf.above > 0 && leaf.above - 1 + LEVELS_AHEAD >= begin
    }

    /// Begins to split a shard, unless it was changed meanwhile.
    #[cold]
    fn freeze(&self, leaf: &Leaf<'_, K>) {
        if let Some(node) = &*leaf.node {
            self.step.publish();
            leaf.replace(Arc::new(Node::Frozen(Arc::clone(node))));
        }
    }

    /// Ends what [`Directory::freeze`] began. Several threads may be at it.
    fn finish(&self, leaf: &Leaf<'_, K>) {
        let below = leaf.above - 1;
        let mut tables = [Table::new(), Table::new()];
        for group in leaf.table() {
            let part = Path::new(group.hash).place(below) as usize % 2;
            tables[part].insert_unique(group.hash, Arc::clone(group), |group| group.hash);
        }
        for (part, table) in (2 * leaf.place..).zip(tables) {
            self.cover(part);
            let shard = self.shard(part);
            self.step.publish();
            // If something is there, another thread was first (D1).
            shard.0.compare_and_swap(&None::<Arc<Node<K>>>, Some(self.node(table)));
        }
        self.step.publish();
        if leaf.replace(Arc::clone(&self.split)) {
            // Relaxed: a number.
            let splits = self.splits[below as usize].fetch_add(1, Ordering::Relaxed) + 1;
            let shards = 1 << (FIRST_LEVEL_BITS + LEVELS - leaf.above);
            if splits * 2 == shards {
                // Release: pairs with the Acquire in `node_of`.
                self.above.fetch_min(below, Ordering::Release);
            }
        }
    }

    /// A node for a table. Those without groups share one.
    fn node(&self, table: Table<K>) -> Arc<Node<K>> {
        if table.is_empty() { Arc::clone(&self.empty) } else { Arc::new(Node::Groups(table)) }
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
        match table_of(&self.node_of(hash)).find(hash, |group| (*group.key).borrow() == key) {
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
        let mut create = Some(create);
        let mut created: Option<Arc<Members<K>>> = None;
        loop {
            let leaf = self.leaf_to_change(hash);
            let table = leaf.table();
            let found = table.find(hash, |group| (*group.key).borrow() == key);
            if let Some(group) = found.filter(|group| enter(group)) {
                return Arc::clone(group);
            }
            if found.is_none() && table.len() >= GROUPS_MAX && self.may_split(&leaf) {
                self.freeze(&leaf);
                continue;
            }
            let group = match (&created, create.take()) {
                (None, Some(create)) => created.insert(Arc::new(create(hash))),
                (Some(group), _) => group,
                (None, None) => unreachable!("created is set when create is taken"),
            };
            let mut next = match found {
                None => with_room(table),
                Some(old) => without(table, old),
            };
            next.insert_unique(hash, Arc::clone(group), |group| group.hash);
            self.step.publish();
            if leaf.replace(Arc::new(Node::Groups(next))) {
                self.count.fetch_add(1, Ordering::Relaxed);
                return Arc::clone(group);
            }
        }
    }

    /// Takes out a group that the caller has retired.
    pub fn remove(&self, group: &Arc<Members<K>>) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        loop {
            let leaf = self.leaf_to_change(group.hash);
            if leaf.table().find(group.hash, |other| Arc::ptr_eq(other, group)).is_none() {
                return; // replaced by its successor
            }
            let next = without(leaf.table(), group);
            self.step.publish();
            if leaf.replace(self.node(next)) {
                return;
            }
        }
    }

    /// Calls `each` with every group that is there when its shard's turn comes.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Members<K>>)) {
        for place in 1 << FIRST_LEVEL_BITS..2 << FIRST_LEVEL_BITS {
            self.for_each_from(place, &mut each);
        }
    }

    fn for_each_from(&self, place: u32, each: &mut dyn FnMut(&Arc<Members<K>>)) {
        // Not a guard: `each` may take its time, and use others.
        let shard = self.shard(place);
        self.step.observe();
        let Some(node) = shard.0.load_full() else { return };
        match node.table() {
            Some(table) => table.iter().for_each(each),
            None => (2 * place..).take(2).for_each(|part| self.for_each_from(part, each)),
        }
    }

    /// The number of groups that are not retired.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Keyed at random, so that nobody can choose colliding keys; in models groups are where
/// they were in the execution before.
fn hasher() -> RandomState {
    if cfg!(slabpool_loom) { RandomState::with_seeds(1, 2, 3, 4) } else { RandomState::new() }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests;
