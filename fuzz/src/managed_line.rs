//! The line of those who wait at a peer against two plain lists.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use arbitrary::Arbitrary;

use crate::managed::line::{Id, Line, Polled};

#[derive(Arbitrary, Debug)]
pub enum Op {
    Join {
        wants: bool,
        late: bool,
    },
    JoinApart,
    Want(u8),
    /// The next one that wants a connect gets one, if `grant`.
    NextWanting {
        grant: bool,
    },
    Reopen(u8),
    LineUp(u8),
    Resolve(u8),
    /// With a waker, or without.
    Poll {
        at: u8,
        waker: bool,
    },
    Leave(u8),
    LeaveMany {
        at: u8,
        count: u8,
    },
    Nudge,
    PassNudge,
    HasNewFirst,
    Shrink,
}

/// A waker that can be told apart, and that counts.
struct Sleeper(AtomicUsize);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Not,
    Open,
    Granted,
}

/// What a place should be.
#[derive(Debug)]
struct Place {
    id: Id,
    number: u32,
    late: bool,
    lined: bool,
    done: bool,
    wish: Wish,
    grant: Option<u32>,
    outcome: Option<u32>,
    nudged: bool,
    /// The number of the waker that it sleeps by.
    asleep: Option<usize>,
}

/// What the line should be. The lists hold numbers of places.
#[derive(Default)]
struct Run {
    line: Line<(u32, bool), u32, u32>,
    /// All who have come and not gone.
    places: Vec<Place>,
    /// All who have gone: their ids lead nowhere.
    gone: Vec<Id>,
    lined: VecDeque<u32>,
    wanting: VecDeque<u32>,
    owed: usize,
    new_first: bool,
    next: u32,
    sleepers: Vec<(Arc<Sleeper>, Waker)>,
}

impl Run {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// The index of a place among those that are there.
    fn at(&self, at: u8) -> Option<usize> {
        usize::from(at).checked_rem(self.places.len())
    }

    fn of(&mut self, number: u32) -> &mut Place {
        self.places.iter_mut().find(|place| place.number == number).expect("it is in a list")
    }

    fn join(&mut self, wants: bool, late: bool, apart: bool) {
        let number = self.number();
        let grant = apart.then(|| self.number());
        let who = (number, late);
        let id = match grant {
            Some(grant) => self.line.join_apart(who, grant),
            None => self.line.join(who, wants),
        };
        assert!(!self.gone.contains(&id) && self.places.iter().all(|place| place.id != id));
        let wish = match (apart, wants) {
            (true, _) => Wish::Granted,
            (_, true) => Wish::Open,
            _ => Wish::Not,
        };
        if !apart {
            self.lined.push_back(number);
        }
        if wish == Wish::Open {
            self.wanting.push_back(number);
        }
        let (lined, done, nudged, outcome, asleep) = (!apart, false, false, None, None);
        self.places.push(Place {
            id,
            number,
            late,
            lined,
            done,
            wish,
            grant,
            outcome,
            nudged,
            asleep,
        });
    }

    /// What happens to the lists when a place waits no more.
    fn stand_down(&mut self, at: usize) {
        let place = &mut self.places[at];
        place.done = true;
        let number = place.number;
        if place.lined {
            self.new_first |= self.lined.front() == Some(&number);
            self.owed += usize::from(std::mem::take(&mut place.nudged));
        }
        self.lined.retain(|&other| other != number);
        self.wanting.retain(|&other| other != number);
    }

    fn next_wanting(&mut self, grant: bool) {
        let found = self.line.next_wanting(|&(_, late)| late);
        let expected = loop {
            let Some(&number) = self.wanting.front() else { break None };
            let place = self.of(number);
            if !place.late {
                break Some((number, place.id));
            }
            place.wish = Wish::Not;
            self.wanting.pop_front();
        };
        assert_eq!(found, expected.map(|(_, id)| id));
        if let Some((number, id)) = expected.filter(|_| grant) {
            let permit = self.number();
            let waker = self.line.grant(id, permit);
            self.wanting.pop_front();
            let place = self.of(number);
            (place.wish, place.grant) = (Wish::Granted, Some(permit));
            let asleep = place.asleep.take();
            self.is_woken(waker, asleep);
        }
    }

    /// Whoever sleeps by this number must be woken, and nobody else.
    fn is_woken(&self, waker: Option<Waker>, asleep: Option<usize>) {
        assert_eq!(waker.is_some(), asleep.is_some());
        if let (Some(waker), Some(number)) = (waker, asleep) {
            let sleeper = &self.sleepers[number].0;
            let before = sleeper.0.load(Ordering::Relaxed);
            waker.wake();
            assert_eq!(sleeper.0.load(Ordering::Relaxed), before + 1);
        }
    }

    fn want(&mut self, at: usize) {
        let place = &mut self.places[at];
        self.line.want(place.id);
        if place.wish == Wish::Not && !place.done {
            place.wish = Wish::Open;
            self.wanting.push_back(place.number);
        }
    }

    fn reopen(&mut self, at: usize) {
        let place = &mut self.places[at];
        self.line.reopen(place.id);
        if place.wish == Wish::Granted && !place.done {
            place.wish = Wish::Open;
            self.wanting.push_front(place.number);
        }
    }

    fn line_up(&mut self, at: usize) {
        let place = &mut self.places[at];
        let expected = !place.lined && !place.done;
        assert_eq!(self.line.line_up(place.id), expected);
        if expected {
            place.lined = true;
            self.lined.push_back(place.number);
        }
    }

