//! How a lease ends that is not the connection's end: it is made idle.

use crate::core::Found;
use crate::core::lanes::Lanes;
use crate::core::seat::{Mark, Seat};
use crate::core::ticket::{Claim, IN_PLACE, SPARE, Ticket};
use crate::drain::outdated;
use crate::engine::{Engine, RawLease, Redeemed, record_of, redeem};
use crate::error::CloseReason;
use crate::limits::Limits;

impl<K, C> Engine<K, C> {
    /// Ends a lease by making the connection idle, or closes it if its time is up.
    #[inline(always)]
    pub fn release(&self, lease: RawLease<K, C>) {
        let now = self.config.clock.now();
        let seat = lease.seat();
        let record = lease.record();
        let group = &*record.group;
        let patience = record.patience.get().min(group.limits.idle_timeout());
        let retire_at = record.retire_at.get();
        let deadline = now.saturating_add(patience).min(retire_at);
        let spell = seat.deadline.get().wrapping_sub(seat.stamp.get());
        seat.stamp.set(now);
        seat.deadline.set(deadline);
        if deadline.wrapping_sub(now) < spell && deadline != retire_at {
            self.hurry(record.seat, deadline);
        }
        let incarnation = seat.state.own();
        let mark = seat.mark.get();
        let fit = now < deadline
            && Mark::is_of(mark, self.generation_of(group))
            && incarnation.wrapping_sub(record.uses_base.get())
                < record.uses_max.get().min(group.limits.max_uses());
        if !fit {
            let fault = self.unfitness(seat, now);
            return self.end(lease, fault);
        }
        if self.config.watches()
            // SAFETY: the lease owns the seat (S2).
            && let Err(reason) = unsafe { self.listen(seat, record.seat) }
        {
            return self.end(lease, reason);
        }
        let claim = Claim { seat: record.seat, incarnation };
        let cap = group.limits.max_idle();
        // SAFETY: the caller holds the pool, and with it the stock (N1).
        let lanes = unsafe { group.lanes.lasting() };
        match lease.ticket {
            IN_PLACE => self.rest_in_place(lease, claim, lanes, cap),
            ticket if ticket & (IN_PLACE | SPARE) == 0 => {
                self.rest(seat, claim, &seat.ticket, ticket, lanes, cap)
            }
            ticket if ticket & IN_PLACE == 0 => self.shelve_spare(seat, claim, ticket, lanes, cap),
            _ => self.rest_far(lease, claim, lanes, cap),
        }
    }

    /// As [`Engine::rest_in_place`], in another lane than the first.
    #[inline(never)]
    fn rest_far(&self, lease: RawLease<K, C>, claim: Claim, lanes: &Lanes, cap: u32) {
        self.rest_in_place(lease, claim, lanes, cap);
    }

    /// The last step of a release, of a connection that was leased in place.
    #[inline(always)]
    fn rest_in_place(&self, lease: RawLease<K, C>, claim: Claim, lanes: &Lanes, cap: u32) {
        let seat = lease.seat();
        if cap != Limits::UNCAPPED {
            return self.shelve_lifted(lease, claim, lanes, cap);
        }
        let rested = lanes.rest_in_place(lease.ticket, claim.seat, || {
            seat.ticket.set_incarnation(claim.incarnation);
            seat.state.rest(claim.incarnation);
        });
        match rested {
            Some(true) => self.check_shelved(seat, claim, lanes),
            Some(false) => self.recover(lease, claim, lanes),
            // Somebody else has pushed there, or got: then the ticket is at home.
            None if seat.ticket.leave_home() => {
                self.rest(seat, claim, &seat.ticket, claim.seat, lanes, cap);
            }
            None => self.shelve_lifted(lease, claim, lanes, cap),
        }
    }

    /// As [`Engine::rest_in_place`], where the ticket is not where it should be pushed.
    #[inline(never)]
    fn shelve_lifted(&self, lease: RawLease<K, C>, claim: Claim, lanes: &Lanes, cap: u32) {
        let lifted = lanes.lift(&self.core, lease.ticket, claim.seat).then_some(claim.seat);
        match lifted.or_else(|| self.core.take_ticket(claim.seat)) {
            Some(ticket) => self.shelve(lease.seat(), claim, ticket, lanes, cap),
            // As many were evicted under way as there can be tickets.
            None => self.end(lease, CloseReason::Cleared),
        }
    }

