//! What the lanes link: a claim to one seat in one incarnation.
//!
//! A release puts a ticket on top of a lane; a `get` takes the top ticket and
//! redeems it with one exchange on the seat. A ticket whose seat has moved on is
//! void: redeeming fails, and the ticket is thrown away. A ticket may therefore
//! be copied, and left behind by an evictor, without harm (see [`super::lane`]).
//!
//! # Invariants
//!
//! * **K1** A ticket is written by its owner alone: the lease that carries it,
//!   whoever popped it, or whoever detached its chain. While it is linked nobody
//!   writes it.

use crate::core::arena::Record;
use crate::core::tagged::NIL;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A record of the ticket arena.
///
/// All accesses are Relaxed: the head publishes them (see `tagged`), and a reader
/// who is too late finds that out from the head (T1).
#[derive(Debug)]
pub struct Ticket {
    /// Which idle spell of the seat it is good for.
    incarnation: AtomicU64,
    /// The seat that it names.
    seat: AtomicU32,
    /// The ticket below, [`NIL`] at the bottom; of the free list when free.
    below: AtomicU32,
    /// How many tickets hang from this one, itself included; 0 is not known.
    /// Kept only in groups with an idle cap, to save the others a cache line.
    depth: AtomicU32,
}

impl Default for Ticket {
    fn default() -> Self {
        Self {
            incarnation: AtomicU64::new(0),
            seat: AtomicU32::new(NIL),
            below: AtomicU32::new(NIL),
            depth: AtomicU32::new(0),
        }
    }
}

impl Record for Ticket {
    fn free_link(&self) -> &AtomicU32 {
        &self.below
    }
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub seat: u32,
    pub incarnation: u64,
}

impl Ticket {
    #[inline(always)]
    pub fn claim(&self) -> Claim {
        Claim {
            seat: self.seat.load(Ordering::Relaxed),
            incarnation: self.incarnation.load(Ordering::Relaxed),
        }
    }

    #[inline(always)]
    pub fn write(&self, claim: Claim) {
        self.seat.store(claim.seat, Ordering::Relaxed);
        self.incarnation.store(claim.incarnation, Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn below(&self) -> u32 {
        self.below.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn set_below(&self, below: u32) {
        self.below.store(below, Ordering::Relaxed);
    }

    /// The number of tickets from here down, if it is known.
    pub fn depth(&self) -> Option<u32> {
        Some(self.depth.load(Ordering::Relaxed)).filter(|&depth| depth > 0)
    }

    #[inline(always)]
    pub fn set_depth(&self, depth: Option<u32>) {
        self.depth.store(depth.unwrap_or(0), Ordering::Relaxed);
    }
}