    fn resolve(&mut self, at: usize) {
        if self.places[at].done {
            return;
        }
        let outcome = self.number();
        let (waker, grant) = self.line.resolve(self.places[at].id, outcome);
        self.stand_down(at);
        let place = &mut self.places[at];
        assert_eq!(grant, place.grant.take());
        place.outcome = Some(outcome);
        let asleep = place.asleep.take();
        self.is_woken(waker, asleep);
    }

    fn poll(&mut self, at: usize, with_waker: bool) {
        let mut waker = with_waker.then(|| {
            let sleeper = Arc::new(Sleeper(AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&sleeper));
            self.sleepers.push((sleeper, waker.clone()));
            waker
        });
        let number = self.sleepers.len().wrapping_sub(1);
        let place = &mut self.places[at];
        let polled = self.line.poll(place.id, &mut waker);
        let was = place.asleep;
        if let Some(outcome) = place.outcome.take() {
            assert!(matches!(polled, Polled::Outcome(told) if told == outcome), "{polled:?}");
            return;
        }
        if let Some(grant) = place.grant.take() {
            assert!(matches!(polled, Polled::Grant(told) if told == grant), "{polled:?}");
            return;
        }
        place.asleep = with_waker.then_some(number);
        match std::mem::take(&mut place.nudged) {
            true => assert!(matches!(polled, Polled::Look), "{polled:?}"),
            false => assert!(matches!(polled, Polled::Nothing), "{polled:?}"),
        }
        // The one before is given back, and wakes nobody else.
        self.is_woken(waker, was);
    }

    fn leave(&mut self, at: usize) {
        if !self.places[at].done {
            self.stand_down(at);
        }
        let place = self.places.swap_remove(at);
        let left = self.line.leave(place.id);
        assert_eq!((left.grant, left.outcome), (place.grant, place.outcome));
        self.is_woken(left.waker, place.asleep);
        self.gone.push(place.id);
    }

    /// Nudges the first in the line who was not.
    fn nudged(&mut self) -> Option<usize> {
        let lined = self.lined.clone();
        let number = lined.into_iter().find(|&number| !self.of(number).nudged)?;
        let place = self.of(number);
        place.nudged = true;
        place.asleep.take()
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Join { wants, late } => self.join(wants, late, false),
            Op::JoinApart => self.join(false, false, true),
            Op::Want(at) => self.each(at, Self::want),
            Op::NextWanting { grant } => self.next_wanting(grant),
            Op::Reopen(at) => self.each(at, Self::reopen),
            Op::LineUp(at) => self.each(at, Self::line_up),
            Op::Resolve(at) => self.each(at, Self::resolve),
            Op::Poll { at, waker } => self.each(at, |run, at| run.poll(at, waker)),
            Op::Leave(at) => self.each(at, Self::leave),
            Op::LeaveMany { at, count } => (0..count).for_each(|_| self.each(at, Self::leave)),
            Op::Nudge => {
                let (waker, asleep) = (self.line.nudge(), self.nudged());
                self.is_woken(waker, asleep);
            }
            Op::PassNudge => {
                let passed = self.line.pass_nudge();
                assert_eq!(passed.is_some(), self.owed > 0);
                if let Some(waker) = passed {
                    self.owed -= 1;
                    let asleep = self.nudged();
                    self.is_woken(waker, asleep);
                }
            }
            Op::HasNewFirst => {
                assert_eq!(self.line.has_new_first(), std::mem::take(&mut self.new_first));
            }
            Op::Shrink => {
                let spare = self.line.shrink();
                assert!(spare.is_none() || self.places.is_empty());
            }
        }
    }

    fn each(&mut self, at: u8, act: impl FnOnce(&mut Self, usize)) {
        if let Some(at) = self.at(at) {
            act(self, at);
        }
    }

    fn compare(&mut self) {
        let first = self.lined.front().copied().map(|number| self.of(number).id);
        assert_eq!(self.line.first().map(|(id, _)| id), first);
        assert_eq!(self.line.is_empty(), self.lined.is_empty());
        let waiting = self.places.iter().filter(|place| !place.done);
        assert_eq!(self.line.waiting(), waiting.clone().count());
        assert_eq!(self.line.demand(), waiting.clone().filter(|p| p.wish != Wish::Not).count());
        assert_eq!(self.line.nudged(), self.places.iter().filter(|place| place.nudged).count());
        let all = self.line.all();
        assert_eq!(all.len(), waiting.clone().count());
        assert!(waiting.into_iter().all(|place| all.contains(&place.id)));
        for place in &self.places {
            let (id, waits) = (place.id, !place.done);
            assert_eq!(self.line.waits(id), waits);
            assert_eq!(self.line.waits_apart(id), waits && !place.lined);
            assert_eq!(self.line.wants(id), waits && place.wish != Wish::Not);
            assert_eq!(self.line.is_granted(id), place.wish == Wish::Granted);
        }
        for &id in self.gone.iter().rev().take(4) {
            assert!(!self.line.waits(id) && !self.line.wants(id) && !self.line.is_granted(id));
        }
    }
}

pub type Input = Vec<Op>;

pub fn run(ops: Input) {
    let mut run = Run::default();
    for op in &ops {
        run.step(op);
        run.compare();
    }
    while !run.places.is_empty() {
        run.leave(0);
    }
    run.compare();
    assert_eq!((run.line.waiting(), run.line.demand(), run.line.nudged()), (0, 0, 0));
}
