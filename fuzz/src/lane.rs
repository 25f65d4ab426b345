//! A lane, its seats and its tickets against a list: whatever is leased, released, removed,
//! looked at and tidied up, the order is that of the list, and each ticket comes home.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::core::lanes::Lanes;
use crate::core::seat::Seat;
use crate::core::ticket::{Claim, IN_PLACE};
use crate::core::width::Plan;
use crate::core::{Core, Found};

/// Connections at a time. More than one chunk of seats has.
const SEATS_MAX: usize = 300;
const OPS_MAX: usize = 400;

#[derive(Arbitrary, Debug)]
pub enum Op {
    /// So many connections enter.
    Put(u8),
    Get,
    /// Without leaving its ticket where it lies.
    Pop,
    Release(u8),
    /// Unless so many are idle.
    ReleaseCapped(u8, u8),
    Close(u8),
    /// An idle one goes, and its ticket stays.
    Evict(u8),
    /// Every idle one whose place is divided by this goes.
    EvictMany(u8),
    /// Somebody begins to look at an idle one.
    Look(u8),
    /// And is done: it stays, or goes.
    Looked {
        at: u8,
        stays: bool,
    },
    Barrier,
    Trim,
    Compact,
    Drain,
    /// Whether the ticket of a leased one is taken off the lane.
    Lift(u8),
}

#[derive(Debug)]
pub struct Input(Vec<Op>);

impl Arbitrary<'_> for Input {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut ops = Vec::new();
        while ops.len() < OPS_MAX && !u.is_empty() {
            ops.push(u.arbitrary()?);
        }
        Ok(Self(ops))
    }
}

/// A lease: its ticket, and the seat in its incarnation.
#[derive(Clone, Copy, Debug)]
struct Held {
    ticket: u32,
    claim: Claim,
}

/// A look at a connection, and whether its ticket was met meanwhile.
#[derive(Clone, Copy, Debug)]
struct Look {
    claim: Claim,
    orphaned: bool,
}

struct Run {
    core: Core,
    lanes: Lanes,
    held: Vec<Held>,
    looks: Vec<Look>,
    /// The seats that can be found, the oldest first, also those that are looked at.
    idle: Vec<u32>,
}

impl Run {
    fn seat(&self, seat: u32) -> &Seat {
        self.core.seats.get(seat)
    }

    fn look_at(&mut self, seat: u32) -> Option<&mut Look> {
        self.looks.iter_mut().find(|look| look.claim.seat == seat)
    }

    fn put(&mut self) {
        if self.held.len() + self.looks.len() + self.idle.len() >= SEATS_MAX {
            return;
        }
        let seat = self.core.take_seat().unwrap();
        let ticket = self.core.take_ticket(seat).unwrap();
        // Where its record would be, its number.
        self.seat(seat).settle(std::ptr::without_provenance_mut(seat as usize));
        self.seat(seat).mark.set(0, 0);
        let incarnation = self.seat(seat).state.own();
        self.release(Held { ticket, claim: Claim { seat, incarnation } });
    }

    /// As `Engine::lease`.
    fn get(&mut self, in_place: bool) {
        let top = in_place.then(|| self.lanes.claim_top(&self.core)).flatten();
        let found = top.map(|(ticket, seat, _)| {
            let number = seat.place().addr() as u32;
            Held { ticket, claim: Claim { seat: number, incarnation: seat.state.own() } }
        });
        let found = found.or_else(|| self.search());
        let expected = loop {
            let Some(seat) = self.idle.pop() else { break None };
            let Some(look) = self.look_at(seat) else { break Some(seat) };
            look.orphaned = true;
        };
        assert_eq!(found.map(|held| held.claim.seat), expected);
        self.held.extend(found);
    }

    fn search(&self) -> Option<Held> {
        let home = self.lanes.pop_home(&self.core).map(|(ticket, _)| ticket);
        let mut popped = home
            .map(|ticket| (ticket, self.core.find(ticket)))
            .or_else(|| self.lanes.pop_spare(&self.core));
        while let Some((ticket, found)) = popped.take().or_else(|| self.lanes.pop(&self.core)) {
            let Claim { seat, incarnation } = found.claim();
            if found.seat.state.claim(incarnation).is_ok() {
                return Some(Held { ticket, claim: Claim { seat, incarnation: incarnation + 1 } });
            }
            let _ = found.seat.state.orphan(incarnation);
            self.core.give_ticket(ticket);
        }
        None
    }

