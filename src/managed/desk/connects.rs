//! Connects: who may start one, and what becomes of those who wanted it.

use super::{Desk, Room, Ticket, Trade, after::After};
use crate::managed::line::Id;
use crate::managed::word::{Bounds, State};

impl<T: Trade> Desk<T> {
    /// One who waits wants a connect from now on.
    pub fn want(&self, id: Id, bounds: Bounds, make: impl Fn() -> T::Grant) {
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
        by: Id,
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
    ) -> Result<(), T::Lease> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.word.opened();
        let given = self.hand_over(&mut room, lease, Some(by), &mut after);
        room.line.reopen(by);
        self.allot(&mut room, bounds, make, &mut after);
        given
    }

    /// A connection that was just opened is idle. Somebody may have joined meanwhile: the
    /// caller looks at the word after this.
    pub fn shelved_new(&self, bounds: Bounds, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.word.opened();
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// A connect has failed. Its permit is freed.
    ///
    /// The one that it was for learns it, if it still waits. If the peer has nothing left,
    /// no connection and no other connect, all learn it who wanted a connect: nothing
    /// could serve them. If there are only other connects, these decide; none is started
    /// in place of this one. If there are connections, the next one gets its turn.
    pub fn fail(
        &self,
        by: Id,
        failure: T::Failure,
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
    ) -> State {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let Room { line, hub, failures, last } = &mut *room;
        *failures += 1;
        after.failure = last.replace(failure.clone());
        if line.waits(by) {
            after.note(line.resolve(by, Err(failure.clone())));
        }
        let state = self.word.free(true);
        // Those who share were to share it.
        let shared = state.connecting() == 0 && line.demand_to_share() > 0 && !hub.has_prospects();
        if state.connections() == 0 || shared {
            for id in line.all() {
                if line.wants(id) && (state.connections() == 0 || line.shares(id)) {
                    after.note(line.resolve(id, Err(failure.clone())));
                }
            }
        }
        if state.connections() > state.connecting() {
            self.allot(&mut room, bounds, make, &mut after);
        }
        self.word.set_waiting(!room.line.is_empty());
        state
    }

    /// A permit came free.
    pub fn freed(&self, bounds: Bounds, make: impl Fn() -> T::Grant) {
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
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
        after: &mut After<T>,
    ) {
        while room.wanted() > self.word.load().connecting() as usize {
            let Some(id) = room.line.next_wanting(T::is_late) else { return };
            if !self.word.reserve(bounds) {
                return;
            }
            after.wakers.extend(room.line.grant(id, make()));
        }
    }
}
