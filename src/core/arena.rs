//! Arrays of records that grow, never shrink and never move, and the stack of
//! records that are free.
//!
//! Records are found by index. A record's memory is never unmapped or put to
//! another use while its array lives, so a stale index is always safe to read
//! through: it finds a record, if perhaps one that means something else by now.
//!
//! # Layout
//!
//! Records are in chunks of [`CHUNK`], so that an array has no more of them than it needs,
//! but for a part of one chunk. A *table* says where the chunks are. When it is full, one
//! twice as long takes its place; the old ones are kept, since somebody may still look
//! into them. They come to a thousandth of the records.
//!
//! ```text
//!   current -> [ chunk 0 | chunk 1 | .. | chunk n | - | - | - ]
//!                  |
//!                  v
//!                  [ record 0 | record 1 | .. | record 63 ]
//! ```
//!
//! To replace a table, it is frozen first: each empty entry says so from then on, and never
//! gets a chunk. A frozen table changes no more, and so can be copied by any number of
//! threads, of which one wins. Nobody waits: who finds a table frozen does the rest himself.
//!
//! # Invariants
//!
//! * **A1** Whoever draws an index makes sure of its chunk before using it, and sees it in
//!   the current table.
//! * **A2** Chunks and tables are freed with the arena and nowhere else. An entry that
//!   holds a chunk is never changed.
//! * **A3** A table becomes the current one as a copy of the frozen one before it. So
//!   whatever chunk was in a table is in all that come later.

use std::fmt;
use std::ptr::{null_mut, without_provenance_mut};

use crate::core::tagged::{Head, INDEX_BITS};
use crate::sync::{AtomicPtr, AtomicU32, Ordering};

/// Records in a chunk; few in models, where each costs time.
const CHUNK_BITS: u32 = if cfg!(slabpool_loom) { 2 } else { 6 };
const CHUNK: usize = 1 << CHUNK_BITS;
/// Chunks in the first table.
const FIRST_TABLE_BITS: u32 = if cfg!(slabpool_loom) { 0 } else { 4 };
/// Indices are below this.
pub const INDEX_LIMIT: u32 = (1 << (INDEX_BITS - 1)) - CHUNK as u32;
/// Tables, until all indices are in use.
const TABLES: usize = (INDEX_BITS - CHUNK_BITS - FIRST_TABLE_BITS) as usize;

/// What an [`Arena`] stores, if it keeps account of what is free.
pub trait Record: Default {
    /// The link of the free list. Only the arena touches it while the record is
    /// free, only the owner while it is not.
    fn free_link(&self) -> &AtomicU32;
}

/// The place of a chunk: null, then for ever its first record, or that the table is frozen.
type Entry<R> = AtomicPtr<R>;

/// In an entry that was empty when its table was frozen.
fn frozen<R>() -> *mut R {
    // No record is there: it would be aligned.
    without_provenance_mut(1)
}

