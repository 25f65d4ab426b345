//! Barging: connections that are not handed over.
//!
//! A release makes its connection idle, and *nudges* the first in the line who was not
//! nudged yet: wakes it to look for itself. Whoever comes meanwhile may take the connection,
//! so often (M6). Who finds nothing is in its place, and is nudged again.
//!
//! While enough of them are nudged, a release does not even take the lock. That is the
//! handshake of the [desk](super) once more: a waiter *is taken off the nudged first* (M5), raises
//! the tags of the heads, *and looks then*; a release pushes, and looks at the count then.
//! They meet in the head. A nudge is used up by a look and by nothing else: who goes away, or
//! gets something, without having looked passes it on.

use super::{Desk, LineOf, Trade, after::After};
use crate::managed::line::Id;

impl<T: Trade> Desk<T> {
    /// Something may be idle: has somebody look who waits.
    pub fn nudge(&self) {
        if self.turn.is_nudged(self.word.load().connections()) {
            return;
        }
        let mut after = After::<T>::default();
        let mut room = self.lock();
        after.wakers.extend(room.line.nudge());
        self.turn.set_nudged(room.line.nudged());
    }

    /// A waiter that was nudged has found a connection. It is what its waiting ends with,
    /// unless that has ended already, or it would be one too many to go past the first.
    pub fn take(&self, id: Id, lease: T::Lease) -> Result<(), T::Lease> {
        let mut after = After::<T>::default();
        // It is awake.
        let _waker;
        let mut room = self.lock();
        if !room.line.waits(id) {
            return Err(lease);
        }
        let is_first = room.line.first().is_some_and(|(first, _)| first == id);
        if !is_first && !self.turn.pass() {
            return Err(lease);
        }
        let shares = room.line.shares(id);
        room.hub.note_prospect(shares);
        let (waker, grant) = room.line.resolve(id, Ok(lease));
        _waker = waker;
        after.note((None, grant));
        self.settle(&mut room.line, &mut after);
        Ok(())
    }

    /// After a change of the line: says what others must know of it.
    pub(super) fn settle(&self, line: &mut LineOf<T>, after: &mut After<T>) {
        if line.has_new_first() {
            self.turn.begin();
        }
        while let Some(waker) = line.pass_nudge() {
            after.wakers.extend(waker);
        }
        self.turn.set_nudged(line.nudged());
        self.word.set_waiting(!line.is_empty());
    }
}
