//! The record of one pooled connection: its state, its times, its mark.
//!
//! The invariants S1 to S3, on who may read and write what, are those of
//! [`super::state`].

use std::ptr::null_mut;

use crate::core::arena::Record;
use crate::core::state::State;
use crate::core::tagged::NIL;
use crate::core::ticket::Ticket;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, overwrite};

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
        // Release: pairs with `reset`. If this comes first, the reaper sees what the
        // caller wrote to the seat; if it comes second, we find the alarm reset and
        // tell the reaper.
        self.0.fetch_min(tick, Ordering::Release) > tick
    }

    /// The tick that was asked for, or [`Alarm::UNSET`].
    pub fn tick(&self) -> u32 {
        // Relaxed: who has a notice of a request sees that one or a later one.
        self.0.load(Ordering::Relaxed)
    }

    /// Clears the alarm, by the reaper, before it reads the seat.
    pub fn reset(&self) {
        // Acquire: pairs with `request`.
        self.0.swap(Self::UNSET, Ordering::Acquire);
    }
}

/// Fields of a [`Seat`] and of what belongs to it that are plain values behind
/// atomics: the state word or the free list publishes them (S2, S3), so that all
/// accesses are Relaxed.
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

    /// Sets the value, and publishes what the caller did before.
    pub fn publish(&self, value: u64) {
        // Release: pairs with the Acquire in `follow`.
        self.0.store(value, Ordering::Release);
    }

    /// Reads a value that leads to something which `publish` made known.
    pub fn follow(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.0.load(Ordering::Acquire)
    }
}

/// Whose seat this is, and whether it may be used: one word, so that one
/// comparison tells a getter both.
///
/// ```text
///  63              32 31             1    0
/// +------------------+---------------+------+
/// | serial, low half |  generation   |doomed|
/// +------------------+---------------+------+
/// ```
#[derive(Debug)]
pub struct Mark(AtomicU64);

/// By which generations rise: sums of them leave the lowest bit alone.
pub const GENERATION_ONE: u32 = 1 << 1;
const DOOMED: u64 = 1;

impl Mark {
    /// Written by the owner when a connection takes the seat.
    pub fn set(&self, serial: u64, generation: u32) {
        debug_assert!(u64::from(generation) & DOOMED == 0, "generations rise by two");
        // Relaxed: published with the state (S3).
        let mark = serial << 32 | u64::from(generation);
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
        mark as u32 == generation
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
    /// For the reaper, which looks at the rest then. Stays with the seat when the next
    /// connection takes it.
    pub alarm: Alarm,
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
            alarm: Alarm(AtomicU32::new(Alarm::UNSET)),
        }
    }
}

impl Record for Seat {
    fn free_link(&self) -> &AtomicU32 {
        &self.free
    }
}

impl Seat {
    /// Says where its connections are, for ever. By whoever owns the seat first (S2).
    pub fn settle(&self, place: *mut ()) {
        // Relaxed: published with the state (S3).
        self.place.store(place, Ordering::Relaxed);
    }

    /// Where the connection is; null in a seat that never had one. For the owner (S2).
    #[inline(always)]
    pub fn place(&self) -> *mut () {
        // Relaxed: whoever made the caller the owner has published it.
        self.place.load(Ordering::Relaxed)
    }

    /// Whether the connection is leased by the seat's own ticket, which may lie where it
    /// was.
    #[inline(always)]
    pub fn is_leased_in_place(&self) -> bool {
        self.state.was_claimed(self.ticket.incarnation())
    }

    /// Whether the idle spell is over at `now`. `now` may be older than the stamp,
    /// if another thread released the connection meanwhile: then it is not.
    #[inline(always)]
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.deadline.get()
    }
}

/// What else belongs to a seat, for those who do not own it. The card of a seat has the
/// seat's index.
#[derive(Debug, Default)]
pub struct Card {
    /// When the connection was inserted.
    pub born: Field,
    /// Where its record is, which says all the rest.
    pub key: Field,
    /// The number of its insertion, never used twice. Written after the key.
    pub serial: Field,
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_doom_is_for_one_connection() {
        let seat = Seat::default();
        seat.mark.set(7, 6);
        assert!(Mark::is_of(seat.mark.get(), 6));
        assert!(!Mark::is_of(seat.mark.get(), 8));
        seat.mark.doom(7);
        assert!(Mark::is_doomed(seat.mark.get()));
        assert!(!Mark::is_of(seat.mark.get(), 6));
        seat.mark.set(8, u32::MAX - 1);
        seat.mark.doom(7);
        let mark = seat.mark.get();
        assert!(!Mark::is_doomed(mark), "the doom of a former connection comes late");
        assert!(Mark::is_of(mark, u32::MAX - 1));
        assert_eq!(Mark::serial(mark), 8);
    }

    #[test]
    fn what_is_published_can_be_followed() {
        let field = Field::default();
        field.publish(9);
        assert_eq!((field.follow(), field.get()), (9, 9));
    }

    #[test]
    fn a_spell_ends_at_its_deadline() {
        let seat = Seat::default();
        seat.deadline.set(10);
        assert!(!seat.is_expired(9) && seat.is_expired(10) && seat.is_expired(11));
    }

    #[test]
    fn a_seat_is_leased_in_place_by_its_own_ticket() {
        let seat = Seat::default();
        seat.ticket.set_incarnation(4);
        assert_eq!(seat.ticket.linked_incarnation(), 4);
        seat.state.rest(4);
        assert!(!seat.is_leased_in_place());
        assert_eq!(seat.state.claim(4), Ok(()));
        assert!(seat.is_leased_in_place());
        seat.ticket.set_incarnation(3);
        assert!(!seat.is_leased_in_place(), "it was another ticket");
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
