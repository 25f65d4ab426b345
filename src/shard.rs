//! A part of the directory: what is in one of its places, and how a hash leads there.
//!
//! The invariants D1 and D2 are those of [`super::directory`].

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use hashbrown::HashTable;

use crate::core::levels::FIRST;
use crate::group::Members;

/// Places in the first level; at least as many as in that of [`Levels`](crate::core::levels).
/// All of this is small in models and in the tests of this file.
pub(crate) const FIRST_LEVEL_BITS: u32 = match () {
    () if cfg!(slabpool_loom) => 2,
    () if cfg!(test) => 6,
    () => 10,
};
/// Levels after the first.
pub(crate) const LEVELS: u32 = if cfg!(slabpool_loom) { 2 } else { 15 };
/// Groups in a table, unless nothing tells them apart: as many as a table of 128 holds.
pub(crate) const GROUPS_MAX: usize = match () {
    () if cfg!(slabpool_loom) => 1,
    () if cfg!(test) => 4,
    () => 112,
};
/// How far beyond the level where readers begin a shard may be split. Chance asks for no
/// more; keys with bad hashes would, and get large tables instead of large levels.
pub(crate) const LEVELS_AHEAD: u32 = 2;

const _: () = assert!(1 << FIRST_LEVEL_BITS >= FIRST);

pub(crate) type Table<K> = HashTable<Arc<Members<K>>>;

/// The groups of some hashes.
#[derive(Debug)]
pub(crate) struct Shard<K>(pub ArcSwapOption<Node<K>>);

impl<K> Default for Shard<K> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

#[derive(Debug)]
pub(crate) enum Node<K> {
    Groups(Table<K>),
    /// A node with groups that changes no more, since the shard is being split.
    Frozen(Arc<Node<K>>),
    /// The groups are in the next level.
    Split,
}

impl<K> Node<K> {
    pub fn table(&self) -> Option<&Table<K>> {
        match self {
            Self::Groups(table) => Some(table),
            Self::Frozen(node) => node.table(),
            Self::Split => None,
        }
    }
}

/// The places of a hash: the one in the last level. Those above it are this number
/// without its last bits.
#[derive(Clone, Copy)]
pub(crate) struct Path(u32);

impl Path {
    /// The tables use the lower half of the hash and the seven highest bits.
    #[inline(always)]
    pub fn new(hash: u64) -> Self {
        const BITS: u32 = FIRST_LEVEL_BITS + LEVELS;
        // In models all begin in one place.
        const USED: u32 = if cfg!(slabpool_loom) { LEVELS } else { BITS };
        Self(1 << BITS | (hash >> 32) as u32 & ((1 << USED) - 1))
    }

    #[inline(always)]
    pub fn place(self, above: u32) -> u32 {
        self.0 >> above
    }
}

/// A place, as it was at one moment.
pub(crate) struct Leaf<'a, K> {
    pub shard: &'a Shard<K>,
    pub node: Guard<Option<Arc<Node<K>>>>,
    pub above: u32,
    pub place: u32,
}

impl<K> Leaf<'_, K> {
    pub fn table(&self) -> &Table<K> {
        table_of(&self.node)
    }

    pub fn is_frozen(&self) -> bool {
        matches!(self.node.as_deref(), Some(Node::Frozen(_)))
    }

    /// Replaces what was there, if it still is.
    pub fn replace(&self, node: Arc<Node<K>>) -> bool {
        let previous = self.shard.0.compare_and_swap(&self.node, Some(node));
        let pointer = |node: &Option<Arc<Node<K>>>| node.as_ref().map(Arc::as_ptr);
        pointer(&previous) == pointer(&self.node)
    }
}

/// The groups of a shard that was not split.
#[inline(always)]
pub(crate) fn table_of<K>(node: &Option<Arc<Node<K>>>) -> &Table<K> {
    match node.as_deref() {
        Some(Node::Groups(table)) => table,
        node => frozen_table(node),
    }
}

#[cold]
#[inline(never)]
fn frozen_table<K>(node: Option<&Node<K>>) -> &Table<K> {
    node.and_then(Node::table).expect("it was not split when it was looked at")
}

/// A copy of a table with room for one more group.
pub(crate) fn with_room<K>(table: &Table<K>) -> Table<K> {
    if table.capacity() > table.len() {
        // Without a look at the groups' hashes, which are in memory that nobody needs.
        return table.clone();
    }
    let mut copy = Table::with_capacity(table.len() + 1);
    for group in table {
        copy.insert_unique(group.hash, Arc::clone(group), |group| group.hash);
    }
    copy
}

/// A copy of a table but for one of its groups.
pub(crate) fn without<K>(table: &Table<K>, old: &Arc<Members<K>>) -> Table<K> {
    let mut copy = Table::with_capacity(table.len());
    for group in table.iter().filter(|group| !Arc::ptr_eq(group, old)) {
        copy.insert_unique(group.hash, Arc::clone(group), |group| group.hash);
    }
    copy
}
