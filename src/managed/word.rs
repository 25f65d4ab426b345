//! The state word of a peer: what it has, and who is about.
//!
//! ```text
//!  63      62        40 39          24 23           0
//! +-------+------------+--------------+--------------+
//! |waiting|  visitors  |  connecting  | connections  |
//! +-------+------------+--------------+--------------+
//! ```
//!
//! * **M1** `connections` is what is idle, leased or being opened: exactly the permits
//!   that exist. It rises only below its limit. `connecting` of them are being opened.
//! * **M2** A peer whose word is zero is nobody's. Only whoever holds the lock of its shard
//!   makes it somebody's (`enter`); all else is done by those who are counted already.
//! * **M3** `waiting` changes under the lock of the line alone, and says whether somebody
//!   stands in it.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

const CONNECTION_ONE: u64 = 1;
const CONNECTING_SHIFT: u32 = 24;
const CONNECTING_ONE: u64 = 1 << CONNECTING_SHIFT;
const VISITOR_SHIFT: u32 = 40;
const VISITOR_ONE: u64 = 1 << VISITOR_SHIFT;
const WAITING: u64 = 1 << 63;

const CONNECTIONS_MASK: u64 = CONNECTING_ONE - 1;
const CONNECTING_MASK: u64 = (1 << (VISITOR_SHIFT - CONNECTING_SHIFT)) - 1;
const VISITORS_MASK: u64 = (1 << (63 - VISITOR_SHIFT)) - 1;

/// The most connections that a peer can be allowed.
pub const CONNECTIONS_MAX: u32 = 1 << 23;
/// The most of them that can be allowed to be opened at a time.
#[cfg(not(slabpool_loom))]
pub const CONNECTING_MAX: u32 = CONNECTING_MASK as u32;
/// The most callers that can be allowed to wait for a peer. Those who connect, and those
/// who are just about to find that they may not wait, are visitors as well.
pub const WAITERS_MAX: u32 = 1 << 22;

const _: () = assert!((CONNECTIONS_MAX as u64) <= CONNECTIONS_MASK);
const _: () = assert!((WAITERS_MAX as u64) < VISITORS_MASK);

/// What a peer may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Connections, in whatever state.
    pub connections: u32,
    /// Connections that are being opened.
    pub connecting: u32,
    /// One connect at a time for a peer that has no open connection.
    pub single_flight: bool,
    /// Callers that wait, with no connect under way for them.
    pub waiters: u32,
}

/// See the module.
#[derive(Default)]
pub struct Word(AtomicU64);

