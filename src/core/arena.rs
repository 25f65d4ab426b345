//! Arrays of records that grow, never shrink and never move, and the stack of
//! records that are free.
//!
//! Records are found by index. A record's memory is never unmapped or put to
//! another use while its array lives, so a stale index is always safe to read
//! through: it finds a record, if perhaps one that means something else by now.
//!
//! # Layout
//!
//! Chunk `n` holds `FIRST << n` records. An index plus `FIRST` has its highest bit
//! where the chunk's number says, so that counting leading zeros finds the chunk;
//! the pointer that is kept for a chunk is set back by as many records as that bit
//! stands for, so that the sum is also the place. Unused chunks are null.

use std::fmt;

use crate::core::tagged::{Head, INDEX_BITS};
use crate::sync::{AtomicPtr, AtomicU32, Ordering};

/// Records in the first chunk; small in models, where each costs time.
const FIRST_BITS: u32 = if cfg!(slabpool_loom) { 2 } else { 6 };
pub const FIRST: u32 = 1 << FIRST_BITS;
/// One place for each number of leading zeros; a few are never used.
const CHUNKS: usize = u32::BITS as usize;
/// Indices are below this.
pub const INDEX_LIMIT: u32 = (1 << (INDEX_BITS - 1)) - FIRST;

/// What an [`Arena`] stores, if it keeps account of what is free.
pub trait Record: Default {
    /// The link of the free list. Only the arena touches it while the record is
    /// free, only the owner while it is not.
    fn free_link(&self) -> &AtomicU32;
}

/// A growing array of records and its free list.
pub struct Arena<R> {
    chunks: [AtomicPtr<R>; CHUNKS],
    /// How many records were ever given out; those above were never used.
    fresh: AtomicU32,
    free: Head,
}

impl<R: Record> Arena<R> {
    /// Takes a free record, or a new one; the caller owns it. `None` when the
    /// index space is used up.
    pub fn take(&self) -> Option<u32> {
        loop {
            let top = self.free.load();
            if top.is_empty() {
                return self.take_fresh();
            }
            // Relaxed: if the record was taken meanwhile, `unlink` fails.
            let below = self.get(top.index()).free_link().load(Ordering::Relaxed);
            if self.free.unlink(top, below) {
                return Some(top.index());
            }
        }
    }

