//! The managed pool, as its users see it.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::drain::Drained;
use crate::lease::{Pooled as CorePooled, PooledOwned as CoreOwned};
use crate::managed::builder::{Builder, OnMiss};
use crate::managed::error::{AcquireError, Failure};
use crate::managed::lease::{Home, Lease, Pooled, PooledOwned};
use crate::managed::manager::Manager;
use crate::managed::registry::Registry;
use crate::managed::slot::Slot;
use crate::managed::waiting::Spell;
use crate::pool::Pool as CorePool;
use crate::settings::Settings;
use crate::stats::Stats;

/// A keyed pool that opens its connections, and whose callers wait. A clone is another
/// handle to the same pool. See the [module](crate::managed).
pub struct Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: Arc<Inner<K, M>>,
}

/// What the handles of a managed pool share.
pub(crate) struct Inner<K, M: Manager<K>> {
    pub core: CorePool<K, Slot<M::Connection>>,
    pub registry: Arc<Registry<K, M::Connection, M::Error>>,
    pub manager: Arc<M>,
    pub acquire_timeout: Duration,
    pub connect_timeout: Duration,
    /// In nanoseconds.
    pub check_after: u64,
    pub on_miss: OnMiss,
}

/// What is in a managed pool. From [`Pool::status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Connections that wait to be leased.
    pub idle: usize,
    /// Connections that are leased.
    pub leased: usize,
    /// Connections that are being opened.
    pub connecting: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// Peers that have a connection, a connect or a caller.
    pub groups: usize,
    /// The most connections that the pool holds, idle and leased together.
    pub capacity: usize,
}

/// What there is of one peer. From [`Pool::group_status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Connections that wait to be leased.
    pub idle: usize,
    /// Connections that are leased.
    pub leased: usize,
    /// Connections that are being opened, or may be, by a caller that was told so.
    pub connecting: usize,
    /// Connections that count: idle, leased, being opened, or just being closed.
    pub connections: usize,
    /// Callers that wait, with a connect under way for them or not.
    pub waiting: usize,
}

