//! The inside of a pool: what happens to a connection from its insertion to its
//! end. [`Pool`](crate::Pool) is the way in, and says what each operation promises.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::capacity::Capacity;
use crate::config::Config;
use crate::core::lanes::Lanes;
use crate::core::lru::Lru;
use crate::core::seat::{Mark, Seat};
use crate::core::state::Phase;
use crate::core::stock::Stock;
use crate::core::tagged::NIL;
use crate::core::ticket::{Claim, SPARE};
use crate::core::{Core, Found};
use crate::directory::Directory;
use crate::error::CloseReason;
use crate::group::Members;
use crate::learning::Memory;
use crate::limits::{Limits, Tuning};
use crate::reaper::Maintainer;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::store::{Record, Store};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, yield_now};

/// How often a get that would miss lets `retain` finish with a connection of its
/// group before it does miss.
const INSPECTION_YIELDS: usize = if cfg!(slabpool_loom) { 2 } else { 10_000 };

/// Everything that the handles of one pool share.
pub(crate) struct Engine<K, C> {
    pub core: Core,
    pub config: Config<K, C>,
    /// What can be changed; in force are the limits of the groups and these numbers.
    pub settings: ArcSwap<Settings>,
    pub tuning: Tuning,
    /// Raised when the pool is invalidated or closed.
    pub generation: AtomicU32,
    pub closed: AtomicBool,
    pub directory: Directory<K>,
    pub stock: Arc<Stock>,
    pub store: Store<Record<K, C>>,
    pub lru: Lru,
    pub capacity: Capacity,
    /// The next insertion's number.
    pub serials: AtomicU64,
    pub counters: Counters,
    pub maintainer: Maintainer,
    pub memory: Memory,
    /// For the reaper that the first insertion starts.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "the reaper needs it"))]
    pub me: Weak<Self>,
}

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
        self.seat().state.own().wrapping_sub(self.record().uses_base)
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
    // SAFETY: a seat is filled with the address of its record, which stays pinned
    // until the owner removes it.
    unsafe { &*place }
}

/// What became of a ticket.
enum Redeemed {
    Leased,
    /// It leads nowhere any more.
    Void,
    /// `retain` holds the connection, and will issue a new ticket.
    Orphaned,
}

impl<K, C> Engine<K, C> {
    pub fn new(config: Config<K, C>, settings: Settings, first_serial: u64) -> Arc<Self> {
        let capacity = settings.capacity;
        Arc::new_cyclic(|me| Self {
            core: Core::new(),
            generation: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            directory: Directory::new(),
            stock: Stock::new(config.lanes),
            store: Store::new(),
            lru: Lru::new(capacity),
            capacity: Capacity::new(capacity),
            serials: AtomicU64::new(first_serial),
            counters: Counters::new(),
            maintainer: Maintainer::new(config.tick, config.clock.now()),
            memory: Memory::new(),
            tuning: Tuning::new(&settings),
            settings: ArcSwap::from_pointee(settings),
            config,
            me: me.clone(),
        })
    }

    /// Leases the connection that was released last.
    #[inline(always)]
    pub fn lease(&self, group: &Members<K>) -> Option<RawLease<K, C>> {
        let now = self.config.clock.now();
        let (seat, ticket) = self.lease_home(group, now)?;
        Some(RawLease::new(seat, ticket, now, true))
    }

    /// A seat that is leased to the caller, and the ticket that it had.
    #[inline(always)]
    fn lease_home(&self, group: &Members<K>, now: u64) -> Option<(&Seat, u32)> {
        let mut left_over = NIL;
        if let Some((ticket, seat)) = group.lanes.pop_home(&self.core) {
            if seat.state.claim(seat.ticket.incarnation()).is_ok() {
                if self.is_fit(seat, group, now) {
                    return Some((seat, ticket));
                }
                self.refuse(RawLease::new(seat, ticket, now, true));
            } else {
                left_over = ticket;
            }
        }
        self.search(group, now, left_over)
    }