/// A growing array of records and its free list.
pub struct Arena<R> {
    /// The first entry of the current table.
    current: AtomicPtr<Entry<R>>,
    /// All tables, as they came.
    tables: [AtomicPtr<Entry<R>>; TABLES],
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
        self.cover(index);
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
        let first = boxed_table::<R>(0, |_| null_mut());
        let tables: [_; TABLES] = std::array::from_fn(|_| AtomicPtr::new(null_mut()));
        // Relaxed: nobody else has it.
        tables[0].store(first, Ordering::Relaxed);
        Self { current: AtomicPtr::new(first), tables, fresh: AtomicU32::new(0), free: Head::new() }
    }

    /// The record at `index`, which this arena gave out or covered at some time.
    #[inline(always)]
    pub fn get(&self, index: u32) -> &R {
        // Acquire: pairs with the Release in `replace`.
        let table = self.current.load(Ordering::Acquire);
        let entry = table.wrapping_add(index as usize >> CHUNK_BITS);
        // SAFETY: an index that was given out is within the table that was current then
        // (A1), and within all that came later (A3). Tables live as long as the arena (A2).
        let entry = unsafe { &*entry };
        // Acquire: pairs with the Release in `make_chunk`.
        let chunk = entry.load(Ordering::Acquire);
        debug_assert!(is_chunk(chunk), "index {index} was never given out");
        // SAFETY: an index that was given out has its chunk (A1, A3), and this is its place
        // in it.
        let record = unsafe { chunk.add(index as usize % CHUNK) };
        // SAFETY: records are initialised with their chunk and live as long as the arena
        // (A2), whose borrow bounds this reference.
        unsafe { &*record }
    }

    /// The record at an index below [`Arena::high_water`]. `None` while whoever has drawn
    /// the index has yet to make sure of its chunk.
    pub fn find(&self, index: u32) -> Option<&R> {
        self.chunk(index as usize / CHUNK).get(index as usize % CHUNK)
    }

    /// How many records were ever given out: every index in use is below this.
    pub fn high_water(&self) -> u32 {
        // Acquire is not needed: `chunk` looks whether the chunk is there.
        self.fresh.load(Ordering::Relaxed).min(INDEX_LIMIT)
    }

    /// Every record ever given out, with its index, for a sweep.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &R)> {
        self.iter_from(0)
    }

    /// As [`Arena::iter`], from an index on.
    pub fn iter_from(&self, start: u32) -> impl Iterator<Item = (u32, &R)> {
        let (start, end) = (start as usize, self.high_water() as usize);
        (start / CHUNK..end.div_ceil(CHUNK)).flat_map(move |number| {
            let (records, first) = (self.chunk(number), number * CHUNK);
            let until = records.len().min(end - first);
            let from = until.min(start.saturating_sub(first));
            let indices = (first + from) as u32..;
            records[from..until].iter().zip(indices).map(|(record, index)| (index, record))
        })
    }

    /// The records of a chunk. None while a thread has drawn an index and not yet made sure
    /// of the chunk: nothing of it is in use.
    fn chunk(&self, number: usize) -> &[R] {
        let (table, level) = self.table();
        if number >= length_of(level) {
            return &[];
        }
        // SAFETY: within the table, which lives as long as the arena (A2).
        let entry = unsafe { &*table.wrapping_add(number) };
        // Acquire: as in `get`.
        let chunk = entry.load(Ordering::Acquire);
        if !is_chunk(chunk) {
            return &[];
        }
        // SAFETY: a chunk is initialised with this length and lives as long as the arena
        // (A2), whose borrow bounds this reference.
        unsafe { std::slice::from_raw_parts(chunk, CHUNK) }
    }

    /// The current table, and which of all it is.
    fn table(&self) -> (*mut Entry<R>, usize) {
        // Acquire: as in `get`.
        let current = self.current.load(Ordering::Acquire);
        // Relaxed: it was among them before it became the current one.
        let level = self.tables.iter().position(|table| table.load(Ordering::Relaxed) == current);
        (current, level.expect("the current table is one of them"))
    }

    /// Makes sure of the record at `index` (A1). By those who have drawn it, or for an arena
    /// that follows another one and gives out nothing itself.
    ///
    /// Starts over only when another thread has made the chunk or replaced the table.
    pub fn cover(&self, index: u32) {
        let number = index as usize / CHUNK;
        loop {
            let (table, level) = self.table();
            if number >= length_of(level) {
                self.replace(table, level);
                continue;
            }
            // SAFETY: as in `chunk` (A2).
            let entry = unsafe { &*table.wrapping_add(number) };
            // Relaxed: whoever goes on to a record loads the pointer again, in `get`.
            let chunk = entry.load(Ordering::Relaxed);
            if is_chunk(chunk) {
                return;
            }
            if chunk.is_null() {
                make_chunk(entry);
            } else {
                self.replace(table, level);
            }
        }
    }

    /// Freezes a table and puts a longer one in its place (A3). Several threads may be at it.
    #[cold]
    fn replace(&self, table: *mut Entry<R>, level: usize) {
        let own = boxed_table(level + 1, |number| {
            if number >= length_of(level) {
                return null_mut();
            }
            // SAFETY: as in `chunk` (A2).
            freeze(unsafe { &*table.wrapping_add(number) })
        });
        // Release: publishes the entries, and what they lead to. Acquire on failure: the
        // same, of whoever was first, to be published below.
        let exchanged = self.tables[level + 1].compare_exchange(
            null_mut(),
            own,
            Ordering::Release,
            Ordering::Acquire,
        );
        let next = exchanged.map_or_else(
            |first| {
                // SAFETY: never published, so it is still ours (A2), and made for this level.
                drop(unsafe { into_box(own, length_of(level + 1)) });
                first
            },
            |_| own,
        );
        // Release: pairs with the Acquire in `get` and `table`. If it fails, another thread
        // has done so, with the same one: the address of a table is never used again (A2).
        let _ = self.current.compare_exchange(table, next, Ordering::Release, Ordering::Relaxed);
    }
}

