//! Those in the line who want a connect.

use std::task::Waker;

use super::{Chain, Id, Line, NONE, Wish};

impl<W, P, O> Line<W, P, O> {
    /// A connect is wanted for this place from now on.
    pub fn want(&mut self, id: Id) {
        let Some(place) = self.find(id) else { return };
        if place.wish != Wish::Not || place.done {
            return;
        }
        place.wish = Wish::Open;
        let shares = place.shares;
        self.demand += 1;
        self.demand_to_share += usize::from(shares);
        self.append(Chain::Wanting, id.index);
    }

    /// The first place for which a connect is wanted and none was started. Those that it
    /// is too late for want none any more.
    pub fn next_wanting(&mut self, mut is_late: impl FnMut(&W) -> bool) -> Option<Id> {
        loop {
            let index = self.wanting.first;
            if index == NONE {
                return None;
            }
            let place = self.place(index);
            if !is_late(&place.who) {
                return Some(Id { index, serial: place.serial });
            }
            place.wish = Wish::Not;
            let shares = place.shares;
            self.demand -= 1;
            self.demand_to_share -= usize::from(shares);
            self.unlink(Chain::Wanting, index);
        }
    }

    /// Permits a connect for a place that `next_wanting` has named.
    #[must_use = "the one who waits must hear of it"]
    pub fn grant(&mut self, id: Id, grant: P) -> Option<Waker> {
        self.unlink(Chain::Wanting, id.index);
        let place = self.place(id.index);
        debug_assert!(place.serial == id.serial && place.wish == Wish::Open);
        (place.wish, place.grant) = (Wish::Granted, Some(grant));
        place.waker.take()
    }

    /// The connect that was permitted for a place has gone to another one. If it still
    /// waits, it wants a connect again, before the others.
    pub fn reopen(&mut self, id: Id) {
        let Some(place) = self.find(id) else { return };
        if place.done || place.wish != Wish::Granted {
            return;
        }
        place.wish = Wish::Open;
        self.prepend(Chain::Wanting, id.index);
    }

    /// Whether this place, if it waits, wants a connect.
    pub fn wants(&mut self, id: Id) -> bool {
        self.find(id).is_some_and(|place| !place.done && place.wish != Wish::Not)
    }

    /// Whether a connect was permitted for this place.
    pub fn is_granted(&mut self, id: Id) -> bool {
        self.find(id).is_some_and(|place| place.wish == Wish::Granted)
    }

    /// How many of them a connect is wanted for, started or not.
    pub fn demand(&self) -> usize {
        self.demand
    }
}
