//! Groups that learn after what time their peer closes idle connections.

use std::time::Duration;

use crate::engine::Engine;
use crate::group::Members;
use crate::time::NEVER;

impl<K, C> Engine<K, C> {
    /// Says that the peer of this group has closed a connection that was idle for this
    /// long, in nanoseconds: found out now, and not before. Calls no user code.
    pub fn learn(&self, group: &Members<K>, idle_for: u64) {
        let tick = self.config.tick.as_nanos() as u64;
        group.limits.learn(self.config.clock.now(), idle_for, tick);
    }

    /// Lets a group forget what is due to be forgotten. Called when a connection expires:
    /// as long as none does, a timeout that is too short does no harm.
    pub fn forget(&self, group: &Members<K>) {
        if group.limits.has_learned() {
            group.limits.forget(self.config.clock.now());
        }
    }

    /// The idle timeout in force in a group.
    pub fn idle_timeout(&self, group: &Members<K>) -> Option<Duration> {
        self.forget(group);
        let timeout = group.limits.idle_timeout();
        (timeout != NEVER).then_some(Duration::from_nanos(timeout))
    }
}
