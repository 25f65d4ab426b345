//! How a connection enters the pool, and what goes to make room for it.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::capacity::Permit;
use crate::core::ticket::Claim;
use crate::engine::{Engine, RawLease};
use crate::error::{CloseReason, RejectReason, Rejected};
use crate::events::event;
use crate::group::Members;
use crate::limits::Limits;
use crate::settings::PutOptions;
use crate::store::{Place, Record, THREADS_MAX};
use crate::sync::Ordering;
use crate::terms::Terms;
use crate::token::Token;

/// An insertion into a pool whose capacity was lowered closes no more than this.
const EVICTIONS_PER_INSERTION: usize = 32;

/// A connection that has its place, its seat and its permit; still in the hands of
/// the thread that inserts it.
struct Admitted {
    token: Token,
    seat: u32,
    ticket: u32,
    incarnation: u64,
}

/// How a connection begins its life in the pool.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Leased,
    Idle,
}

/// When the permit of a connection is reserved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserves {
    /// When it is there.
    Now,
    /// Before it was opened.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "nothing is opened"))]
    Before,
}

impl<K, C> Engine<K, C> {
    /// Takes a connection and leases it at once. The caller has entered the group
    /// for it.
    pub fn insert(
        &self,
        group: Arc<Members<K>>,
        connection: C,
    ) -> Result<RawLease<K, C>, Rejected<C>> {
        self.insert_in(group, connection, Reserves::Now)
    }

    /// As [`Engine::insert`], perhaps with a permit that was reserved before. If the
    /// connection is rejected, that still is with whoever has reserved it.
    #[inline(always)]
    pub fn insert_in(
        &self,
        group: Arc<Members<K>>,
        connection: C,
        reserves: Reserves,
    ) -> Result<RawLease<K, C>, Rejected<C>> {
        let admitted = self.admit(group, connection, Terms::NONE, Start::Leased, reserves)?;
        let seat = self.core.seats.get(admitted.seat);
        seat.state.occupy_leased(admitted.incarnation);
        self.schedule_first(admitted.seat);
        Ok(RawLease::new(seat, admitted.ticket, seat.stamp.get(), false))
    }

    /// Takes a connection and makes it idle at once. The caller has entered the
    /// group for it.
    pub fn put(
        &self,
        group: Arc<Members<K>>,
        connection: C,
        options: PutOptions,
    ) -> Result<Token, Rejected<C>> {
        self.put_in(group, connection, options, Reserves::Now)
    }

    /// As [`Engine::put`], with a permit, as in [`Engine::insert_in`].
    #[inline(always)]
    pub fn put_in(
        &self,
        group: Arc<Members<K>>,
        connection: C,
        options: PutOptions,
        reserves: Reserves,
    ) -> Result<Token, Rejected<C>> {
        let cap = group.limits.max_idle();
        // SAFETY: the caller holds the pool, and with it the stock (N1).
        let lanes = unsafe { group.lanes.lasting() };
        let Admitted { token, seat: index, ticket, incarnation } =
            self.admit(group, connection, Terms::from(options), Start::Idle, reserves)?;
        let seat = self.core.seats.get(index);
        let claim = Claim { seat: index, incarnation };
        if self.config.watches() {
            // For the reaper, should the bell ring at once.
            seat.state.occupy_leased(incarnation);
            // SAFETY: the seat is filled, and nobody else's yet (S2).
            if let Err(reason) = unsafe { self.listen(seat, index) } {
                self.core.give_ticket(ticket);
                self.discard(claim, reason);
                return Ok(token);
            }
        }
        // If others filled the group meanwhile, it is closed as a release would be.
        self.shelve(seat, claim, ticket, lanes, cap);
        // Not sooner: the reaper would find the seat vacant, and forget it. If it is
        // another connection's by now, the reaper looks at that once too often.
        self.schedule(index, seat.stamp.get());
        Ok(token)
    }

    fn admit(
        &self,
        group: Arc<Members<K>>,
        connection: C,
        terms: Terms,
        start: Start,
        reserves: Reserves,
    ) -> Result<Admitted, Rejected<C>> {
        group.lanes.answer();
        let generation = match self.admission(&group, terms, start) {
            Ok(generation) => generation,
            Err(reason) => {
                self.leave(&group);
                return Err(self.reject(connection, reason));
            }
        };
        let permit = match reserves {
            Reserves::Now => self.reserve(),
            Reserves::Before => Some(self.capacity.reclaim()),
        };
        let Some(permit) = permit else {
            self.leave(&group);
            let reason = if self.capacity.is_closed() {
                RejectReason::Closed
            } else {
                RejectReason::Full { capacity: self.capacity.max() }
            };
            return Err(self.reject(connection, reason));
        };
        let Some((seat, record)) = self.take_seat() else {
            if matches!(reserves, Reserves::Before) {
                permit.leave();
            } else {
                drop(permit);
            }
            self.leave(&group);
            let reason = RejectReason::TooManyThreads { threads_max: THREADS_MAX };
            return Err(self.reject(connection, reason));
        };
        permit.leave();
        // SAFETY: whoever took the seat owns it (S2), and it is vacant.
        unsafe { record.put(connection) };
        Ok(self.fill(seat, record, group, terms, start, generation))
    }

