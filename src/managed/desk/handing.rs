//! Connections that are there: who gets them.

use super::{Desk, Room, Trade, after::After};
use crate::managed::line::Id;

impl<T: Trade> Desk<T> {
    /// Hands a connection over to the first in the line. Gives it back if nobody is there.
    pub fn give(&self, lease: T::Lease) -> Result<(), T::Lease> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.hand_over(&mut room, lease, None, &mut after)
    }

    /// Whether anybody would take a connection that was opened for this place.
    pub fn has_taker(&self, by: impl Into<Option<Id>>) -> bool {
        let mut room = self.lock();
        by.into().is_some_and(|by| room.line.waits_apart(by)) || !room.line.is_empty()
    }

    /// Hands a connection that is idle to the first in the line, if there are both. `read`
    /// tells of a waiter what `take` needs to find one that is idle.
    ///
    /// One is enough: whoever makes a connection idle comes here.
    pub fn serve<R>(
        &self,
        read: impl Fn(&T::Waiter) -> R,
        take: impl Fn(R) -> Option<T::Lease>,
        release: impl Fn(T::Lease),
    ) {
        while let Some(found) = self.first(&read) {
            let Some(lease) = take(found) else { return };
            match self.give(lease) {
                Ok(()) => return,
                // Whoever it was for has gone. Another may have joined since.
                Err(lease) => release(lease),
            }
        }
    }

    fn first<R>(&self, read: impl FnOnce(&T::Waiter) -> R) -> Option<R> {
        self.lock().line.first().map(|(_, who)| read(who))
    }

    pub(super) fn hand_over(
        &self,
        room: &mut Room<T>,
        lease: T::Lease,
        to: Option<Id>,
        after: &mut After<T>,
    ) -> Result<(), T::Lease> {
        let Room { line, hub, .. } = room;
        let to = to.filter(|&id| line.waits_apart(id)).or_else(|| line.first().map(|(id, _)| id));
        let Some(to) = to else { return Err(lease) };
        hub.note_prospect(line.shares(to));
        after.note(line.resolve(to, Ok(lease)));
        self.settle(line, after);
        Ok(())
    }
}
