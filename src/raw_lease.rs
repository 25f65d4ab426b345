//! A lease without the pool that it is of, and what it may touch.

use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::core::seat::Seat;
use crate::store::Record;

/// A connection in use: the right and the duty to end the lease.
pub(crate) struct RawLease<K, C> {
    /// **E1** Points into the pool's arena of seats, which lives as long as the
    /// pool, which every lease keeps alive.
    seat: NonNull<Seat>,
    /// When the lease began.
    pub since: u64,
    /// The ticket that the release will push.
    pub ticket: u32,
    pub reused: bool,
    _record: PhantomData<NonNull<Record<K, C>>>,
}

impl<K, C> RawLease<K, C> {
    #[inline(always)]
    pub fn new(seat: &Seat, ticket: u32, since: u64, reused: bool) -> Self {
        Self { seat: NonNull::from(seat), since, ticket, reused, _record: PhantomData }
    }

    #[inline(always)]
    pub fn seat(&self) -> &Seat {
        // SAFETY: E1.
        unsafe { self.seat.as_ref() }
    }

    /// How often the connection was leased, this lease included.
    #[inline(always)]
    pub fn uses(&self) -> u64 {
        self.seat().state.own().wrapping_sub(self.record().uses_base.get())
    }

    /// The record of the connection, which the lease owns.
    #[inline(always)]
    pub fn record(&self) -> &Record<K, C> {
        // SAFETY: the lease owns the seat (S2), for as long as it exists.
        unsafe { record_of(self.seat()) }
    }
}

/// The record of the connection in a seat.
///
/// # Safety
///
/// The caller owns the seat, for as long as it uses the reference, and the seat
/// belongs to a pool of these types.
#[inline(always)]
pub(crate) unsafe fn record_of<'a, K, C>(seat: &Seat) -> &'a Record<K, C> {
    let place = seat.place().cast::<Record<K, C>>();
    debug_assert!(!place.is_null(), "only a seat that was filled has an owner");
    // SAFETY: a seat is filled with the address of its record, which stays pinned (R1)
    // until the owner removes it (S2).
    unsafe { &*place }
}
