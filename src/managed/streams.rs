//! The word of a channel: a connection that serves several at a time.
//!
//! ```text
//!  63             35  34     33       32    31      16 15       0
//! +-----------------+------+----------+------+----------+----------+
//! |     opened      | dead | draining |parked|  limit   |   used   |
//! +-----------------+------+----------+------+----------+----------+
//! ```
//!
//! * **H1** `used` is exactly the streams that exist, and what others hold for a look. A
//!   stream begins only below the limit, on a channel that is neither draining nor parked.
//! * **H2** Whoever sets `parked` owns the channel: nothing is used then, nothing begins, and
//!   nobody else sets it, until the owner gives up what is in it, or clears it.
//! * **H3** A channel that is not parked is used, or its limit is 0 and it is not draining:
//!   the last who ends parks it in the same step.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

const USED_ONE: u64 = 1;
const LIMIT_SHIFT: u32 = 16;
const PARKED: u64 = 1 << 32;
const DRAINING: u64 = 1 << 33;
const DEAD: u64 = 1 << 34;
const OPENED_SHIFT: u32 = 35;
const OPENED_ONE: u64 = 1 << OPENED_SHIFT;
const COUNT_MASK: u64 = (1 << LIMIT_SHIFT) - 1;

/// The most streams that a connection has at a time, whatever it could have.
pub const STREAMS_MAX: u32 = COUNT_MASK as u32;

/// A stream: of which channel, and the how-manieth of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream must be ended"]
pub struct Begun {
    pub channel: u32,
    pub number: u32,
}

/// See the module.
pub struct Streams(AtomicU64);

/// The word as it was at some time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// Streams, and looks.
    #[inline(always)]
    pub fn used(self) -> u32 {
        (self.0 & COUNT_MASK) as u32
    }

    /// How many there may be.
    #[inline(always)]
    pub fn limit(self) -> u32 {
        (self.0 >> LIMIT_SHIFT & COUNT_MASK) as u32
    }

    /// How many have begun, modulo 2^29.
    #[inline(always)]
    pub fn opened(self) -> u32 {
        (self.0 >> OPENED_SHIFT) as u32
    }

    /// Whether somebody owns the channel (H2).
    #[inline(always)]
    pub fn is_parked(self) -> bool {
        self.0 & PARKED != 0
    }

    /// Whether no stream begins any more.
    #[inline(always)]
    pub fn is_draining(self) -> bool {
        self.0 & DRAINING != 0
    }

    /// Whether the connection was found dead.
    pub fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    /// Whether a stream could begin.
    #[inline(always)]
    pub fn has_room(self) -> bool {
        self.0 & (PARKED | DRAINING) == 0 && self.used() < self.limit()
    }

    /// Whether nothing is used, and nothing can be for now.
    pub fn is_suspended(self) -> bool {
        self.0 & (PARKED | DRAINING) == 0 && self.used() == 0
    }

    /// As it is when nobody uses it any more: the owner of the channel is whoever changes
    /// the word to this (H2, H3).
    #[inline(always)]
    fn settled(self) -> Self {
        let over = self.used() == 0 && (self.limit() > 0 || self.is_draining());
        Self(if over { self.0 | PARKED } else { self.0 })
    }

    #[inline(always)]
    fn with_limit(self, limit: u32) -> Self {
        let limit = u64::from(limit.min(STREAMS_MAX)) << LIMIT_SHIFT;
        Self(self.0 & !(COUNT_MASK << LIMIT_SHIFT) | limit)
    }
}

impl Streams {
    /// Reads the word.
    pub fn load(&self) -> State {
        // Relaxed: advice. Who must know meets the others by a read-modify-write.
        State(self.0.load(Ordering::Relaxed))
    }

    /// Begins with so many streams used, of so many. By the owner of the channel.
    pub fn begin(&self, used: u32, limit: u32) {
        debug_assert!(self.load().is_parked(), "H2");
        let word = u64::from(used) | u64::from(used) << OPENED_SHIFT;
        // Release: pairs with the Acquire of `open`, whose caller sees what is in the channel.
        self.0.swap(State(word).with_limit(limit).0, Ordering::Release);
    }

