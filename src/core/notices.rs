//! Which seats the reaper must look at sooner than it had planned, as told by releases:
//! without a lock, an allocation or a retry, and at a cost for the reaper that follows
//! the number of notices.
//!
//! A fixed number of bits. The seat at index `i` has the bit `i % BITS`, so that up to
//! [`BITS`] seats each bit is one seat, and in a larger pool some seats share one: whoever
//! collects the notices looks at all of them, and finds out by itself whom they were for.

use crate::sync::{AtomicU64, Ordering};

const WORDS: usize = if cfg!(slabpool_loom) { 1 } else { 64 };
const WORD_BITS: usize = u64::BITS as usize;
/// How many bits there are.
const BITS: usize = WORDS * WORD_BITS;

/// Notices from many, collected by one.
#[derive(Debug)]
pub struct Notices([AtomicU64; WORDS]);

impl Notices {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Leaves a notice for a seat. What the caller wrote before is seen by who collects
    /// it.
    pub fn post(&self, seat: u32) {
        let bit = seat as usize % BITS;
        // Release: pairs with the Acquire in `collect`. A read-modify-write, so that all
        // who have posted in this word are one release sequence.
        self.0[bit / WORD_BITS].fetch_or(1 << (bit % WORD_BITS), Ordering::Release);
    }

    /// Takes all notices away, and calls `each` with every seat below `end` that they may
    /// have been for.
    pub fn collect(&self, end: u32, mut each: impl FnMut(u32)) {
        for (number, word) in self.0.iter().enumerate() {
            // Relaxed: worth a look, no more.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with `post`.
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                let first = number * WORD_BITS + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                (first..end as usize).step_by(BITS).for_each(|seat| each(seat as u32));
            }
        }
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn collected(notices: &Notices, end: u32) -> Vec<u32> {
        let mut seats = Vec::new();
        notices.collect(end, |seat| seats.push(seat));
        seats
    }

    #[test]
    fn every_notice_is_collected_once() {
        let notices = Notices::new();
        assert_eq!(collected(&notices, 9_000), []);
        for seat in [0, 63, 64, 4_095, 4_095] {
            notices.post(seat);
        }
        assert_eq!(collected(&notices, 4_096), [0, 63, 64, 4_095]);
        assert_eq!(collected(&notices, 4_096), []);
    }

    #[test]
    fn seats_that_share_a_bit_are_looked_at_together() {
        let notices = Notices::new();
        notices.post(5 + 4_096);
        assert_eq!(collected(&notices, 10_000), [5, 5 + 4_096, 5 + 8_192]);
        notices.post(7);
        assert_eq!(collected(&notices, 7), [], "it was never given out");
    }
}
