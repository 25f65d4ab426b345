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
//!   publishes it. All other fields are written by the owner alone, but for the
//!   doom in the mark, the alarm, and a ticket that is not at home (K2).
//! * **S3** The fields that belong to an idle spell are written before the state
//!   word says `Idle`. A reader that loads the word first and then moves the seat
//!   out of that very word has read the fields of that spell.

use std::ptr::null_mut;

use crate::core::arena::Record;
use crate::core::tagged::NIL;
use crate::core::ticket::Ticket;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, overwrite};

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

    /// The incarnation, by the owner.
    #[inline(always)]
    pub fn own(&self) -> u64 {
        // Relaxed: only the owner changes it.
        Word(self.0.load(Ordering::Relaxed)).incarnation()
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
        overwrite(&self.0, Word::new(incarnation, Phase::Idle).0, Ordering::Release);
    }

    /// `Vacant` -> `Leased` by whoever filled the seat.
    pub fn occupy_leased(&self, incarnation: u64) {
        // Release: pairs with `load`, for readers who compare the serial next.
        overwrite(&self.0, Word::new(incarnation, Phase::Leased).0, Ordering::Release);
    }

    /// To `Vacant` by the owner, with the next incarnation.
    pub fn vacate(&self, incarnation: u64) {
        // Relaxed: handed to the next owner through the free list.
        overwrite(&self.0, Word::new(incarnation + 1, Phase::Vacant).0, Ordering::Relaxed);
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

/// Whose seat this is, and whether it may be used: one word, so that one
/// comparison tells a getter both.
///
/// ```text
///  63              32 31     30            0
/// +------------------+------+---------------+
/// | serial, low half |doomed|  generation   |
/// +------------------+------+---------------+
/// ```
#[derive(Debug)]
pub struct Mark(AtomicU64);

const GENERATION_MASK: u32 = u32::MAX >> 1;
const DOOMED: u64 = 1 << 31;

impl Mark {
    /// Written by the owner when a connection takes the seat.
    fn set(&self, serial: u64, generation: u32) {
        // Relaxed: published with the state (S3).
        let mark = serial << 32 | u64::from(generation & GENERATION_MASK);
        overwrite(&self.0, mark, Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn get(&self) -> u64 {
        // Relaxed: ordered by the head that the caller pushed on or popped from, or
        // by the state that it loaded first.
        self.0.load(Ordering::Relaxed)
    }

    /// Whether a mark is of this generation, and not doomed.
    #[inline(always)]
    pub fn is_of(mark: u64, generation: u32) -> bool {
        mark as u32 == generation & GENERATION_MASK
    }

    pub fn is_doomed(mark: u64) -> bool {
        mark & DOOMED != 0
    }

    /// The low half of the serial.
    pub fn serial(mark: u64) -> u32 {
        (mark >> 32) as u32
    }

    /// Says that the connection with this serial must not be used again.
    ///
    /// The caller then passes a barrier ([`Lanes::barrier`](super::lanes::Lanes))
    /// and looks at the state again.
    pub fn doom(&self, serial: u64) {
        // Relaxed: the barrier publishes it. The closure compares the serial, so
        // that the doom of a former connection changes nothing.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |mark| {
            (Self::serial(mark) == serial as u32).then_some(mark | DOOMED)
        });
    }
}

/// One pooled connection: all that get and release need, in one cache line. Times
/// are in nanoseconds of the pool's clock.
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
    pub mark: Mark,
    /// The seat's own ticket (K2).
    pub ticket: Ticket,
    free: AtomicU32,
}

const _: () = assert!(cfg!(slabpool_loom) || size_of::<Seat>() == 64);

impl Default for Seat {
    fn default() -> Self {
        Self {
            state: State::new(),
            place: AtomicPtr::new(null_mut()),
            stamp: Field::default(),
            deadline: Field::default(),
            mark: Mark(AtomicU64::new(0)),
            ticket: Ticket::default(),
            free: AtomicU32::new(NIL),
        }
    }
}

impl Record for Seat {
    fn free_link(&self) -> &AtomicU32 {
        &self.free
    }
}

impl Seat {
    /// Fills a vacant seat that the caller owns, but for the state and the spell.
    pub fn fill(&self, place: *mut (), serial: u64, generation: u32) {
        // Relaxed: published with the state (S3).
        self.place.store(place, Ordering::Relaxed);
        self.mark.set(serial, generation);
    }

    /// Where the connection is. Meaningful to the owner alone (S2).
    #[inline(always)]
    pub fn place(&self) -> *mut () {
        // Relaxed: whoever made the caller the owner has published it.
        self.place.load(Ordering::Relaxed)
    }

    /// Whether the idle spell is over at `now`. `now` may be older than the stamp,
    /// if another thread released the connection meanwhile: then it is not.
    #[inline(always)]
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.deadline.get()
    }
}

/// What else belongs to a seat, for those who insert, for predicates and for the
/// reaper. The card of a seat has the seat's index.
#[derive(Debug)]
pub struct Card {
    /// When the connection was inserted.
    pub born: Field,
    /// The incarnation from which uses count.
    pub uses_base: Field,
    pub alarm: Alarm,
    unused: AtomicU32,
}

impl Default for Card {
    fn default() -> Self {
        Self {
            born: Field::default(),
            uses_base: Field::default(),
            alarm: Alarm(AtomicU32::new(Alarm::UNSET)),
            unused: AtomicU32::new(NIL),
        }
    }
}

impl Record for Card {
    fn free_link(&self) -> &AtomicU32 {
        &self.unused
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
        seat.fill(null_mut(), 7, 3);
        assert!(Mark::is_of(seat.mark.get(), 3));
        assert!(!Mark::is_of(seat.mark.get(), 4));
        seat.mark.doom(7);
        assert!(Mark::is_doomed(seat.mark.get()));
        assert!(!Mark::is_of(seat.mark.get(), 3));
        seat.fill(null_mut(), 8, u32::MAX);
        seat.mark.doom(7);
        let mark = seat.mark.get();
        assert!(!Mark::is_doomed(mark), "the doom of a former connection comes late");
        assert!(Mark::is_of(mark, u32::MAX));
        assert_eq!(Mark::serial(mark), 8);
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
