//! A short list of claims that many take from, in order, and one at a time fills when it is
//! empty.
//!
//! # The word
//!
//! ```text
//!  63            32 31     16 15      0
//! +----------------+---------+---------+
//! |      tag       |   end   |  next   |   next == end: empty
//! +----------------+---------+---------+
//! ```
//!
//! # Invariants
//!
//! * **C1** Claims are written while the list is empty, by one thread at a time, before the
//!   word names them. So who exchanges the word that was loaded before a claim was read has
//!   read that claim whole.

use crate::core::levels::Levels;
use crate::core::ticket::Claim;
use crate::sync::{AtomicU32, AtomicU64, Ordering, overwrite};

const COUNT_BITS: u32 = 16;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const TAG_ONE: u64 = 1 << (2 * COUNT_BITS);

/// A list has no more claims than this.
pub const LENGTH_MAX: usize = COUNT_MASK as usize;

/// A claim, or what is left of one. Accesses are Relaxed: the word publishes it (C1).
#[derive(Debug, Default)]
struct Entry {
    seat: AtomicU32,
    incarnation: AtomicU64,
}

/// The list.
#[derive(Debug)]
pub struct Batch {
    word: AtomicU64,
    entries: Levels<Entry>,
}

impl Batch {
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), entries: Levels::new() }
    }

    /// How many claims are left.
    #[cfg(test)]
    pub fn left(&self) -> usize {
        // Relaxed: a number. Who fills has seen the fill before his.
        let word = self.word.load(Ordering::Relaxed);
        ((word >> COUNT_BITS & COUNT_MASK) - (word & COUNT_MASK)) as usize
    }

    /// Takes the next claim.
    ///
    /// Starts over only when another thread has taken one.
    pub fn pop(&self) -> Option<Claim> {
        // Acquire, here and on failure: pairs with the Release in `fill` (C1). Each word
        // after that is written by a read-modify-write.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = word & COUNT_MASK;
            if next == word >> COUNT_BITS & COUNT_MASK {
                return None;
            }
            let entry = self.entries.get(next as u32);
            let seat = entry.seat.load(Ordering::Relaxed);
            let incarnation = entry.incarnation.load(Ordering::Relaxed);
            // Release: who fills the list next writes after this has read.
            let (success, failure) = (Ordering::Release, Ordering::Acquire);
            match self.word.compare_exchange_weak(word, word + 1, success, failure) {
                Ok(_) => return Some(Claim { seat, incarnation }),
                Err(actual) => word = actual,
            }
        }
    }

    /// Fills the list, if it is empty. One thread at a time: the caller sees to it, and that
    /// each sees what the one before has done.
    pub fn fill(&self, claims: impl ExactSizeIterator<Item = Claim>) {
        let count = claims.len();
        debug_assert!(count <= LENGTH_MAX, "{count} are too many for the word");
        // Acquire: pairs with `pop`.
        let word = self.word.load(Ordering::Acquire);
        if count == 0 || word >> COUNT_BITS & COUNT_MASK != word & COUNT_MASK {
            return;
        }
        for (number, claim) in claims.enumerate() {
            self.entries.cover(number as u32);
            let entry = self.entries.get(number as u32);
            entry.seat.store(claim.seat, Ordering::Relaxed);
            entry.incarnation.store(claim.incarnation, Ordering::Relaxed);
        }
        let next = (word & !(TAG_ONE - 1)).wrapping_add(TAG_ONE) | (count as u64) << COUNT_BITS;
        // Release: pairs with `pop`. Nobody else changes the word of an empty list.
        overwrite(&self.word, next, Ordering::Release);
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn claims(numbers: std::ops::Range<u32>) -> impl ExactSizeIterator<Item = Claim> {
        numbers.map(|seat| Claim { seat, incarnation: u64::from(seat) << 40 })
    }

    #[test]
    fn claims_come_in_order_and_once() {
        let batch = Batch::new();
        assert!(batch.pop().is_none());
        for first in [0, 7, 100] {
            batch.fill(claims(first..first + 500));
            batch.fill(claims(0..1));
            assert_eq!(batch.left(), 500, "it was not empty");
            for claim in claims(first..first + 500) {
                assert_eq!(batch.pop(), Some(claim));
            }
            assert!(batch.pop().is_none());
        }
        batch.fill(claims(0..0));
        assert_eq!((batch.left(), batch.pop()), (0, None));
    }

    #[test]
    fn threads_take_each_claim_once_and_whole() {
        const ROUNDS: u32 = 2_000;
        const COUNT: u32 = 8;
        let batch = Batch::new();
        let taken = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while taken.load(Ordering::Relaxed) < ROUNDS * COUNT {
                        let Some(claim) = batch.pop() else {
                            std::thread::yield_now();
                            continue;
                        };
                        assert_eq!(claim.incarnation, u64::from(claim.seat) << 40);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for round in 0..ROUNDS {
                while batch.left() > 0 {
                    std::thread::yield_now();
                }
                batch.fill(claims(round * COUNT..(round + 1) * COUNT));
            }
        });
        assert_eq!(taken.into_inner(), ROUNDS * COUNT);
    }
}
