//! Groups that connections were taken from last. Most peers have one connection that is idle,
//! and a group that goes with it would be made anew each time, which costs more than all else.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use slabpool::Group;

use crate::meta::GroupKey;

/// How many groups are kept at most, empty or not. Two that share a place push each other out.
const PLACES: usize = 256;

/// Handles to groups, by key. Memory is taken only when there is one.
pub(crate) struct Kept<S> {
    places: OnceLock<Box<[Place<S>]>>,
}

struct Place<S> {
    /// Whose group is here, or was borrowed from here. A hint.
    key: AtomicU64,
    group: Mutex<Option<Group<GroupKey, S>>>,
}

impl<S> Place<S> {
    /// Puts this in the place of what is there.
    fn swap(&self, group: Option<Group<GroupKey, S>>) -> Option<Group<GroupKey, S>> {
        // Nobody panics with it.
        std::mem::replace(&mut *self.group.lock().unwrap_or_else(PoisonError::into_inner), group)
    }
}

impl<S: Send + 'static> Kept<S> {
    pub fn new() -> Self {
        Self { places: OnceLock::new() }
    }

    /// The group with this key, if it is here and nobody else has it just now.
    #[inline]
    pub fn borrow(&self, key: GroupKey) -> Option<Borrowed<'_, S>> {
        let place = place(self.places.get()?, key);
        // Relaxed: the lock has the group, and that the key.
        if place.key.load(Ordering::Relaxed) != key {
            return None;
        }
        let group = place.swap(None)?;
        if *group.key() != key {
            // Two have come at the same time. Neither is kept.
            place.key.store(0, Ordering::Relaxed);
            return None;
        }
        Some(Borrowed { place, key, group: Some(group) })
    }

    /// Keeps a group that somebody has found elsewhere.
    pub fn keep(&self, key: GroupKey, find: impl FnOnce() -> Group<GroupKey, S>) {
        let places = self.places.get_or_init(|| {
            let empty = || Place { key: AtomicU64::new(0), group: Mutex::new(None) };
            (0..PLACES).map(|_| empty()).collect()
        });
        let place = place(places, key);
        if place.key.swap(key, Ordering::Relaxed) != key || key == 0 {
            // What was there goes, without the lock.
            drop(place.swap(Some(find())));
        }
    }

    /// Lets go of all.
    pub fn clear(&self) {
        for place in self.places.get().into_iter().flatten() {
            // Before it is empty: who comes from here on keeps its group.
            place.key.store(0, Ordering::Relaxed);
            drop(place.swap(None));
        }
    }
}

/// A group that goes back to its place.
pub(crate) struct Borrowed<'a, S> {
    place: &'a Place<S>,
    key: GroupKey,
    group: Option<Group<GroupKey, S>>,
}

impl<S> Deref for Borrowed<'_, S> {
    type Target = Group<GroupKey, S>;

    fn deref(&self) -> &Group<GroupKey, S> {
        self.group.as_ref().expect("it goes back once")
    }
}

impl<S> Drop for Borrowed<'_, S> {
    fn drop(&mut self) {
        // Another one's by now, or let go of: this one is not kept any more.
        if self.place.key.load(Ordering::Relaxed) == self.key {
            drop(self.place.swap(self.group.take()));
        }
    }
}

fn place<S>(places: &[Place<S>], key: GroupKey) -> &Place<S> {
    // Keys are hashes, but perhaps not in all of their bits.
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    &places[mixed as usize % PLACES]
}

impl<S> fmt::Debug for Kept<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slabpool::Pool;

    #[test]
    fn no_more_than_there_are_places() {
        let (pool, kept) = (Pool::<GroupKey, u8>::new(), Kept::new());
        for key in 0..10_000 {
            kept.keep(key, || pool.group(&key));
            assert!(kept.borrow(key).is_some_and(|group| *group.key() == key), "{key}");
            assert!(pool.status().groups <= PLACES);
        }
        assert_eq!(pool.status().groups, PLACES);
        let here = (0..10_000).filter(|key| kept.borrow(*key).is_some()).count();
        assert_eq!(here, PLACES);
        kept.clear();
        assert_eq!(pool.status().groups, 0);
        assert!(kept.borrow(9_999).is_none());
    }

    #[test]
    fn a_group_is_lent_to_one_at_a_time() {
        let (pool, kept) = (Pool::<GroupKey, u8>::new(), Kept::new());
        kept.keep(7, || pool.group(&7));
        let borrowed = kept.borrow(7).unwrap();
        assert!(kept.borrow(7).is_none());
        kept.keep(7, || unreachable!("it comes back"));
        drop(borrowed);
        assert!(kept.borrow(7).is_some());
        // If all are let go of meanwhile, it is not kept.
        let borrowed = kept.borrow(7).unwrap();
        kept.clear();
        drop(borrowed);
        assert_eq!((kept.borrow(7).is_none(), pool.status().groups), (true, 0));
    }
}
