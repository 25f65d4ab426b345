//! Peers whose connections are not to be used again.
//!
//! How long a connection may stay idle is said to its watcher, after it was put into the
//! pool. If that is zero, somebody may get it before the watcher runs. So it is remembered
//! which peers this was said of, and their connections are not taken in at all.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::meta::GroupKey;

/// How many peers can be remembered. Two that share a place push each other out.
const PLACES: usize = 1_024;

/// The groups whose idle timeout was zero when it was said last. Memory is taken only when
/// there is one.
#[derive(Default)]
pub(crate) struct Unused {
    /// The key, changed so that it is not 0; 0 is nobody.
    places: OnceLock<Box<[AtomicU64]>>,
}

impl Unused {
    /// Says whether the idle timeout of a group is zero.
    pub fn note(&self, key: GroupKey, zero: bool) {
        if zero {
            let places = self.places.get_or_init(|| (0..PLACES).map(|_| 0.into()).collect());
            // Relaxed, here and below: each place stands for itself, and is a hint.
            place(places, key).store(name(key), Ordering::Relaxed);
        } else if let Some(places) = self.places.get() {
            let place = place(places, key);
            if place.load(Ordering::Relaxed) == name(key) {
                // If it fails, another group is there now.
                let _ = place.compare_exchange(name(key), 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Whether the idle timeout of this group was zero when it was said last.
    #[inline]
    pub fn has(&self, key: GroupKey) -> bool {
        let places = self.places.get();
        places.is_some_and(|places| place(places, key).load(Ordering::Relaxed) == name(key))
    }
}

/// The key itself, but for one that cannot be told from nobody.
fn name(key: GroupKey) -> u64 {
    if key == 0 { u64::MAX } else { key }
}

fn place(places: &[AtomicU64], key: GroupKey) -> &AtomicU64 {
    // Keys are hashes, but perhaps not in all of their bits.
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    &places[mixed as usize % PLACES]
}

impl fmt::Debug for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unused").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_counts() {
        let unused = Unused::default();
        assert!(!unused.has(7));
        unused.note(7, false);
        assert!(unused.places.get().is_none(), "no memory for nothing");
        unused.note(7, true);
        assert!(unused.has(7) && !unused.has(8));
        unused.note(8, false);
        assert!(unused.has(7));
        unused.note(7, false);
        assert!(!unused.has(7));
    }

    #[test]
    fn a_key_of_zero_is_a_key() {
        let unused = Unused::default();
        unused.note(1, true);
        assert!(!unused.has(0));
        unused.note(0, true);
        assert!(unused.has(0));
    }

    #[test]
    fn more_peers_than_places_push_each_other_out() {
        let unused = Unused::default();
        for key in 0..100_000 {
            unused.note(key, true);
            assert!(unused.has(key));
        }
        assert_eq!((0..100_000).filter(|key| unused.has(*key)).count(), PLACES);
    }
}
