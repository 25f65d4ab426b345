//! Lanes that outlive their group.
//!
//! A release makes its connection idle first and pushes the ticket then. In between,
//! an evictor may close the connection, and so the last of its group: the group is
//! gone before the push. So the lanes of a group are on loan. They go back to the
//! stock, serve another group, and are freed with the pool. A ticket that is pushed
//! too late is void, in whatever lane it lands.
//!
//! # Invariants
//!
//! * **N1** Lanes are freed by the drop of their stock alone. It is kept by the pool,
//!   and by every loan.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_queue::SegQueue;

use crate::core::Core;
use crate::core::lanes::Lanes;
use crate::core::width::Plan;
use crate::sync::Step;

/// All lanes of a pool that serve no group at the moment.
#[derive(Debug)]
pub struct Stock {
    idle: SegQueue<Place>,
    step: Step,
    plan: Plan,
}

impl Stock {
    /// For groups with so many lanes.
    pub fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self { idle: SegQueue::new(), step: Step::new(), plan })
    }

    /// Lanes for a new group.
    pub fn lend(self: &Arc<Self>, core: &Core) -> Loan {
        self.step.observe();
        let place = self.idle.pop().unwrap_or_else(|| {
            let lanes = Box::new(Lanes::planned(self.plan));
            Place(NonNull::from(Box::leak(lanes)))
        });
        let loan = Loan { place, stock: Arc::clone(self) };
        debug_assert!(!loan.era.is_draining(), "that would have kept the group");
        // Void tickets that were pushed too late.
        loan.clear(core);
        loan
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        while let Some(Place(lanes)) = self.idle.pop() {
            // SAFETY: N1: no loan is out, and the pool is gone.
            drop(unsafe { Box::from_raw(lanes.as_ptr()) });
        }
    }
}

/// Where the lanes of a group are.
#[derive(Clone, Copy, Debug)]
struct Place(NonNull<Lanes>);

// SAFETY: stands for a `Box<Lanes>`, whose content may be sent and shared.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// The lanes of one group, for as long as anybody has the group.
#[derive(Debug)]
pub struct Loan {
    place: Place,
    stock: Arc<Stock>,
}

impl Loan {
    /// Throws away the tickets of a group that has gone, all of them void. Some may be
    /// pushed later still. What comes next begins with one lane.
    pub fn clear(&self, core: &Core) {
        if self.all().any(|lane| lane.emptiness().is_none()) {
            self.drain(core, |_| {});
        }
        self.begin_anew();
    }

    /// The lanes, for as long as the pool exists: also when the group is gone.
    ///
    /// # Safety
    ///
    /// The caller sees to it that the pool exists for as long as it uses them.
    #[inline(always)]
    pub unsafe fn lasting<'a>(&self) -> &'a Lanes {
        // SAFETY: N1, by the caller's promise.
        unsafe { self.place.0.as_ref() }
    }
}

impl Deref for Loan {
    type Target = Lanes;

    #[inline(always)]
    fn deref(&self) -> &Lanes {
        // SAFETY: N1: the loan keeps the stock.
        unsafe { self.place.0.as_ref() }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.stock.step.publish();
        self.stock.idle.push(self.place);
    }
}
