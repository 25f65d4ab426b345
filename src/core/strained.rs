//! Strained groups: how maintenance comes to know them, and what it does for them. See
//! [`super::width`].

use std::mem;
use std::ptr::{self, NonNull, null_mut};
// Std's, as in `width`.
use std::sync::atomic::AtomicU32;

use crate::core::Core;
use crate::core::lanes::Lanes;
use crate::sync::{AtomicPtr, Ordering};

/// After so many looks in a row that found half of the lanes enough, half are used.
const PATIENCE: u32 = if cfg!(slabpool_loom) { 2 } else { 8 };
/// Wide groups that are looked at in one step of maintenance.
const LOOKS_PER_STEP: usize = 64;

/// Groups that are strained, told by those who must not allocate, and the number of the
/// last look at them.
#[derive(Debug)]
pub struct Strained {
    first: AtomicPtr<Lanes>,
    look: AtomicU32,
}

impl Strained {
    pub fn new() -> Self {
        Self { first: AtomicPtr::new(null_mut()), look: AtomicU32::new(0) }
    }

    pub(super) fn look(&self) -> u32 {
        // Relaxed: advice.
        self.look.load(Ordering::Relaxed)
    }

    /// Puts lanes on the list, by whoever has marked them as listed.
    pub(super) fn push(&self, lanes: &Lanes) {
        let place = ptr::from_ref(lanes).cast_mut();
        // Relaxed: checked by the exchange.
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange.
            lanes.width.next.store(first, Ordering::Relaxed);
            // Release: pairs with the Acquire in `take`.
            match self.first.compare_exchange(first, place, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => first = actual,
            }
        }
    }

    /// Takes the list.
    fn take(&self) -> Option<NonNull<Lanes>> {
        // Relaxed: worth a look, no more.
        if self.first.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Acquire: pairs with `push`, and by the release sequence with all of them.
        NonNull::new(self.first.swap(null_mut(), Ordering::Acquire))
    }
}

/// Lanes that maintenance looks at: they are wide, or were strained.
#[derive(Debug, Default)]
pub struct Watched {
    lanes: Vec<Listed>,
    /// Whose turn it is.
    turn: usize,
    /// How many are left to be looked at in this tick.
    left: usize,
    tick: u64,
}

#[derive(Debug)]
struct Listed {
    lanes: NonNull<Lanes>,
    /// Looks in a row that found half of them enough.
    calm: u32,
    /// How many were in use at the look before.
    used: u32,
    /// The lanes have yet to be cleaned of what threads have left there that met.
    littered: bool,
}

// SAFETY: stands for a `&Lanes`, which may be shared; who uses it has promised that they
// are there.
unsafe impl Send for Listed {}

impl Watched {
    /// How many groups are looked at.
    #[cfg(any(test, slabpool_loom))]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Answers those that ask for lanes, and, once in a tick, takes lanes from those that
    /// have too many.
    ///
    /// # Safety
    ///
    /// The stock of all lanes that were used with this core exists.
    pub unsafe fn step(&mut self, core: &Core, tick: u64) {
        let mut next = core.strained.take();
        while let Some(place) = next {
            // SAFETY: N1, by the caller's promise.
            let lanes = unsafe { place.as_ref() };
            // Relaxed: `take` has acquired it. Before the mark is taken away.
            next = NonNull::new(lanes.width.next.load(Ordering::Relaxed));
            lanes.answer();
            self.lanes.push(Listed { lanes: place, calm: 0, used: 1, littered: true });
        }
        if mem::replace(&mut self.tick, tick) != tick {
            self.left = self.lanes.len();
            // Relaxed: advice. Not so much as to cost those who fail a miss each.
            core.strained.look.store(tick as u32, Ordering::Relaxed);
        }
        for _ in 0..self.left.min(LOOKS_PER_STEP) {
            self.left -= 1;
            self.turn = if self.turn < self.lanes.len() { self.turn } else { 0 };
            let Some(listed) = self.lanes.get_mut(self.turn) else { return };
            // SAFETY: N1, by the caller's promise.
            let lanes = unsafe { listed.lanes.as_ref() };
            if lanes.look(core, listed) {
                self.turn += 1;
            } else {
                self.lanes.swap_remove(self.turn);
            }
        }
    }
}

impl Lanes {
    /// Looks at lanes that are listed. False if they are no more.
    fn look(&self, core: &Core, listed: &mut Listed) -> bool {
        self.answer();
        let (busy, used) = (self.busy(), self.width.get());
        if mem::replace(&mut listed.used, used) != used {
            listed.littered = true;
        } else if mem::take(&mut listed.littered) {
            // Where threads met, connections may have left their own tickets, void, deep
            // down. They get them back by this, and gets of them take the short way again.
            listed.littered = !self.compact(core);
        }
        listed.calm = if 2 * busy > used && used > 1 { 0 } else { listed.calm + 1 };
        if listed.calm < PATIENCE {
            return true;
        }
        listed.calm = 0;
        if used > 1 {
            self.narrow();
            return true;
        }
        self.forget()
    }

    /// Takes lanes that are not wide off the list. True if they are on it again: they were
    /// strained meanwhile, by someone who left that to us.
    fn forget(&self) -> bool {
        // AcqRel: Acquire pairs with the Release in `strained`, so that what came before
        // the mark is seen below; Release, so that `next` is read before it is written.
        self.width.listed.swap(false, Ordering::AcqRel);
        let strained = self.width.get() > 1 || self.width.wanted.load(Ordering::Relaxed);
        // AcqRel: as in `strained`. If it is marked already, it is on the list.
        strained && !self.width.listed.swap(true, Ordering::AcqRel)
    }
}
