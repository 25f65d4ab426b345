//! The record of one pooled connection: where it is in its life, and when that ends.
//!
//! ```text
//!             occupy                claim                 close
//!   Vacant -----------> Idle <----------------> Leased ----------> Vacant
//!     |                  | |        rest           ^
//!     |                  | +------> Claimed -------|-------------> Vacant
//!     |                  |  seize             vacate
//!     |                  | inspect         orphan
//!     |                  +-------> Inspected ----> Orphaned
//!     |                  ^  restore   |               | settle
//!     |                  +------------+---------------+
//!     +--------------------- occupy --------------> Leased
//! ```
//!
//! # Layout of the state word
//!
//! ```text
//!  63                                             3 2    0
//! +------------------------------------------------+------+
//! |                 incarnation                    | phase|
//! +------------------------------------------------+------+
//! ```
//!
//! # Invariants
//!
//! * **S1** The incarnation rises by one when the seat is claimed and when it is
//!   vacated, and never falls. So the pair of seat and incarnation names one idle
//!   spell of one connection, for ever.
//! * **S2** One owner: whoever moved the seat out of `Idle` by `claim`, `seize` or
//!   `inspect` owns the connection; whoever took a vacant seat owns it until `rest`
//!   publishes it. All other fields are written by the owner alone, but for
//!   `doomed` and `alarm`.
//! * **S3** The fields that belong to an idle spell are written before the state
//!   word says `Idle`. A reader that loads the word first and then moves the seat
//!   out of that very word has read the fields of that spell.

use std::ptr::null_mut;

use crate::core::arena::Record;
use crate::core::tagged::NIL;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const PHASE_BITS: u32 = 3;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// Where a seat is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No connection; the seat is on the free list, or being filled.
    Vacant = 0,
    /// A connection waits; a ticket for this incarnation is, or is about to be,
    /// in a lane of its group.
    Idle = 1,
    /// A caller holds the connection.
    Leased = 2,
    /// The connection is being removed; the seat is vacant in a moment.
    Claimed = 3,
    /// `retain` looks at the connection; its ticket is still in the lane.
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
        Self(incarnation << PHASE_BITS | phase as u64)
    }

    #[inline(always)]
    pub fn incarnation(self) -> u64 {
        self.0 >> PHASE_BITS
    }

    pub fn phase(self) -> Phase {
        match self.0 & PHASE_MASK {
            0 => Phase::Vacant,
            1 => Phase::Idle,
            2 => Phase::Leased,
            3 => Phase::Claimed,
            4 => Phase::Inspected,
            5 => Phase::Orphaned,
            other => unreachable!("phases end at 5, read {other}"),
        }
    }

    /// Whether a ticket for `incarnation` leads to a connection, now or as soon
    /// as `retain` has looked at it.
    pub fn honours(self, incarnation: u64) -> bool {
        self == Self::new(incarnation, Phase::Idle)
            || self == Self::new(incarnation, Phase::Inspected)
    }
}

/// The state word of a seat, with every transition that exists.
#[derive(Debug)]
pub struct State(AtomicU64);

impl State {
    fn new() -> Self {
        Self(AtomicU64::new(Word::new(0, Phase::Vacant).0))
    }

    /// Reads the word.
    pub fn load(&self) -> Word {
        // Acquire: pairs with the Release of `rest` and `occupy`, so that what is
        // read of the seat afterwards is of this spell or a later one (S3).
        Word(self.0.load(Ordering::Acquire))
    }

    /// `Idle` -> `Leased`, by a getter that holds a ticket for `incarnation`.
    ///
    /// # Errors
    ///
    /// The word that was there instead.
    #[inline(always)]
    pub fn claim(&self, incarnation: u64) -> Result<(), Word> {
        // Acquire: pairs with `rest`, `occupy`, `restore` and `settle`: whatever
        // the last owner did to the connection is visible.
        self.exchange(
            Word::new(incarnation, Phase::Idle),
            Word::new(incarnation + 1, Phase::Leased),
            Ordering::Acquire,
        )
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

    /// `Idle` -> `Inspected`, by `retain`.
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

    /// `Inspected` -> `Idle`, by `retain`. False if the seat was orphaned: a new
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
        self.0.store(Word::new(incarnation, Phase::Idle).0, Ordering::Release);
    }

    /// `Vacant` -> `Leased` by whoever filled the seat.
    pub fn occupy_leased(&self, incarnation: u64) {
        // Release: pairs with `load`, for readers who compare the serial next.
        self.0.store(Word::new(incarnation, Phase::Leased).0, Ordering::Release);
    }

    /// To `Vacant` by the owner, with the next incarnation.
    pub fn vacate(&self, incarnation: u64) {
        // Relaxed: handed to the next owner through the free list.
        self.0.store(Word::new(incarnation + 1, Phase::Vacant).0, Ordering::Relaxed);
    }

