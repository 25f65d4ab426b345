//! The pool, as its users see it.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::engine::{Engine, RawLease};
use crate::error::{CloseReason, Rejected};
use crate::group::Member;
use crate::handle::Group;
use crate::lease::{Lease, Pooled, PooledOwned};
use crate::settings::PutOptions;
use crate::stats::{GroupStats, Meta, Stats, Status};
use crate::token::Token;

/// A keyed pool of reusable connections. A clone is another handle to the same pool.
///
/// `K` is what connections are looked up by: an address, or all that must be the
/// same for one connection to do for another (address, scheme, server name, client
/// certificate ...). `C` is the connection, of any type; the pool does not look into
/// it unless it is told how, by [`Builder::watch`] or [`Builder::probe`].
///
/// When the last handle goes ([`Pool`], [`Group`], [`PooledOwned`]), so does all that
/// is idle.
pub struct Pool<K, C> {
    engine: Arc<Engine<K, C>>,
}

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Pool<K, C> {
    /// A pool with settings of your own. See [`Builder`].
    pub fn builder() -> Builder<K, C> {
        Builder::default()
    }

    /// A pool with default settings: those of [`Builder`].
    pub fn new() -> Self {
        Self::builder().build().expect("the default settings are possible")
    }

    /// Leases the connection that was released last under this key; one whose time
    /// is up, or that is found dead, is closed on the way. `None` if there is none: open
    /// one, and [`insert`](Pool::insert) it.
    ///
    /// Takes no lock, allocates nothing, waits for nobody: one or two read-modify-writes, and
    /// what a [probe](Builder::probe) costs if there is one. The key may be in any
    /// borrowed form, as in [`HashMap::get`](std::collections::HashMap::get). To
    /// skip the lookup, keep a [`Group`].
    #[must_use = "dropping a lease closes its connection"]
    #[inline(always)]
    pub fn get<Q>(&self, key: &Q) -> Option<Pooled<'_, K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(Lease::new(self, self.lease(key)?))
    }

    /// As [`get`](Pool::get), but `'static`.
    #[must_use = "dropping a lease closes its connection"]
    pub fn get_owned<Q>(&self, key: &Q) -> Option<PooledOwned<K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(Lease::new(self.clone(), self.lease(key)?))
    }

    /// Leases the newest connection that `wanted` agrees to: one idle for less than
    /// a second, say, for a request that cannot be repeated. The others stay where
    /// they are.
    ///
    /// `wanted` may be asked about the same connection twice, if others use the
    /// group meanwhile. If they do so all the time, the search ends with `None`.
    ///
    /// Takes time for each connection that it passes over.
    ///
    /// # Panics
    ///
    /// If `wanted` does. No connection is leased or lost then.
    #[must_use = "dropping a lease closes its connection"]
    pub fn get_if<Q>(&self, key: &Q, wanted: impl FnMut(&Meta) -> bool) -> Option<Pooled<'_, K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(Lease::new(self, self.lease_if(key, wanted)?))
    }

    /// As [`get_if`](Pool::get_if), but `'static`.
    #[must_use = "dropping a lease closes its connection"]
    pub fn get_if_owned<Q>(
        &self,
        key: &Q,
        wanted: impl FnMut(&Meta) -> bool,
    ) -> Option<PooledOwned<K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(Lease::new(self.clone(), self.lease_if(key, wanted)?))
    }

    /// Takes a connection that was just opened, and leases it at once.
    ///
    /// At capacity, the idle connection that was released longest ago, in whatever
    /// group, is closed to make room, on this thread.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the connection back, with the [reason](crate::RejectReason):
    /// nothing is idle that could be closed, say, or the pool is closed. It can still be
    /// used, just not pooled.
    pub fn insert<Q>(&self, key: &Q, connection: C) -> Result<Pooled<'_, K, C>, Rejected<C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.wake_reaper();
        let group = self.engine.join(key, Member::Connection);
        Ok(Lease::new(self, self.engine.insert(group, connection)?))
    }

    /// As [`insert`](Pool::insert), but `'static`.
    ///
    /// # Errors
    ///
    /// As [`insert`](Pool::insert).
    pub fn insert_owned<Q>(&self, key: &Q, connection: C) -> Result<PooledOwned<K, C>, Rejected<C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.wake_reaper();
        let group = self.engine.join(key, Member::Connection);
        Ok(Lease::new(self.clone(), self.engine.insert(group, connection)?))
    }

    /// Takes a connection, idle at once. Makes room as [`insert`](Pool::insert) does.
    ///
    /// Where the pool [watches](Builder::watch), a connection that turns out to be dead is
    /// taken and closed, and the token leads nowhere.
    ///
    /// # Errors
    ///
    /// As [`insert`](Pool::insert), and if its group has as many idle connections as
    /// it may, or its idle timeout is zero. The connection comes back untouched.
    pub fn put<Q>(&self, key: &Q, connection: C) -> Result<Token, Rejected<C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.put_with(key, connection, PutOptions::default())
    }

    /// As [`put`](Pool::put), with settings for this connection alone, or what the
    /// server's [`KeepAlive`](crate::KeepAlive) header says.
    ///
    /// # Errors
    ///
    /// As [`put`](Pool::put), and if by these settings it could never be leased.
    pub fn put_with<Q>(
        &self,
        key: &Q,
        connection: C,
        options: impl Into<PutOptions>,
    ) -> Result<Token, Rejected<C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.wake_reaper();
        let group = self.engine.join(key, Member::Connection);
        self.engine.put(group, connection, options.into())
    }

    /// Takes the idle connection with this token out of the pool, in O(1). `None` if
    /// it is leased, or gone, or is being looked at just now.
    #[must_use = "the connection is no longer in the pool"]
    pub fn take(&self, token: Token) -> Option<C> {
        self.engine.take(token)
    }

    /// Closes the connection with this token, in O(1), and no other: at once if it
    /// is idle; if it is leased, when the lease ends, and it is not used again.
    /// False if it is gone already.
    pub fn evict(&self, token: Token) -> bool {
        self.engine.evict(token)
    }

    /// A handle to the connections of one key, that spares the lookup. Makes the group if
    /// there is none, and keeps it.
    pub fn group<Q>(&self, key: &Q) -> Group<K, C>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        Group::new(self.clone(), self.engine.join(key, Member::Handle))
    }

    /// Closes all idle connections, on this thread. Leases are not touched.
    pub fn clear(&self) {
        self.engine.clear_all(CloseReason::Cleared);
    }

    /// Closes the idle connections of one key, on this thread. Leases are not touched.
    pub fn clear_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.engine.directory.with(key, |group| self.engine.clear(group, CloseReason::Cleared));
    }

    /// Shows each idle connection to `keep`, and closes it if that returns `false`, or if
    /// it was invalidated. Leases are not touched.
    ///
    /// While `keep` looks at a connection, it is `keep`'s: a get that would miss
    /// because of that yields the processor some times, then misses.
    ///
    /// # Panics
    ///
    /// If `keep` does. The connection it was looking at stays in the pool.
    pub fn retain(&self, keep: impl FnMut(&K, &Meta, &mut C) -> bool) {
        self.engine.retain(keep);
    }

    /// Makes all connections unfit for use that are in the pool now, in O(1): no get
    /// returns them any more, and leased ones are closed on release. Idle ones are
    /// closed by the next maintenance, or by the get that meets them.
    pub fn invalidate(&self) {
        self.engine.invalidate();
    }

    /// As [`invalidate`](Pool::invalidate), for the connections of one key.
    pub fn invalidate_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.engine.directory.with(key, |group| {
            group.invalidate();
            self.engine.maintainer.want_sweep();
        });
    }

    /// Closes the pool, for good: everything idle at once, everything leased on
    /// release. From now on gets find nothing and insertions are rejected.
    ///
    /// To wait for the leases, use `Pool::drain`. Without the feature `tokio`, look at
    /// [`status`](Pool::status) until nothing is leased: that number does not rise any
    /// more, but for insertions that had begun when the pool was closed.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// What is in the pool. Reads every seat: a millisecond for a million.
    pub fn status(&self) -> Status {
        self.engine.status()
    }

    /// What is in one group; all zero if there is none, but for the capacity, which
    /// is the pool's. Reads every ticket of the group.
    pub fn group_status<Q>(&self, key: &Q) -> Status
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let status = self.engine.directory.with(key, |group| self.engine.group_status(group));
        status.unwrap_or(Status { capacity: self.engine.capacity.max(), ..Status::default() })
    }

    /// What has happened in one group since it exists; all zero if there is none.
    pub fn group_stats<Q>(&self, key: &Q) -> GroupStats
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.engine.directory.with(key, |group| group.tally.stats()).unwrap_or_default()
    }

    /// What has happened in the pool. Reads every seat: a millisecond for a million.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Does all maintenance that is due: closes what has expired, was invalidated, is not
    /// needed, or is too many since the capacity was lowered; looks at connections that
    /// something has happened to, or that are to be probed. Returns how many connections it
    /// closed, but for those that were invalidated.
    ///
    /// For pools without a reaper; call it about once in each
    /// [`tick`](Pool::tick). Where another thread is at it, most is left to that one.
    ///
    /// Takes time for what is due, not for what is in the pool, but for
    /// [trimming](Builder::trim_window) and after an invalidation, which read all seats.
    pub fn maintain(&self) -> usize {
        self.engine.maintain()
    }

    /// How often maintenance is worth while: a 32nd of the idle timeout that the pool was
    /// built with, but between 100 ms and 1 s.
    pub fn tick(&self) -> Duration {
        self.engine.config.tick
    }

    /// The future that maintains the pool, in pieces of about 256 connections, until the
    /// last handle to it has gone. The first insertion inside a tokio runtime spawns
    /// one; see [`Builder::spawn_reaper`].
    ///
    /// # Panics
    ///
    /// When it is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the maintenance, and nothing else.
    #[cfg(feature = "tokio")]
    pub fn reaper(&self) -> impl Future<Output = ()> + Send + use<K, C> {
        self.engine.reaper()
    }

    #[inline(always)]
    fn lease<Q>(&self, key: &Q) -> Option<RawLease<K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let engine = &*self.engine;
        match engine.directory.find(key) {
            Ok(group) => engine.lease(&group),
            Err(hash) => engine.missed_key(hash),
        }
    }

    fn lease_if<Q>(&self, key: &Q, wanted: impl FnMut(&Meta) -> bool) -> Option<RawLease<K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let engine = &*self.engine;
        engine.directory.with_or(
            key,
            |group| engine.lease_if(group, wanted),
            |hash| engine.missed_key(hash),
        )
    }

    #[inline(always)]
    pub(crate) fn wake_reaper(&self) {
        #[cfg(feature = "tokio")]
        self.engine.ensure_reaper();
    }
}

impl<K, C> Pool<K, C> {
    pub(crate) fn from_engine(engine: Arc<Engine<K, C>>) -> Self {
        Self { engine }
    }

    #[inline(always)]
    pub(crate) fn engine(&self) -> &Engine<K, C> {
        &self.engine
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Default for Pool<K, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, C> Clone for Pool<K, C> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<K, C> fmt::Debug for Pool<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.engine.status()).finish_non_exhaustive()
    }
}
