//! The managed pool, as its users see it.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::lease::{Pooled as CorePooled, PooledOwned as CoreOwned};
use crate::managed::acquire::{Acquire, Seeking};
use crate::managed::builder::{Builder, OnMiss};
use crate::managed::error::AcquireError;
use crate::managed::keeper::Keeper;
use crate::managed::lease::{Home, Lease, Pooled, PooledOwned};
use crate::managed::manager::Manager;
use crate::managed::registry::Registry;
use crate::managed::settings::Terms;
use crate::managed::slot::Slot;
use crate::pool::Pool as CorePool;

/// A keyed pool that opens its connections, and whose callers wait. A clone is another
/// handle to the same pool. See the [module](crate::managed).
pub struct Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub(crate) inner: Arc<Inner<K, M>>,
}

/// What the handles of a managed pool share.
pub(crate) struct Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub core: CorePool<K, Slot<M::Connection>>,
    pub registry: Arc<Registry<K, M::Connection, M::Error>>,
    pub keeper: Arc<Keeper<K, M>>,
    pub manager: Arc<M>,
    pub terms: ArcSwap<Terms>,
    /// In nanoseconds.
    pub check_after: u64,
    pub on_miss: OnMiss,
}

/// What a first look has found.
pub(super) enum First<'a, K, M: Manager<K>> {
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
    #[inline(always)]
    pub fn acquire<'a, Q>(
        &'a self,
        key: &'a Q,
    ) -> impl Future<Output = Result<Pooled<'a, K, M>, AcquireError<M::Error>>> + Send
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        Acquire::new(self, key, None)
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
    #[inline(always)]
    pub fn acquire_timeout<'a, Q>(
        &'a self,
        key: &'a Q,
        timeout: Duration,
    ) -> impl Future<Output = Result<Pooled<'a, K, M>, AcquireError<M::Error>>> + Send
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        Acquire::new(self, key, Some(timeout))
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
    #[inline(always)]
    pub fn acquire_owned<'a, Q>(
        &'a self,
        key: &'a Q,
    ) -> impl Future<Output = Result<PooledOwned<K, M>, AcquireError<M::Error>>> + Send
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        Acquire::new(self, key, None)
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
    #[inline(always)]
    pub fn acquire_timeout_owned<'a, Q>(
        &'a self,
        key: &'a Q,
        timeout: Duration,
    ) -> impl Future<Output = Result<PooledOwned<K, M>, AcquireError<M::Error>>> + Send
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        Acquire::new(self, key, Some(timeout))
    }

    /// Leases an idle connection, if there is one and nobody waits. Opens none, and checks
    /// none, however long it was idle.
    pub fn try_acquire<Q>(&self, key: &Q) -> Option<Pooled<'_, K, M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let tally = &self.inner.registry.tally;
        let Some(lease) = self.inner.core.get(key) else {
            tally.missed();
            return None;
        };
        let desk = lease.permit().desk;
        if self.inner.must_wait(desk) {
            tally.diverted();
            tally.missed();
            self.inner.pass_on(lease.held_by(self.inner.core.clone()));
            return None;
        }
        Some(Lease::new(lease.held_by(Home::new(self)), Duration::ZERO))
    }

    /// Looks for an idle connection that can be leased at once.
    #[inline(always)]
    pub(super) fn first<Q>(&self, key: &Q) -> First<'_, K, M>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &*self.inner;
        let Some(lease) = inner.core.get(key) else { return First::Other(None) };
        if lease.idle_nanos() >= inner.check_after || inner.must_wait(lease.permit().desk) {
            return First::Other(Some(lease.held_by(inner.core.clone())));
        }
        First::Hit(lease)
    }

    /// As [`acquire`](Pool::acquire), for one who has not found what it may take at once.
    pub(super) fn seek<Q>(
        &self,
        key: &Q,
        found: Option<CoreOwned<K, Slot<M::Connection>>>,
        timeout: Option<Duration>,
    ) -> Seeking<K, M>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let inner = Arc::clone(&self.inner);
        let group = inner.core.group(key);
        let spell = inner.spell_for(timeout, group.members());
        Box::pin(async move {
            let wait = inner.registry.tally.wait(spell, found.is_some());
            let outcome = Arc::clone(&inner).seek(group, found, spell).await;
            let waited = wait.end(outcome.as_ref().err());
            Ok((outcome?, waited))
        })
    }

    pub(crate) fn from_inner(inner: Inner<K, M>) -> Self {
        let inner = Arc::new(inner);
        inner.keeper.bind(&inner);
        Self { inner }
    }

    #[inline(always)]
    pub(crate) fn inner(&self) -> &Inner<K, M> {
        &self.inner
    }

    /// After a release: serves whoever waits at this desk.
    #[inline(always)]
    pub(crate) fn look_at(&self, desk: u32) {
        self.inner.registry.look(&self.inner.core, desk);
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Whether whoever has found an idle connection must leave it to others, who wait.
    #[inline(always)]
    pub fn must_wait(&self, desk: u32) -> bool {
        self.registry.desk(desk).word.load().is_waiting() && !self.registry.may_pass(desk)
    }

    /// Gives a connection to the first in the line, or makes it idle.
    #[cold]
    pub fn pass_on(&self, lease: CoreOwned<K, Slot<M::Connection>>) {
        let index = lease.permit().desk;
        let desk = self.registry.desk(index);
        if let Err(lease) = desk.give(lease) {
            lease.release();
            self.registry.attend(&self.core, index);
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
