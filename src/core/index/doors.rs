//! The doors of an index: how they come into the list, and when there are more of them.

use super::{DOOR, FIRST, Gap, Index, LAST_LEVEL, NIL, OPEN, SHUT, Step, Word};
use crate::sync::{Ordering, overwrite};

impl Index {
    /// Where to begin, if this door is shut: here, after it was put in, or at the next one
    /// before it that is open, while somebody else is at that.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_anew(&self, number: u32) -> Gap<'_> {
        // Relaxed: worth a look, no more.
        if self.door(number).0.load(Ordering::Relaxed) == SHUT {
            self.put_in_door(number);
        }
        self.nearest(number)
    }

    /// This door, or the next one before it that is open.
    fn nearest(&self, mut number: u32) -> Gap<'_> {
        loop {
            let at = &self.door(number).0;
            let word = self.load(at);
            if word.is_open() {
                return Gap { at, word };
            }
            number >>= 1;
        }
    }

    fn put_in_door(&self, number: u32) {
        let word = &self.door(number).0;
        let mine = Word(SHUT).to(NIL).0;
        // Relaxed: nothing is read by way of it before it is in the list.
        if word.compare_exchange(SHUT, mine, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        loop {
            let gap = self.gap_before(number);
            let own = Word(word.load(Ordering::Relaxed)).to(gap.word.node());
            // Relaxed: published by the exchange.
            overwrite(word, own.0, Ordering::Relaxed);
            if self.exchange(gap, gap.word.to(DOOR | number)) {
                break;
            }
        }
        // It is in the list (X2). Release: pairs with `load`. The word has changed by that
        // (X1): whoever has read it before fails to exchange it.
        word.fetch_or(OPEN, Ordering::Release);
    }

    /// Where a door belongs.
    fn gap_before(&self, number: u32) -> Gap<'_> {
        'again: loop {
            let mut gap = self.nearest(number >> 1);
            loop {
                match self.step(Self::order_of_door(number), number, gap) {
                    Step::On(next) => gap = next,
                    Step::Changed => continue 'again,
                    // No place has the order of a door.
                    Step::End | Step::Same(..) => return gap,
                }
            }
        }
    }

    /// Goes on to the next level if there are more places than doors.
    #[inline]
    pub(super) fn grow_if_full(&self) {
        let level = self.level();
        let enough = if cfg!(slabpool_loom) { 3 } else { 1 << level };
        if self.places.high_water() > enough && level < LAST_LEVEL {
            self.grow(level);
        }
    }

    #[cold]
    fn grow(&self, level: u32) {
        self.doors.cover((2 << level) - FIRST);
        // Release: pairs with the Acquire in `level`. Relaxed on failure: it has grown.
        let _ = self.level.compare_exchange(level, level + 1, Ordering::Release, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn level(&self) -> u32 {
        // Acquire: pairs with the Release in `grow`, so that the doors are there.
        self.level.load(Ordering::Acquire)
    }

    /// How many doors there are on the current level.
    #[cfg(test)]
    pub fn doors(&self) -> u32 {
        1 << self.level()
    }
}
