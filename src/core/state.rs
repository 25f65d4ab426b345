//! Where a seat is in its life: one word, with every transition that exists.
//!
//! ```text
//!              rest                 claim
//!   Vacant -----------> Idle <----------------> Leased ----------> Vacant
//!     |                 ^  |        rest                  vacate
//!     |                 |  |  seize
//!     |                 |  +-------> Claimed ----------------> Vacant
//!     |                 |  |                     vacate
//!     |                 |  |  inspect          orphan
//!     |                 |  +-------> Inspected -------> Orphaned
//!     |                 |  restore       |                  |  rest
//!     |                 +----------------+------------------+
//!     +----------------------------------------------> Leased
//!                         occupy_leased
//! ```
//!
//! Whoever has inspected a connection may also close it: then `vacate` follows
//! `Inspected` or `Orphaned`.
//!
//! # Layout of the state word
//!
//! ```text
//!  63    61 60                                            0
//! +--------+------------------------------------------------+
//! |  phase |                  incarnation                   |
//! +--------+------------------------------------------------+
//! ```
//!
//! The phase `Idle` is 0, so that the word of an idle seat is the incarnation that its
//! ticket says.
//!
//! # Invariants
//!
//! * **S1** The incarnation rises by one when the seat is claimed and when it is
//!   vacated, and never falls. So the pair of seat and incarnation names one idle
//!   spell of one connection, for ever.
//! * **S2** One owner: whoever moved the seat out of `Idle` by `claim`, `seize` or
//!   `inspect` owns the connection; whoever took a vacant seat owns it until `rest`
//!   publishes it. All other fields are written by the owner alone, but for the
//!   doom in the mark, the alarm, and a ticket that is not at home (K2).
//! * **S3** The fields that belong to an idle spell are written before the state
//!   word says `Idle`. A reader that loads the word first and then moves the seat
//!   out of that very word has read the fields of that spell.

use crate::sync::{AtomicU64, Ordering, overwrite};

const PHASE_SHIFT: u32 = 61;
const INCARNATION_MASK: u64 = (1 << PHASE_SHIFT) - 1;

/// Where a seat is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// A connection waits; a ticket for this incarnation is, or is about to be,
    /// in a lane of its group.
    Idle = 0,
    /// No connection; the seat is on the free list, or being filled.
    Vacant = 1,
    /// A caller holds the connection.
    Leased = 2,
    /// The connection is being removed; the seat is vacant in a moment.
    Claimed = 3,
    /// `retain` or the reaper looks at the connection; its ticket is still in the lane.
    Inspected = 4,
    /// As before, but a getter met the ticket and removed it: who looks at the
    /// connection must issue a new one.
    Orphaned = 5,
}

/// What the state held at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    #[inline(always)]
    fn new(incarnation: u64, phase: Phase) -> Self {
        Self(incarnation | (phase as u64) << PHASE_SHIFT)
    }

    #[inline(always)]
    pub fn incarnation(self) -> u64 {
        self.0 & INCARNATION_MASK
    }

    pub fn phase(self) -> Phase {
        match self.0 >> PHASE_SHIFT {
            0 => Phase::Idle,
            1 => Phase::Vacant,
            2 => Phase::Leased,
            3 => Phase::Claimed,
            4 => Phase::Inspected,
            5 => Phase::Orphaned,
            other => unreachable!("phases end at 5, read {other}"),
        }
    }

    /// Whether a ticket for `incarnation` leads to a connection, now or as soon
    /// as somebody has looked at it.
    pub fn honours(self, incarnation: u64) -> bool {
        self == Self::new(incarnation, Phase::Idle)
            || self == Self::new(incarnation, Phase::Inspected)
    }
}

/// The state word of a seat, with every transition that exists.
#[derive(Debug)]
pub struct State(AtomicU64);

impl State {
    pub fn new() -> Self {
        Self(AtomicU64::new(Word::new(0, Phase::Vacant).0))
    }

    /// The incarnation, by the owner.
    #[inline(always)]
    pub fn own(&self) -> u64 {
        // Relaxed: only the owner changes it.
        Word(self.0.load(Ordering::Relaxed)).incarnation()
    }

    /// Reads the word.
    pub fn load(&self) -> Word {
        // Acquire: pairs with the Release of `rest` and `occupy_leased`, so that what is
        // read of the seat afterwards is of this spell or a later one (S3).
        Word(self.0.load(Ordering::Acquire))
    }

    /// `Idle` -> `Leased`, by a getter that has a ticket for `incarnation`.
    ///
    /// # Errors
    ///
    /// The word that was there instead.
    #[inline(always)]
    pub fn claim(&self, incarnation: u64) -> Result<(), Word> {
        let (idle, leased) =
            (Word::new(incarnation, Phase::Idle), Word::new(incarnation + 1, Phase::Leased));
        // AcqRel: Acquire pairs with `rest` and `restore`, so that whatever the last owner
        // did to the connection is visible. Release pairs with the Acquire on failure, and
        // in `was_claimed`: whoever finds a ticket void knows what the getter knew, as if
        // that had taken the ticket away. Else nothing could be proved of several lanes.
        match self.0.compare_exchange(idle.0, leased.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(actual) => Err(Word(actual)),
        }
    }

    /// Whether an attempt to claim is worth while.
    #[inline(always)]
    pub fn is_idle(&self, incarnation: u64) -> bool {
        // Relaxed: a hint. Models do without, which shows that it is no more than that.
        cfg!(slabpool_loom)
            || self.0.load(Ordering::Relaxed) == Word::new(incarnation, Phase::Idle).0
    }

