//! The lock-free core. It knows seats, tickets and times as numbers; it knows no
//! connections, no keys and no clock, and does no I/O.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tagged`] | the head of a stack: index and tag in one word |
//! | [`arena`] | growing arrays of records, found by index |
//! | [`seat`] | one pooled connection: its state word and its times |
//! | [`ticket`] | a claim to one seat in one incarnation; what stacks link |
//! | [`lane`] | a LIFO of tickets that can be cleaned while in use |
//! | [`lanes`] | the lanes of one group |
//! | [`lru`] | which idle connection goes when the pool is full |
//! | [`wheel`] | the timer wheel, plain and single-threaded |

pub mod arena;
pub mod lane;
pub mod lanes;
pub mod lru;
pub mod seat;
pub mod tagged;
pub mod ticket;
pub mod wheel;

use arena::Arena;
use seat::Seat;
use ticket::Ticket;

/// The two arenas that all groups of a pool share.
#[derive(Debug)]
pub struct Core {
    pub seats: Arena<Seat>,
    pub tickets: Arena<Ticket>,
}

impl Core {
    pub fn new() -> Self {
        Self { seats: Arena::new(), tickets: Arena::new() }
    }
}