    /// Sees to it that an idle connection has a ticket: somebody has changed the top of the
    /// lane while it was made idle there.
    #[cold]
    #[inline(never)]
    fn recover(&self, lease: RawLease<K, C>, claim: Claim, lanes: &Lanes) {
        lanes.disturbed(&self.core);
        let (seat, Claim { seat: index, incarnation }) = (lease.seat(), claim);
        // Others have raised the tag, or pushed, and did not take the ticket for void.
        if lanes.vouch(&self.core, lease.ticket, index) {
            return self.check_shelved(seat, claim, lanes);
        }
        // Takes it back. If it cannot be had, somebody else has it, or who looks at it will
        // push a ticket.
        if !matches!(redeem(seat, incarnation), Redeemed::Leased) {
            return;
        }
        let claim = Claim { seat: index, incarnation: incarnation + 1 };
        // SAFETY: the claim has made the seat ours (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        // That was no use of the connection, and no hit.
        let base = record.uses_base.get().wrapping_add(1);
        record.uses_base.set(base);
        self.counters.vacated.add();
        match self.core.take_ticket(index) {
            Some(ticket) => self.shelve(seat, claim, ticket, lanes, record.group.limits.max_idle()),
            None => self.discard(claim, CloseReason::Cleared),
        }
    }

    /// As [`Engine::shelve`], with the seat's own ticket instead of the spare if that has
    /// come home meanwhile.
    #[inline(never)]
    fn shelve_spare(&self, seat: &Seat, claim: Claim, spare: u32, lanes: &Lanes, cap: u32) {
        let ticket = self.core.prefer_home(spare, seat, claim.seat);
        self.shelve(seat, claim, ticket, lanes, cap);
    }

    /// Makes a connection idle: the last step of a release, and of a put.
    ///
    /// The caller owns seat and ticket, and does so no longer. Of the group there are
    /// only the lanes: as soon as the seat rests, an evictor may close the connection,
    /// and the group may go, before the ticket is pushed (see [`Stock`]).
    #[inline(always)]
    pub fn shelve(&self, seat: &Seat, claim: Claim, ticket: u32, lanes: &Lanes, cap: u32) {
        let own = Found::of(&self.core, seat, ticket);
        self.rest(seat, claim, own, ticket, lanes, cap);
    }

    /// As [`Engine::shelve`], with the ticket and its number.
    #[inline(always)]
    fn rest(&self, seat: &Seat, claim: Claim, own: &Ticket, ticket: u32, lanes: &Lanes, cap: u32) {
        own.set_incarnation(claim.incarnation);
        seat.state.rest(claim.incarnation);
        if cap == Limits::UNCAPPED {
            lanes.push(&self.core, own, ticket);
        } else if !self.push_capped(claim, ticket, lanes, cap) {
            return;
        }
        // From here on the connection is anybody's.
        self.check_shelved(seat, claim, lanes);
    }

    /// Pushes the ticket of a connection that was made idle, or closes the
    /// connection if its group has enough.
    #[cold]
    fn push_capped(&self, claim: Claim, ticket: u32, lanes: &Lanes, cap: u32) -> bool {
        let pushed = lanes.push_capped(&self.core, ticket, cap);
        if !pushed {
            self.core.give_ticket(ticket);
            // One that is out of date goes for that.
            self.check_shelved(self.core.seats.get(claim.seat), claim, lanes);
            self.remove_idle(claim, CloseReason::GroupFull);
        }
        pushed
    }

    /// What must be done after a connection was made idle: see that the pool still
    /// was open when it was, and the connection neither doomed nor of a former
    /// generation.
    #[inline(always)]
    pub fn check_shelved(&self, seat: &Seat, claim: Claim, lanes: &Lanes) {
        let generation = self.generation().wrapping_add(lanes.era.generation());
        // If the seat is another connection's by now, or the lanes another group's,
        // `reconsider` does nothing.
        if !Mark::is_of(seat.mark.get(), generation) {
            self.reconsider(seat, claim, lanes);
        }
    }

    /// Removes a connection that was made idle while the pool was closed or
    /// invalidated, or its group drained or invalidated, or while it was doomed itself.
    ///
    /// All of them raise the tags of the group's heads after they have said so: a push
    /// that comes later sees it (`Head::bump`), one that came before is seen.
    #[cold]
    fn reconsider(&self, seat: &Seat, claim: Claim, lanes: &Lanes) {
        let mark = seat.mark.get();
        let reason = if self.is_closed() {
            CloseReason::Closed
        } else if Mark::is_doomed(mark) {
            CloseReason::Removed
        } else {
            outdated(lanes, mark)
        };
        self.remove_idle(claim, reason);
    }
}