    #[cold]
    fn take_fresh(&self) -> Option<u32> {
        // Relaxed: a counter; the record is handed on by other means.
        let index = self.fresh.fetch_add(1, Ordering::Relaxed);
        if index >= INDEX_LIMIT {
            self.fresh.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.ensure(chunk_of(index + FIRST));
        Some(index)
    }

    /// Gives a record back. The caller owned it and does so no longer.
    pub fn give(&self, index: u32) {
        let record = self.get(index);
        loop {
            let top = self.free.load();
            // Relaxed: published by the exchange below.
            record.free_link().store(top.index(), Ordering::Relaxed);
            if self.free.publish(top, index) {
                return;
            }
        }
    }
}

impl<R: Default> Arena<R> {
    pub fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
            fresh: AtomicU32::new(0),
            free: Head::new(),
        }
    }

    /// Makes sure of the record at `index`, for an arena that follows another one
    /// and gives out nothing itself.
    pub fn cover(&self, index: u32) {
        self.ensure(chunk_of(index + FIRST));
    }

    /// The record at `index`, which this arena gave out or covered at some time.
    #[inline(always)]
    pub fn get(&self, index: u32) -> &R {
        let place = index + FIRST;
        // Acquire: pairs with the Release in `ensure`.
        let origin = self.chunks[chunk_of(place)].load(Ordering::Acquire);
        debug_assert!(!origin.is_null(), "index {index} was never given out");
        let record = origin.wrapping_add(place as usize);
        // SAFETY: an index that was given out has its chunk allocated (A1), and this
        // is its place in it. Records are initialised with their chunk and live as
        // long as the arena (A2), whose borrow bounds this reference.
        unsafe { &*record }
    }

    /// The record at an index below [`Arena::high_water`]. `None` while whoever has drawn
    /// the index has yet to make sure of its chunk.
    pub fn find(&self, index: u32) -> Option<&R> {
        // Acquire: as in `get`, which then finds the chunk as well.
        let origin = self.chunks[chunk_of(index + FIRST)].load(Ordering::Acquire);
        (!origin.is_null()).then(|| self.get(index))
    }

    /// How many records were ever given out: every index in use is below this.
    pub fn high_water(&self) -> u32 {
        // Acquire is not needed: `exists` checks the chunk.
        self.fresh.load(Ordering::Relaxed).min(INDEX_LIMIT)
    }

    /// Every record ever given out, with its index, for a sweep.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &R)> {
        self.iter_from(0)
    }

    /// As [`Arena::iter`], from an index on.
    pub fn iter_from(&self, start: u32) -> impl Iterator<Item = (u32, &R)> {
        let start = start.saturating_add(FIRST);
        let end = self.high_water() + FIRST;
        // The smallest chunk first: it has the most leading zeros.
        (0..=chunk_of(FIRST)).rev().flat_map(move |chunk| {
            // Acquire: as in `get`. Null while a thread has drawn an index and not
            // yet allocated: none of the chunk is in use.
            let origin = self.chunks[chunk].load(Ordering::Acquire);
            let count = if origin.is_null() { 0 } else { count_of(chunk) };
            let records = if count == 0 {
                &[]
            } else {
                // SAFETY: a chunk is initialised with this length and lives as long
                // as the arena (A2), whose borrow bounds this reference.
                unsafe { std::slice::from_raw_parts(origin.wrapping_add(count), count) }
            };
            let first = count_of(chunk) as u32;
            let until = records.len().min(end.saturating_sub(first) as usize);
            let from = until.min(start.saturating_sub(first) as usize);
            records[from..until]
                .iter()
                .zip(first - FIRST + from as u32..)
                .map(|(record, index)| (index, record))
        })
    }

    /// **A1** Whoever draws an index makes sure of its chunk before using it.
    fn ensure(&self, chunk: usize) {
        // Relaxed: whoever goes on to a record loads the pointer again, in `get`.
        if !self.chunks[chunk].load(Ordering::Relaxed).is_null() {
            return;
        }
        let count = count_of(chunk);
        let records: Box<[R]> = (0..count).map(|_| R::default()).collect();
        let fresh = Box::into_raw(records).cast::<R>();
        // Release: publishes the initialised records. Relaxed on failure: the
        // winner's pointer is loaded again by whoever needs it.
        let lost = self.chunks[chunk]
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

/// The chunk in which a place lies.
#[inline(always)]
fn chunk_of(place: u32) -> usize {
    (place.leading_zeros() % u32::BITS) as usize
}

/// How many records a chunk holds, which is also the first place in it.
fn count_of(chunk: usize) -> usize {
    1 << (u32::BITS as usize - 1 - chunk)
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

/// **A2** Chunks are freed here and nowhere else.
impl<R> Drop for Arena<R> {
    fn drop(&mut self) {
        for (chunk, origin) in self.chunks.iter().enumerate() {
            // Relaxed: `&mut self` has already synchronised with every user.
            let origin = origin.load(Ordering::Relaxed);
            if !origin.is_null() {
                let count = count_of(chunk);
                // SAFETY: allocated by `ensure` with this length (A2), and by `&mut self`
                // nobody else has it.
                drop(unsafe { into_box(origin.wrapping_add(count), count) });
            }
        }
    }
}

impl<R> fmt::Debug for Arena<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("fresh", &self.fresh).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Item(AtomicU32);

    impl Default for Item {
        fn default() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    impl Record for Item {
        fn free_link(&self) -> &AtomicU32 {
            &self.0
        }
    }

    #[test]
    fn indices_fill_chunk_after_chunk() {
        let place = |index: u32| {
            let chunk = chunk_of(index + FIRST);
            (chunk, (index + FIRST) as usize - count_of(chunk))
        };
        let first = chunk_of(FIRST);
        assert_eq!(count_of(first), FIRST as usize);
        assert_eq!(place(0), (first, 0));
        assert_eq!(place(FIRST - 1), (first, FIRST as usize - 1));
        assert_eq!(place(FIRST), (first - 1, 0));
        assert_eq!(place(3 * FIRST - 1), (first - 1, 2 * FIRST as usize - 1));
        assert_eq!(place(3 * FIRST), (first - 2, 0));
        let (chunk, offset) = place(INDEX_LIMIT - 1);
        assert_eq!(offset, count_of(chunk) - 1);
    }

    #[test]
    fn records_do_not_move_and_are_used_again() {
        let arena = Arena::<Item>::new();
        let indices: Vec<u32> = (0..1000).map(|_| arena.take().unwrap()).collect();
        let places: Vec<*const Item> = indices.iter().map(|&i| &raw const *arena.get(i)).collect();
        for &index in &indices {
            arena.give(index);
        }
        let mut again: Vec<u32> = (0..1000).map(|_| arena.take().unwrap()).collect();
        again.sort_unstable();
        assert_eq!(again, indices);
        assert_eq!(arena.high_water(), 1000);
        for start in [0, 1, 63, 64, 65, 191, 192, 999, 1_000, 5_000, u32::MAX] {
            let expected = arena.iter().filter(|&(index, _)| index >= start);
            let seen = arena.iter_from(start).map(|(index, _)| index);
            assert!(seen.eq(expected.map(|(index, _)| index)), "from {start}");
        }
        let now: Vec<*const Item> = indices.iter().map(|&i| &raw const *arena.get(i)).collect();
        assert_eq!(now, places);
    }
}
