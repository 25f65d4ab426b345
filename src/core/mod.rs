//! The lock-free core. It knows seats, tickets and times as numbers; it knows no
//! connections, no keys and no clock, and does no I/O.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tagged`] | the head of a stack: index and tag in one word |
//! | [`arena`] | growing arrays of records, found by index |
//! | [`levels`] | an array that grows by levels, for doors and rows |
//! | [`state`] | the state word of a seat |
//! | [`seat`] | one pooled connection: its state, its times, its mark |
//! | [`ticket`] | a claim to one seat in one incarnation; what stacks link |
//! | [`lane`] | a LIFO of tickets that can be cleaned while in use |
//! | [`top`] | what gets and releases do at the top of a lane |
//! | [`chain`] | going down what hangs from a head |
//! | [`lanes`] | the lanes of one group |
//! | [`width`] | how many lanes are in use |
//! | [`strained`] | groups that need more lanes |
//! | [`era`] | from which time a group's connections are |
//! | [`rank`] | how many idle connections of a group are younger than one |
//! | [`hold`] | what threads hold on to for a moment |
//! | [`index`] | a table of items by hash, which grows while it is used |
//! | [`stock`] | lanes on loan, which outlive their group |
//! | [`batch`] | claims in order, for many to take from |
//! | [`lru`] | which idle connection goes when the pool is full |
//! | [`notices`] | seats that the reaper must look at sooner than planned |
//! | [`wheel`] | the timer wheel, plain and single-threaded |
//! | [`ghost`] | what is remembered of connections that were closed |

pub mod arena;
pub mod batch;
pub mod chain;
pub mod era;
pub mod ghost;
pub mod hold;
pub mod index;
pub mod lane;
pub mod lanes;
pub mod levels;
pub mod lru;
pub mod notices;
pub mod rank;
pub mod seat;
pub mod state;
pub mod stock;
pub mod strained;
pub mod tagged;
pub mod ticket;
pub mod top;
pub mod wheel;
pub mod width;

use arena::Arena;
use seat::{Card, Seat};
use strained::Strained;
use tagged::NIL;
use ticket::{Claim, SPARE, Spare, Ticket};

/// The arenas that all groups of a pool share.
#[derive(Debug)]
pub struct Core {
    pub seats: Arena<Seat>,
    cards: Arena<Card>,
    spares: Arena<Spare>,
    /// Groups that need more lanes.
    pub strained: Strained,
}

/// A ticket, found by its number.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub ticket: &'a Ticket,
    pub seat: &'a Seat,
    seat_index: u32,
}

impl<'a> Found<'a> {
    /// A ticket found by way of its seat: the seat's own, or a spare.
    #[inline(always)]
    pub fn of(core: &'a Core, seat: &'a Seat, ticket: u32) -> &'a Ticket {
        if ticket & SPARE == 0 { &seat.ticket } else { core.spare(ticket) }
    }

    #[inline(always)]
    pub fn claim(&self) -> Claim {
        Claim { seat: self.seat_index, incarnation: self.ticket.incarnation() }
    }

    /// Whether the ticket can be redeemed, now or when whoever looks at its connection is
    /// done.
    pub fn is_good(&self) -> bool {
        self.seat.state.load().honours(self.ticket.incarnation())
    }
}

impl Core {
    pub fn new() -> Self {
        Self {
            seats: Arena::new(),
            cards: Arena::new(),
            spares: Arena::new(),
            strained: Strained::new(),
        }
    }

    /// Takes a vacant seat. `None` when the index space is used up.
    pub fn take_seat(&self) -> Option<u32> {
        let index = self.seats.take()?;
        self.cards.cover(index);
        Some(index)
    }

    /// The card of a seat that was taken at some time.
    pub fn card(&self, seat: u32) -> &Card {
        self.cards.get(seat)
    }

    /// No more tickets than this were ever in use.
    pub fn tickets_max(&self) -> usize {
        self.seats.high_water() as usize + self.spares.high_water() as usize
    }

    /// The ticket with this number, and the seat that it names.
    #[inline(always)]
    pub fn find(&self, ticket: u32) -> Found<'_> {
        if ticket & SPARE == 0 {
            let seat = self.seats.get(ticket);
            Found { ticket: &seat.ticket, seat, seat_index: ticket }
        } else {
            self.find_spare_apart(ticket)
        }
    }

    /// As [`Core::find_spare`], where the other case is the common one.
    #[cold]
    fn find_spare_apart(&self, ticket: u32) -> Found<'_> {
        self.find_spare(ticket)
    }

    /// A spare by its number, without the seat that it names.
    #[inline(always)]
    pub fn spare(&self, ticket: u32) -> &Ticket {
        &self.spares.get(ticket & !SPARE).ticket
    }

    /// A spare by its number, and the seat that it names.
    #[inline(always)]
    pub fn find_spare(&self, ticket: u32) -> Found<'_> {
        let spare = self.spares.get(ticket & !SPARE);
        let seat_index = spare.seat();
        Found { ticket: &spare.ticket, seat: self.seats.get(seat_index), seat_index }
    }

    /// Takes a ticket for a seat that the caller owns: the seat's own, or else a
    /// spare. `None` when all are used up.
    pub fn take_ticket(&self, seat: u32) -> Option<u32> {
        if self.seats.get(seat).ticket.leave_home() { Some(seat) } else { self.take_spare(seat) }
    }

    /// Takes a spare for any seat.
    pub fn take_spare(&self, seat: u32) -> Option<u32> {
        let index = self.spares.take()?;
        self.spares.get(index).set_seat(seat);
        Some(index | SPARE)
    }

    /// Changes a spare for the seat's own ticket, if that is at home. The caller
    /// owns the seat and the spare.
    #[inline(always)]
    pub fn prefer_home(&self, spare: u32, seat: &Seat, index: u32) -> u32 {
        if seat.ticket.leave_home() {
            self.give_ticket(spare);
            index
        } else {
            spare
        }
    }

    /// Gives a ticket back. The caller owned it and does so no longer.
    pub fn give_ticket(&self, ticket: u32) {
        debug_assert_ne!(ticket, NIL, "NIL is not a ticket");
        if ticket & SPARE == 0 {
            self.seats.get(ticket).ticket.go_home();
        } else {
            self.spares.give(ticket & !SPARE);
        }
    }
}
