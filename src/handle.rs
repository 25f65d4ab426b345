//! A handle to one group.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CloseReason, ConfigError, Rejected};
use crate::group::{Member, Members};
use crate::lease::{Lease, Pooled, PooledOwned};
use crate::pool::Pool;
use crate::settings::{GroupSettings, PutOptions};
use crate::stats::{GroupStats, Meta, Status};
use crate::token::Token;

/// The connections of one key, without the lookup. From [`Pool::group`].
///
/// Its methods are those of [`Pool`] without the key. The group stays while the
/// handle does, also when it is empty.
pub struct Group<K, C> {
    pool: Pool<K, C>,
    members: Arc<Members<K>>,
}

impl<K, C> Group<K, C> {
    /// A handle to a group that was entered for it.
    pub(crate) fn new(pool: Pool<K, C>, members: Arc<Members<K>>) -> Self {
        Self { pool, members }
    }

    pub(crate) fn members(&self) -> &Arc<Members<K>> {
        &self.members
    }

    /// A handle to a group that the caller keeps.
    #[cfg(feature = "tokio")]
    pub(crate) fn enter_kept(pool: Pool<K, C>, members: Arc<Members<K>>) -> Self {
        let entered = members.roll.enter(Member::Handle);
        debug_assert!(entered, "a group that is kept is not retired");
        Self { pool, members }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Group<K, C> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.members.key
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<K, C> {
        &self.pool
    }

    /// As [`Pool::get`]. With [`Lease::release`], two or three read-modify-writes in all.
    #[must_use = "dropping a lease closes its connection"]
    #[inline(always)]
    pub fn get(&self) -> Option<Pooled<'_, K, C>> {
        let raw = self.pool.engine().lease(&self.members)?;
        Some(Lease::new(&self.pool, raw))
    }

    /// As [`Pool::get_owned`].
    #[must_use = "dropping a lease closes its connection"]
    pub fn get_owned(&self) -> Option<PooledOwned<K, C>> {
        let raw = self.pool.engine().lease(&self.members)?;
        Some(Lease::new(self.pool.clone(), raw))
    }

    /// As [`Pool::get_if`].
    #[must_use = "dropping a lease closes its connection"]
    pub fn get_if(&self, wanted: impl FnMut(&Meta) -> bool) -> Option<Pooled<'_, K, C>> {
        let raw = self.pool.engine().lease_if(&self.members, wanted)?;
        Some(Lease::new(&self.pool, raw))
    }

    /// As [`Pool::get_if_owned`].
    #[must_use = "dropping a lease closes its connection"]
    pub fn get_if_owned(&self, wanted: impl FnMut(&Meta) -> bool) -> Option<PooledOwned<K, C>> {
        let raw = self.pool.engine().lease_if(&self.members, wanted)?;
        Some(Lease::new(self.pool.clone(), raw))
    }

    /// As [`Pool::insert`].
    ///
    /// # Errors
    ///
    /// As [`Pool::insert`].
    pub fn insert(&self, connection: C) -> Result<Pooled<'_, K, C>, Rejected<C>> {
        self.pool.wake_reaper();
        Ok(Lease::new(&self.pool, self.pool.engine().insert(self.enter(), connection)?))
    }

    /// As [`Pool::insert_owned`].
    ///
    /// # Errors
    ///
    /// As [`Pool::insert`].
    pub fn insert_owned(&self, connection: C) -> Result<PooledOwned<K, C>, Rejected<C>> {
        self.pool.wake_reaper();
        let raw = self.pool.engine().insert(self.enter(), connection)?;
        Ok(Lease::new(self.pool.clone(), raw))
    }

    /// As [`Pool::put`].
    ///
    /// # Errors
    ///
    /// As [`Pool::put`].
    pub fn put(&self, connection: C) -> Result<Token, Rejected<C>> {
        self.put_with(connection, PutOptions::default())
    }

    /// As [`Pool::put_with`].
    ///
    /// # Errors
    ///
    /// As [`Pool::put`].
    pub fn put_with(
        &self,
        connection: C,
        options: impl Into<PutOptions>,
    ) -> Result<Token, Rejected<C>> {
        self.pool.wake_reaper();
        self.pool.engine().put(self.enter(), connection, options.into())
    }

    /// The group, entered for one more connection. The handle keeps it from being
    /// retired, so that it can be.
    pub(crate) fn enter(&self) -> Arc<Members<K>> {
        let entered = self.members.roll.enter(Member::Connection);
        debug_assert!(entered, "a group with a handle is not retired");
        Arc::clone(&self.members)
    }

    /// As [`Pool::clear_group`].
    pub fn clear(&self) {
        self.pool.engine().clear(&self.members, CloseReason::Cleared);
    }

    /// As [`Pool::invalidate_group`].
    pub fn invalidate(&self) {
        self.members.invalidate();
        self.pool.engine().maintainer.want_sweep();
    }

    /// As [`Pool::group_status`].
    pub fn status(&self) -> Status {
        self.pool.engine().group_status(&self.members)
    }

    /// As [`Pool::group_stats`]. Costs two loads.
    pub fn stats(&self) -> GroupStats {
        self.members.tally.stats()
    }

    /// The idle timeout in force in this group: the configured one, or a shorter one that
    /// was [learned](crate::Builder::learn_idle_timeout). `None` is for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.pool.engine().idle_timeout(&self.members)
    }

    /// Gives this group settings of its own, in place of those it had. From when on each
    /// holds is said at [`Settings`](crate::Settings). They keep the group, empty or not,
    /// until it is given [`GroupSettings::new`], which is none. What they leave open
    /// follows the pool, also when that is [reconfigured](Pool::reconfigure).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work; nothing is changed.
    pub fn configure(&self, settings: GroupSettings) -> Result<(), ConfigError> {
        self.pool.engine().configure(&self.members, settings)
    }
}

impl<K, C> Drop for Group<K, C> {
    fn drop(&mut self) {
        self.pool.engine().part(&self.members, Member::Handle);
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Clone for Group<K, C> {
    fn clone(&self) -> Self {
        let entered = self.members.roll.enter(Member::Handle);
        debug_assert!(entered, "a group with a handle is not retired");
        Self { pool: self.pool.clone(), members: Arc::clone(&self.members) }
    }
}

impl<K: fmt::Debug, C> fmt::Debug for Group<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("key", &self.members.key).finish_non_exhaustive()
    }
}