    /// As [`Engine::lease_home`], with all that may come in between. `left_over` is a
    /// ticket that could not be redeemed at once.
    #[cold]
    #[inline(never)]
    fn search(&self, group: &Members<K>, now: u64, left_over: u32) -> Option<(&Seat, u32)> {
        let mut popped = (left_over != NIL).then(|| (left_over, self.core.find(left_over)));
        let mut orphan = None;
        loop {
            while let Some((ticket, found)) = popped.take().or_else(|| group.lanes.pop(&self.core))
            {
                match redeem(found.seat, found.ticket.incarnation()) {
                    Redeemed::Leased if self.is_fit(found.seat, group, now) => {
                        return Some((found.seat, ticket));
                    }
                    Redeemed::Leased => {
                        self.refuse(RawLease::new(found.seat, ticket, now, true));
                    }
                    Redeemed::Void => self.core.give_ticket(ticket),
                    Redeemed::Orphaned => {
                        orphan = Some(found.claim());
                        self.core.give_ticket(ticket);
                    }
                }
            }
            match orphan.take() {
                Some(claim) if self.await_inspection(claim) => {}
                _ => {
                    self.counters.misses.add();
                    return None;
                }
            }
        }
    }

    /// Waits until `retain` is done with a connection whose ticket is gone, for a
    /// bounded while. True if it is worth looking again.
    #[cold]
    fn await_inspection(&self, claim: Claim) -> bool {
        let seat = self.core.seats.get(claim.seat);
        (0..INSPECTION_YIELDS).any(|_| {
            let word = seat.state.load();
            let over = word.phase() != Phase::Orphaned || word.incarnation() != claim.incarnation;
            if !over {
                yield_now();
            }
            over
        })
    }

    /// Whether a connection that comes out of the pool may be used. The caller owns
    /// its seat.
    #[inline(always)]
    pub fn is_fit(&self, seat: &Seat, group: &Members<K>, now: u64) -> bool {
        // SAFETY: the caller owns the seat (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        !seat.is_expired(now)
            && Mark::is_of(seat.mark.get(), self.generation_of(group))
            && seat.state.own().wrapping_sub(record.uses_base) <= group.limits.max_uses()
    }

    /// Ends a lease that nobody got to see: its connection is not fit for use.
    #[cold]
    pub fn refuse(&self, lease: RawLease<K, C>) {
        // The claim has raised the incarnation, but is no hit.
        self.counters.vacated.add();
        let now = lease.since;
        self.end_unfit(lease, now);
    }

    /// Ends a lease on a connection that is not fit for use.
    #[cold]
    fn end_unfit(&self, lease: RawLease<K, C>, now: u64) {
        let seat = lease.seat();
        let record = lease.record();
        let mark = seat.mark.get();
        let reason = if self.is_closed() {
            CloseReason::Closed
        } else if Mark::is_doomed(mark) {
            CloseReason::Removed
        } else if !Mark::is_of(mark, self.generation_of(&record.group)) {
            CloseReason::Invalidated
        } else if now >= record.retire_at {
            CloseReason::Lifetime
        } else if seat.is_expired(now) {
            CloseReason::Idle
        } else {
            CloseReason::Uses
        };
        self.end(lease, reason);
    }