    /// A ticket for a connection that is about to be made idle, out of the lane.
    fn ticket_of(&self, Held { ticket, claim: Claim { seat, .. } }: Held) -> u32 {
        match ticket {
            lease if lease & IN_PLACE != 0 => {
                let lifted = self.lanes.lift(&self.core, lease, seat).then_some(seat);
                lifted.or_else(|| self.core.take_ticket(seat)).unwrap()
            }
            home if home == seat => seat,
            spare => self.core.prefer_home(spare, self.seat(seat), seat),
        }
    }

    /// All of a release but the push.
    fn rest(&self, held: Held) -> u32 {
        let (ticket, Claim { seat, incarnation }) = (self.ticket_of(held), held.claim);
        Found::of(&self.core, self.seat(seat), ticket).set_incarnation(incarnation);
        self.seat(seat).state.rest(incarnation);
        ticket
    }

    fn release(&mut self, held: Held) {
        let Claim { seat: number, incarnation } = held.claim;
        self.idle.push(number);
        let seat = self.seat(number);
        if held.ticket & IN_PLACE != 0 {
            let rested = self.lanes.rest_in_place(held.ticket, number, || {
                seat.ticket.set_incarnation(incarnation);
                seat.state.rest(incarnation);
            });
            assert_ne!(rested, Some(false), "nobody came in between");
            if rested.is_some() {
                return;
            }
        }
        let ticket = self.rest(held);
        self.lanes.push(&self.core, Found::of(&self.core, seat, ticket), ticket);
    }

    fn release_capped(&mut self, held: Held, cap: u32) {
        let (ticket, seat) = (self.rest(held), held.claim.seat);
        let pushed = self.lanes.push_capped(&self.core, ticket, cap);
        assert_eq!(pushed, self.idle.len() < cap as usize, "a cap is exact");
        if pushed {
            self.idle.push(seat);
        } else {
            self.core.give_ticket(ticket);
            assert!(self.seat(seat).state.seize(held.claim.incarnation));
            self.vacate(held.claim);
        }
    }

    fn vacate(&self, claim: Claim) {
        self.seat(claim.seat).state.vacate(claim.incarnation);
        self.core.seats.give(claim.seat);
    }

    /// As a lease that is dropped: a ticket that does not lie on top stays where it is.
    fn close(&mut self, Held { ticket, claim }: Held) {
        let in_place = ticket & IN_PLACE != 0;
        if !in_place || self.lanes.lift(&self.core, ticket, claim.seat) {
            self.core.give_ticket(if in_place { claim.seat } else { ticket });
        }
        self.vacate(claim);
    }

    fn evict(&mut self, at: usize) {
        let seat = self.idle[at];
        if self.look_at(seat).is_some() {
            return;
        }
        self.idle.remove(at);
        let incarnation = self.seat(seat).state.load().incarnation();
        assert!(self.seat(seat).state.seize(incarnation));
        self.vacate(Claim { seat, incarnation });
    }

    fn look(&mut self, at: usize) {
        let seat = self.idle[at];
        let incarnation = self.seat(seat).state.load().incarnation();
        let idle = self.look_at(seat).is_none();
        assert_eq!(self.seat(seat).state.inspect(incarnation), idle);
        if idle {
            let claim = Claim { seat, incarnation };
            self.looks.push(Look { claim, orphaned: false });
        }
    }

    fn looked(&mut self, Look { claim, orphaned }: Look, stays: bool) {
        if stays {
            assert_eq!(self.seat(claim.seat).state.restore(claim.incarnation), !orphaned);
            if orphaned {
                let ticket = self.core.take_ticket(claim.seat).unwrap();
                self.release(Held { ticket, claim });
            }
        } else {
            self.idle.retain(|&seat| seat != claim.seat);
            self.vacate(claim);
        }
    }

