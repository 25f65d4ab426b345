//! Connections above a limit that was lowered: closed when they are idle, and no more of
//! them than are too many.

use super::{Desk, Trade};
use crate::managed::limits::Limits;

/// What is being closed of the surplus of a peer.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    /// Connections that somebody looks for, to close them.
    claimed: u32,
    /// Whether somebody has left it to those to look once more.
    again: bool,
}

impl<T: Trade> Desk<T> {
    /// Closes idle connections for as long as the peer has more than it may: `take` finds
    /// one. Whoever makes one idle, or lowers the limit, comes here after that.
    ///
    /// Several close together no more than are too many.
    pub fn shed(
        &self,
        limits: &Limits,
        take: impl Fn() -> Option<T::Lease>,
        close: impl Fn(T::Lease),
    ) {
        while self.claim_surplus(limits) {
            let claim = Claim(self);
            let found = take();
            let vain = found.is_none();
            found.into_iter().for_each(&close);
            let again = claim.end();
            if vain && !again {
                return;
            }
        }
    }

    /// Takes it upon the caller to close one of those that are too many.
    fn claim_surplus(&self, limits: &Limits) -> bool {
        let mut room = self.lock();
        let surplus = self.word.load().connections().saturating_sub(limits.connections());
        let shedding = &mut room.shedding;
        if surplus > shedding.claimed {
            shedding.claimed += 1;
            return true;
        }
        // They may have looked before the caller's connection was idle.
        shedding.again |= shedding.claimed > 0;
        false
    }

    /// True if the caller must look again.
    fn unclaim_surplus(&self) -> bool {
        let mut room = self.lock();
        room.shedding.claimed -= 1;
        std::mem::take(&mut room.shedding.again)
    }
}

/// One of the surplus, which its holder closes, if it finds one.
struct Claim<'a, T: Trade>(&'a Desk<T>);

impl<T: Trade> Claim<'_, T> {
    fn end(self) -> bool {
        let desk = self.0;
        std::mem::forget(self);
        desk.unclaim_surplus()
    }
}

impl<T: Trade> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        // A hook has panicked. Whoever has left it to this one must wait for the next.
        self.0.unclaim_surplus();
    }
}
