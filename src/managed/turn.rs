//! Whose turn it is: how many of the line were nudged, and how often its first was passed by.
//!
//! ```text
//!  63          32 31           0
//! +--------------+--------------+
//! |    nudged    |   bypasses   |
//! +--------------+--------------+
//! ```
//!
//! * **M5** `nudged` changes under the lock of the line alone: those in it who were woken to
//!   look for themselves, and have not begun to. Whoever begins to look is taken off first,
//!   raises the tags of the group's heads, and looks then.
//! * **M6** `bypasses` is how many connections have gone past the first of the line since it
//!   is the first. It rises only below `BYPASS_MAX`.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// So many connections may go past the first of a line. Few in models, so that these come to
/// the end of it.
#[cfg(not(slabpool_loom))]
pub const BYPASS_MAX: u32 = 32;
#[cfg(slabpool_loom)]
pub const BYPASS_MAX: u32 = 2;

/// So many at most are woken to look for themselves at a time, since whoever nudges goes by
/// all who were.
#[cfg(not(slabpool_loom))]
pub const NUDGED_MAX: u32 = 64;
#[cfg(slabpool_loom)]
pub const NUDGED_MAX: u32 = 1;

const NUDGED_SHIFT: u32 = 32;
const BYPASSES_MASK: u64 = (1 << NUDGED_SHIFT) - 1;

/// See the module.
#[derive(Default)]
pub struct Turn(AtomicU64);

impl Turn {
    /// Goes past the first of the line, if that may still be.
    #[must_use]
    pub fn pass(&self) -> bool {
        // Relaxed: the count guards only itself.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let roomy = bypasses(word) < BYPASS_MAX;
                roomy.then_some(word + 1)
            })
            .is_ok()
    }

    /// Whether nobody may go past the first of the line any more.
    pub fn is_spent(&self) -> bool {
        // Relaxed: a hint to whoever releases; `pass` decides.
        bypasses(self.0.load(Ordering::Relaxed)) >= BYPASS_MAX
    }

    /// Whether as many were nudged as could find something, of so many connections. Then one
    /// of them looks after this.
    ///
    /// Fewer would do, but for those who are nudged and do not run.
    pub fn is_nudged(&self, connections: u32) -> bool {
        // Relaxed: whoever has made a connection idle after a waiter began to look has met
        // that in the head of a lane, and does not count it any more (M5).
        nudged(self.0.load(Ordering::Relaxed)) >= connections.clamp(1, NUDGED_MAX)
    }

    /// Says how many were nudged. The caller holds the lock of the line (M5).
    pub fn set_nudged(&self, now: usize) {
        // Relaxed: only holders of the lock change it.
        let before = nudged(self.0.load(Ordering::Relaxed));
        // Wrapping: what is added may be less than nothing.
        let change = (now as u64).wrapping_sub(u64::from(before)) << NUDGED_SHIFT;
        if change != 0 {
            // Relaxed: see `is_nudged`.
            self.0.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// Another one is the first of the line. The caller holds its lock.
    pub fn begin(&self) {
        // Relaxed: a bypass at this very moment may count for either.
        if bypasses(self.0.load(Ordering::Relaxed)) > 0 {
            self.0.fetch_and(!BYPASSES_MASK, Ordering::Relaxed);
        }
    }
}

fn bypasses(word: u64) -> u32 {
    (word & BYPASSES_MASK) as u32
}

fn nudged(word: u64) -> u32 {
    (word >> NUDGED_SHIFT) as u32
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for people to read.
        let word = self.0.load(Ordering::Relaxed);
        f.debug_struct("Turn")
            .field("nudged", &nudged(word))
            .field("bypasses", &bypasses(word))
            .finish()
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_counts_do_not_touch_each_other() {
        let turn = Turn::default();
        assert!(!turn.is_nudged(0));
        turn.set_nudged(NUDGED_MAX as usize);
        for _ in 0..BYPASS_MAX {
            assert!(!turn.is_spent() && turn.pass());
        }
        assert!(turn.is_spent() && !turn.pass() && turn.is_nudged(u32::MAX));
        turn.set_nudged(1);
        assert!(turn.is_spent() && !turn.is_nudged(2) && turn.is_nudged(1));
        turn.begin();
        assert!(!turn.is_spent() && turn.pass());
        turn.set_nudged(0);
        assert_eq!(turn.0.load(Ordering::Relaxed), 1);
    }
}
