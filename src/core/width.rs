//! How many lanes a group uses: one, until threads contend for it.
//!
//! Whoever fails an exchange because another thread came first says so: it counts on the
//! line that it has at hand anyway, and nowhere else. Many failures between two looks of
//! maintenance are a *strain*. A strained group is put on a list, without an allocation.
//! Maintenance, or the next insertion, allots it lanes, once and as many as it may ever
//! have, and doubles the number in use; if they are there from before, the strain itself
//! doubles it. A thread that is in a strained group of several lanes moves to another lane
//! besides, should two threads have met.
//!
//! A group that has widened has few failures, however busy it is. So maintenance goes by
//! the tags of the heads, which every push raises: when half of the lanes would do for
//! those that were busy, for some looks in a row, it halves the number.
//!
//! The number decides where a push goes and where a get looks first, and nothing else. A get
//! looks into all lanes that were allotted before it misses, and a barrier touches them all.
//! So the number may be out of date for whoever reads it, and nothing is moved when it
//! changes.
//!
//! # Invariants
//!
//! * **N2** `rest` leads nowhere, or for ever to `most - 1` lanes, which go with these ones.
//!   It changes once, by an exchange. A barrier exchanges it as well while it leads
//!   nowhere: either the barrier finds the lanes, or whoever finds them later sees what came
//!   before the barrier.

use std::ptr::{self, null_mut};
// Std's where nothing depends on what is read, so that models need not interleave it.
use std::sync::atomic::{AtomicBool as Hint, AtomicU32, AtomicU64};

use crate::core::Core;
use crate::core::lane::Lane;
use crate::core::lanes::{Lanes, change_number};
use crate::sync::{AtomicBool, AtomicPtr, Ordering};

/// So many failures on a lane between two looks are a strain.
const STRAIN: u64 = 64;
/// A lane is busy that was pushed to so often between two looks.
const BUSY: u64 = 64;
/// How many lanes the groups of a pool have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// So many, always.
    Fixed(usize),
    /// From one to so many.
    UpTo(usize),
}

/// What happened on a lane lately. Advice, all of it.
#[derive(Debug)]
pub struct Strain {
    /// Failures in the upper half of the number of the look before them, which is below.
    failed: AtomicU64,
    /// The sum of the heads when they were looked at last.
    seen: AtomicU64,
}

impl Strain {
    pub fn new() -> Self {
        Self { failed: AtomicU64::new(0), seen: AtomicU64::new(0) }
    }

    /// Counts a failure. True if it is the last one that makes a strain.
    fn add(&self, look: u32) -> bool {
        // Relaxed, and no read-modify-write: a failure that is lost was one of many.
        let before = self.failed.load(Ordering::Relaxed);
        let count = if before as u32 == look { (before >> 32) + 1 } else { 1 };
        let strained = count >= STRAIN;
        let count = if strained { 0 } else { count };
        self.failed.store(count << 32 | u64::from(look), Ordering::Relaxed);
        strained
    }
}

/// The lanes beside the first, and how many are in use.
#[derive(Debug)]
pub struct Width {
    rest: AtomicPtr<Lane>,
    /// In use, at least 1, at most `most`.
    used: AtomicU32,
    most: u32,
    adapts: bool,
    /// Lanes are wanted, and were not allotted yet.
    pub(super) wanted: Hint,
    /// The group has a cap, and pushes to the first lane.
    capped: Hint,
    /// On the list of the strained, or known to maintenance.
    pub(super) listed: AtomicBool,
    /// The next one on the list.
    pub(super) next: AtomicPtr<Lanes>,
}

impl Width {
    pub fn new(plan: Plan) -> Self {
        let (Plan::Fixed(most) | Plan::UpTo(most)) = plan;
        let adapts = matches!(plan, Plan::UpTo(_)) && most > 1;
        let width = Self {
            rest: AtomicPtr::new(null_mut()),
            used: AtomicU32::new(if adapts { 1 } else { most as u32 }),
            most: most as u32,
            adapts,
            wanted: Hint::new(false),
            capped: Hint::new(false),
            listed: AtomicBool::new(false),
            next: AtomicPtr::new(null_mut()),
        };
        if !adapts {
            width.allot();
        }
        width
    }

