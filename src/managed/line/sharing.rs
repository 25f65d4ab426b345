//! Those in the line who share: for whom a stream of a connection will do.

use std::task::Waker;

use crate::managed::streams::Begun;

use super::{Chain, Id, Line, NONE};

impl<W, P, O> Line<W, P, O> {
    /// As [`Line::join`], of one who shares.
    pub fn join_sharing(&mut self, who: W, wants: bool) -> Id {
        let id = self.join(who, false);
        self.place(id.index).shares = true;
        self.append(Chain::Sharing, id.index);
        if wants {
            self.want(id);
        }
        id
    }

    /// The first in the line who shares.
    pub fn first_sharing(&mut self) -> Option<Id> {
        let index = self.sharing.first;
        (index != NONE).then(|| Id { index, serial: self.place(index).serial })
    }

    /// Whether the one in this place shares.
    pub fn shares(&mut self, id: Id) -> bool {
        self.find(id).is_some_and(|place| place.shares)
    }

    /// As [`Line::resolve`], with a stream.
    pub fn resolve_with_stream(&mut self, id: Id, stream: Begun) -> (Option<Waker>, Option<P>) {
        self.stand_down(id.index);
        let place = self.place(id.index);
        debug_assert!(place.serial == id.serial && place.done && place.shares);
        place.stream = Some(stream);
        (place.waker.take(), place.grant.take())
    }

    /// How many of those that a connect is wanted for share.
    pub fn demand_to_share(&self) -> usize {
        self.demand_to_share
    }
}
