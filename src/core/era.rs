//! From which time the connections of a group are, and whether it takes new ones: one
//! word, all its transitions.
//!
//! # Layout
//!
//! ```text
//!  31                          1      0
//! +------------------------------+--------+
//! |          generation          |draining|
//! +------------------------------+--------+
//! ```
//!
//! The generation rises when the group is invalidated and when it is drained. It stays
//! with the lanes when their group goes, and goes on rising under the next one. It is
//! there, and not in the group, because whoever has just pushed a ticket may look at the
//! lanes, and no longer at the group.
//!
//! A group that drains is kept by that, as by a handle. So lanes that wait for their
//! next group do not drain.

use crate::core::seat::GENERATION_ONE;
use crate::sync::{AtomicU32, Ordering};

const DRAINING: u32 = 1;

// What is added to a generation leaves the mark of a drain alone.
const _: () = assert!(GENERATION_ONE == DRAINING << 1);

/// The era of the connections in one set of lanes.
#[derive(Debug)]
pub struct Era {
    word: AtomicU32,
    /// What [`Mark`](super::seat::Mark)s were made of right after the last drain began.
    /// For the reason of a close alone.
    drained: AtomicU32,
}

impl Era {
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), drained: AtomicU32::new(0) }
    }

    /// The generation, as a summand of what a mark is compared with. While it drains, no
    /// mark is of the sum: nobody has come in since the generation was raised for that.
    #[inline(always)]
    pub fn generation(&self) -> u32 {
        // Relaxed: after a push or a pop, ordered by the head, which whoever changes
        // this goes on to (`Lanes::barrier`, `Lanes::drain`).
        self.word.load(Ordering::Relaxed)
    }

    /// The generation of connections that come in now; `None` while none may. If it
    /// drains from now on, that generation is a former one.
    pub fn open_generation(&self) -> Option<u32> {
        let word = self.generation();
        (word & DRAINING == 0).then_some(word)
    }

    pub fn is_draining(&self) -> bool {
        self.generation() & DRAINING != 0
    }

    /// Makes all connections unfit that are there now. The caller then passes a barrier.
    pub fn invalidate(&self) {
        // Relaxed: the barrier publishes it.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(word.wrapping_add(GENERATION_ONE))
        });
    }

    /// As [`Era::invalidate`], and lets none in from now on. False if that is so
    /// already. `pool` is the pool's generation.
    #[must_use = "who begins it leaves a member in the group"]
    pub fn drain(&self, pool: u32) -> bool {
        // Release: pairs with the Acquire in `resume`, which then finds the member.
        // Relaxed on failure: what it found is for the caller's barrier to publish.
        let before = self.word.fetch_update(Ordering::Release, Ordering::Relaxed, |word| {
            (word & DRAINING == 0).then_some(word.wrapping_add(GENERATION_ONE) | DRAINING)
        });
        if let Ok(before) = before {
            // Relaxed: it decides about a reason, no more.
            let drained = pool.wrapping_add(before).wrapping_add(GENERATION_ONE);
            self.drained.store(drained, Ordering::Relaxed);
        }
        before.is_ok()
    }

    /// Lets connections in again. False if it did not drain.
    #[must_use = "who ends it takes the member out of the group"]
    pub fn resume(&self) -> bool {
        // AcqRel: Acquire pairs with the Release in `drain`, Release with `has_drained`: who
        // finds the drain ended knows of it.
        self.word.fetch_and(!DRAINING, Ordering::AcqRel) & DRAINING != 0
    }

    /// Whether a drain is what has made a connection with this mark unfit.
    pub fn has_drained(&self, mark: u64) -> bool {
        // Acquire: pairs with the Release in `resume`.
        let draining = self.word.load(Ordering::Acquire) & DRAINING != 0;
        // Relaxed: as in `drain`.
        let drained = self.drained.load(Ordering::Relaxed);
        let generation = mark as u32 & !(GENERATION_ONE - 1);
        let behind = drained.wrapping_sub(generation) / GENERATION_ONE;
        draining || (1..=u32::MAX / GENERATION_ONE / 2).contains(&behind)
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn number(era: &Era) -> u32 {
        era.generation() / GENERATION_ONE
    }

    /// Of a generation.
    fn mark(number: u64) -> u64 {
        number * u64::from(GENERATION_ONE)
    }

    #[test]
    fn a_drain_is_begun_once_and_ended_once() {
        let era = Era::new();
        assert_eq!(era.open_generation(), Some(0));
        assert!(era.drain(0) && !era.drain(0));
        assert_eq!((era.open_generation(), number(&era), era.is_draining()), (None, 1, true));
        assert!(era.resume() && !era.resume());
        assert_eq!((era.open_generation(), era.is_draining()), (Some(GENERATION_ONE), false));
    }

    #[test]
    fn to_invalidate_neither_begins_nor_ends_a_drain() {
        let era = Era::new();
        assert!(era.drain(0));
        era.invalidate();
        assert_eq!((number(&era), era.is_draining()), (2, true));
        assert!(era.resume());
        era.word.store(!DRAINING, Ordering::Relaxed);
        era.invalidate();
        assert_eq!((era.generation(), era.is_draining()), (0, false), "it wraps");
        era.word.store(!DRAINING, Ordering::Relaxed);
        assert!(era.drain(0));
        assert_eq!((number(&era), era.is_draining()), (0, true));
    }

    #[test]
    fn what_a_drain_has_made_unfit_is_told_apart() {
        let era = Era::new();
        assert!(!era.has_drained(0));
        era.invalidate();
        assert!(!era.has_drained(0));
        // The pool's generation is 5.
        assert!(era.drain(mark(5) as u32));
        assert!(era.has_drained(mark(6)));
        assert!(era.resume());
        assert!(era.has_drained(mark(6)) && era.has_drained(0));
        assert!(!era.has_drained(mark(7)), "it came in after the drain");
        era.invalidate();
        assert!(era.has_drained(mark(6)) && !era.has_drained(mark(7)));
        let doomed = mark(6) | 1;
        assert!(era.has_drained(9 << 32 | doomed));
    }
}