    /// Reads the word by a read-modify-write: a later `restore` sees what the
    /// caller did before, or the caller sees its result.
    pub fn touch(&self) -> Word {
        // AcqRel: Release pairs with the Acquire of `restore`; Acquire as in `load`.
        Word(self.0.fetch_add(0, Ordering::AcqRel))
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

/// The tick at which the reaper looks at a seat again.
///
/// Only ever lowered by those who want to be looked at, and reset by the reaper
/// when it is about to look.
#[derive(Debug)]
pub struct Alarm(AtomicU32);

impl Alarm {
    /// No look is due.
    pub const UNSET: u32 = u32::MAX;

    /// Asks for a look at `tick`. True if the reaper must be told, because it
    /// would look later or not at all.
    #[must_use = "the reaper does not know unless it is told"]
    pub fn request(&self, tick: u32) -> bool {
        // AcqRel: pairs with `reset`. If this comes first, the reaper sees what
        // the caller wrote to the seat; if it comes second, we see the reset and
        // tell the reaper.
        self.0.fetch_min(tick, Ordering::AcqRel) > tick
    }

    /// Clears the alarm, by the reaper, before it reads the seat.
    pub fn reset(&self) {
        // AcqRel: pairs with `request`.
        self.0.swap(Self::UNSET, Ordering::AcqRel);
    }
}

/// A [`Seat`]'s fields that are plain values behind atomics: the state word or
/// the free list publishes them (S2, S3), so that all accesses are Relaxed.
#[derive(Debug, Default)]
pub struct Field(AtomicU64);

impl Field {
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// One pooled connection, in one cache line. Times are in nanoseconds of the
/// pool's clock.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Seat {
    pub state: State,
    /// The connection's record in the slab. See [`Seat::place`].
    place: AtomicPtr<()>,
    /// When the idle spell began.
    pub stamp: Field,
    /// When the idle spell ends, by idle timeout or lifetime; `u64::MAX` is never.
    pub deadline: Field,
    /// The number of the connection's insertion, never used twice.
    pub serial: Field,
    /// When the connection was inserted.
    pub born: Field,
    /// The generation of pool and group in which it was inserted.
    generation: AtomicU32,
    /// The low half of the serial that must not be used again.
    doomed: AtomicU32,
    pub alarm: Alarm,
    /// The low half of the incarnation from which uses count. While the seat is
    /// vacant, the link of the free list.
    uses_base: AtomicU32,
}

const _: () = assert!(cfg!(slabpool_loom) || size_of::<Seat>() == 64);

impl Default for Seat {
    fn default() -> Self {
        Self {
            state: State::new(),
            place: AtomicPtr::new(null_mut()),
            stamp: Field::default(),
            deadline: Field::default(),
            serial: Field::default(),
            born: Field::default(),
            generation: AtomicU32::new(0),
            doomed: AtomicU32::new(0),
            alarm: Alarm(AtomicU32::new(Alarm::UNSET)),
            uses_base: AtomicU32::new(NIL),
        }
    }
}

impl Record for Seat {
    fn free_link(&self) -> &AtomicU32 {
        &self.uses_base
    }
}

/// What a connection brings along when it takes a seat.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub serial: u64,
    pub born: u64,
    pub generation: u32,
    /// The incarnation from which uses count.
    pub uses_base: u64,
}

impl Seat {
    /// Fills a vacant seat that the caller owns, but for the state and the spell.
    pub fn fill(&self, place: *mut (), arrival: Arrival) {
        self.place.store(place, Ordering::Relaxed);
        self.serial.set(arrival.serial);
        self.born.set(arrival.born);
        self.generation.store(arrival.generation, Ordering::Relaxed);
        // Not this serial: forgets the doom of former connections.
        self.doomed.store(!arrival.serial as u32, Ordering::Relaxed);
        self.uses_base.store(arrival.uses_base as u32, Ordering::Relaxed);
    }

    /// Where the connection is. Meaningful to the owner alone (S2).
    #[inline(always)]
    pub fn place(&self) -> *mut () {
        // Relaxed: whoever made the caller the owner has published it.
        self.place.load(Ordering::Relaxed)
    }

    /// The generation in which the connection was inserted.
    #[inline(always)]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// How often the connection was leased until `incarnation`, modulo 2^32.
    pub fn uses(&self, incarnation: u64) -> u32 {
        (incarnation as u32).wrapping_sub(self.uses_base.load(Ordering::Relaxed))
    }

    /// Says that the connection with this serial must not be used again.
    ///
    /// The caller then passes a barrier ([`Lanes::barrier`](super::lanes::Lanes))
    /// and looks at the state again.
    pub fn doom(&self, serial: u64) {
        // Relaxed: the barrier publishes it.
        self.doomed.store(serial as u32, Ordering::Relaxed);
    }

    /// Whether the connection with this serial was doomed.
    #[inline(always)]
    pub fn is_doomed(&self, serial: u64) -> bool {
        // Relaxed: ordered by the head that the caller pushed on or popped from.
        self.doomed.load(Ordering::Relaxed) == serial as u32
    }

    /// Whether the idle spell is over at `now`. `now` may be older than the stamp,
    /// if another thread released the connection meanwhile: then it is not.
    #[inline(always)]
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.deadline.get()
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

    #[test]
    fn a_doom_is_for_one_connection() {
        let seat = Seat::default();
        let arrival = Arrival { serial: 7, born: 0, generation: 0, uses_base: u64::MAX };
        seat.fill(null_mut(), arrival);
        assert!(!seat.is_doomed(7));
        seat.doom(7);
        assert!(seat.is_doomed(7));
        seat.fill(null_mut(), Arrival { serial: 8, ..arrival });
        seat.doom(7);
        assert!(!seat.is_doomed(8), "the doom of a former connection comes late");
        assert_eq!(seat.uses(0), 1);
    }

    #[test]
    fn an_alarm_is_told_once() {
        let alarm = Alarm(AtomicU32::new(Alarm::UNSET));
        assert!(alarm.request(9));
        assert!(!alarm.request(9));
        assert!(!alarm.request(12));
        assert!(alarm.request(7));
        alarm.reset();
        assert!(alarm.request(12));
    }
}
