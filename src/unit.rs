//! A place in the pool that is taken before its connection is there.

use std::fmt;
#[cfg(feature = "tokio")]
use std::hash::Hash;

#[cfg(feature = "tokio")]
use crate::error::Rejected;
#[cfg(feature = "tokio")]
use crate::handle::Group;
#[cfg(feature = "tokio")]
use crate::insert::Reserves;
#[cfg(feature = "tokio")]
use crate::lease::{Lease, PooledOwned};
use crate::pool::Pool;
#[cfg(feature = "tokio")]
use crate::settings::PutOptions;
#[cfg(feature = "tokio")]
use crate::token::Token;

/// One of the capacity of a pool, kept for a connection that is being opened. It frees
/// itself when it is dropped.
pub struct Unit<K, C> {
    /// Until a connection has come into this place.
    pool: Option<Pool<K, C>>,
}

impl<K, C> Unit<K, C> {
    /// A free place, or that of the idle connection released longest ago, which is closed
    /// first. `None` says that nothing was idle, or the pool is closed, or may hold
    /// nothing.
    ///
    /// Runs code of the user if it closes a connection.
    pub fn take(pool: &Pool<K, C>) -> Option<Self> {
        let permit = pool.engine().reserve_any()?;
        let unit = Self { pool: Some(pool.clone()) };
        permit.leave();
        Some(unit)
    }

    /// As [`Unit::take`], of the places that are free: nothing is closed for it.
    #[cfg(feature = "tokio")]
    pub fn take_free(pool: &Pool<K, C>) -> Option<Self> {
        let permit = pool.engine().capacity.reserve()?;
        let unit = Self { pool: Some(pool.clone()) };
        permit.leave();
        Some(unit)
    }

    /// Brings a connection into this place, by way of `enter`, which takes the permit for
    /// it. If the connection is rejected, the place stays taken.
    #[cfg(feature = "tokio")]
    fn fill<R>(
        &mut self,
        enter: impl FnOnce(&Pool<K, C>) -> Result<R, Rejected<C>>,
    ) -> Result<R, Rejected<C>> {
        let pool = self.pool.take().expect("a place is filled once");
        let entered = enter(&pool);
        self.pool = entered.is_err().then_some(pool);
        entered
    }
}

impl<K, C> Drop for Unit<K, C> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            drop(pool.engine().capacity.reclaim());
        }
    }
}

impl<K, C> fmt::Debug for Unit<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit").field("taken", &self.pool.is_some()).finish_non_exhaustive()
    }
}

#[cfg(feature = "tokio")]
impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Group<K, C> {
    /// As [`Group::insert_owned`], in a place that was taken before; it is still taken if
    /// the connection is rejected.
    pub(crate) fn insert_owned_in(
        &self,
        unit: &mut Unit<K, C>,
        connection: C,
    ) -> Result<PooledOwned<K, C>, Rejected<C>> {
        self.pool().wake_reaper();
        let raw =
            unit.fill(|pool| pool.engine().insert_in(self.enter(), connection, Reserves::Before))?;
        Ok(Lease::new(self.pool().clone(), raw))
    }

    /// As [`Group::put`], in a place, as [`Group::insert_owned_in`].
    pub(crate) fn put_in(
        &self,
        unit: &mut Unit<K, C>,
        connection: C,
    ) -> Result<Token, Rejected<C>> {
        self.pool().wake_reaper();
        unit.fill(|pool| {
            pool.engine().put_in(self.enter(), connection, PutOptions::default(), Reserves::Before)
        })
    }
}