    /// How many lanes are in use.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        // Relaxed: any number up to `most` will do.
        self.used.load(Ordering::Relaxed)
    }

    fn set(&self, used: u32) {
        debug_assert!((1..=self.most).contains(&used));
        // Relaxed: as in `get`.
        self.used.store(used, Ordering::Relaxed);
    }

    /// The lanes beside the first.
    pub fn rest(&self) -> &[Lane] {
        if self.most == 1 {
            return &[];
        }
        // Acquire: pairs with the exchange in `allot`, and by that with those in `settle`:
        // who pushes here sees what came before a barrier that has found nothing.
        self.slice(self.rest.load(Ordering::Acquire))
    }

    /// As [`Width::rest`], for a barrier.
    pub fn settle(&self) -> &[Lane] {
        let rest = self.rest();
        if self.most == 1 || !rest.is_empty() {
            return rest;
        }
        // Release: pairs with `allot`. Acquire on failure: as in `rest`. Not Acquire on
        // success: nobody has pushed where nothing is.
        let exchange = self.rest.compare_exchange(
            null_mut(),
            null_mut(),
            Ordering::Release,
            Ordering::Acquire,
        );
        self.slice(exchange.unwrap_or_else(|found| found))
    }

    fn slice(&self, first: *mut Lane) -> &[Lane] {
        if first.is_null() {
            return &[];
        }
        // SAFETY: N2.
        unsafe { std::slice::from_raw_parts(first, self.most as usize - 1) }
    }

    /// Makes sure that there are lanes beside the first, as many as there may ever be.
    pub fn allot(&self) {
        if self.most == 1 || !self.rest().is_empty() {
            return;
        }
        let lanes: Box<[Lane]> = (1..self.most).map(|_| Lane::new()).collect();
        let count = lanes.len();
        let first = Box::into_raw(lanes).cast::<Lane>();
        // Release: pairs with the Acquire in `rest`. Acquire: pairs with the exchange in
        // `settle`. Relaxed on failure: what the other one has allotted is not looked at.
        let exchange =
            self.rest.compare_exchange(null_mut(), first, Ordering::AcqRel, Ordering::Relaxed);
        if exchange.is_err() {
            // SAFETY: it came from the box above, and nobody has seen it.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, count)) });
        }
    }
}

impl Drop for Width {
    fn drop(&mut self) {
        // Relaxed: whoever drops the lanes has them alone.
        let first = self.rest.load(Ordering::Relaxed);
        if !first.is_null() {
            let lanes = ptr::slice_from_raw_parts_mut(first, self.most as usize - 1);
            // SAFETY: N2.
            drop(unsafe { Box::from_raw(lanes) });
        }
    }
}

impl Lanes {
    /// An exchange on one of the lanes has failed because another thread came first.
    #[cold]
    #[inline(never)]
    pub(super) fn failed(&self, core: &Core, lane: &Lane) {
        if self.width.adapts && lane.strain.add(core.strained.look()) {
            self.strained(core);
        }
    }

    /// As [`Lanes::failed`], when a connection could not be made idle where it was leased.
    #[cold]
    pub fn disturbed(&self, core: &Core) {
        self.failed(core, self.own().1);
    }

    /// Threads contend here: asks for more lanes, or takes them if they are there.
    pub fn strained(&self, core: &Core) {
        let used = self.width.get();
        if used > 1 {
            // Or else two threads may meet for ever while another lane is free.
            change_number();
        }
        // Relaxed, all of it: hints. A mark of a cap that is gone by now goes with this.
        if self.width.rest().is_empty() {
            if self.width.wanted.swap(true, Ordering::Relaxed) {
                return;
            }
        } else if used == self.width.most || self.width.capped.swap(false, Ordering::Relaxed) {
            return;
        } else {
            self.width.set((2 * used).min(self.width.most));
        }
        // AcqRel: Release publishes the wish, or the number, to whoever takes the mark away
        // after this; Acquire pairs with the Release in `forget`, so that `next` is ours.
        if !self.width.listed.swap(true, Ordering::AcqRel) {
            core.strained.push(self);
        }
    }

    /// Allots the lanes that were asked for. For those who may allocate.
    #[inline(always)]
    pub fn answer(&self) {
        // Relaxed: a hint.
        if self.width.wanted.load(Ordering::Relaxed) {
            self.widen();
        }
    }

    /// Allots lanes, and doubles the number in use.
    #[cold]
    pub fn widen(&self) {
        // Relaxed, all of it: hints. A group with a cap has no use for more lanes.
        self.width.wanted.store(false, Ordering::Relaxed);
        if !self.width.capped.swap(false, Ordering::Relaxed) {
            self.width.allot();
            self.width.set((2 * self.width.get()).min(self.width.most));
        }
    }

    /// Notes that the group has a cap, and uses one lane.
    pub(super) fn note_cap(&self) {
        // Relaxed: hints. Looked at first, so that the line stays where it is.
        if self.width.adapts && !self.width.capped.load(Ordering::Relaxed) {
            self.width.capped.store(true, Ordering::Relaxed);
            self.width.set(1);
        }
    }

    /// Half as many lanes are used from now on.
    pub fn narrow(&self) {
        self.width.set(self.width.get().div_ceil(2));
    }

    /// How many lanes are in use.
    pub fn in_use(&self) -> usize {
        self.width.get() as usize
    }

    /// Begins anew with one lane, for another group.
    pub(super) fn begin_anew(&self) {
        if self.width.adapts {
            self.width.capped.store(false, Ordering::Relaxed);
            self.width.set(1);
        }
    }

    /// How many lanes were busy since the last look, which is now.
    pub(super) fn busy(&self) -> u32 {
        let busy = |lane: &&Lane| {
            let sum = lane.changes();
            // Relaxed: maintenance alone reads and writes it.
            let before = lane.strain.seen.load(Ordering::Relaxed);
            if sum != before {
                lane.strain.seen.store(sum, Ordering::Relaxed);
            }
            sum.wrapping_sub(before) >= BUSY
        };
        self.all().filter(busy).count() as u32
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests;
