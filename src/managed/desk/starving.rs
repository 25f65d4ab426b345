//! A desk whose callers wait for room in the pool.
//!
//! Such a desk grants no connects: they come with their places, one by one, from whoever
//! feeds the [starved](crate::managed::starved). What its own peer's connections do is as
//! ever: they are handed over when they are released.

use super::{Desk, Room, Trade, after::After};
use crate::managed::limits::Limits;
use crate::managed::line::Id;
use crate::managed::starved::{Spot, Starved};

/// What became of one who had a permit, and no place for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starving {
    /// It waits in the line, and feeds next. Looks for idle connections before, if it has
    /// `joined` the line only now.
    Waits { joined: bool },
    /// Something has come for it meanwhile.
    Served,
    /// As many wait as may.
    LineFull,
}

impl<T: Trade> Desk<T> {
    /// There is no place in the pool for a connect that was permitted. The permit is freed,
    /// the wish stays, as the first of those that are open.
    pub fn starve(
        &self,
        id: Id,
        (bounds, starved, own): (&Limits, &Starved, u32),
        make: impl Fn() -> T::Grant,
    ) -> Starving {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        // The caller is a visitor, so that the peer does not go.
        let state = self.word.free(true);
        let covered = state.connecting() as usize;
        let full = room.line.waiting().saturating_sub(covered) > bounds.load().waiters as usize;
        if full || !room.line.waits(id) {
            let waits = room.line.waits(id);
            self.allot(&mut room, bounds, make, &mut after);
            return if waits { Starving::LineFull } else { Starving::Served };
        }
        let joined = room.line.line_up(id);
        room.line.reopen(id);
        self.settle(&mut room.line, &mut after);
        if room.starving.is_none() {
            room.starving = Some(starved.enrol(own));
        }
        Starving::Waits { joined }
    }

    /// Whether this desk starves with this spot. If nobody wants a place any more, it does
    /// not from here on.
    pub fn starves(&self, spot: Spot, bounds: &Limits) -> bool {
        let mut room = self.lock();
        if room.starving != Some(spot) {
            return false;
        }
        if self.hungry_one(&mut room, bounds).is_none() {
            room.starving = None;
        }
        room.starving.is_some()
    }

    /// There is a place for the desk with this spot: permits a connect, by way of `make`.
    /// If others want one as well, it joins the queue again. False if nobody wants one.
    pub fn feed(
        &self,
        spot: Spot,
        (bounds, starved, own): (&Limits, &Starved, u32),
        make: impl FnOnce() -> T::Grant,
    ) -> bool {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        if room.starving != Some(spot) {
            return false;
        }
        room.starving = None;
        let Some(id) = self.hungry_one(&mut room, bounds) else { return false };
        if !self.reserve(&room, bounds.load()) {
            return false;
        }
        after.wakers.extend(room.line.grant(id, make()));
        if self.hungry_one(&mut room, bounds).is_some() {
            room.starving = Some(starved.enrol(own));
        }
        true
    }

    /// The pool may hold nothing: ends the waiting of all who want a connect.
    pub fn refuse_all(&self, failure: T::Failure) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.starving = None;
        for id in room.line.all() {
            if room.line.wants(id) {
                after.note(room.line.resolve(id, Err(failure.clone())));
            }
        }
        self.settle(&mut room.line, &mut after);
    }

    /// The first who wants a connect that is not under way, if one may be.
    fn hungry_one(&self, room: &mut Room<T>, bounds: &Limits) -> Option<Id> {
        let state = self.word.load();
        if !state.may_connect(room.wanted(), bounds.load()) {
            return None;
        }
        room.line.next_wanting(T::is_late)
    }
}
