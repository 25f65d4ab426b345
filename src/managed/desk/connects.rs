//! Connects: who may start one, and what becomes of those who wanted it.

use super::{Desk, Room, Ticket, Trade, after::After};
use crate::managed::limits::Limits;
use crate::managed::line::Id;

impl<T: Trade> Desk<T> {
    /// One who waits wants a connect from now on.
    pub fn want(&self, id: Id, bounds: &Limits, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.line.want(id);
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// As [`Desk::give`], of a connection that was just opened. The one that it was opened
    /// for goes first if it waits apart.
    pub fn give_new(
        &self,
        lease: T::Lease,
        by: impl Into<Option<Id>>,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
    ) -> Result<(), T::Lease> {
        let by = by.into();
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.word.opened();
        room.health.recover();
        let given = self.hand_over(&mut room, lease, by, &mut after);
        by.into_iter().for_each(|by| room.line.reopen(by));
        self.allot(&mut room, bounds, make, &mut after);
        given
    }

    /// A connection that was just opened is idle. Somebody may have joined meanwhile: the
    /// caller looks at the word after this.
    pub fn shelved_new(&self, bounds: &Limits, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.word.opened();
        room.health.recover();
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// As [`Desk::fail_and`], for models that do not care for the health of the peer.
    #[cfg(slabpool_loom)]
    pub fn fail(
        &self,
        by: Id,
        failure: T::Failure,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
    ) -> crate::managed::word::State {
        self.fail_and(Some(by), failure, bounds, make, |_| None)
    }

    /// A permit came free, or there may be more of them.
    pub fn freed(&self, bounds: &Limits, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// How the last connect failed, if one has since this ticket was drawn.
    pub fn failure_since(&self, ticket: Ticket) -> Option<T::Failure> {
        let room = self.lock();
        let last = room.last.as_ref().filter(|_| room.failures != ticket.failures);
        last.cloned()
    }

    /// Permits connects: as many as are wanted and not under way, within the bounds.
    pub(super) fn allot(
        &self,
        room: &mut Room<T>,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
        after: &mut After<T>,
    ) {
        if room.starving.is_some() {
            return;
        }
        while self.word.load().may_connect(room.wanted(), bounds.load()) {
            let Some(id) = room.line.next_wanting(T::is_late) else { return };
            if !self.reserve(room, bounds.load()) {
                return;
            }
            after.wakers.extend(room.line.grant(id, make()));
        }
    }
}
