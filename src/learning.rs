//! Groups that learn after what time their peer closes idle connections.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use crate::engine::Engine;
use crate::group::Members;
use crate::sync::{AtomicU64, Ordering};
use crate::time::NEVER;

/// Groups that are remembered.
const PLACES: usize = if cfg!(slabpool_loom) { 2 } else { 1_024 };

impl<K, C> Engine<K, C> {
    /// Says that the peer of this group has closed a connection that was idle for this
    /// long, in nanoseconds: found out now, and not before. Calls no user code.
    pub fn learn(&self, group: &Members<K>, idle_for: u64) {
        if group.limits.is_learning() {
            group.limits.learn(self.config.clock.now(), idle_for, self.maintainer.tick);
            self.memory.keep(group.hash, group.limits.learned());
        }
    }

    /// Lets a group forget what is due to be forgotten. Called when a connection expires:
    /// as long as none does, a timeout that is too short does no harm.
    pub fn forget(&self, group: &Members<K>) {
        if group.limits.has_learned() && group.limits.forget(self.config.clock.now()) {
            self.memory.keep(group.hash, group.limits.learned());
        }
    }

    /// Reminds a new group of what one with its key had learned.
    pub fn remind(&self, group: &Members<K>) {
        if group.limits.is_learning()
            && let Some(learned) = self.memory.recall(group.hash)
        {
            group.limits.remind(learned, self.config.clock.now());
        }
    }

    /// The idle timeout in force in a group.
    pub fn idle_timeout(&self, group: &Members<K>) -> Option<Duration> {
        self.forget(group);
        let timeout = group.limits.idle_timeout();
        (timeout != NEVER).then_some(Duration::from_nanos(timeout))
    }
}

/// What groups have learned, for when they were gone and come again: the group of a peer
/// with one connection goes whenever the peer closes that.
///
/// A group has its place by the hash of its key, and shares it with others; the last one
/// to learn has it.
pub(crate) struct Memory(OnceLock<Box<[Place]>>);

/// A word, and that word combined with the hash of the group's key. Where both do not
/// match, since two have written at once or another group has the place, there is nothing.
/// So all accesses are Relaxed.
struct Place {
    word: AtomicU64,
    check: AtomicU64,
}

impl Memory {
    /// Takes no memory before something is kept.
    pub fn new() -> Self {
        Self(OnceLock::new())
    }

    fn keep(&self, hash: u64, word: u64) {
        let places = self.0.get_or_init(|| {
            let empty = || Place { word: AtomicU64::new(0), check: AtomicU64::new(0) };
            std::iter::repeat_with(empty).take(PLACES).collect()
        });
        let place = &places[hash as usize % PLACES];
        place.word.store(word, Ordering::Relaxed);
        place.check.store(hash ^ word, Ordering::Relaxed);
    }

    fn recall(&self, hash: u64) -> Option<u64> {
        let place = &self.0.get()?[hash as usize % PLACES];
        let word = place.word.load(Ordering::Relaxed);
        let check = place.check.load(Ordering::Relaxed);
        (word != 0 && check ^ word == hash).then_some(word)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_of_the_last_who_kept_something() {
        let memory = Memory::new();
        let (one, other) = (5, 5 + 7 * PLACES as u64);
        assert_eq!(memory.recall(one), None);
        memory.keep(one, 9);
        assert_eq!((memory.recall(one), memory.recall(other)), (Some(9), None));
        memory.keep(other, 8);
        assert_eq!((memory.recall(one), memory.recall(other)), (None, Some(8)));
        memory.keep(0, 0);
        assert_eq!(memory.recall(0), None);
    }
}
