//! The line of those who wait at a peer: a plain data structure, behind the lock of its
//! desk.
//!
//! Places are found by number, and linked, so that joining, leaving and being served take
//! the same time however long the line is. There are three chains: the *line* itself,
//! those in it who *want* a connect that nobody has started for them yet, and those who
//! *share*, for whom a stream will do; all in order of arrival.

mod chain;
mod nudges;
mod sharing;
#[cfg(all(test, not(slabpool_loom)))]
mod tests;
mod wanting;

use std::mem;
use std::task::Waker;

use crate::managed::streams::Begun;
use chain::Chain;
use nudges::Nudges;

const NONE: usize = usize::MAX;
/// A line that has become empty keeps memory for so many.
const KEPT: usize = 64;

/// Names one place, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    index: usize,
    serial: u64,
}

/// Whether a connect is wanted for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Not yet, or no more.
    Not,
    /// Yes, and none was started.
    Open,
    /// One was started, or may be.
    Granted,
}

/// One who waits. `W` is what others must know of it, `P` the permit to connect, `O` what
/// the waiting ends with.
#[derive(Debug)]
struct Place<W, P, O> {
    serial: u64,
    who: W,
    wish: Wish,
    /// Whether it stands in the line, and not apart.
    lined: bool,
    /// Whether a stream of a connection will do.
    shares: bool,
    /// Whether the waiting has ended.
    done: bool,
    /// Whether it was woken to look for itself, and has not begun to.
    nudged: bool,
    grant: Option<P>,
    outcome: Option<O>,
    /// A stream that it ends with, instead of an outcome.
    stream: Option<Begun>,
    waker: Option<Waker>,
    line: Link,
    wanting: Link,
    sharing: Link,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: usize,
    after: usize,
}

const UNLINKED: Link = Link { before: NONE, after: NONE };

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: usize,
    last: usize,
}

#[derive(Debug)]
enum Cell<T> {
    Taken(T),
    Free { next: usize },
}

/// See the module.
#[derive(Debug)]
pub struct Line<W, P, O> {
    cells: Vec<Cell<Place<W, P, O>>>,
    free: usize,
    serial: u64,
    line: Ends,
    wanting: Ends,
    sharing: Ends,
    /// Places that are not free.
    taken: usize,
    /// Those that wait.
    waiting: usize,
    /// ... for which a connect is wanted, granted or not.
    demand: usize,
    nudges: Nudges,
    /// ... and who share.
    demand_to_share: usize,
}

/// What a place has for the one who waits in it.
#[derive(Debug)]
pub enum Polled<P, O> {
    /// The end of the waiting.
    Outcome(O),
    /// A stream: the end of the waiting.
    Stream(Begun),
    /// A permit to connect; the place stays where it is.
    Grant(P),
    /// It was nudged. The waker was taken note of.
    Look,
    /// Nothing; the waker was taken note of.
    Nothing,
}

/// What a place has left that is no more.
#[derive(Debug)]
pub struct Left<P, O> {
    /// A permit that was not used.
    pub grant: Option<P>,
    /// An outcome that was not seen.
    pub outcome: Option<O>,
    /// A stream that was not seen.
    pub stream: Option<Begun>,
    /// Not to be dropped under the lock.
    pub waker: Option<Waker>,
}

impl<W, P, O> Default for Line<W, P, O> {
    fn default() -> Self {
        let empty = Ends { first: NONE, last: NONE };
        Self {
            cells: Vec::new(),
            free: NONE,
            serial: 0,
            line: empty,
            wanting: empty,
            sharing: empty,
            taken: 0,
            waiting: 0,
            demand: 0,
            nudges: Nudges::default(),
            demand_to_share: 0,
        }
    }
}

impl<W, P, O> Line<W, P, O> {
    /// A place at the end of the line. A connect is wanted for it, or not yet.
    pub fn join(&mut self, who: W, wants: bool) -> Id {
        let id = self.add(who);
        self.place(id.index).lined = true;
        self.append(Chain::Line, id.index);
        if wants {
            self.want(id);
        }
        id
    }

    /// A place beside the line, for one who waits for a connect of its own and for
    /// nothing else.
    pub fn join_apart(&mut self, who: W, grant: P) -> Id {
        let id = self.add(who);
        let place = self.place(id.index);
        (place.wish, place.grant) = (Wish::Granted, Some(grant));
        self.demand += 1;
        id
    }

    /// A place beside the line takes one at its end, and waits for whatever comes. True if
    /// it was beside.
    pub fn line_up(&mut self, id: Id) -> bool {
        let Some(place) = self.find(id) else { return false };
        if place.lined || place.done {
            return false;
        }
        place.lined = true;
        self.append(Chain::Line, id.index);
        true
    }

    /// The first in the line, and what is known of it.
    pub fn first(&self) -> Option<(Id, &W)> {
        let Some(Cell::Taken(place)) = self.cells.get(self.line.first) else { return None };
        Some((Id { index: self.line.first, serial: place.serial }, &place.who))
    }