/// What a first look has found.
enum First<'a, K, M: Manager<K>> {
    Hit(CorePooled<'a, K, Slot<M::Connection>>),
    /// Nothing, or a connection that must be checked, or is somebody else's turn.
    Other(Option<CoreOwned<K, Slot<M::Connection>>>),
}

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// A pool whose connections this manager opens. See [`Builder`].
    pub fn builder(manager: M) -> Builder<K, M> {
        Builder::new(manager)
    }

    /// Leases a connection to a peer: the idle one that was released last, else a new one,
    /// else the one that comes next in line; see [`OnMiss`].
    ///
    /// Where one is idle and nobody waits, takes no lock and does not allocate. The key may
    /// be in any borrowed form.
    ///
    /// # Errors
    ///
    /// [`AcquireError`], no later than after
    /// [`acquire_timeout`](Builder::acquire_timeout).
    ///
    /// # Panics
    ///
    /// When it has to wait, and is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// A caller that goes away loses its place in the line. What it was to get goes to the
    /// next one, and a connect that was started for it goes on, for others. Only a
    /// connection that is just being [checked](Manager::check) is closed.
    pub async fn acquire<Q>(&self, key: &Q) -> Result<Pooled<'_, K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.acquire_timeout(key, self.inner.acquire_timeout).await
    }

    /// As [`acquire`](Pool::acquire), within this time. With zero, it has no time to wait
    /// in, but takes what is there.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Pool::acquire).
    pub async fn acquire_timeout<Q>(
        &self,
        key: &Q,
        timeout: Duration,
    ) -> Result<Pooled<'_, K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        match self.first(key) {
            First::Hit(lease) => Ok(Lease::new(lease.held_by(Home::new(self)), Duration::ZERO)),
            First::Other(found) => {
                let (lease, waited) = self.seek(key, found, timeout).await?;
                Ok(Lease::new(lease.held_by(Home::new(self)), waited))
            }
        }
    }

    /// As [`acquire`](Pool::acquire), but `'static`.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Pool::acquire).
    pub async fn acquire_owned<Q>(
        &self,
        key: &Q,
    ) -> Result<PooledOwned<K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.acquire_timeout_owned(key, self.inner.acquire_timeout).await
    }

    /// As [`acquire_timeout`](Pool::acquire_timeout), but `'static`.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Pool::acquire).
    pub async fn acquire_timeout_owned<Q>(
        &self,
        key: &Q,
        timeout: Duration,
    ) -> Result<PooledOwned<K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let home = Home::new(self.clone());
        match self.first(key) {
            First::Hit(lease) => Ok(Lease::new(lease.held_by(home), Duration::ZERO)),
            First::Other(found) => {
                let (lease, waited) = self.seek(key, found, timeout).await?;
                Ok(Lease::new(lease.held_by(home), waited))
            }
        }
    }

    /// Leases an idle connection, if there is one and nobody waits. Opens none, and checks
    /// none, however long it was idle.
    pub fn try_acquire<Q>(&self, key: &Q) -> Option<Pooled<'_, K, M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let lease = self.inner.core.get(key)?;
        if self.inner.registry.desk(lease.permit().desk).word.load().is_waiting() {
            self.inner.pass_on(lease.held_by(self.inner.core.clone()));
            return None;
        }
        Some(Lease::new(lease.held_by(Home::new(self)), Duration::ZERO))
    }

    /// Looks for an idle connection that can be leased at once.
    #[inline(always)]
    fn first<Q>(&self, key: &Q) -> First<'_, K, M>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &*self.inner;
        let Some(lease) = inner.core.get(key) else { return First::Other(None) };
        let waiting = inner.registry.desk(lease.permit().desk).word.load().is_waiting();
        if waiting || lease.idle_nanos() >= inner.check_after {
            return First::Other(Some(lease.held_by(inner.core.clone())));
        }
        First::Hit(lease)
    }

    async fn seek<Q>(
        &self,
        key: &Q,
        found: Option<CoreOwned<K, Slot<M::Connection>>>,
        timeout: Duration,
    ) -> Result<(CoreOwned<K, Slot<M::Connection>>, Duration), AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let spell = Spell::of(timeout);
        let group = self.inner.core.group(key);
        let lease = Arc::clone(&self.inner).seek(group, found, spell).await?;
        Ok((lease, spell.waited()))
    }

    /// Closes the pool, for good: what is idle at once, what is leased when its lease ends.
    /// All who wait get [`AcquireError::Closed`] at once, and so does everybody from now on.
    /// What is being opened is closed when it is open.
    pub fn close(&self) {
        self.inner.core.close();
        for desk in self.inner.registry.all() {
            self.inner.registry.desk(desk).fail_all(Failure::Closed);
        }
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.core.is_closed()
    }

    /// Closes the pool as [`close`](Pool::close) does, and then waits for its leases; see
    /// [`slabpool::Pool::drain`](crate::Pool::drain). Does not wait for what is being
    /// opened.
    ///
    /// # Panics
    ///
    /// When it has to wait, and is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting. The pool stays closed.
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = Drained> + Send + use<K, M> {
        self.close();
        self.inner.core.drain(deadline)
    }

    /// Takes a peer out of service, until [`resume_group`](Pool::resume_group): what is idle
    /// is closed, what is leased is closed when its lease ends, what is being opened when it
    /// is open. All who wait for it get [`AcquireError::GroupDown`] at once, and so does
    /// everybody who asks for it.
    pub fn drain_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let group = self.inner.core.group(key);
        group.drain();
        // A visit, so that the desk stays this peer's.
        let visit = self.inner.registry.visit(group.members());
        visit.desk().fail_all(Failure::GroupDown);
    }

    /// Takes a peer into service again.
    pub fn resume_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.resume_group(key);
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        self.inner.core.clear();
    }

    /// Closes the idle connections of one peer.
    pub fn clear_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.clear_group(key);
    }

    /// Shows each idle connection to `keep`, and closes it if that returns `false`; see
    /// [`slabpool::Pool::retain`](crate::Pool::retain).
    ///
    /// # Panics
    ///
    /// If `keep` does. The connection it was looking at stays in the pool.
    pub fn retain(&self, mut keep: impl FnMut(&K, &crate::Meta, &mut M::Connection) -> bool) {
        self.inner.core.retain(|key, meta, slot| keep(key, meta, slot));
    }

    /// As [`slabpool::Pool::invalidate`](crate::Pool::invalidate).
    pub fn invalidate(&self) {
        self.inner.core.invalidate();
    }

    /// As [`slabpool::Pool::invalidate_group`](crate::Pool::invalidate_group).
    pub fn invalidate_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.invalidate_group(key);
    }

    /// Changes settings of the pool below; see
    /// [`slabpool::Pool::reconfigure`](crate::Pool::reconfigure).
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError) names the first setting that cannot work;
    /// nothing is changed.
    ///
    /// # Panics
    ///
    /// As that does.
    pub fn reconfigure(
        &self,
        change: impl FnOnce(&mut Settings),
    ) -> Result<(), crate::ConfigError> {
        self.inner.core.reconfigure(change)
    }

    /// What is in the pool, and who waits. Reads every seat, and goes to every desk.
    pub fn status(&self) -> Status {
        let core = self.inner.core.status();
        let desks = self.inner.registry.all();
        let mut status = Status {
            idle: core.idle,
            leased: core.leased,
            groups: desks.len(),
            capacity: core.capacity,
            ..Status::default()
        };
        for desk in desks {
            let desk = self.inner.registry.desk(desk);
            status.connecting += desk.word.load().connecting() as usize;
            status.waiting += desk.waiting();
        }
        status
    }

    /// What there is of one peer, and who waits for it.
    pub fn group_status<Q>(&self, key: &Q) -> GroupStatus
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let core = self.inner.core.group_status(key);
        let mut status =
            GroupStatus { idle: core.idle, leased: core.leased, ..GroupStatus::default() };
        if let Some(desk) =
            self.inner.registry.look_up(self.inner.core.engine().directory.hash(key), key)
        {
            let desk = self.inner.registry.desk(desk);
            let state = desk.word.load();
            status.connecting = state.connecting() as usize;
            status.connections = state.connections() as usize;
            status.waiting = desk.waiting();
        }
        status
    }

    /// What has happened in the pool below. A caller that finds nothing at once counts as a
    /// miss, whatever it gets in the end.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// As [`slabpool::Pool::maintain`](crate::Pool::maintain).
    pub fn maintain(&self) -> usize {
        self.inner.core.maintain()
    }

    /// As [`slabpool::Pool::tick`](crate::Pool::tick).
    pub fn tick(&self) -> Duration {
        self.inner.core.tick()
    }

    /// As [`slabpool::Pool::reaper`](crate::Pool::reaper). The first connect spawns one,
    /// unless the [pool below](Builder::settings) was told otherwise.
    ///
    /// # Panics
    ///
    /// As that does.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the maintenance, and nothing else.
    pub fn reaper(&self) -> impl Future<Output = ()> + Send + use<K, M> {
        self.inner.core.reaper()
    }

    pub(crate) fn from_inner(inner: Inner<K, M>) -> Self {
        Self { inner: Arc::new(inner) }
    }

    #[inline(always)]
    pub(crate) fn inner(&self) -> &Inner<K, M> {
        &self.inner
    }

    /// After a release: serves whoever waits at this desk.
    #[inline(always)]
    pub(crate) fn look_at(&self, desk: u32) {
        if self.inner.registry.desk(desk).word.load().is_waiting() {
            self.inner.registry.serve(&self.inner.core, desk);
        }
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Gives a connection to the first in the line, or makes it idle.
    #[cold]
    pub fn pass_on(&self, lease: CoreOwned<K, Slot<M::Connection>>) {
        let index = lease.permit().desk;
        let desk = self.registry.desk(index);
        if let Err(lease) = desk.give(lease) {
            lease.release();
            if desk.word.load().is_waiting() {
                self.registry.serve(&self.core, index);
            }
        }
    }
}

impl<K, M> Clone for Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, M> fmt::Debug for Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}
