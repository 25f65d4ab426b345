//! How a connection leaves the pool: out of its seat, off the books, and only then
//! into the hands of user code.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::capacity::Permit;
use crate::core::state::Phase;
use crate::core::ticket::{Claim, IN_PLACE};
use crate::engine::{Engine, RawLease, record_of};
use crate::error::CloseReason;
#[cfg(feature = "tracing")]
use crate::events::Name;
use crate::events::event;
use crate::group::{Member, Members};

/// Drops what user code has panicked with.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It panics when it is dropped: that may go on for ever.
        mem::forget(another);
    }
}

impl<K, C> Engine<K, C> {
    /// Removes a connection if it still is idle in this incarnation.
    pub fn remove_idle(&self, claim: Claim, reason: CloseReason) {
        if self.core.seats.get(claim.seat).state.seize(claim.incarnation) {
            self.discard(claim, reason);
        }
    }

    /// Closes a connection that the caller has seized. Its ticket stays behind.
    pub fn discard(&self, claim: Claim, reason: CloseReason) {
        let removed = self.extract(claim);
        self.tidy(&removed.group);
        self.bury(removed, reason);
    }

    /// Ends a lease by closing the connection.
    #[cold]
    pub fn end(&self, lease: RawLease<K, C>, reason: CloseReason) {
        let removed = self.recall(lease);
        self.bury(removed, reason);
    }

    /// Ends a lease by taking the connection out of the pool.
    pub fn recall(&self, lease: RawLease<K, C>) -> Removed<'_, K, C> {
        let incarnation = lease.seat().state.own();
        let claim = Claim { seat: lease.record().seat, incarnation };
        let ticket = lease.ticket;
        let lifted = ticket & IN_PLACE == 0 || {
            // SAFETY: N1: the caller holds the pool, and with it the stock.
            let lanes = unsafe { lease.record().group.lanes.lasting() };
            lanes.lift(&self.core, ticket, claim.seat)
        };
        if lifted {
            self.core.give_ticket(if ticket & IN_PLACE == 0 { ticket } else { claim.seat });
        }
        let removed = self.extract(claim);
        if !lifted {
            // It was left behind, or is at home.
            self.tidy(&removed.group);
        }
        removed
    }

    /// Takes the connection out of a seat that the caller owns, and frees the seat.
    pub fn extract(&self, claim: Claim) -> Removed<'_, K, C> {
        let seat = self.core.seats.get(claim.seat);
        // SAFETY: the caller owns the seat (S2), and gives it up below.
        let record = unsafe { record_of::<K, C>(seat) };
        let group = record.group.take().expect("a connection has a group");
        let deadline = seat.deadline.get();
        // SAFETY: the caller owns the seat (S2), and gives it up below.
        let connection = unsafe { record.take() };
        if self.config.watches() {
            // SAFETY: the caller owns the seat (S2).
            unsafe { self.bells.silence(claim.seat) };
        }
        seat.state.vacate(claim.incarnation);
        self.core.seats.give(claim.seat);
        Removed { connection, group, deadline, permit: self.capacity.reclaim() }
    }

    /// Throws away tickets that an eviction has left, when there are many.
    pub fn tidy(&self, group: &Members<K>) {
        if group.lanes.trim(&self.core) == 0 && group.litter() && group.lanes.compact(&self.core) {
            group.tidied();
        }
    }

    /// Gives up a connection: says so to the user's hook, or drops it.
    ///
    /// Panics of the hook and of the connection's destructor are counted and go no
    /// further: many a caller is itself being dropped, or cleans up for others.
    pub fn bury(&self, removed: Removed<'_, K, C>, reason: CloseReason) {
        drop(self.settle(removed, reason));
    }

    /// As [`Engine::bury`]; the permit is for the caller.
    pub fn settle<'a>(&self, removed: Removed<'a, K, C>, reason: CloseReason) -> Permit<'a> {
        let Removed { mut connection, group, deadline, permit } = removed;
        event!(debug, group = %Name(&self.config, &group), %reason, "connection closed");
        self.counters.closed(reason);
        group.tally.closed(reason);
        self.leave_ghost(&group, reason, deadline);
        if reason == CloseReason::Idle {
            self.forget(&group);
        }
        self.leave(&group);
        if let Some(prepare_close) = self.config.prepare_close {
            let mode = self.settings.load().close_mode;
            // By itself: if it panics, the connection is still to be closed.
            self.shielded(|| prepare_close(&mut connection, mode));
        }
        self.shielded(|| match &self.config.on_close {
            Some(on_close) => on_close(&group.key, connection, reason),
            None => drop(connection),
        });
        permit
    }

    /// Runs code of the user, whose panics are counted and go no further: `None` then.
    pub fn shielded<R>(&self, code: impl FnOnce() -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(code));
        result
            .map_err(|panic| {
                self.counters.panics.add();
                event!(error, "a hook or a destructor has panicked");
                discard(panic);
            })
            .ok()
    }

    /// Takes a connection from the books, without closing it.
    pub fn hand_out(&self, removed: Removed<'_, K, C>) -> C {
        self.counters.taken.add();
        self.leave(&removed.group);
        removed.connection
    }

    /// A connection leaves its group.
    pub fn leave(&self, group: &Arc<Members<K>>) {
        self.part(group, Member::Connection);
    }

    /// A member leaves its group, which goes if it was the last.
    pub fn part(&self, group: &Arc<Members<K>>, member: Member) {
        if group.roll.leave(member) {
            self.directory.remove(group);
            // Void tickets, all of them (G1).
            group.lanes.clear(&self.core);
        }
    }
}

/// A connection that is no longer in the pool, with what it leaves.
pub(crate) struct Removed<'a, K, C> {
    pub connection: C,
    pub group: Arc<Members<K>>,
    /// When its time was up, or would have been.
    pub deadline: u64,
    pub permit: Permit<'a>,
}

impl<K, C> Drop for Engine<K, C> {
    fn drop(&mut self) {
        // Nobody else is left: what is idle goes. A lease that was forgotten keeps
        // its connection for ever.
        self.mark_closed();
        for (seat, record) in self.core.seats.iter() {
            let word = record.state.load();
            if word.phase() == Phase::Idle {
                self.remove_idle(
                    Claim { seat, incarnation: word.incarnation() },
                    CloseReason::Closed,
                );
            }
        }
        // For the reaper to find that out, and end.
        self.bells.belfry().wake_reaper();
    }
}
