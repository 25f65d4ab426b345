//! Slabs that grow in turn.
//!
//! A sharded slab grows by pages, each as large as all before it together and one more: right
//! after it has grown, half of it is empty. Records are not small. So there are several slabs,
//! of which one grows at a time, when all have as good as no room: an eighth is empty then.
//!
//! Up to some thousand records the first slab does, and there is no other one: an empty slab
//! takes 64 kB.
//!
//! What is counted here decides where a record goes, and nothing else. If it is wrong, because
//! threads came in between when the counting began, or because a thread has no use of the room
//! of another one, then a slab grows too early.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use crossbeam_utils::CachePadded;
use sharded_slab::{Config, Entry, Slab, VacantEntry};

/// How a slab spends the 64 bits of its keys: 14 for the thread, 22 for the place, 25 for the
/// generation. Three say which slab it is.
#[derive(Debug)]
pub(crate) struct Layout;

impl Config for Layout {
    const MAX_THREADS: usize = 8_192;
    const MAX_PAGES: usize = 16;
    const INITIAL_PAGE_SIZE: usize = 32;
    const RESERVED_BITS: usize = SLAB_BITS as usize;
}

const SLAB_BITS: u32 = 3;
/// How many slabs there are at most.
const SLABS: usize = if cfg!(slabpool_loom) { 1 } else { 1 << SLAB_BITS };
const SLAB_SHIFT: u32 = usize::BITS - SLAB_BITS;
/// Where a key says the place.
const PLACE_BITS: u32 = 22;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;
/// Up to so many records in each slab, one is filled before the next one begins.
const ALONE: isize = pages(7) as isize;

/// What the first pages hold together.
const fn pages(count: usize) -> usize {
    Layout::INITIAL_PAGE_SIZE * ((1 << count) - 1)
}

/// Records that one thread can insert, at least.
pub(crate) const PER_THREAD: usize = pages(Layout::MAX_PAGES) << SLAB_BITS;

const _: () = assert!(pages(Layout::MAX_PAGES) <= PLACE_MASK);

/// Some slabs as one. A key says in which of them a record is.
pub(crate) struct Shelves<T> {
    shelves: [CachePadded<Shelf<T>>; SLABS],
    /// Whether records are counted: when the first slab has got its last page for now. Then
    /// all pages before that are full, but for what other threads have.
    counting: AtomicBool,
}

/// All accesses to the numbers are Relaxed: they guard nothing.
struct Shelf<T> {
    slab: OnceLock<Slab<T, Layout>>,
    /// Records in the slab, and for how many it has room.
    used: AtomicIsize,
    room: AtomicIsize,
}

impl<T> Shelf<T> {
    fn new() -> Self {
        Self { slab: OnceLock::new(), used: AtomicIsize::new(0), room: AtomicIsize::new(0) }
    }

    /// A place for one more. Makes the slab, if need be.
    fn vacant(&self) -> Option<VacantEntry<'_, T, Layout>> {
        self.slab.get_or_init(Slab::new_with_config::<Layout>).vacant_entry()
    }
}

impl<T> Shelves<T> {
    pub fn new() -> Self {
        Self {
            shelves: std::array::from_fn(|_| CachePadded::new(Shelf::new())),
            counting: AtomicBool::new(false),
        }
    }

    /// Puts in what `make` makes, for good, and returns its key and a guard. `None`, with
    /// `make` not called, if there is no room.
    ///
    /// # Panics
    ///
    /// If this thread has no shard, as the slab does, before anything else happens.
    pub fn insert(&self, make: impl FnOnce() -> T) -> Option<(usize, Entry<'_, T, Layout>)> {
        let chosen = self.choose();
        let (number, vacant) = match self.shelves[chosen].vacant() {
            Some(vacant) => (chosen, vacant),
            None => self.vacant_elsewhere(chosen)?,
        };
        let key = vacant.key();
        vacant.insert(make());
        let guard = self.shelves[number].slab.get()?.get(key)?;
        if let Some(page) = page_begun_by(key) {
            self.begun(number, page as isize);
        }
        if self.counting.load(Ordering::Relaxed) {
            self.shelves[number].used.fetch_add(1, Ordering::Relaxed);
        }
        Some((number << SLAB_SHIFT | key, guard))
    }

