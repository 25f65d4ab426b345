//! A lane with its seats, as the pool uses them.

#![allow(dead_code, reason = "each file uses a part of it")]

use std::collections::BTreeSet;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use slabpool::model::{Claim, Core, IN_PLACE, Lanes};

/// The lanes of one group and their seats. Owning a seat is owning its cell.
pub struct Bench {
    pub core: Core,
    pub lanes: Lanes,
    pub cells: Vec<UnsafeCell<()>>,
}

/// A seat that is leased, and its ticket.
pub struct Held {
    pub ticket: u32,
    pub claim: Claim,
}

impl Bench {
    /// Lanes without a ticket.
    pub fn new(lanes: usize) -> Self {
        let cells = (0..16).map(|_| UnsafeCell::new(())).collect();
        Self { core: Core::new(), lanes: Lanes::new(lanes), cells }
    }

    /// One lane, that may become two.
    pub fn adaptive() -> Self {
        Self { lanes: Lanes::adaptive(2), ..Self::new(1) }
    }

    /// One lane with so many tickets in the middle stack and the current one, oldest
    /// seat first.
    pub fn layered(middle: usize, current: usize) -> Self {
        let bench = Self::new(1);
        for _ in 0..middle {
            bench.release(bench.fresh());
        }
        assert!(bench.lanes.compact(&bench.core));
        for _ in 0..current {
            bench.release(bench.fresh());
        }
        bench
    }

    /// A new seat, leased.
    pub fn fresh(&self) -> Held {
        let seat = self.core.take_seat().unwrap();
        // Where its record would be, its number.
        let number = std::ptr::without_provenance_mut(seat as usize);
        self.core.seats.get(seat).settle(number);
        self.core.seats.get(seat).mark.set(0, 0);
        let incarnation = self.core.seats.get(seat).state.load().incarnation();
        Held { ticket: self.core.take_ticket(seat).unwrap(), claim: Claim { seat, incarnation } }
    }

    /// As [`Bench::layered`], with one more connection on top: it has the seat of the
    /// oldest of the others, which has gone and left its ticket below, and so a spare.
    pub fn replaced(middle: usize, current: usize) -> Self {
        let bench = Self::layered(middle, current);
        assert!(bench.evict(0));
        bench.core.seats.give(0);
        let held = bench.fresh();
        assert_eq!(held.claim.seat, 0);
        assert_ne!(held.ticket, 0, "the seat's own ticket is away");
        bench.release(held);
        bench
    }

    pub fn touch(&self, claim: Claim) {
        self.cells[claim.seat as usize].with_mut(|_| {});
    }

    /// What `Engine::lease` does: one attempt at each of the common cases, then all of it.
    pub fn get(&self) -> Option<Held> {
        if let Some((ticket, seat, incarnation)) = self.lanes.claim_top(&self.core) {
            let claim = Claim { seat: seat.place().addr() as u32, incarnation };
            self.touch(claim);
            return Some(Held { ticket, claim });
        }
        self.pop()
    }

    /// As [`Bench::get`], taking the ticket.
    pub fn pop(&self) -> Option<Held> {
        let home = self.lanes.pop_home(&self.core).map(|(ticket, _)| ticket);
        let mut popped = home
            .map(|ticket| (ticket, self.core.find(ticket)))
            .or_else(|| self.lanes.pop_spare(&self.core));
        while let Some((ticket, found)) = popped.take().or_else(|| self.lanes.pop(&self.core)) {
            let claim = found.claim();
            if found.seat.state.claim(claim.incarnation).is_ok() {
                self.touch(claim);
                let claim = Claim { incarnation: claim.incarnation + 1, ..claim };
                return Some(Held { ticket, claim });
            }
            self.core.give_ticket(ticket);
        }
        None
    }