    /// A vacant seat, which the caller owns then, and its record (R2). `None` if this thread
    /// can make no record for a new seat.
    fn take_seat(&self) -> Option<(u32, &Record<K, C>)> {
        let index = self.core.take_seat().expect("there are more seats than permits");
        let place = self.core.seats.get(index).place();
        let record = match NonNull::new(place.cast::<Record<K, C>>()) {
            Some(record) => record,
            None => self.make_record(index)?,
        };
        // SAFETY: pinned for as long as the pool exists (R2), and shared by all.
        Some((index, unsafe { record.as_ref() }))
    }

    /// The record of a seat that is used for the first time.
    #[cold]
    #[inline(never)]
    fn make_record(&self, index: u32) -> Option<NonNull<Record<K, C>>> {
        let Some(Place { key, record }) = self.store.insert(|| Record::new(index)) else {
            self.core.seats.give(index);
            return None;
        };
        self.core.seats.get(index).settle(record.as_ptr().cast());
        // The record is there: from here on others may look at it.
        self.core.card(index).key.publish(key as u64);
        Some(record)
    }

    /// The generation of a connection that is taken now, or why it cannot be, whatever
    /// room there is. Of whatever closes the pool or drains the group from now on, it is
    /// not the generation.
    fn admission(
        &self,
        group: &Members<K>,
        terms: Terms,
        start: Start,
    ) -> Result<u32, RejectReason> {
        let of_pool = self.open_generation().ok_or(RejectReason::Closed)?;
        let of_group = group.lanes.era.open_generation().ok_or(RejectReason::Draining)?;
        let generation = of_pool.wrapping_add(of_group);
        if start == Start::Leased {
            return Ok(generation);
        }
        if terms.patience.min(group.limits.idle_timeout()) == 0 || terms.uses == 0 {
            return Err(RejectReason::NeverIdle);
        }
        let cap = group.limits.max_idle();
        let full = cap != Limits::UNCAPPED && group.lanes.live(&self.core) >= cap;
        if full { Err(RejectReason::GroupFull { max_idle: cap as usize }) } else { Ok(generation) }
    }

    /// A permit: a free one, or that of the idle connection released longest ago,
    /// which is closed first. `None` if nothing is idle.
    ///
    /// A pool that holds too many, because its capacity was lowered, sheds some of
    /// them first, and takes nothing in if that does not suffice.
    fn reserve(&self) -> Option<Permit<'_>> {
        for _ in 0..EVICTIONS_PER_INSERTION {
            if let Some(permit) = self.capacity.reserve() {
                return Some(permit);
            }
            if self.capacity.is_shut() {
                return None;
            }
            let Some(victim) = self.lru.seize(&self.core.seats) else { break };
            if let Some(permit) = self.evict_for_permit(victim).pass_on() {
                return Some(permit);
            }
        }
        // Nothing was idle. Perhaps a permit came free meanwhile.
        self.capacity.reserve()
    }

    /// As [`Engine::reserve`], for one who is about to sleep until there is room: closes as
    /// many as it takes. `None` says that nothing was idle, or the pool is closed, or may
    /// hold nothing.
    #[cfg(any(feature = "tokio", slabpool_loom))]
    pub fn reserve_any(&self) -> Option<Permit<'_>> {
        while !self.capacity.is_closed() && self.capacity.max() > 0 {
            let permit = self.capacity.reserve();
            if permit.is_some() {
                return permit;
            }
            let Some(victim) = self.lru.seize_any(&self.core.seats) else {
                // Perhaps a permit came free meanwhile.
                return self.capacity.reserve();
            };
            let permit = self.evict_for_permit(victim).pass_on();
            if permit.is_some() {
                return permit;
            }
        }
        None
    }

    /// Closes a victim. Its permit is the caller's, so that nobody gets in between.
    pub fn evict_for_permit(&self, victim: Claim) -> Permit<'_> {
        let removed = self.extract(victim);
        self.tidy(&removed.group);
        self.settle(removed, CloseReason::Evicted)
    }

    /// Fills the seat of a connection that is in its record.
    fn fill(
        &self,
        index: u32,
        record: &Record<K, C>,
        group: Arc<Members<K>>,
        terms: Terms,
        start: Start,
        generation: u32,
    ) -> Admitted {
        let ticket = self.core.take_ticket(index).expect("there are more spares than needed");
        let (seat, card) = (self.core.seats.get(index), self.core.card(index));
        if self.config.watches() {
            // SAFETY: whoever took the seat owns it (S2).
            unsafe { self.bells.cover(index) };
        }
        let incarnation = seat.state.own();
        let now = self.config.clock.now();
        // Relaxed: a counter.
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        record.patience.set(terms.patience);
        record.uses_max.set(terms.uses);
        let lifetime = group.limits.max_lifetime();
        let retire_at = self.config.retire_at(now, lifetime, self.tuning.jitter(), serial);
        record.retire_at.set(retire_at);
        // A connection that is leased at once has this lease as its first use.
        record.uses_base.set(match start {
            Start::Leased => incarnation.wrapping_sub(1),
            Start::Idle => incarnation,
        });
        seat.mark.set(serial, generation);
        card.born.set(now);
        let key = card.key.get() as usize;
        // The record is complete: from here on others may read it.
        card.serial.publish(serial);
        let patience = terms.patience.min(group.limits.idle_timeout());
        seat.stamp.set(now);
        seat.deadline.set(now.saturating_add(patience).min(retire_at));
        record.group.set(group);
        Admitted { token: Token { serial, key }, seat: index, ticket, incarnation }
    }

    fn reject(&self, connection: C, reason: RejectReason) -> Rejected<C> {
        self.counters.rejects.add();
        event!(debug, %reason, "connection not taken");
        Rejected { connection, reason }
    }
}
