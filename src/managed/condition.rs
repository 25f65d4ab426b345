//! What is told of the health of a peer.

use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

use crate::managed::keeper::moment;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;

/// Whether connects to a peer succeed. From
/// [`GroupStatus`](crate::managed::GroupStatus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It is not down, as far as the pool knows.
    #[default]
    Up,
    /// It is [down](crate::managed::Builder::down_after): callers are turned away.
    Down {
        /// Connects that have failed in a row.
        failures: u32,
        /// How long it will be until it is tried again; zero if the next caller will do so.
        retry_in: Duration,
    },
    /// It is down, and is being tried: callers wait for what comes of it.
    Trial {
        /// Connects that have failed in a row.
        failures: u32,
    },
    /// It was [drained](crate::managed::Pool::drain_group) by hand.
    Drained,
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// How it goes with a peer.
    pub fn health<Q>(&self, key: &Q) -> Health
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let directory = &self.core.engine().directory;
        if directory.with(key, |group| group.lanes.era.is_draining()).unwrap_or(false) {
            return Health::Drained;
        }
        let Some(index) = self.registry.look_up(directory.hash(key), key) else {
            return Health::Up;
        };
        let desk = self.registry.desk(index);
        let vitals = desk.health();
        let (failures, now) = (vitals.failures(), moment());
        if vitals.is_up() {
            Health::Up
        } else if !vitals.refuses(now) && desk.word.load().connecting() > 0 {
            Health::Trial { failures }
        } else {
            let retry_in = Duration::from_nanos(vitals.retry_at().saturating_sub(now));
            Health::Down { failures, retry_in }
        }
    }

    /// Forgets what has failed at a peer.
    pub fn revive<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.core.engine().directory.hash(key);
        let Some(visit) = self.registry.revisit(hash, key) else { return };
        let desk = visit.desk();
        desk.recover(&desk.limits, || self.registry.grant(visit.desk));
        self.registry.hasten(visit.desk, moment());
    }
}