    /// One more stream. As it was before, if there is no room.
    #[inline(always)]
    pub fn open(&self) -> Result<State, State> {
        self.update(Ordering::Acquire, |state| {
            state.has_room().then(|| State((state.0 + USED_ONE).wrapping_add(OPENED_ONE)))
        })
    }

    /// As a stream, for a look: whatever the limit, and counted as no use. By one who has the
    /// lock of the desk that the channel is listed at.
    pub fn hold(&self) -> bool {
        // Relaxed: it was listed under that lock when it had been filled, and whoever takes out
        // what is in it comes after the end of the hold.
        let held = self.update(Ordering::Relaxed, |state| {
            let may = !state.is_parked() && state.used() > 0 && state.used() < STREAMS_MAX;
            may.then_some(State(state.0 + USED_ONE))
        });
        held.is_ok()
    }

    /// A stream ends. If this parks the channel, it is the caller's.
    #[inline(always)]
    pub fn close(&self) -> State {
        // AcqRel: Release so that the owner comes after all that was done in streams;
        // Acquire for the owner, and to see the waiter who has touched the word before.
        self.change(Ordering::AcqRel, |state| {
            debug_assert!(state.used() > 0, "H1: every stream ends once");
            State(state.0 - USED_ONE).settled()
        })
    }

    /// A stream ends that nobody has used: it counts as no use.
    pub fn undo(&self) -> State {
        // AcqRel: as in `close`.
        self.change(Ordering::AcqRel, |state| {
            debug_assert!(state.used() > 0, "H1: every stream ends once");
            State(state.0.wrapping_sub(OPENED_ONE) - USED_ONE).settled()
        })
    }

    /// How many streams there may be. By one who has a stream.
    pub fn set_limit(&self, limit: u32) -> State {
        // Acquire: to see the waiter who has touched the word before. Not Release: it hides
        // no stream that has ended from the owner, being a read-modify-write.
        self.change(Ordering::Acquire, |state| state.with_limit(limit))
    }

    /// No stream begins any more. By one who has a stream, or the lock of the desk that the
    /// channel is listed at. True if this has parked the channel: then it is the caller's.
    #[must_use = "a channel that is parked is the caller's"]
    pub fn drain(&self, dead: bool) -> bool {
        let flags = if dead { DRAINING | DEAD } else { DRAINING };
        let mut before = self.load();
        // Acquire: for the owner. Not Release, as in `set_limit`.
        self.change(Ordering::Acquire, |state| {
            before = state;
            State(state.0 | flags).settled()
        })
        .is_parked()
            && !before.is_parked()
    }

    /// Parks a channel that is suspended: it is the caller's then.
    #[must_use = "a channel that is parked is the caller's"]
    pub fn seize(&self) -> bool {
        // Acquire: as in `close`.
        let seized = self.update(Ordering::Acquire, |state| {
            state.is_suspended().then_some(State(state.0 | PARKED))
        });
        seized.is_ok()
    }

    /// Suspended again, by its owner; who stays that if it was drained meanwhile.
    #[must_use = "a channel that stays parked is the caller's"]
    pub fn suspend(&self) -> bool {
        // Release: pairs with the next owner's Acquire.
        let suspended = self.update(Ordering::Release, |state| {
            (!state.is_draining()).then(|| State(state.0 & !PARKED).with_limit(0))
        });
        suspended.is_ok()
    }

    /// Reads the word by a read-modify-write: whoever changes it later sees what the caller
    /// did before, or the caller sees the change.
    pub fn touch(&self) {
        // Release: pairs with the Acquire in `close`, `undo` and `set_limit`, whose callers look
        // then whether somebody waits. Not Acquire: whoever acts on what this finds changes
        // the word again.
        self.0.fetch_add(0, Ordering::Release);
    }