/// Makes the chunk of an empty entry, unless another thread does so or the table is frozen.
#[cold]
fn make_chunk<R: Default>(entry: &Entry<R>) {
    let records: Box<[R]> = (0..CHUNK).map(|_| R::default()).collect();
    let fresh = Box::into_raw(records).cast::<R>();
    // Release: publishes the initialised records. Relaxed on failure: the entry is loaded
    // again by whoever needs it.
    let exchanged = entry.compare_exchange(null_mut(), fresh, Ordering::Release, Ordering::Relaxed);
    if exchanged.is_err() {
        // SAFETY: `fresh` was never published (A2), so it is still ours, and it was made
        // with exactly this length.
        drop(unsafe { into_box(fresh, CHUNK) });
    }
}

/// What an entry holds for ever: a chunk, or else null for the table that follows.
fn freeze<R>(entry: &Entry<R>) -> *mut R {
    // Relaxed on success: it publishes nothing. Acquire on failure: pairs with `make_chunk`,
    // so that what the chunk holds is published with the next table.
    let exchanged =
        entry.compare_exchange(null_mut(), frozen(), Ordering::Relaxed, Ordering::Acquire);
    exchanged.err().filter(|&chunk| is_chunk(chunk)).unwrap_or(null_mut())
}

fn is_chunk<R>(entry: *mut R) -> bool {
    !entry.is_null() && entry != frozen()
}

/// How many chunks the tables lead to.
fn length_of(level: usize) -> usize {
    1 << (FIRST_TABLE_BITS as usize + level)
}

/// A new table of a level, to be freed with [`into_box`].
fn boxed_table<R>(level: usize, entry: impl Fn(usize) -> *mut R) -> *mut Entry<R> {
    let entries: Box<[Entry<R>]> =
        (0..length_of(level)).map(|number| AtomicPtr::new(entry(number))).collect();
    Box::into_raw(entries).cast()
}

/// # Safety
///
/// `base` came from [`Box::into_raw`] of a slice of `count` items, and is not
/// used again.
unsafe fn into_box<T>(base: *mut T, count: usize) -> Box<[T]> {
    let slice = std::ptr::slice_from_raw_parts_mut(base, count);
    // SAFETY: the caller's promise.
    unsafe { Box::from_raw(slice) }
}

/// **A2** What was published is freed here and nowhere else.
impl<R> Drop for Arena<R> {
    fn drop(&mut self) {
        // Relaxed, here and below: `&mut self` has already synchronised with every user.
        let current = self.current.load(Ordering::Relaxed);
        for (level, table) in self.tables.iter().enumerate() {
            let table = table.load(Ordering::Relaxed);
            if table.is_null() {
                return;
            }
            // SAFETY: made for this level (A2), and by `&mut self` nobody else has it.
            let entries = unsafe { into_box(table, length_of(level)) };
            if table != current {
                continue;
            }
            // All chunks are in this one (A3).
            let chunks = entries.iter().map(|entry| entry.load(Ordering::Relaxed));
            for chunk in chunks.filter(|&chunk| is_chunk(chunk)) {
                // SAFETY: made by `make_chunk` with this length (A2), and as above.
                drop(unsafe { into_box(chunk, CHUNK) });
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
mod tests;
