//! Connections that must pass a check which takes time: a ping, say.

use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

use crate::error::CloseReason;
use crate::handle::Group;
use crate::lease::{Lease, Pooled, PooledOwned};
use crate::pool::Pool;

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Pool<K, C> {
    /// As [`get`](Pool::get), but a connection that was idle for `check_after` or longer
    /// must pass `check` first. One that does not is closed
    /// ([`CloseReason::Dead`](crate::CloseReason::Dead)), and the next one taken.
    ///
    /// For what only the peer can tell: `check` may send a ping and await the answer. To
    /// ask only connections that were idle for long keeps that off the common path. How
    /// long it may take is up to `check`; the lease is its own meanwhile.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use slabpool::Pool;
    /// # async fn ping(_: &mut String) -> bool { true }
    /// # async fn example(pool: Pool<String, String>) {
    /// let lease = pool
    ///     .get_checked("10.0.0.7:6379", Duration::from_secs(10), async |c| ping(c).await)
    ///     .await;
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while `check` runs drops the lease, and with it the
    /// connection, since half a ping may be left in it.
    pub async fn get_checked<Q>(
        &self,
        key: &Q,
        check_after: Duration,
        check: impl AsyncFnMut(&mut C) -> bool,
    ) -> Option<Pooled<'_, K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        first_sound(|| self.get(key), check_after, check).await
    }

    /// As [`get_checked`](Pool::get_checked), but `'static`.
    ///
    /// # Cancel safety
    ///
    /// As [`get_checked`](Pool::get_checked).
    pub async fn get_checked_owned<Q>(
        &self,
        key: &Q,
        check_after: Duration,
        check: impl AsyncFnMut(&mut C) -> bool,
    ) -> Option<PooledOwned<K, C>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        first_sound(|| self.get_owned(key), check_after, check).await
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Group<K, C> {
    /// As [`Pool::get_checked`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::get_checked`].
    pub async fn get_checked(
        &self,
        check_after: Duration,
        check: impl AsyncFnMut(&mut C) -> bool,
    ) -> Option<Pooled<'_, K, C>> {
        first_sound(|| self.get(), check_after, check).await
    }

    /// As [`Pool::get_checked_owned`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::get_checked`].
    pub async fn get_checked_owned(
        &self,
        check_after: Duration,
        check: impl AsyncFnMut(&mut C) -> bool,
    ) -> Option<PooledOwned<K, C>> {
        first_sound(|| self.get_owned(), check_after, check).await
    }
}

/// The first of the connections that `next` leases which need not be checked, or pass.
async fn first_sound<P: Borrow<Pool<K, C>>, K, C>(
    mut next: impl FnMut() -> Option<Lease<P, K, C>>,
    check_after: Duration,
    mut check: impl AsyncFnMut(&mut C) -> bool,
) -> Option<Lease<P, K, C>> {
    while let Some(lease) = next() {
        if lease.meta().idle_for < check_after {
            return Some(lease);
        }
        let mut lease = Unsound::new(lease);
        if check(lease.connection()).await {
            return Some(lease.passed());
        }
        lease.failed();
    }
    None
}

/// A lease whose connection is being checked. If that comes to no end, the connection is
/// closed, also where dropping a lease releases it: half a ping may be left in it.
pub(crate) struct Unsound<P: Borrow<Pool<K, C>>, K, C>(Option<Lease<P, K, C>>);

impl<P: Borrow<Pool<K, C>>, K, C> Unsound<P, K, C> {
    pub fn new(lease: Lease<P, K, C>) -> Self {
        Self(Some(lease))
    }

    pub fn connection(&mut self) -> &mut C {
        self.0.as_mut().expect("the check is not over")
    }

    /// It has passed.
    pub fn passed(mut self) -> Lease<P, K, C> {
        self.0.take().expect("the check is not over")
    }

    /// It has not passed.
    pub fn failed(mut self) {
        self.0.take().into_iter().for_each(Lease::close_dead);
    }
}

impl<P: Borrow<Pool<K, C>>, K, C> Drop for Unsound<P, K, C> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|lease| lease.end(CloseReason::Dropped));
    }
}
