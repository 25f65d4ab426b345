//! Room in the pool for what is to be opened: who gets it, and who hands it on.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use crate::capacity::Heir;
use crate::engine::Engine;
use crate::error::RejectReason;
use crate::handle::Group;
use crate::managed::desk::Starving;
use crate::managed::error::AcquireError;
use crate::managed::fairness::Fairness;
use crate::managed::line::Id;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::registry::{Registry, Visit};
use crate::managed::slot::{Permit, Slot};
use crate::managed::starved::{Larder, Spot};
use crate::pool::Pool;
use crate::unit::Unit;

/// The right to open a connection: by the limits of its peer, and, once it is had, by those
/// of the pool. It frees itself when it is dropped, the permit first: so who gets that
/// finds the unit.
#[derive(Debug)]
pub(crate) struct Grant<K, C> {
    pub permit: Permit,
    pub unit: Option<Unit<K, Slot<C>>>,
}

impl<K, C, E> Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    /// After a connection of this desk has become idle, and somebody waits, here or for
    /// room: hands it over, or closes it to make room.
    #[cold]
    pub fn attend(&self, pool: &Pool<K, Slot<C>>, index: u32) {
        self.shed(pool, index);
        let desk = self.desk(index);
        if desk.word.load().is_waiting() {
            if self.starved.is_hungry() {
                self.starved.feed_others(&Feed { registry: self, pool }, index);
            }
            match self.fairness {
                Fairness::Barging if !desk.turn.is_spent() => desk.nudge(),
                _ => self.serve(pool, index),
            }
        }
        self.look_out(pool);
    }

    /// After something has become idle, or a place free: feeds those who starve.
    pub fn look_out(&self, pool: &Pool<K, Slot<C>>) {
        if self.starved.is_hungry_now() {
            self.feed(pool);
        }
    }

    /// Hands out what room there is to those who starve for it.
    #[cold]
    pub fn feed(&self, pool: &Pool<K, Slot<C>>) {
        self.starved.feed(&Feed { registry: self, pool });
    }
}

/// Those who starve, and what there is for them.
struct Feed<'a, K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    registry: &'a Registry<K, C, E>,
    pool: &'a Pool<K, Slot<C>>,
}

impl<K, C, E> Larder for Feed<'_, K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    type Unit = Unit<K, Slot<C>>;

    fn starves(&self, spot: Spot, desk: u32) -> bool {
        let desk = self.registry.desk(desk);
        let starves = desk.starves(spot, &desk.limits);
        if starves && self.pool.engine().capacity.max() == 0 {
            desk.refuse_all(AcquireError::Rejected(RejectReason::Full { capacity: 0 }));
            return false;
        }
        starves
    }

    fn take(&self) -> Option<Self::Unit> {
        Unit::take(self.pool)
    }

    fn hand(&self, spot: Spot, index: u32, unit: Self::Unit) -> Option<Self::Unit> {
        let (registry, mut unit) = (self.registry, Some(unit));
        let desk = registry.desk(index);
        desk.feed(spot, (&desk.limits, &registry.starved, index), || Grant {
            permit: registry.permit(index),
            unit: unit.take(),
        });
        unit
    }
}

/// Told by the pool below of places that come free in it.
pub(crate) struct Feeder<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    registry: Arc<Registry<K, C, E>>,
    /// The pool owns this.
    engine: Weak<Engine<K, Slot<C>>>,
}

impl<K, C, E> Feeder<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    pub fn new(registry: Arc<Registry<K, C, E>>, pool: &Pool<K, Slot<C>>) -> Self {
        Self { registry, engine: Weak::clone(&pool.engine().me) }
    }
}

impl<K, C, E> Heir for Feeder<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn freed(&self) {
        if !self.registry.starved.is_hungry_now() {
            return;
        }
        // Else the pool goes, and nobody can wait for it.
        if let Some(engine) = self.engine.upgrade() {
            self.registry.feed(&Pool::from_engine(engine));
        }
    }
}

impl<K, C, E> fmt::Debug for Feeder<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").finish_non_exhaustive()
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Adds a place in the pool to a permit, if that has none. If there is no place, or
    /// somebody waits for one already, the permit is freed, and its owner waits for both.
    ///
    /// # Errors
    ///
    /// What to tell a caller who cannot wait.
    #[expect(clippy::type_complexity, reason = "it is said once")]
    pub fn furnish(
        &self,
        mut grant: Grant<K, M::Connection>,
        id: Id,
        (visit, group): (&Visit<K, M::Connection, M::Error>, &Group<K, Slot<M::Connection>>),
    ) -> Result<Option<Grant<K, M::Connection>>, AcquireError<M::Error>> {
        let registry = &self.registry;
        if grant.unit.is_none() && !registry.starved.is_hungry() {
            grant.unit = Unit::take(&self.core);
        }
        if grant.unit.is_some() {
            return Ok(Some(grant));
        }
        if self.core.engine().capacity.max() == 0 {
            return Err(AcquireError::Rejected(RejectReason::Full { capacity: 0 }));
        }
        // The desk frees it.
        grant.permit.spend();
        let place = (&visit.desk().limits, &registry.starved, visit.desk);
        match visit.desk().starve(id, place, || registry.grant(visit.desk)) {
            Starving::Waits { joined } => {
                if joined {
                    // In the line first, and looks then: see `desk.rs`.
                    group.members().lanes.barrier();
                    registry.serve(&self.core, visit.desk);
                }
                registry.feed(&self.core);
            }
            Starving::Served => {}
            Starving::LineFull => return Err(self.turn_away(visit, group)),
        }
        Ok(None)
    }
}