    /// The places that wait, in no order.
    pub fn all(&self) -> Vec<Id> {
        let ids = self.cells.iter().enumerate().filter_map(|(index, cell)| match cell {
            Cell::Taken(place) if !place.done => Some(Id { index, serial: place.serial }),
            _ => None,
        });
        ids.collect()
    }

    /// Whether this place still waits.
    pub fn waits(&mut self, id: Id) -> bool {
        self.find(id).is_some_and(|place| !place.done)
    }

    /// Whether this place still waits, beside the line.
    pub fn waits_apart(&mut self, id: Id) -> bool {
        self.find(id).is_some_and(|place| !place.done && !place.lined)
    }

    /// Ends the waiting in a place that waits. Its waker, and a permit that it had not
    /// used, are for the caller.
    pub fn resolve(&mut self, id: Id, outcome: O) -> (Option<Waker>, Option<P>) {
        self.stand_down(id.index);
        let place = self.place(id.index);
        debug_assert!(place.serial == id.serial && place.done);
        place.outcome = Some(outcome);
        (place.waker.take(), place.grant.take())
    }

    /// What there is for the one in this place, who is woken by `waker` when there is more.
    /// A waker that was there before is left in `waker`.
    pub fn poll(&mut self, id: Id, waker: &mut Option<Waker>) -> Polled<P, O> {
        let Some(place) = self.find(id) else { return Polled::Nothing };
        if let Some(outcome) = place.outcome.take() {
            return Polled::Outcome(outcome);
        }
        if let Some(stream) = place.stream.take() {
            return Polled::Stream(stream);
        }
        if let Some(grant) = place.grant.take() {
            return Polled::Grant(grant);
        }
        mem::swap(&mut place.waker, waker);
        if mem::take(&mut place.nudged) {
            self.nudges.nudged -= 1;
            return Polled::Look;
        }
        Polled::Nothing
    }

    /// Gives up a place.
    pub fn leave(&mut self, id: Id) -> Left<P, O> {
        debug_assert!(self.find(id).is_some(), "a place is left once");
        if !self.place(id.index).done {
            self.stand_down(id.index);
        }
        self.taken -= 1;
        let free = Cell::Free { next: self.free };
        let Cell::Taken(place) = mem::replace(&mut self.cells[id.index], free) else {
            unreachable!("the place was found")
        };
        self.free = id.index;
        let Place { grant, outcome, stream, waker, .. } = place;
        Left { grant, outcome, stream, waker }
    }

    /// Memory that an empty line no longer needs.
    #[must_use = "to be freed without the lock"]
    pub fn shrink(&mut self) -> Option<impl Sized + use<W, P, O>> {
        let spare = self.cells.len() > KEPT && self.taken == 0;
        spare.then(|| {
            self.free = NONE;
            mem::take(&mut self.cells)
        })
    }

    /// Whether nobody stands in the line.
    pub fn is_empty(&self) -> bool {
        self.line.first == NONE
    }

    /// How many wait, in the line and apart.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn add(&mut self, who: W) -> Id {
        let serial = self.serial;
        self.serial += 1;
        let place = Place {
            serial,
            who,
            wish: Wish::Not,
            lined: false,
            shares: false,
            done: false,
            nudged: false,
            grant: None,
            outcome: None,
            stream: None,
            waker: None,
            line: UNLINKED,
            wanting: UNLINKED,
            sharing: UNLINKED,
        };
        let index = self.free;
        let index = match self.cells.get_mut(index) {
            Some(cell) => {
                let Cell::Free { next } = mem::replace(cell, Cell::Taken(place)) else {
                    unreachable!("the free list holds free cells")
                };
                self.free = next;
                index
            }
            None => {
                self.cells.push(Cell::Taken(place));
                self.cells.len() - 1
            }
        };
        self.taken += 1;
        self.waiting += 1;
        Id { index, serial }
    }

    /// Takes a place that waits off the books and out of the chains.
    fn stand_down(&mut self, index: usize) {
        let place = self.place(index);
        place.done = true;
        let (lined, wish, shares) = (place.lined, place.wish, place.shares);
        if lined {
            self.forget_nudge(index);
            self.unlink(Chain::Line, index);
        }
        if wish == Wish::Open {
            self.unlink(Chain::Wanting, index);
        }
        if shares {
            self.unlink(Chain::Sharing, index);
        }
        self.waiting -= 1;
        self.demand -= usize::from(wish != Wish::Not);
        self.demand_to_share -= usize::from(shares && wish != Wish::Not);
    }

    fn find(&mut self, id: Id) -> Option<&mut Place<W, P, O>> {
        match self.cells.get_mut(id.index) {
            Some(Cell::Taken(place)) if place.serial == id.serial => Some(place),
            _ => None,
        }
    }

    fn place(&mut self, index: usize) -> &mut Place<W, P, O> {
        match &mut self.cells[index] {
            Cell::Taken(place) => place,
            Cell::Free { .. } => unreachable!("a free cell is in no chain"),
        }
    }
}
