//! An array that grows by levels, each as large as all before it together, and never moves.
//!
//! For what is covered by whole levels, or looked for before it is there: the doors of an
//! [`index`](super::index), and the rows of those who hold something. Records are found by
//! index; their memory is never unmapped or put to another use while the array lives.
//!
//! # Layout
//!
//! Each level holds twice as many records as the one before, the first one `FIRST`. The
//! highest bit of an index plus `FIRST` is the number of its level;
//! the pointer that is kept for a level is set back by as many records as that bit
//! stands for, so that the sum is also the place. Unused levels are null.

use std::fmt;

use crate::sync::{AtomicPtr, Ordering};

/// Records in the first level; small in models, where each costs time.
const FIRST_BITS: u32 = if cfg!(slabpool_loom) { 2 } else { 6 };
pub const FIRST: u32 = 1 << FIRST_BITS;
/// One for each bit; the lowest are never used.
const LEVELS: usize = u32::BITS as usize;

/// A growing array.
pub struct Levels<R> {
    levels: [AtomicPtr<R>; LEVELS],
}

impl<R: Default> Levels<R> {
    pub fn new() -> Self {
        Self { levels: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())) }
    }

    /// Makes sure of the record at `index`, and of all in the same level.
    pub fn cover(&self, index: u32) {
        self.ensure(level_of(index + FIRST));
    }

    /// The record at `index`, which was covered at some time.
    #[inline(always)]
    pub fn get(&self, index: u32) -> &R {
        let place = index + FIRST;
        // Acquire: pairs with the Release in `ensure`.
        let origin = self.levels[level_of(place)].load(Ordering::Acquire);
        debug_assert!(!origin.is_null(), "index {index} was never covered");
        let record = origin.wrapping_add(place as usize);
        // SAFETY: an index that was covered has its level allocated (A1), and this
        // is its place in it. Records are initialised with their level and live as
        // long as the array (A2), whose borrow bounds this reference.
        unsafe { &*record }
    }

    /// The record at `index`, if it was covered.
    #[inline(always)]
    pub fn find(&self, index: u32) -> Option<&R> {
        let place = index + FIRST;
        // Acquire: as in `get`.
        let origin = self.levels[level_of(place)].load(Ordering::Acquire);
        let record = origin.wrapping_add(place as usize);
        // SAFETY: as in `get`: the level is there.
        (!origin.is_null()).then(|| unsafe { &*record })
    }

    /// **A1** Whoever uses an index has made sure of its level before.
    fn ensure(&self, level: usize) {
        // Relaxed: whoever goes on to a record loads the pointer again, in `get`.
        if !self.levels[level].load(Ordering::Relaxed).is_null() {
            return;
        }
        let count = count_of(level);
        let records: Box<[R]> = (0..count).map(|_| R::default()).collect();
        let fresh = Box::into_raw(records).cast::<R>();
        // Release: publishes the initialised records. Relaxed on failure: the
        // winner's pointer is loaded again by whoever needs it.
        let lost = self.levels[level]
            .compare_exchange(
                std::ptr::null_mut(),
                fresh.wrapping_sub(count),
                Ordering::Release,
                Ordering::Relaxed,
            )
            .is_err();
        if lost {
            // SAFETY: `fresh` was never published (A1), so it is still ours, and it
            // was made with exactly this length.
            drop(unsafe { into_box(fresh, count) });
        }
    }
}

/// The level in which a place lies: the number of its highest bit.
#[inline(always)]
fn level_of(place: u32) -> usize {
    // No place is 0. To say so saves what finds out.
    ((place | 1).ilog2() % u32::BITS) as usize
}

/// How many records a level holds, which is also the first place in it.
fn count_of(level: usize) -> usize {
    1 << level
}

/// # Safety
///
/// `base` came from [`Box::into_raw`] of a slice of `count` records, and is not
/// used again.
unsafe fn into_box<R>(base: *mut R, count: usize) -> Box<[R]> {
    let slice = std::ptr::slice_from_raw_parts_mut(base, count);
    // SAFETY: the caller's promise.
    unsafe { Box::from_raw(slice) }
}

/// **A2** Levels are freed here and nowhere else.
impl<R> Drop for Levels<R> {
    fn drop(&mut self) {
        for (level, origin) in self.levels.iter().enumerate() {
            // Relaxed: `&mut self` has already synchronised with every user.
            let origin = origin.load(Ordering::Relaxed);
            if !origin.is_null() {
                let count = count_of(level);
                // SAFETY: allocated by `ensure` with this length (A2), and by `&mut self`
                // nobody else has it.
                drop(unsafe { into_box(origin.wrapping_add(count), count) });
            }
        }
    }
}

impl<R> fmt::Debug for Levels<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn indices_fill_level_after_level() {
        let place = |index: u32| {
            let level = level_of(index + FIRST);
            (level, (index + FIRST) as usize - count_of(level))
        };
        let first = level_of(FIRST);
        assert_eq!(count_of(first), FIRST as usize);
        assert_eq!(place(0), (first, 0));
        assert_eq!(place(FIRST - 1), (first, FIRST as usize - 1));
        assert_eq!(place(FIRST), (first + 1, 0));
        assert_eq!(place(3 * FIRST - 1), (first + 1, 2 * FIRST as usize - 1));
        assert_eq!(place(3 * FIRST), (first + 2, 0));
    }
}