    /// Ends a lease by making the connection idle, or closes it if its time is up.
    #[inline(always)]
    pub fn release(&self, lease: RawLease<K, C>) {
        let now = self.config.clock.now();
        let seat = lease.seat();
        let record = lease.record();
        let group = &*record.group;
        let generation = self.generation();
        let patience = record.patience.get().min(group.limits.idle_timeout());
        let deadline = now.saturating_add(patience).min(record.retire_at);
        let spell = seat.deadline.get().wrapping_sub(seat.stamp.get());
        seat.stamp.set(now);
        seat.deadline.set(deadline);
        if deadline.wrapping_sub(now) < spell && deadline != record.retire_at {
            self.hurry(record.seat, deadline);
        }
        let incarnation = seat.state.own();
        let mark = seat.mark.get();
        let fit = now < deadline
            && Mark::is_of(mark, generation.wrapping_add(group.generation()))
            && incarnation.wrapping_sub(record.uses_base)
                < record.uses_max.get().min(group.limits.max_uses());
        if !fit {
            return self.end_unfit(lease, now);
        }
        let claim = Claim { seat: record.seat, incarnation };
        let ticket = if lease.ticket & SPARE == 0 {
            lease.ticket
        } else {
            self.core.prefer_home(lease.ticket, claim.seat)
        };
        let cap = group.limits.max_idle();
        // SAFETY: the caller holds the pool, and with it the stock (N1).
        let lanes = unsafe { group.lanes.lasting() };
        self.shelve(seat, claim, ticket, generation, lanes, cap);
    }

    /// Makes a connection idle: the last step of a release, and of a put.
    ///
    /// The caller owns seat and ticket, and does so no longer. `generation` is the
    /// pool's, read before the connection was found fit. Of the group there are only
    /// the lanes: as soon as the seat rests, an evictor may close the connection, and
    /// the group may go, before the ticket is pushed (see [`Stock`]).
    #[inline(always)]
    pub fn shelve(
        &self,
        seat: &Seat,
        claim: Claim,
        ticket: u32,
        generation: u32,
        lanes: &Lanes,
        cap: u32,
    ) {
        let own = Found::of(&self.core, seat, ticket);
        own.set_incarnation(claim.incarnation);
        seat.state.rest(claim.incarnation);
        if cap == Limits::UNCAPPED {
            lanes.push(own, ticket);
        } else if !self.push_capped(claim, ticket, lanes, cap) {
            return;
        }
        // From here on the connection is anybody's.
        self.check_shelved(seat, claim, generation);
    }

    /// Pushes the ticket of a connection that was made idle, or closes the
    /// connection if its group has enough.
    #[cold]
    fn push_capped(&self, claim: Claim, ticket: u32, lanes: &Lanes, cap: u32) -> bool {
        let pushed = lanes.push_capped(&self.core, ticket, cap);
        if !pushed {
            self.core.give_ticket(ticket);
            self.remove_idle(claim, CloseReason::GroupFull);
        }
        pushed
    }

    /// What must be done after a connection was made idle: see that the pool still
    /// was open and the connection not doomed when it was. `generation` is the
    /// pool's, read before.
    #[inline(always)]
    pub fn check_shelved(&self, seat: &Seat, claim: Claim, generation: u32) {
        // If the seat is another connection's by now, `reconsider` does nothing.
        if Mark::is_doomed(seat.mark.get()) || self.generation() != generation {
            self.reconsider(seat, claim);
        }
    }

    /// Removes a connection that was made idle while the pool was closed or
    /// invalidated, or while it was doomed itself.
    ///
    /// Both raise the tags of the group's heads after they have said so: a push
    /// that comes later sees it (`Head::bump`), one that came before is seen.
    #[cold]
    fn reconsider(&self, seat: &Seat, claim: Claim) {
        let reason = if self.is_closed() {
            CloseReason::Closed
        } else if Mark::is_doomed(seat.mark.get()) {
            CloseReason::Removed
        } else {
            CloseReason::Invalidated
        };
        self.remove_idle(claim, reason);
    }
}

/// Tries a ticket on its seat.
fn redeem(seat: &Seat, incarnation: u64) -> Redeemed {
    loop {
        match seat.state.claim(incarnation) {
            Ok(()) => return Redeemed::Leased,
            Err(word) if !word.honours(incarnation) => return Redeemed::Void,
            Err(_) => {}
        }
        if seat.state.orphan(incarnation).is_ok() {
            return Redeemed::Orphaned;
        }
        // The inspection has ended in between: the ticket is good or void.
    }
}