    fn drain(&mut self) {
        let mut drained = BTreeSet::new();
        self.lanes.drain(&self.core, |claim| {
            let state = &self.core.seats.get(claim.seat).state;
            if state.seize(claim.incarnation) {
                assert!(drained.insert(claim.seat));
                state.vacate(claim.incarnation);
            } else if state.orphan(claim.incarnation).is_ok() {
                assert!(drained.insert(claim.seat));
            }
        });
        let idle = std::mem::take(&mut self.idle);
        assert_eq!(drained, idle.iter().copied().collect());
        for seat in idle {
            match self.look_at(seat) {
                Some(look) => look.orphaned = true,
                None => self.core.seats.give(seat),
            }
        }
        assert!(self.lanes.were_bare());
    }

    fn step(&mut self, op: &Op) {
        let pick = |at: u8, count: usize| usize::from(at).checked_rem(count);
        match *op {
            Op::Put(count) => (0..=count % 80).for_each(|_| self.put()),
            Op::Get => self.get(true),
            Op::Pop => self.get(false),
            Op::Release(at) => {
                let at = pick(at, self.held.len());
                at.into_iter().for_each(|at| {
                    let held = self.held.remove(at);
                    self.release(held);
                });
            }
            Op::ReleaseCapped(at, cap) => {
                let at = pick(at, self.held.len());
                at.into_iter().for_each(|at| {
                    let held = self.held.remove(at);
                    self.release_capped(held, cap.into());
                });
            }
            Op::Close(at) => {
                let at = pick(at, self.held.len());
                at.into_iter().for_each(|at| {
                    let held = self.held.remove(at);
                    self.close(held);
                });
            }
            Op::Evict(at) => pick(at, self.idle.len()).into_iter().for_each(|at| self.evict(at)),
            Op::EvictMany(by) => {
                let by = usize::from(by % 8) + 1;
                (0..self.idle.len()).rev().filter(|at| at % by == 0).for_each(|at| self.evict(at));
            }
            Op::Look(at) => pick(at, self.idle.len()).into_iter().for_each(|at| self.look(at)),
            Op::Looked { at, stays } => {
                let at = pick(at, self.looks.len());
                at.into_iter().for_each(|at| {
                    let look = self.looks.remove(at);
                    self.looked(look, stays);
                });
            }
            Op::Barrier => self.lanes.barrier(),
            Op::Trim => drop(self.lanes.trim(&self.core)),
            Op::Compact => assert!(self.lanes.compact(&self.core), "nobody is in the way"),
            Op::Drain => self.drain(),
            Op::Lift(at) => {
                if let Some(at) = pick(at, self.held.len()) {
                    let ticket = self.ticket_of(self.held[at]);
                    self.held[at].ticket = ticket;
                }
            }
        }
    }

    fn compare(&self) {
        assert_eq!(self.lanes.live(&self.core) as usize, self.idle.len());
        let mut found = Vec::new();
        let ended = self.lanes.walk(&self.core, |claim| {
            if self.seat(claim.seat).state.load().honours(claim.incarnation) {
                found.push(claim.seat);
            }
            true
        });
        assert!(ended && found.iter().eq(self.idle.iter().rev()), "{found:?}");
        let good =
            |word: crate::core::state::Word, claim: &Claim| word.incarnation() == claim.incarnation;
        assert!(self.held.iter().all(|it| good(self.seat(it.claim.seat).state.load(), &it.claim)));
        assert!(self.idle.is_empty() || !self.lanes.were_bare());
    }

    /// All are taken out: each ticket of a seat comes home, and each spare is free once.
    fn account(mut self) {
        while let Some(look) = self.looks.pop() {
            self.looked(look, true);
        }
        while !self.idle.is_empty() {
            self.get(true);
        }
        while let Some(held) = self.held.pop() {
            self.close(held);
        }
        self.drain();
        let seats = self.core.seats.high_water() as usize;
        assert!(self.core.seats.iter().all(|(_, seat)| seat.ticket.leave_home()));
        let count = self.core.tickets_max() - seats;
        let spares = (0..count).map(|_| self.core.take_spare(0).unwrap());
        assert_eq!(spares.collect::<BTreeSet<_>>().len(), count, "a spare is free twice");
        assert_eq!(self.core.tickets_max(), seats + count, "a spare is lost");
    }
}

pub fn run(Input(ops): Input) {
    let (core, lanes) = (Core::new(), Lanes::planned(Plan::Fixed(1)));
    let mut run = Run { core, lanes, held: Vec::new(), looks: Vec::new(), idle: Vec::new() };
    for op in &ops {
        run.step(op);
        run.compare();
    }
    run.account();
}
