//! Connects that nobody waits for, and what failed ones do to a peer.

use super::{Desk, Room, Trade, after::After};
use crate::managed::health::Vitals;
use crate::managed::limits::Limits;
use crate::managed::line::Id;
use crate::managed::word::{Bounds, State};

impl<T: Trade> Desk<T> {
    /// A permit for a connect that nobody waits for, if the limits and the health of the
    /// peer allow one. The caller is a visitor.
    /// `narrow` says what it may take of what the peer may have.
    pub fn spare(
        &self,
        limits: &Limits,
        narrow: impl FnOnce(Bounds) -> Bounds,
        make: impl FnOnce() -> T::Grant,
    ) -> Option<T::Grant> {
        let room = self.lock();
        self.reserve(&room, narrow(limits.load())).then(make)
    }

    /// Takes a permit in the word, if the peer admits it. Under the lock, since whether it
    /// does depends on the connects that are under way (Y1).
    pub(super) fn reserve(&self, room: &Room<T>, bounds: Bounds) -> bool {
        let admitted =
            room.health.is_up() || room.health.admits(T::now(), self.word.load().connecting());
        admitted && self.word.reserve(bounds)
    }

    /// A connect has failed. Its permit is freed.
    ///
    /// The one that it was for learns it, if there is one who still waits. If the peer has nothing left,
    /// no connection and no other connect, all learn it who wanted a connect: nothing
    /// could serve them. If there are only other connects, these decide; none is started
    /// in place of this one. If there are connections, the next one gets its turn.
    ///
    /// `strike` says what it does to the peer, and, if that is down, what those are told who
    /// still wait then.
    pub fn fail_and(
        &self,
        by: Option<Id>,
        failure: T::Failure,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
        strike: impl FnOnce(&mut Vitals) -> Option<T::Failure>,
    ) -> State {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let Room { line, hub, failures, last, health, .. } = &mut *room;
        *failures += 1;
        after.failure = last.replace(failure.clone());
        let down = strike(health);
        if let Some(by) = by.filter(|&by| line.waits(by)) {
            after.note(line.resolve(by, Err(failure.clone())));
        }
        let state = self.word.free(true);
        // Those who share were to share it.
        let shared = state.connecting() == 0 && line.demand_to_share() > 0 && !hub.has_prospects();
        let nothing = state.connections() == 0;
        if nothing || shared {
            for id in line.all() {
                if line.wants(id) && (nothing || line.shares(id)) {
                    after.note(line.resolve(id, Err(failure.clone())));
                }
            }
        }
        if let Some(down) = down {
            for id in line.all() {
                after.note(line.resolve(id, Err(down.clone())));
            }
        } else if state.connections() > state.connecting() {
            self.allot(&mut room, bounds, make, &mut after);
        }
        self.settle(&mut room.line, &mut after);
        state
    }

    /// How it goes with the connects to this peer.
    pub fn health(&self) -> Vitals {
        self.lock().health
    }

    /// Forgets what has failed. Whoever waits for a connect may have one now, or when the
    /// next permit comes free.
    pub fn recover(&self, bounds: &Limits, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.health.recover();
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// Whether callers are turned away. For one who has joined: whoever turns them away
    /// from now on tells those who have.
    pub fn refuses(&self) -> bool {
        let room = self.lock();
        !room.health.is_up() && room.health.refuses(T::now())
    }
}
