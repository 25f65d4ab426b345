//! The chains through the places of a line: all who wait, those who want a connect, and those
//! who share.

use std::mem;

use super::{Ends, Line, Link, NONE, UNLINKED};

/// One of them.
#[derive(Clone, Copy)]
pub(super) enum Chain {
    Line,
    Wanting,
    Sharing,
}

impl<W, P, O> Line<W, P, O> {
    pub(super) fn append(&mut self, chain: Chain, index: usize) {
        let last = mem::replace(&mut self.ends(chain).last, index);
        *self.link(chain, index) = Link { before: last, after: NONE };
        match last {
            NONE => self.ends(chain).first = index,
            last => self.link(chain, last).after = index,
        }
    }

    pub(super) fn prepend(&mut self, chain: Chain, index: usize) {
        let first = mem::replace(&mut self.ends(chain).first, index);
        *self.link(chain, index) = Link { before: NONE, after: first };
        match first {
            NONE => self.ends(chain).last = index,
            first => self.link(chain, first).before = index,
        }
    }

    pub(super) fn unlink(&mut self, chain: Chain, index: usize) {
        let Link { before, after } = mem::replace(self.link(chain, index), UNLINKED);
        match before {
            NONE => self.ends(chain).first = after,
            before => self.link(chain, before).after = after,
        }
        match after {
            NONE => self.ends(chain).last = before,
            after => self.link(chain, after).before = before,
        }
    }

    pub(super) fn ends(&mut self, chain: Chain) -> &mut Ends {
        match chain {
            Chain::Line => &mut self.line,
            Chain::Wanting => &mut self.wanting,
            Chain::Sharing => &mut self.sharing,
        }
    }

    pub(super) fn link(&mut self, chain: Chain, index: usize) -> &mut Link {
        let place = self.place(index);
        match chain {
            Chain::Line => &mut place.line,
            Chain::Wanting => &mut place.wanting,
            Chain::Sharing => &mut place.sharing,
        }
    }
}