    /// Changes the word, and tells what it is then.
    #[inline(always)]
    fn change(&self, success: Ordering, mut next: impl FnMut(State) -> State) -> State {
        match self.update(success, |state| Some(next(state))) {
            Ok(state) | Err(state) => state,
        }
    }

    /// Changes the word if it may be, and tells what it is then, or else was.
    #[inline(always)]
    fn update(
        &self,
        success: Ordering,
        mut next: impl FnMut(State) -> Option<State>,
    ) -> Result<State, State> {
        // Loom tries an access before the last one to the same word, and no other: the load would
        // keep it from trying the exchange before what others did.
        #[cfg(slabpool_loom)]
        self.0.fetch_add(0, Ordering::Relaxed);
        let mut now = self.load();
        loop {
            let Some(then) = next(now) else { return Err(now) };
            // Relaxed on failure: the word is only looked at again.
            match self.0.compare_exchange_weak(now.0, then.0, success, Ordering::Relaxed) {
                Ok(_) => return Ok(then),
                Err(other) => now = State(other),
            }
        }
    }
}

impl Default for Streams {
    /// Nobody's.
    fn default() -> Self {
        Self(AtomicU64::new(PARKED))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("used", &self.used())
            .field("limit", &self.limit())
            .field("opened", &self.opened())
            .field("parked", &self.is_parked())
            .field("draining", &self.is_draining())
            .field("dead", &self.is_dead())
            .finish()
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn of(used: u32, limit: u32) -> Streams {
        let streams = Streams::default();
        streams.begin(used, limit);
        streams
    }

    #[test]
    fn streams_begin_below_the_limit_and_the_last_one_parks() {
        let streams = of(1, 3);
        assert!(streams.open().is_ok() && streams.open().is_ok());
        assert_eq!(streams.open().unwrap_err().used(), 3);
        assert!(!streams.close().is_parked());
        assert!(!streams.undo().is_parked());
        assert_eq!(streams.load().opened(), 2);
        assert!(streams.close().is_parked());
        assert!(streams.open().is_err() && !streams.hold() && !streams.seize());
        assert!(!streams.drain(true), "it is its owner's");
    }

    #[test]
    fn a_limit_of_zero_suspends() {
        let streams = of(2, 2);
        assert_eq!(streams.set_limit(0).used(), 2);
        assert!(!streams.close().is_suspended());
        assert!(streams.close().is_suspended());
        assert!(streams.open().is_err() && !streams.hold());
        assert!(streams.seize());
        assert!(streams.suspend());
        assert!(streams.load().is_suspended());
        assert!(streams.seize());
        assert!(!streams.drain(false), "it is its owner's");
        assert!(!streams.suspend(), "it was drained");
        let streams = of(0, 0);
        assert!(streams.drain(false));
    }

    #[test]
    fn who_drains_it_with_streams_owns_nothing() {
        let streams = of(2, 9);
        assert!(!streams.drain(false));
        let state = streams.load();
        assert!(state.is_draining() && !state.is_parked() && !state.is_dead());
        assert!(streams.open().is_err());
        assert!(streams.hold());
        assert_eq!(streams.set_limit(0).limit(), 0);
        assert!(!streams.close().is_parked());
        assert!(!streams.drain(true));
        assert!(streams.load().is_dead());
        assert!(!streams.close().is_parked());
        assert!(streams.close().is_parked());
    }

    #[test]
    fn the_counts_do_not_touch_each_other() {
        let streams = of(0, u32::MAX);
        assert_eq!((streams.load().limit(), streams.load().used()), (65_535, 0));
        for _ in 0..STREAMS_MAX {
            assert!(streams.open().is_ok());
        }
        let full = streams.open().unwrap_err();
        assert_eq!((full.used(), full.opened(), full.limit()), (65_535, 65_535, 65_535));
        assert!(!streams.hold());
        let streams = of(0, 1);
        assert_eq!(streams.open().unwrap().used(), 1);
        assert_eq!((streams.undo().opened(), streams.load().is_dead()), (0, false));
    }
}
