//! The top of a lane: what gets and releases do there.
//!
//! # Leased where it lies
//!
//! A get does not take the ticket on top. It redeems it and leaves it there, void. If it
//! still is on top when the connection is released, it is made good again where it lies,
//! and the head says so by its tag. So a pair of get and release that meets nobody
//! exchanges the seat's state once and the head once.
//!
//! ```text
//!   top -> [a: leased here] -> [b] -> ...
//!
//!   release of a:   top -> [a] -> [b]            the tag is raised
//!   release of x:   top -> [x] -> [b]            a goes home, in the same exchange
//!   get:            top -> ...                   a goes home, b is taken
//! ```
//!
//! Whoever comes across the void ticket on top takes it away in the exchange by which it
//! pushes or pops, so that chains hold no more of them than before. The lease does not
//! know; its release finds out that the ticket is not on top, and whether it is at home.
//!
//! Only tickets at home with their seats are treated like this, and only on the current
//! stack.
//!
//! `failed` is told of every exchange that fails because another thread came first.

use crate::core::lane::{Lane, stack};
use crate::core::seat::Seat;
use crate::core::tagged::{Head, Tagged};
use crate::core::ticket::{AT_HOME, SPARE, Ticket};
use crate::core::{Core, Found};
use crate::sync::Ordering;

impl Lane {
    /// Leases the connection on top, if its own ticket lies there, and leaves the ticket.
    /// Returns the seat, and its incarnation from now on. `None` proves nothing.
    #[inline(always)]
    pub fn claim_top<'a>(&self, core: &'a Core) -> Option<(&'a Seat, u64)> {
        let head = self.newest();
        let top = head.load();
        if top.index() >= SPARE {
            return None; // a spare, or NIL
        }
        let seat = core.seats.get(top.index());
        let incarnation = seat.ticket.linked_incarnation();
        // L5: the incarnation was read of a ticket that lay here. The second look spares an
        // exchange that would fail.
        if head.load() != top || !seat.state.is_idle(incarnation) {
            return None;
        }
        if seat.state.claim(incarnation).is_err() {
            return None;
        }
        Some((seat, incarnation + 1))
    }

    /// Takes the newest ticket, if it is at home with its seat, and on the current stack.
    /// One above it, whose connection is leased where it lies, goes home. The caller owns
    /// the ticket, whose number is that of the seat. `None` proves nothing.
    #[inline(always)]
    pub fn pop_home<'a>(&self, core: &'a Core, failed: impl Fn()) -> Option<(u32, &'a Seat)> {
        let head = self.newest();
        loop {
            let top = head.load();
            if top.index() >= SPARE {
                return None; // a spare, or NIL
            }
            let seat = core.seats.get(top.index());
            // Acquire, in `next`: what it names is looked at before the head says whether it is
            // right.
            let below = seat.ticket.next();
            if !seat.is_leased_in_place() {
                if head.unlink(top, below) {
                    return Some((top.index(), seat));
                }
                failed();
                continue;
            }
            if below >= SPARE {
                return None; // as above, or the ticket is at home by now
            }
            let next = core.seats.get(below);
            // L2: `below` hung from this head.
            if head.unlink(top, next.ticket.below()) {
                seat.ticket.go_home();
                return Some((below, next));
            }
            failed();
        }
    }

    /// As [`Lane::pop_home`], for a spare on top: the newest connection has one while its
    /// seat's own ticket lies further down, left there by another connection.
    #[inline(always)]
    pub fn pop_spare<'a>(&self, core: &'a Core) -> Option<(u32, Found<'a>)> {
        let head = self.newest();
        loop {
            let top = head.load();
            if top.index() < SPARE || top.is_empty() {
                return None;
            }
            let found = core.find_spare(top.index());
            if head.unlink(top, found.ticket.below()) {
                return Some((top.index(), found));
            }
        }
    }

    /// Puts a ticket on top. The caller owned it and does so no longer.
    #[inline(always)]
    pub fn push(&self, core: &Core, ticket: &Ticket, index: u32, failed: impl Fn()) {
        ticket.set_depth(None);
        loop {
            let (head, top) = self.current();
            let covered = leased_in_place(core, top);
            let Some(seat) = covered else {
                ticket.set_below(top.index());
                if head.publish(top, index) {
                    return;
                }
                failed();
                continue;
            };
            let below = seat.ticket.next();
            if below == AT_HOME {
                continue; // somebody else has taken it away, and the head shows it
            }
            ticket.set_below(below);
            // L2: what is below a ticket that is taken away hung from it.
            if head.publish(top, index) {
                return seat.ticket.go_home();
            }
            failed();
        }
    }

    /// The head on whose top the ticket of this seat lies, by whoever leased its connection
    /// in place. If it lies elsewhere, that is for good, or it is at home.
    #[inline(always)]
    pub fn held(&self, seat: u32) -> Option<(&Head, Tagged)> {
        // Perhaps not the current one any more. That does no harm: nothing is pushed there,
        // and whoever copies what is there finds out that the head has changed.
        let head = self.newest();
        let top = head.load();
        if top.index() == seat { Some((head, top)) } else { None }
    }

    /// Whether the ticket of this seat lies on top or right below it, at a moment during
    /// this call. Whoever looks there after that sees what the caller did before.
    ///
    /// Looks only once more if it does, and others change the top meanwhile.
    pub fn vouch(&self, core: &Core, seat: u32) -> bool {
        let head = self.newest();
        (0..2).any(|_| {
            let top = head.load();
            let near = top.index() == seat
                || !top.is_empty() && core.find(top.index()).ticket.next() == seat;
            // L2: it hung from this head. To the same, as a release does.
            near && head.renew(top)
        })
    }

    /// Takes the ticket of this seat away from the top, by whoever leased its connection in
    /// place. False if it does not lie there.
    pub fn lift(&self, core: &Core, seat: u32) -> bool {
        let below = || core.seats.get(seat).ticket.below();
        while let Some((head, top)) = self.held(seat) {
            if head.unlink(top, below()) {
                return true;
            }
        }
        false
    }

    /// The head to pop from.
    #[inline(always)]
    fn newest(&self) -> &Head {
        // Relaxed: as in `pop`.
        &self.heads[stack(self.epoch.load(Ordering::Relaxed))]
    }

    /// The head that pushes go to, and what it held while it was that (L1).
    #[inline(always)]
    pub(super) fn current(&self) -> (&Head, Tagged) {
        loop {
            // Relaxed: checked again below.
            let epoch = self.epoch.load(Ordering::Relaxed);
            let head = &self.heads[stack(epoch)];
            let top = head.load();
            // Relaxed: if `top` was read after `rotate` raised the tag, the
            // Acquire in `load` makes the new epoch visible here.
            if self.epoch.load(Ordering::Relaxed) == epoch {
                return (head, top);
            }
        }
    }
}

/// The seat whose ticket is on top, if its connection is leased there.
#[inline(always)]
pub(super) fn leased_in_place(core: &Core, top: Tagged) -> Option<&Seat> {
    if top.index() >= SPARE {
        return None;
    }
    let seat = core.seats.get(top.index());
    seat.is_leased_in_place().then_some(seat)
}