    /// Takes note of a page that a slab has made.
    #[cold]
    fn begun(&self, number: usize, page: isize) {
        let shelf = &self.shelves[number];
        let before = shelf.room.fetch_add(page, Ordering::Relaxed);
        if before + page >= ALONE && !self.counting.swap(true, Ordering::Relaxed) {
            shelf.used.store(before, Ordering::Relaxed);
        }
    }

    /// This thread has no place left in the slab that was chosen.
    #[cold]
    fn vacant_elsewhere(&self, chosen: usize) -> Option<(usize, VacantEntry<'_, T, Layout>)> {
        let mut others = (0..SLABS).filter(|&number| number != chosen);
        others.find_map(|number| Some((number, self.shelves[number].vacant()?)))
    }

    /// The slab that has room, or else the one that is to grow.
    fn choose(&self) -> usize {
        if !self.counting.load(Ordering::Relaxed) {
            return 0;
        }
        let mut smallest = (isize::MAX, 0);
        for (number, shelf) in self.shelves.iter().enumerate() {
            let room = shelf.room.load(Ordering::Relaxed);
            if shelf.used.load(Ordering::Relaxed) < room {
                return number;
            }
            smallest = smallest.min((room.max(ALONE - 1), number));
        }
        smallest.1
    }

    /// The slab of a key, and the key there.
    #[inline(always)]
    pub fn find(&self, key: usize) -> Option<(&Slab<T, Layout>, usize)> {
        let shelf = self.shelves.get(key >> SLAB_SHIFT)?;
        Some((shelf.slab.get()?, key & (usize::MAX >> SLAB_BITS)))
    }
}

/// The size of the page that a slab has made for the record with this key, its first.
fn page_begun_by(key: usize) -> Option<usize> {
    let place = key & PLACE_MASK;
    // A page begins where those before it end, whose sizes are powers of two. No place is
    // used twice.
    let size = place + Layout::INITIAL_PAGE_SIZE;
    size.is_power_of_two().then_some(size)
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    const ALONE_COUNT: usize = ALONE as usize;

    fn insert(shelves: &Shelves<u64>, value: u64) -> usize {
        shelves.insert(|| value).unwrap().0
    }

    fn get(shelves: &Shelves<u64>, key: usize) -> Option<u64> {
        let (slab, key) = shelves.find(key)?;
        slab.get(key).map(|guard| *guard)
    }

    fn rooms(shelves: &Shelves<u64>) -> Vec<usize> {
        let room = |shelf: &CachePadded<Shelf<u64>>| shelf.room.load(Ordering::Relaxed) as usize;
        shelves.shelves.iter().map(room).collect()
    }

    #[test]
    fn one_slab_grows_at_a_time_and_little_is_empty() {
        let shelves = Shelves::new();
        let mut keys = Vec::new();
        for number in 0..80_000 {
            keys.push(insert(&shelves, number));
            let (count, room) = (keys.len(), rooms(&shelves).iter().sum::<usize>());
            let spare = match count {
                0..=ALONE_COUNT => count + 31,
                _ if count <= SLABS * ALONE_COUNT => ALONE_COUNT / 2 + 32,
                _ => count / 8 + 32,
            };
            assert!((count..=count + spare).contains(&room), "{room} for {count}");
        }
        assert_eq!(rooms(&shelves)[0], pages(9));
        for (&key, number) in keys.iter().zip(0..) {
            assert_eq!(get(&shelves, key), Some(number));
        }
    }

    #[test]
    fn a_key_of_no_slab_leads_nowhere() {
        let shelves = Shelves::new();
        let key = insert(&shelves, 1);
        assert!(shelves.find(1 << SLAB_SHIFT | key).is_none(), "that slab is not there");
        assert_eq!(get(&shelves, key), Some(1));
    }
}
