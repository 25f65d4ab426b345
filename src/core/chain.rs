//! Going down a chain of tickets that others may change meanwhile.
//!
//! A chain hangs from a head, and changes only by changes of that head (L2, see
//! [`super::lane`]). Whoever reads one can therefore be wrong, and finds that out
//! by an exchange of the head: all records live as long as the pool, so that a walk
//! gone astray reads what is true of something else, and no more.

use crate::core::tagged::{Head, NIL, Tagged};
use crate::core::ticket::{AT_HOME, Claim};
use crate::core::{Core, Found};

/// After so many steps down a chain, look whether it still is the chain.
const STEPS_UNCHECKED: usize = if cfg!(slabpool_loom) { 4 } else { 64 };

/// How often a walk or a merge starts over because the chain changed.
pub const ATTEMPTS: usize = 8;

#[inline(always)]
pub fn pop_stack<'a>(head: &Head, core: &'a Core) -> Option<(u32, Found<'a>)> {
    loop {
        let top = head.load();
        if top.is_empty() {
            return None;
        }
        let found = core.find(top.index());
        if head.unlink(top, found.ticket.below()) {
            return Some((top.index(), found));
        }
    }
}

/// The number of tickets from `top` down, if it is known.
pub fn depth_of(core: &Core, top: Tagged) -> Option<u32> {
    if top.is_empty() { Some(0) } else { core.find(top.index()).ticket.depth() }
}

/// Gives back a chain that the caller owns.
pub fn discard(core: &Core, first: u32, each: &mut dyn FnMut(Claim)) {
    let mut index = first;
    while index != NIL {
        let found = core.find(index);
        let (claim, below) = (found.claim(), found.ticket.below());
        core.give_ticket(index);
        each(claim);
        index = below;
    }
}

/// Goes down a chain that others may change. Returns false if it was found to
/// have changed; true proves nothing until the head is sealed or exchanged.
pub fn descend(
    core: &Core,
    head: &Head,
    top: Tagged,
    mut each: impl FnMut(Found<'_>) -> bool,
) -> bool {
    let mut index = top.index();
    let mut steps = 0;
    // The chain is made of tickets that existed when its head was loaded.
    let steps_max = core.tickets_max();
    while index != NIL {
        steps += 1;
        // A chain under change might lead in a circle, to a ticket at home, or along
        // the copies that the caller makes of it.
        let astray = index == AT_HOME || steps > steps_max;
        if astray || steps % STEPS_UNCHECKED == 0 && head.load() != top {
            return false;
        }
        let found = core.find(index);
        if !each(found) {
            return false;
        }
        index = found.ticket.next();
    }
    true
}

/// What hangs from a head.
pub struct Count {
    /// Tickets.
    pub all: u32,
    /// Tickets that can be redeemed.
    pub live: u32,
}

/// Counts a chain; to be confirmed by an exchange of the head.
pub fn count(core: &Core, head: &Head, top: Tagged) -> Option<Count> {
    let mut count = Count { all: 0, live: 0 };
    let complete = descend(core, head, top, |found| {
        count.all += 1;
        count.live += u32::from(found.is_good());
        true
    });
    complete.then_some(count)
}

/// Counts a chain and confirms it, or falls back on the last attempt.
pub fn count_sealed(core: &Core, head: &Head) -> u32 {
    let mut last = 0;
    for _ in 0..ATTEMPTS {
        let top = head.load();
        if top.is_empty() {
            return 0;
        }
        if let Some(count) = count(core, head, top) {
            last = count.live;
            if head.seal(top).is_some() {
                break;
            }
        }
    }
    last
}

pub enum Walk {
    Finished,
    Stopped,
    Disturbed,
}

pub fn walk_stack(core: &Core, head: &Head, visit: &mut impl FnMut(Claim) -> bool) -> Walk {
    'attempt: for _ in 0..ATTEMPTS {
        let mut top = head.load();
        let mut index = top.index();
        while index != NIL {
            let found = core.find(index);
            let (claim, below) = (found.claim(), found.ticket.next());
            // L2: what was just read hung from this head.
            let Some(sealed) = head.seal(top) else { continue 'attempt };
            if !visit(claim) {
                return Walk::Stopped;
            }
            (top, index) = (sealed, below);
        }
        return Walk::Finished;
    }
    Walk::Disturbed
}

/// A chain under construction; the caller owns its tickets.
pub struct Copy {
    pub first: u32,
    last: u32,
    length: u32,
}

impl Copy {
    pub fn new() -> Self {
        Self { first: NIL, last: NIL, length: 0 }
    }

    /// Appends new tickets for all good ones of a chain. False if the chain
    /// changed or the ticket arena is full.
    pub fn append(&mut self, core: &Core, head: &Head, top: Tagged) -> bool {
        descend(core, head, top, |found| {
            if !found.is_good() {
                return true;
            }
            let claim = found.claim();
            let Some(index) = core.take_spare(claim.seat) else { return false };
            let copy = core.find(index).ticket;
            copy.set_incarnation(claim.incarnation);
            copy.set_below(NIL);
            copy.set_depth(None);
            if self.first == NIL {
                self.first = index;
            } else {
                core.find(self.last).ticket.set_below(index);
            }
            self.last = index;
            self.length += 1;
            true
        })
    }

    /// Writes into each ticket how many hang from it, so that pushes onto another
    /// stack of a group with a cap need not count them.
    pub fn number(&self, core: &Core) {
        let (mut index, mut depth) = (self.first, self.length);
        while index != NIL {
            let ticket = core.find(index).ticket;
            ticket.set_depth(Some(depth));
            (index, depth) = (ticket.below(), depth - 1);
        }
    }
}