    /// Whether the connection was leased in `incarnation`, and still is.
    #[inline(always)]
    pub fn was_claimed(&self, incarnation: u64) -> bool {
        // Acquire: pairs with `claim`.
        self.0.load(Ordering::Acquire) == Word::new(incarnation + 1, Phase::Leased).0
    }

    /// `Idle` -> `Claimed`, by whoever removes the connection.
    #[must_use = "a seized seat is lost unless its connection is removed"]
    pub fn seize(&self, incarnation: u64) -> bool {
        // Acquire: as in `claim`.
        self.exchange(
            Word::new(incarnation, Phase::Idle),
            Word::new(incarnation, Phase::Claimed),
            Ordering::Acquire,
        )
        .is_ok()
    }

    /// `Idle` -> `Inspected`, by whoever looks at the connection.
    #[must_use = "an inspected seat is lost unless it is restored"]
    pub fn inspect(&self, incarnation: u64) -> bool {
        // Acquire: as in `claim`.
        self.exchange(
            Word::new(incarnation, Phase::Idle),
            Word::new(incarnation, Phase::Inspected),
            Ordering::Acquire,
        )
        .is_ok()
    }

    /// `Inspected` -> `Orphaned`, by a getter that removed the ticket.
    ///
    /// # Errors
    ///
    /// The word that was there instead: the inspection is over.
    pub fn orphan(&self, incarnation: u64) -> Result<(), Word> {
        // Relaxed: it says only that the ticket is gone.
        self.exchange(
            Word::new(incarnation, Phase::Inspected),
            Word::new(incarnation, Phase::Orphaned),
            Ordering::Relaxed,
        )
    }

    /// `Inspected` -> `Idle`, by whoever has looked. False if the seat was orphaned: a new
    /// ticket must be issued.
    #[must_use = "an orphaned seat needs a new ticket"]
    pub fn restore(&self, incarnation: u64) -> bool {
        // AcqRel: Release pairs with `claim`, which sees what the user's closure
        // did; Acquire pairs with `touch`, so that the doom is seen.
        self.exchange(
            Word::new(incarnation, Phase::Inspected),
            Word::new(incarnation, Phase::Idle),
            Ordering::AcqRel,
        )
        .is_ok()
    }

    /// To `Idle` by the owner: of a lease that ends, of an orphan, of a seat that
    /// it filled.
    #[inline(always)]
    pub fn rest(&self, incarnation: u64) {
        // Release: pairs with the Acquire of `claim`, `seize`, `inspect` and `load`.
        overwrite(&self.0, Word::new(incarnation, Phase::Idle).0, Ordering::Release);
    }

    /// `Vacant` -> `Leased` by whoever filled the seat.
    pub fn occupy_leased(&self, incarnation: u64) {
        // Release: pairs with `load`, for readers who compare the serial next.
        overwrite(&self.0, Word::new(incarnation, Phase::Leased).0, Ordering::Release);
    }

    /// To `Vacant` by the owner, with the next incarnation.
    pub fn vacate(&self, incarnation: u64) {
        // Release: pairs with `load`, for a reaper that goes on to the seat's card. The
        // next owner gets the seat through the free list.
        overwrite(&self.0, Word::new(incarnation + 1, Phase::Vacant).0, Ordering::Release);
    }

    /// Reads the word by a read-modify-write: a later `restore` sees what the
    /// caller did before, or the caller sees its result.
    pub fn touch(&self) -> Word {
        // Release: pairs with the Acquire of `restore`. Not Acquire: whoever acts on
        // what this finds loads the word again.
        Word(self.0.fetch_add(0, Ordering::Release))
    }

    #[inline(always)]
    fn exchange(&self, from: Word, to: Word, success: Ordering) -> Result<(), Word> {
        // Relaxed on failure: the word is only compared.
        match self.0.compare_exchange(from.0, to.0, success, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(actual) => Err(Word(actual)),
        }
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_is_claimed_once() {
        let state = State::new();
        state.rest(4);
        assert!(state.load().honours(4));
        assert!(!state.load().honours(3));
        assert_eq!(state.claim(3), Err(Word::new(4, Phase::Idle)));
        assert_eq!(state.claim(4), Ok(()));
        assert_eq!(state.load(), Word::new(5, Phase::Leased));
        assert!(!state.seize(5));
        state.rest(5);
        assert_eq!(state.claim(4), Err(Word::new(5, Phase::Idle)), "an old ticket is void");
        assert!(state.seize(5));
        state.vacate(5);
        assert_eq!(state.load(), Word::new(6, Phase::Vacant));
    }

    /// What `is_idle` and `was_claimed` say costs exchanges where it is wrong, and nothing else
    /// that a pool would show.
    #[test]
    fn what_is_idle_and_what_was_claimed() {
        let state = State::new();
        state.rest(4);
        assert!(state.is_idle(4) && !state.is_idle(3) && !state.was_claimed(4));
        assert_eq!(state.claim(4), Ok(()));
        assert!(!state.is_idle(4) && !state.is_idle(5));
        assert!(state.was_claimed(4) && !state.was_claimed(5) && !state.was_claimed(3));
        state.rest(5);
        assert!(!state.was_claimed(4));
    }

    #[test]
    fn an_orphan_is_not_restored() {
        let state = State::new();
        state.rest(1);
        assert!(state.inspect(1));
        assert!(state.load().honours(1));
        assert_eq!(state.orphan(1), Ok(()));
        assert!(!state.restore(1));
        state.rest(1);
        assert_eq!(state.claim(1), Ok(()));
    }
}
