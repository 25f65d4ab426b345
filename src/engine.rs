//! The inside of a pool: what happens to a connection from its insertion to its
//! end. [`Pool`](crate::Pool) is the way in, and says what each operation promises.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use crossbeam_queue::SegQueue;

use crate::capacity::Capacity;
use crate::config::Config;
use crate::core::Core;
use crate::core::ghost::GhostTable;
use crate::core::lru::Lru;
use crate::core::seat::{Mark, Seat};
use crate::core::state::Phase;
use crate::core::stock::Stock;
use crate::core::tagged::NIL;
use crate::core::ticket::Claim;
use crate::directory::Directory;
use crate::drain::outdated;
use crate::error::CloseReason;
use crate::group::Members;
use crate::learning::Memory;
use crate::limits::Tuning;
use crate::miss::Met;
pub(crate) use crate::raw_lease::{RawLease, record_of};
use crate::reaper::Maintainer;
use crate::reconfigure::Desk;
use crate::remove::InPlace;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::store::{Record, Store};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, yield_now};
use crate::watch::Bells;

/// How often a get that would miss lets `retain` or the reaper finish with a connection
/// of its group before it does miss.
const INSPECTION_YIELDS: usize = if cfg!(slabpool_loom) { 8 } else { 10_000 };

/// Everything that the handles of one pool share.
pub(crate) struct Engine<K, C> {
    pub core: Core,
    pub config: Config<K, C>,
    /// What can be changed; in force are the limits of the groups and these numbers.
    pub settings: ArcSwap<Settings>,
    pub tuning: Tuning,
    pub desk: Desk,
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
    pub first_serial: u64,
    pub counters: Counters,
    pub ghosts: GhostTable,
    pub maintainer: Maintainer,
    pub bells: Bells,
    /// Groups of which maintenance had the last reference. They hold a key of the user's,
    /// which is not dropped under its lock.
    pub groups_let_go: SegQueue<Members<K>>,
    pub memory: Memory,
    /// For the reaper that the first insertion starts, and for a `Landing`.
    pub me: Weak<Self>,
}

/// What became of a ticket.
pub(crate) enum Redeemed {
    Leased,
    /// It leads nowhere any more.
    Void,
    /// Somebody looks at the connection, and will issue a new ticket.
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
            stock: Stock::new(config.plan),
            store: Store::new(),
            lru: Lru::new(),
            capacity: Capacity::new(capacity),
            serials: AtomicU64::new(first_serial),
            first_serial,
            counters: Counters::new(),
            ghosts: GhostTable::for_capacity(capacity),
            maintainer: Maintainer::new(config.tick, config.clock.now()),
            bells: Bells::new(),
            groups_let_go: SegQueue::new(),
            memory: Memory::new(),
            tuning: Tuning::new(&settings),
            desk: Desk::new(),
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

    /// A seat that is leased to the caller, and the ticket of the lease.
    #[inline(always)]
    fn lease_home(&self, group: &Members<K>, now: u64) -> Option<(&Seat, u32)> {
        let Some((ticket, seat, incarnation)) = group.lanes.claim_top(&self.core) else {
            return self.lease_under(group, now);
        };
        match self.fault(seat, group, incarnation, now) {
            None => Some((seat, ticket)),
            Some(fault) => self.pass_over(RawLease::new(seat, ticket, now, true), fault, group),
        }
    }

    /// As [`Engine::lease_home`], where the connection on top is leased already. About as
    /// common, where a thread has several connections in use.
    #[inline(never)]
    fn lease_under(&self, group: &Members<K>, now: u64) -> Option<(&Seat, u32)> {
        let Some((ticket, seat)) = group.lanes.pop_home(&self.core) else {
            return self.lease_spare(group, now);
        };
        self.lease_first(group, seat, ticket, seat.ticket.incarnation(), now)
    }

    /// As [`Engine::lease_home`], for a connection whose ticket is a spare. As common, for
    /// some time, where connections were replaced; a miss comes here as well.
    #[inline(never)]
    fn lease_spare(&self, group: &Members<K>, now: u64) -> Option<(&Seat, u32)> {
        let Some((ticket, found)) = group.lanes.pop_spare(&self.core) else {
            return self.search(group, now, NIL, Met::default());
        };
        self.lease_first(group, found.seat, ticket, found.ticket.incarnation(), now)
    }

