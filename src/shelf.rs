//! Slabs that grow in turn.
//!
//! A sharded slab grows by pages, each as large as all before it together and one more: right
//! after it has grown, half of it is empty. Records are not small. So there are several slabs,
//! of which one grows at a time, when all have as good as no room: an eighth is empty then.
//!
//! Up to some thousand records the first slab does, and there is no other one: an empty slab
//! takes 64 kB.
//!
//! What is counted here decides where a record goes, and nothing else. If it is wrong for a
//! moment, or for good because one thread has inserted what another one made room for, then a
//! slab grows too early.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

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
/// Where a key says the place, and the generation.
const PLACE_BITS: u32 = 22;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;
const GENERATION_SHIFT: u32 = PLACE_BITS + 14;
/// Up to so many records in each slab, one is filled before the next one begins.
const ALONE: usize = pages(7);

/// What the first pages hold together.
const fn pages(count: usize) -> usize {
    Layout::INITIAL_PAGE_SIZE * ((1 << count) - 1)
}

/// Records that one thread can insert, at least.
pub(crate) const PER_THREAD: usize = pages(Layout::MAX_PAGES) << SLAB_BITS;

const _: () = assert!(pages(Layout::MAX_PAGES) <= PLACE_MASK);

/// Some slabs as one. A key says in which of them a record is.
pub(crate) struct Shelves<T>([CachePadded<Shelf<T>>; SLABS]);

/// All accesses to the numbers are Relaxed: they guard nothing.
struct Shelf<T> {
    slab: OnceLock<Slab<T, Layout>>,
    /// Records in the slab, and for how many it has room.
    used: AtomicUsize,
    room: AtomicUsize,
}

impl<T> Shelf<T> {
    fn new() -> Self {
        Self { slab: OnceLock::new(), used: AtomicUsize::new(0), room: AtomicUsize::new(0) }
    }

    /// A place for one more. Makes the slab, if need be.
    fn vacant(&self) -> Option<VacantEntry<'_, T, Layout>> {
        self.slab.get_or_init(Slab::new_with_config::<Layout>).vacant_entry()
    }
}

impl<T> Shelves<T> {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| CachePadded::new(Shelf::new())))
    }

    /// Puts in what `make` makes, and returns its key. `None`, with `make` not called, if there
    /// is no room.
    ///
    /// # Panics
    ///
    /// If this thread has no shard, as the slab does, before anything else happens.
    pub fn insert(&self, make: impl FnOnce() -> T) -> Option<usize> {
        let chosen = self.choose();
        let (number, vacant) = match self.0[chosen].vacant() {
            Some(vacant) => (chosen, vacant),
            None => self.vacant_elsewhere(chosen)?,
        };
        let key = vacant.key();
        vacant.insert(make());
        let shelf = &self.0[number];
        shelf.used.fetch_add(1, Ordering::Relaxed);
        if let Some(page) = page_begun_by(key) {
            shelf.room.fetch_add(page, Ordering::Relaxed);
        }
        Some(number << SLAB_SHIFT | key)
    }

    /// This thread has no place left in the slab that was chosen.
    #[cold]
    fn vacant_elsewhere(&self, chosen: usize) -> Option<(usize, VacantEntry<'_, T, Layout>)> {
        let mut others = (0..SLABS).filter(|&number| number != chosen);
        others.find_map(|number| Some((number, self.0[number].vacant()?)))
    }

    /// The slab that has room, or else the one that is to grow.
    fn choose(&self) -> usize {
        let mut smallest = (usize::MAX, 0);
        for (number, shelf) in self.0.iter().enumerate() {
            let room = shelf.room.load(Ordering::Relaxed);
            if shelf.used.load(Ordering::Relaxed) < room {
                return number;
            }
            smallest = smallest.min((room.max(ALONE - 1), number));
        }
        smallest.1
    }

    /// The record with this key, held until the guard goes.
    #[inline]
    pub fn get(&self, key: usize) -> Option<Entry<'_, T, Layout>> {
        let shelf = self.0.get(key >> SLAB_SHIFT)?;
        shelf.slab.get()?.get(key_in_slab(key))
    }

    /// Removes a record, when the last guard has gone.
    ///
    /// # Panics
    ///
    /// If this thread has no number, as the slab does.
    pub fn remove(&self, key: usize) {
        let Some(shelf) = self.0.get(key >> SLAB_SHIFT) else { return };
        if shelf.slab.get().is_some_and(|slab| slab.remove(key_in_slab(key))) {
            shelf.used.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn key_in_slab(key: usize) -> usize {
    key & (usize::MAX >> SLAB_BITS)
}

/// The size of the page that a slab has made for the record with this key, its first.
fn page_begun_by(key: usize) -> Option<usize> {
    let place = key & PLACE_MASK;
    // A page begins where those before it end, whose sizes are powers of two.
    let size = place + Layout::INITIAL_PAGE_SIZE;
    (key >> GENERATION_SHIFT == 0 && size.is_power_of_two()).then_some(size)
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn rooms(shelves: &Shelves<u64>) -> Vec<usize> {
        shelves.0.iter().map(|shelf| shelf.room.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn one_slab_grows_at_a_time_and_little_is_empty() {
        let shelves = Shelves::new();
        let mut keys = Vec::new();
        for number in 0..80_000 {
            keys.push(shelves.insert(|| number).unwrap());
            let (count, room) = (keys.len(), rooms(&shelves).iter().sum::<usize>());
            let spare = match count {
                0..=ALONE => count + 31,
                _ if count <= SLABS * ALONE => ALONE / 2 + 32,
                _ => count / 8 + 32,
            };
            assert!((count..=count + spare).contains(&room), "{room} for {count}");
        }
        assert_eq!(rooms(&shelves)[0], pages(9));
        for (&key, number) in keys.iter().zip(0..) {
            assert_eq!(*shelves.get(key).unwrap(), number);
        }
    }

    #[test]
    fn what_was_removed_makes_room_wherever_it_was() {
        let shelves = Shelves::new();
        let mut keys: Vec<_> =
            (0..10_000).map(|number| shelves.insert(|| number).unwrap()).collect();
        let before = rooms(&shelves);
        assert!(before[2] > 0 && before[3] == 0, "{before:?}");
        for round in 0..3 {
            for key in keys.iter_mut().skip(round).step_by(3) {
                shelves.remove(*key);
                assert!(shelves.get(*key).is_none());
                *key = shelves.insert(|| 7).unwrap();
            }
        }
        keys.drain(..).for_each(|key| shelves.remove(key));
        assert!(shelves.0.iter().all(|shelf| shelf.used.load(Ordering::Relaxed) == 0));
        keys.extend((0..10_000).map(|number| shelves.insert(|| number).unwrap()));
        assert_eq!(rooms(&shelves), before);
    }

    #[test]
    fn a_key_of_no_slab_leads_nowhere() {
        let shelves = Shelves::new();
        let key = shelves.insert(|| 1).unwrap();
        assert!(shelves.get(1 << SLAB_SHIFT | key).is_none(), "that slab is not there");
        shelves.remove(1 << SLAB_SHIFT | key);
        assert!(shelves.get(key).is_some());
    }
}
