//! The head of a lock-free stack of indices: one word, all its transitions.
//!
//! # Layout
//!
//! ```text
//!  63                          28 27                    0
//! +------------------------------+-----------------------+
//! |             tag              |         index         |   index == NIL: empty
//! +------------------------------+-----------------------+
//! ```
//!
//! # Invariants
//!
//! * **T1** Every write to a [`Head`] is a read-modify-write that raises the tag.
//!   So a word that was seen once is never current again (for 2^36 changes: 17
//!   minutes of nothing but changes at 15 ns each), and the writes to one head
//!   form a single release sequence.

use crate::sync::{AtomicU64, Ordering};

/// Width of an index: at most 2^28 - 1 records in one array.
pub const INDEX_BITS: u32 = 28;
/// The index that names nothing.
pub const NIL: u32 = (1 << INDEX_BITS) - 1;

const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// Adding this leaves the index alone, even when the tag wraps.
const TAG_ONE: u64 = 1 << INDEX_BITS;

const _: () = assert!(NIL as u64 == INDEX_MASK);

/// What a head held at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged(u64);

impl Tagged {
    /// The record on top, [`NIL`] when there is none.
    pub fn index(self) -> u32 {
        (self.0 & INDEX_MASK) as u32
    }

    pub fn is_empty(self) -> bool {
        self.index() == NIL
    }

    /// How often the head was changed, modulo 2^36.
    pub fn tag(self) -> u64 {
        self.0 >> INDEX_BITS
    }

    /// The whole word.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The word that follows this one when `index` becomes the top.
    fn succeeded_by(self, index: u32) -> Self {
        debug_assert!(index <= NIL, "index {index} is wider than {INDEX_BITS} bits");
        Self((self.0 & !INDEX_MASK).wrapping_add(TAG_ONE) | u64::from(index))
    }
}

/// The head of a stack.
#[derive(Debug)]
pub struct Head(AtomicU64);

impl Head {
    pub fn new() -> Self {
        Self(AtomicU64::new(INDEX_MASK))
    }

    /// Reads the head.
    #[inline(always)]
    pub fn load(&self) -> Tagged {
        // Acquire: pairs with the Release of whoever put this word here (a push,
        // `seal`, `bump`), and by T1 with every earlier one as well.
        Tagged(self.0.load(Ordering::Acquire))
    }

    /// Makes `index` the top, if the head still is what `seen` says.
    ///
    /// Publishes the record at `index` and all that its writer did before.
    #[inline(always)]
    pub fn publish(&self, seen: Tagged, index: u32) -> bool {
        // Release: pairs with the Acquire of `load`.
        // Relaxed on failure: the caller loads again.
        self.exchange(seen, index, Ordering::Release)
    }

    /// Leaves the top as it is, if the head still is what `seen` says, and publishes what
    /// the caller did before: a [`Head::publish`] of the same index.
    #[inline(always)]
    pub fn renew(&self, seen: Tagged) -> bool {
        let next = seen.0.wrapping_add(TAG_ONE);
        // Release, and Relaxed on failure: as in `publish`.
        self.0.compare_exchange(seen.0, next, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Takes the top off, leaving `below`, if the head still is what `seen` says.
    #[inline(always)]
    pub fn unlink(&self, seen: Tagged, below: u32) -> bool {
        // Release: who finds the stack empty after this sees what the popper knew,
        // such as a push elsewhere; else nothing could be proved of several stacks.
        // Not Acquire: the word is the one which `load` acquired (T1).
        self.exchange(seen, below, Ordering::Release)
    }

    #[inline(always)]
    fn exchange(&self, seen: Tagged, index: u32, success: Ordering) -> bool {
        let next = seen.succeeded_by(index);
        self.0.compare_exchange(seen.0, next.0, success, Ordering::Relaxed).is_ok()
    }

    /// Proves that the head still is what `seen` says, and so that the chain
    /// read since then is the chain that hung from it. Returns the new word.
    pub fn seal(&self, seen: Tagged) -> Option<Tagged> {
        // Relaxed: T1 makes the comparison exact whatever was read in between;
        // the caller acts on what it read, not on anything published here.
        self.exchange(seen, seen.index(), Ordering::Relaxed)
            .then(|| seen.succeeded_by(seen.index()))
    }

    /// Raises the tag and nothing else: whoever read the head before fails to
    /// change it, whoever reads it from now on sees what the caller did before.
    pub fn bump(&self) {
        // AcqRel: Release pairs with the Acquire of `load`; Acquire, so that the
        // caller sees what was done before every push that came first.
        self.0.fetch_add(TAG_ONE, Ordering::AcqRel);
    }

    /// Takes the whole chain. The caller owns every record on it.
    pub fn detach(&self) -> u32 {
        let mut seen = self.load();
        loop {
            let next = seen.succeeded_by(NIL);
            // Release: this stands for `bump` as well, also when there is nothing to
            // take; the word was acquired when it was loaded (T1). Acquire on failure:
            // as in `load`.
            match self.0.compare_exchange(seen.0, next.0, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return seen.index(),
                Err(actual) => seen = Tagged(actual),
            }
        }
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_change_raises_the_tag() {
        let head = Head::new();
        let empty = head.load();
        assert!(empty.is_empty());
        assert!(head.publish(empty, 7));
        let one = head.load();
        assert_eq!(one.index(), 7);
        assert!(head.unlink(one, NIL));
        assert_ne!(head.load(), empty, "an emptied head differs from one never used");
        assert!(!head.publish(empty, 7), "a stale word changes nothing");
        head.bump();
        assert!(head.seal(one).is_none());
        assert_eq!(head.detach(), NIL);
    }

    #[test]
    fn a_tag_that_wraps_leaves_the_index_alone() {
        let last = Tagged(!INDEX_MASK | 5);
        assert_eq!(last.succeeded_by(9).index(), 9);
        assert_eq!(last.succeeded_by(9).0, 9);
    }
}
