//! Those in the line who are woken to look for themselves.

use std::task::Waker;

use super::{Cell, Line, NONE};

/// What the desk must know of nudges, and of the first in the line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nudges {
    /// Places that were nudged, and have not begun to look.
    pub nudged: usize,
    /// Nudges of those who went without having looked.
    pub owed: usize,
    /// Whether another place has become the first.
    pub new_first: bool,
}

impl<W, P, O> Line<W, P, O> {
    /// Nudges the first in the line who was not, and tells whom to wake: nobody, if it is
    /// not asleep.
    ///
    /// Takes time for each who was nudged, and stands before it.
    #[must_use = "the one who waits must hear of it"]
    pub fn nudge(&mut self) -> Option<Waker> {
        let mut index = self.line.first;
        while let Some(Cell::Taken(place)) = self.cells.get_mut(index) {
            if !place.nudged {
                place.nudged = true;
                self.nudges.nudged += 1;
                return place.waker.take();
            }
            index = place.line.after;
        }
        debug_assert!(index == NONE, "only places that are taken are in a chain");
        None
    }

    /// Passes on a nudge of one who went without having looked, if there is one.
    pub fn pass_nudge(&mut self) -> Option<Option<Waker>> {
        self.nudges.owed = self.nudges.owed.checked_sub(1)?;
        Some(self.nudge())
    }

    /// How many were nudged, and have not begun to look.
    pub fn nudged(&self) -> usize {
        self.nudges.nudged
    }

    /// Whether another one is the first, since this was asked.
    pub fn has_new_first(&mut self) -> bool {
        std::mem::take(&mut self.nudges.new_first)
    }

    /// A place is about to be taken out of the line.
    pub(super) fn forget_nudge(&mut self, index: usize) {
        self.nudges.new_first |= self.line.first == index;
        let place = self.place(index);
        if std::mem::take(&mut place.nudged) {
            self.nudges.nudged -= 1;
            self.nudges.owed += 1;
        }
    }
}