/// The word as it was at some time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// Idle, leased or being opened.
    pub fn connections(self) -> u32 {
        (self.0 & CONNECTIONS_MASK) as u32
    }

    /// Being opened.
    pub fn connecting(self) -> u32 {
        (self.0 >> CONNECTING_SHIFT & CONNECTING_MASK) as u32
    }

    /// Callers that are about to connect or to wait, or do.
    pub fn visitors(self) -> u32 {
        (self.0 >> VISITOR_SHIFT & VISITORS_MASK) as u32
    }

    /// Whether somebody stands in the line.
    #[inline(always)]
    pub fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    /// Whether both limits allow one more connection to be opened.
    pub fn allows(self, bounds: Bounds) -> bool {
        let none_open = self.connections() == self.connecting();
        let connecting = if none_open && bounds.single_flight { 1 } else { bounds.connecting };
        self.connections() < bounds.connections && self.connecting() < connecting
    }

    /// Whether one more connect is wanted, by so many, and may be started. Cheaper to know
    /// than who wants it, which is a matter of the clock.
    pub fn may_connect(self, demand: usize, bounds: Bounds) -> bool {
        demand > self.connecting() as usize && self.allows(bounds)
    }

    /// Whether a connection that is idle now is somebody's concern: of one who waits, or
    /// because the peer has more than so many.
    #[inline(always)]
    pub fn is_wanted(self, connections_max: u32) -> bool {
        const _: () = assert!(WAITING == 1 << 63);
        // The sign of what is left, in the place of the flag: one branch for both.
        let left = u64::from(connections_max).wrapping_sub(self.0 & CONNECTIONS_MASK);
        (self.0 | left) & WAITING != 0
    }

    /// Whether the peer is nobody's (M2).
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Word {
    /// Reads the word.
    #[inline(always)]
    pub fn load(&self) -> State {
        // Relaxed: whoever must see a waiter has met it in another word before: in the
        // head of a lane (`Lane::barrier`), in this one, or in the lock of the line.
        State(self.0.load(Ordering::Relaxed))
    }

    /// One more visitor. The caller holds the lock of the shard, or is counted already (M2).
    pub fn enter(&self) {
        // Relaxed: the lock, or what it is counted for, orders it, and the count guards only itself.
        let before = State(self.0.fetch_add(VISITOR_ONE, Ordering::Relaxed));
        assert!((before.visitors() as u64) < VISITORS_MASK, "too many callers at one peer");
    }

    /// A visitor goes.
    #[must_use = "an empty peer must go"]
    pub fn leave(&self) -> State {
        // Relaxed: who finds the word empty takes the lock of the shard, and looks again.
        let before = State(self.0.fetch_sub(VISITOR_ONE, Ordering::Relaxed));
        debug_assert!(before.visitors() > 0, "every visitor leaves once");
        State(before.0 - VISITOR_ONE)
    }

    /// Takes a permit for a connection that is to be opened, if both limits allow. The
    /// caller is a visitor.
    #[must_use]
    pub fn reserve(&self, bounds: Bounds) -> bool {
        // As in `Streams::update`: the load would hide orders of exchanges from loom.
        #[cfg(slabpool_loom)]
        self.0.fetch_add(0, Ordering::Relaxed);
        // Relaxed: the counts guard only themselves. That whoever frees a permit sees a
        // waiter, or the waiter the freed permit, both being changes of this one word:
        // one of them comes first.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                State(word).allows(bounds).then_some(word + CONNECTION_ONE + CONNECTING_ONE)
            })
            .is_ok()
    }

    /// A connection is open: its permit stays taken.
    pub fn opened(&self) {
        // Relaxed: as in `reserve`.
        let before = State(self.0.fetch_sub(CONNECTING_ONE, Ordering::Relaxed));
        debug_assert!(before.connecting() > 0, "every connect ends once");
    }

    /// Frees the permit of a connection that is closed, or was never opened.
    #[must_use = "waiters must hear of it, and an empty peer must go"]
    pub fn free(&self, connecting: bool) -> State {
        let parts = if connecting { CONNECTION_ONE + CONNECTING_ONE } else { CONNECTION_ONE };
        // Relaxed: as in `reserve` and `leave`.
        let before = State(self.0.fetch_sub(parts, Ordering::Relaxed));
        debug_assert!(before.connections() > 0, "every permit is freed once");
        debug_assert!(!connecting || before.connecting() > 0, "every connect ends once");
        State(before.0 - parts)
    }

    /// Says whether somebody stands in the line. The caller holds its lock (M3).
    pub fn set_waiting(&self, waiting: bool) {
        if self.load().is_waiting() == waiting {
            return;
        }
        // Relaxed: see `load`.
        if waiting {
            self.0.fetch_or(WAITING, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!WAITING, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.load();
        f.debug_struct("Word")
            .field("connections", &state.connections())
            .field("connecting", &state.connecting())
            .field("visitors", &state.visitors())
            .field("waiting", &state.is_waiting())
            .finish()
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_counts_do_not_touch_each_other() {
        let word = Word::default();
        let bounds = Bounds { connections: 3, connecting: 2, single_flight: false, waiters: 0 };
        word.enter();
        word.set_waiting(true);
        assert!(word.reserve(bounds) && word.reserve(bounds));
        assert!(!word.reserve(bounds), "two are being opened");
        word.opened();
        assert!(word.reserve(bounds));
        word.opened();
        assert!(!word.reserve(bounds), "three are there");
        assert!(word.load().is_wanted(3));
        word.set_waiting(false);
        assert!(word.load().is_wanted(2) && !word.load().is_wanted(3));
        word.set_waiting(true);
        let state = word.load();
        assert_eq!((state.connections(), state.connecting(), state.visitors()), (3, 1, 1));
        assert!(state.is_waiting());
        assert_eq!(word.free(true).connecting(), 0);
        assert_eq!(word.free(false).connections(), 1);
        assert!(!word.free(false).is_empty());
        word.set_waiting(false);
        assert!(word.leave().is_empty());
    }
}