    /// Redeems the ticket that was popped first, and goes on to the others if that fails or
    /// leads to a connection that must not be leased.
    #[inline(always)]
    fn lease_first<'a>(
        &'a self,
        group: &Members<K>,
        seat: &'a Seat,
        ticket: u32,
        incarnation: u64,
        now: u64,
    ) -> Option<(&'a Seat, u32)> {
        if seat.state.claim(incarnation).is_err() {
            return self.search(group, now, ticket, Met::default());
        }
        match self.fault(seat, group, incarnation + 1, now) {
            None => Some((seat, ticket)),
            Some(fault) => self.pass_over(RawLease::new(seat, ticket, now, true), fault, group),
        }
    }

    /// As [`Engine::lease_home`], with all that may come in between. `left_over` is a
    /// ticket that could not be redeemed at once, `met` what the get has met so far.
    #[cold]
    #[inline(never)]
    pub fn search(
        &self,
        group: &Members<K>,
        now: u64,
        left_over: u32,
        mut met: Met,
    ) -> Option<(&Seat, u32)> {
        let mut popped = (left_over != NIL).then(|| (left_over, self.core.find(left_over)));
        let mut orphan = None;
        loop {
            while let Some((ticket, found)) = popped.take().or_else(|| group.lanes.pop(&self.core))
            {
                let incarnation = found.ticket.incarnation();
                match redeem(found.seat, incarnation) {
                    Redeemed::Leased => {
                        let fault = self.fault(found.seat, group, incarnation + 1, now);
                        let Some(fault) = fault else {
                            return Some((found.seat, ticket));
                        };
                        met.refused(fault);
                        self.refuse(RawLease::new(found.seat, ticket, now, true), fault);
                    }
                    Redeemed::Void => self.core.give_ticket(ticket),
                    Redeemed::Orphaned => {
                        orphan = Some(found.claim());
                        self.core.give_ticket(ticket);
                    }
                }
            }
            match orphan.take() {
                Some(claim) if self.await_inspection(claim) => {
                    // Perhaps its new ticket is not pushed yet.
                    let seat = self.core.seats.get(claim.seat);
                    let tried = self.lease_this(seat, claim, group, now, &mut met);
                    self.tidy(group);
                    if let InPlace::Leased(lease) = tried {
                        return Some((seat, lease.ticket));
                    }
                }
                _ => {
                    self.missed(group.hash, Some(group), met, now);
                    return None;
                }
            }
        }
    }

    /// Waits until whoever looks at a connection whose ticket is gone is done with it, for a
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
    /// its seat, in this incarnation.
    #[inline(always)]
    pub fn is_fit(&self, seat: &Seat, group: &Members<K>, incarnation: u64, now: u64) -> bool {
        // SAFETY: the caller owns the seat (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        !seat.is_expired(now)
            && Mark::is_of(seat.mark.get(), self.generation_of(group))
            && incarnation.wrapping_sub(record.uses_base.get()) <= group.limits.max_uses()
    }

    /// Ends a lease that nobody got to see, for the fault of its connection.
    #[cold]
    pub fn refuse(&self, lease: RawLease<K, C>, fault: CloseReason) {
        // The claim has raised the incarnation, but is no hit.
        self.counters.vacated.add();
        self.end(lease, fault);
    }

    /// Why a connection is not fit for use. The caller owns its seat.
    #[cold]
    #[inline(never)]
    pub fn unfitness(&self, seat: &Seat, now: u64) -> CloseReason {
        // SAFETY: the caller owns the seat (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        let mark = seat.mark.get();
        if self.is_closed() {
            CloseReason::Closed
        } else if Mark::is_doomed(mark) {
            CloseReason::Removed
        } else if !Mark::is_of(mark, self.generation_of(&record.group)) {
            outdated(&record.group.lanes, mark)
        } else if now >= record.retire_at.get() {
            CloseReason::Lifetime
        } else if seat.is_expired(now) {
            CloseReason::Idle
        } else {
            CloseReason::Uses
        }
    }
}

/// Tries a ticket on its seat.
pub(crate) fn redeem(seat: &Seat, incarnation: u64) -> Redeemed {
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
