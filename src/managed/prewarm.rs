//! Connections that are opened before anybody needs them.

use std::borrow::Borrow;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::RejectReason;
use crate::handle::Group;
use crate::managed::attempt::Attempt;
use crate::managed::error::{AcquireError, Failure};
use crate::managed::manager::Manager;
use crate::managed::pool::{Inner, Pool};
use crate::managed::registry::Visit;
use crate::managed::slot::Slot;
use crate::managed::word::Bounds;
use crate::unit::Unit;

/// What has come of the connects that one caller has asked for.
pub(crate) struct Report<E>(Mutex<Findings<E>>);

struct Findings<E> {
    begun: u32,
    under_way: usize,
    opened: usize,
    failure: Option<Failure<E>>,
}

impl<E> Report<E> {
    fn new() -> Self {
        Self(Mutex::new(Findings { begun: 0, under_way: 0, opened: 0, failure: None }))
    }

    fn begun(&self) {
        let mut findings = self.lock();
        findings.begun += 1;
        findings.under_way += 1;
    }

    /// A connect has succeeded. Whoever waits is told after this.
    pub fn opened(&self) {
        let mut findings = self.lock();
        findings.under_way -= 1;
        findings.opened += 1;
    }

    /// A connect has failed. Whoever waits is told after this.
    pub fn failed(&self, failure: Failure<E>) {
        let _later;
        let mut findings = self.lock();
        findings.under_way -= 1;
        match findings.failure {
            // The first cause is what is told.
            Some(_) => _later = failure,
            None => findings.failure = Some(failure),
        }
        drop(findings);
    }

    fn lock(&self) -> MutexGuard<'_, Findings<E>> {
        // Nothing under the lock can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Opens connections to a peer until it has so many: idle, leased and being opened
    /// together. Returns how many it has opened, when they are open. It does not wait for
    /// those that others have begun to open, and which count.
    ///
    /// Within all limits, and as many at a time as
    /// [`max_connecting_per_group`](crate::managed::Builder::max_connecting_per_group)
    /// allows. What it opens goes to those who wait for the peer, and is idle if nobody
    /// does. In a full pool, idle connections of others make room for it. It begins no more
    /// than `connections` connects, also if what is there is closed meanwhile. Takes no longer
    /// than the [`connect_timeout`](crate::managed::Builder::connect_timeout) for each round
    /// of connects.
    ///
    /// ```
    /// # use slabpool::managed::Pool;
    /// # async fn dial(_: String) -> std::io::Result<String> { Ok(String::new()) }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = Pool::builder(|peer: &String| dial(peer.clone())).build()?;
    /// pool.prewarm("10.0.0.7:6379", 4).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcquireError::TooManyConnections`] at once, if a peer, or the pool, may not have so
    /// many, or may not any more. [`AcquireError::GroupLimits`] as for
    /// [`acquire`](Pool::acquire). [`AcquireError::Rejected`] if there is no room in the pool.
    /// [`AcquireError::Closed`] and [`AcquireError::GroupDown`]. Otherwise how the first
    /// connect failed that did; what was opened stays, what is being opened goes on, and no
    /// more is begun.
    ///
    /// # Panics
    ///
    /// When it connects, and is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// What is being opened goes on, and no more is begun.
    pub async fn prewarm<Q>(
        &self,
        key: &Q,
        connections: usize,
    ) -> Result<usize, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let registry = &self.inner.registry;
        let group = self.inner.core.group(key);
        let visit = registry.visit(group.members()).map_err(AcquireError::GroupLimits)?;
        let wanted = self.inner.attainable(connections, &visit)?;
        self.inner.mind(&group, visit.desk);
        let report = Arc::new(Report::new());
        loop {
            let mut ended = pin!(registry.ended.notified());
            // Before what has come of them is read.
            ended.as_mut().enable();
            if let Some(end) = self.inner.prewarmed(&group, &visit, wanted, &report) {
                return end;
            }
            ended.await;
        }
    }
}

type VisitOf<K, M> = Visit<K, <M as Manager<K>>::Connection, <M as Manager<K>>::Error>;
type UnitOf<K, M> = Unit<K, Slot<<M as Manager<K>>::Connection>>;
type Prewarmed<K, M> = Result<usize, AcquireError<<M as Manager<K>>::Error>>;

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// So many, if a peer may have so many.
    fn attainable(
        &self,
        connections: usize,
        visit: &VisitOf<K, M>,
    ) -> Result<u32, AcquireError<M::Error>> {
        let connections_max = visit.desk().limits.connections() as usize;
        let capacity = self.core.engine().capacity.max();
        match u32::try_from(connections) {
            Ok(wanted) if connections <= connections_max.min(capacity) => Ok(wanted),
            _ => Err(AcquireError::TooManyConnections { connections, connections_max, capacity }),
        }
    }

    /// Begins as many connects as may be begun. What has come of it all, once it has.
    fn prewarmed(
        self: &Arc<Self>,
        group: &Group<K, Slot<M::Connection>>,
        visit: &VisitOf<K, M>,
        wanted: u32,
        report: &Arc<Report<M::Error>>,
    ) -> Option<Prewarmed<K, M>> {
        if self.core.is_closed() {
            return Some(Err(AcquireError::Closed));
        }
        if group.is_draining() {
            return Some(Err(AcquireError::GroupDown));
        }
        if let Some(failure) = report.lock().failure.take() {
            return Some(Err(failure));
        }
        // The limits may have been lowered since it was asked for.
        if let Err(error) = self.attainable(wanted as usize, visit) {
            return Some(Err(error));
        }
        let desk = visit.desk();
        if desk.refuses() {
            return Some(Err(AcquireError::GroupDown));
        }
        let narrow =
            |bounds: Bounds| Bounds { connections: bounds.connections.min(wanted), ..bounds };
        let make = || self.registry.grant(visit.desk);
        // No more than that in all: in a full pool two peers would take each other's
        // connections for ever.
        while report.lock().begun < wanted
            && let Some(mut grant) = desk.spare(&desk.limits, narrow, make)
        {
            grant.unit = self.unit_for_more(group);
            if grant.unit.is_none() {
                let capacity = self.core.engine().capacity.max();
                return Some(Err(AcquireError::Rejected(RejectReason::Full { capacity })));
            }
            report.begun();
            let attempt = Attempt::new(Arc::clone(self), group.clone(), None, grant)
                .reporting(Arc::clone(report));
            drop(tokio::spawn(attempt.run()));
        }
        let findings = report.lock();
        let enough = desk.word.load().connections() >= wanted || findings.begun == wanted;
        (enough && findings.under_way == 0).then_some(Ok(findings.opened))
    }
    /// A place for a connection that a peer is to have besides those it has: nothing of its
    /// own makes room for it.
    fn unit_for_more(&self, group: &Group<K, Slot<M::Connection>>) -> Option<UnitOf<K, M>> {
        if let Some(unit) = Unit::take_free(&self.core) {
            return Some(unit);
        }
        let own = self.core.group_status(group.key()).idle;
        if self.core.status().idle <= own {
            return None;
        }
        Unit::take(&self.core)
    }
}
