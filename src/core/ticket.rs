//! What the lanes link: a claim to one seat in one incarnation.
//!
//! A release puts a ticket on top of a lane; a `get` takes the top ticket and
//! redeems it with one exchange on the seat. A ticket whose seat has moved on is
//! void: redeeming fails, and the ticket is thrown away. A ticket may therefore
//! be copied, and left behind by an evictor, without harm (see [`super::lane`]).
//!
//! Each seat has a ticket at *home*, in its own cache line, which its connection
//! uses when it can, so that a get touches one line for both. When it is still in
//! some lane, void or as the original of a copy, a *spare* stands in.
//!
//! # Layout of a ticket's number
//!
//! ```text
//!  27      26                      0
//! +-------+-------------------------+
//! | spare |          index          |   of the seat, or of the spare
//! +-------+-------------------------+
//! ```
//!
//! # Invariants
//!
//! * **K1** A ticket is written by its owner alone: the lease that carries it,
//!   whoever popped it, or whoever detached its chain. While it is linked nobody
//!   writes it, but for K3.
//! * **K2** A ticket at home belongs to whoever owns the seat.
//! * **K3** Whoever leased a connection by its seat's own ticket *in place* may set the
//!   incarnation of that ticket until the seat rests, wherever the ticket is.

use crate::core::arena::{INDEX_LIMIT, Record};
use crate::core::tagged::NIL;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Set in the numbers of spares.
pub const SPARE: u32 = 1 << 27;
/// In place of the number of a ticket that a lease carries: it carries none, since that
/// of its seat stayed in the lane with this number. See [`super::top`].
pub const IN_PLACE: u32 = 1 << 30;
/// In place of the link, while a ticket is at home.
pub const AT_HOME: u32 = NIL - 1;

const _: () = assert!(INDEX_LIMIT <= SPARE && SPARE + INDEX_LIMIT <= AT_HOME && NIL < IN_PLACE);

/// What is linked.
///
/// Accesses are Relaxed where the head publishes them (see `tagged`); a reader who
/// is too late finds that out from the head (T1).
#[derive(Debug)]
pub struct Ticket {
    /// Which idle spell of the seat it is good for.
    incarnation: AtomicU64,
    /// The number of the ticket below, [`NIL`] at the bottom.
    below: AtomicU32,
    /// How many tickets hang from this one, itself included; 0 is not known.
    /// Kept only in groups with an idle cap, to save the others a cache line.
    depth: AtomicU32,
}

impl Default for Ticket {
    fn default() -> Self {
        Self {
            incarnation: AtomicU64::new(0),
            below: AtomicU32::new(AT_HOME),
            depth: AtomicU32::new(0),
        }
    }
}

impl Ticket {
    #[inline(always)]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// The incarnation of a ticket that may not be linked any more by now: whoever looks
    /// at the head next finds that out.
    #[inline(always)]
    pub fn linked_incarnation(&self) -> u64 {
        // Acquire: pairs with `set_incarnation`.
        self.incarnation.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub fn set_incarnation(&self, incarnation: u64) {
        // Release: pairs with `linked_incarnation`, whose caller sees that the ticket has
        // left its former chain.
        self.incarnation.store(incarnation, Ordering::Release);
    }

    /// The ticket below, for a pop that goes no further.
    #[inline(always)]
    pub fn below(&self) -> u32 {
        self.below.load(Ordering::Relaxed)
    }

    /// The ticket below, for those who go on to it; [`AT_HOME`] if this ticket was
    /// unlinked meanwhile. Whatever it names exists, if perhaps in another chain.
    pub fn next(&self) -> u32 {
        // Acquire: pairs with `set_below`, whose caller has seen what it names.
        self.below.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub fn set_below(&self, below: u32) {
        // Release: pairs with `next`.
        self.below.store(below, Ordering::Release);
    }

    /// The number of tickets from here down, if it is known.
    pub fn depth(&self) -> Option<u32> {
        Some(self.depth.load(Ordering::Relaxed)).filter(|&depth| depth > 0)
    }

    #[inline(always)]
    pub fn set_depth(&self, depth: Option<u32>) {
        self.depth.store(depth.unwrap_or(0), Ordering::Relaxed);
    }

    /// Goes home. The caller owned the ticket and does so no longer.
    pub fn go_home(&self) {
        // Release: pairs with `leave_home`, so that what its last owner read of it
        // comes before what the next one writes.
        self.below.store(AT_HOME, Ordering::Release);
    }

    /// Takes the ticket, if it is at home. Only for the owner of the seat (K2).
    pub fn leave_home(&self) -> bool {
        // Acquire: pairs with `go_home`.
        let at_home = self.below.load(Ordering::Acquire) == AT_HOME;
        if at_home {
            self.set_below(NIL);
        }
        at_home
    }
}

/// A ticket of no seat in particular.
#[derive(Debug)]
pub struct Spare {
    pub ticket: Ticket,
    /// The seat that it names.
    seat: AtomicU32,
    /// Apart from the ticket's link, which those may read who are too late.
    free: AtomicU32,
}

impl Default for Spare {
    fn default() -> Self {
        Self { ticket: Ticket::default(), seat: AtomicU32::new(NIL), free: AtomicU32::new(NIL) }
    }
}

impl Record for Spare {
    fn free_link(&self) -> &AtomicU32 {
        &self.free
    }
}

impl Spare {
    #[inline(always)]
    pub fn seat(&self) -> u32 {
        // Acquire: pairs with `set_seat`, also for those who are too late.
        self.seat.load(Ordering::Acquire)
    }

    pub fn set_seat(&self, seat: u32) {
        // Release: pairs with `seat`, whose caller goes on to a seat that this one has taken.
        self.seat.store(seat, Ordering::Release);
    }
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub seat: u32,
    pub incarnation: u64,
}