    /// A ticket for a connection that is held, and about to be made idle.
    fn ticket_of(&self, held: &Held) -> u32 {
        let Held { ticket, claim: Claim { seat, .. } } = *held;
        match ticket {
            lease if lease & IN_PLACE != 0 => {
                let lifted = self.lanes.lift(&self.core, lease, seat).then_some(seat);
                lifted.or_else(|| self.core.take_ticket(seat)).unwrap()
            }
            home if home == seat => seat,
            spare => self.core.prefer_home(spare, self.core.seats.get(seat), seat),
        }
    }

    /// All of a release but the push. Returns the ticket to be pushed.
    pub fn ready(&self, held: &Held) -> u32 {
        self.touch(held.claim);
        let Claim { seat, incarnation } = held.claim;
        let ticket = self.ticket_of(held);
        self.core.find(ticket).ticket.set_incarnation(incarnation);
        self.core.seats.get(seat).state.rest(incarnation);
        ticket
    }

    /// What `Engine::release` does.
    pub fn release(&self, held: Held) {
        if held.ticket & IN_PLACE != 0 {
            let Claim { seat: index, incarnation } = held.claim;
            let seat = self.core.seats.get(index);
            let rested = self.lanes.rest_in_place(held.ticket, index, || {
                self.touch(held.claim);
                seat.ticket.set_incarnation(incarnation);
                seat.state.rest(incarnation);
            });
            match rested {
                Some(true) => return,
                Some(false) => return self.recover(held),
                None => {}
            }
        }
        let ticket = self.ready(&held);
        self.lanes.push(&self.core, self.core.find(ticket).ticket, ticket);
    }

    /// What `Engine::recover` does.
    fn recover(&self, Held { ticket, claim }: Held) {
        if self.lanes.vouch(&self.core, ticket, claim.seat) {
            return;
        }
        let seat = self.core.seats.get(claim.seat);
        if seat.state.claim(claim.incarnation).is_ok() {
            let claim = Claim { incarnation: claim.incarnation + 1, ..claim };
            let ticket = self.core.take_ticket(claim.seat).unwrap();
            self.release(Held { ticket, claim });
        }
    }

    /// Removes an idle connection by its seat. Its ticket stays behind.
    pub fn evict(&self, seat: u32) -> bool {
        let state = &self.core.seats.get(seat).state;
        let claim = Claim { seat, incarnation: state.load().incarnation() };
        let seized = state.seize(claim.incarnation);
        if seized {
            self.touch(claim);
            state.vacate(claim.incarnation);
        }
        seized
    }

    pub fn drain(&self) -> usize {
        let mut seized = 0;
        self.lanes.drain(&self.core, |claim| {
            let state = &self.core.seats.get(claim.seat).state;
            if state.seize(claim.incarnation) {
                self.touch(claim);
                state.vacate(claim.incarnation);
                seized += 1;
            }
        });
        seized
    }

    /// At rest: exactly `idle` connections are found, every seat's ticket comes home,
    /// and every spare is free once.
    pub fn account(&self, idle: usize) {
        let held: Vec<Held> = std::iter::from_fn(|| self.get()).collect();
        assert_eq!(held.len(), idle, "idle connections that can be found");
        for held in held {
            let ticket = self.ticket_of(&held);
            self.core.give_ticket(ticket);
        }
        let seats = self.core.seats.high_water() as usize;
        for (_, seat) in self.core.seats.iter() {
            assert!(seat.ticket.leave_home(), "a seat's ticket is not at home");
        }
        let count = self.core.tickets_max() - seats;
        let free: BTreeSet<u32> = (0..count).map(|_| self.core.take_spare(0).unwrap()).collect();
        assert_eq!(free.len(), count, "a spare is twice in the free list");
        assert_eq!(self.core.tickets_max(), seats + count, "a spare is not in the free list");
    }
}

pub fn spawn(
    bench: &Arc<Bench>,
    body: impl FnOnce(&Bench) + Send + 'static,
) -> thread::JoinHandle<()> {
    let bench = Arc::clone(bench);
    thread::spawn(move || body(&bench))
}
