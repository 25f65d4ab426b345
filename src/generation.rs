//! From which time a connection is: the generations by which the pool and its groups
//! are invalidated in O(1), and the closing of the pool, which is the last one.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use crate::core::seat::GENERATION_ONE;
use crate::engine::Engine;
use crate::group::{Member, Members};
use crate::sync::Ordering;

impl<K, C> Engine<K, C> {
    /// The pool's own generation.
    #[inline(always)]
    pub fn generation(&self) -> u32 {
        // Relaxed: after a push or a pop, ordered by the head (see `reconsider`).
        self.generation.load(Ordering::Relaxed)
    }

    /// The pool's own generation, if it is open: when it closes, that is another.
    pub fn open_generation(&self) -> Option<u32> {
        // Acquire: pairs with the Release in `mark_closed`. If this is the generation
        // of a closed pool, the next line sees that.
        let generation = self.generation.load(Ordering::Acquire);
        (!self.is_closed()).then_some(generation)
    }

    /// The generation of connections that are inserted into this group now. Both
    /// parts only rise, so that their sum is the same only if both are.
    #[inline(always)]
    pub fn generation_of(&self, group: &Members<K>) -> u32 {
        self.generation().wrapping_add(group.generation())
    }

    pub fn is_closed(&self) -> bool {
        // Relaxed: written before the generation is raised, and read after.
        self.closed.load(Ordering::Relaxed)
    }

    /// Makes all connections unfit for use that are in the pool now.
    pub fn invalidate(&self) {
        // Release: pairs with nothing that is modelled; makes it prompt.
        self.generation.fetch_add(GENERATION_ONE, Ordering::Release);
        self.maintainer.want_sweep();
    }

    /// Says that the pool is closed; what is idle is the caller's to remove.
    pub fn mark_closed(&self) {
        // Relaxed: published with the generation, by the heads (`reconsider`) or
        // by the fence.
        self.closed.store(true, Ordering::Relaxed);
        // Release: pairs with the Acquire in `open_generation`.
        self.generation.fetch_add(GENERATION_ONE, Ordering::Release);
        // Either an insertion sees the new generation, since it has entered its group after
        // this, or the caller finds that group in the directory.
        self.directory.meet();
        // No permit from now on: those that are out are all that there will be.
        self.capacity.close();
    }

    /// Enters the group of `key`, and makes it if there is none.
    pub fn join<Q>(&self, key: &Q, member: Member) -> Arc<Members<K>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut maker = false;
        let group = self.directory.enter(
            key,
            |group| group.roll.enter(member),
            |hash, spare| {
                maker = true;
                self.new_group(key.to_owned(), hash, member, spare)
            },
        );
        if maker && group.changes != self.desk.changes() {
            // The settings have changed, perhaps before a `reconfigure` could find the group.
            self.apply_settings(&group);
        }
        group
    }
}
