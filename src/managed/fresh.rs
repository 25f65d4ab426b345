//! A connection that nobody has used, for one who wants no other.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::handle::Group;
use crate::managed::error::AcquireError;
use crate::managed::lease::{Home, Lease, Pooled, PooledOwned};
use crate::managed::manager::Manager;
use crate::managed::pool::{Inner, Pool};
use crate::managed::slot::Slot;
use crate::managed::waiting::{ErrorOf, Got, Kind, LeaseOf, Spell};

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Leases a new connection, however many are idle: for a request that must not fail
    /// because its connection was idle for too long, or that is tried again after one was
    /// found dead.
    ///
    /// What is idle stays idle, within the limits. Where those are used up, it waits its turn
    /// as [`acquire`](Pool::acquire) does; what it is handed then that was in use before it
    /// closes, to connect in its place. Takes the lock of the peer, and allocates.
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
    /// As [`acquire`](Pool::acquire). What was opened for it is idle then, for others.
    pub async fn acquire_fresh<Q>(
        &self,
        key: &Q,
    ) -> Result<Pooled<'_, K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (lease, waited) = self.fresh(key, None).await?;
        Ok(Lease::new(lease.held_by(Home::new(self)), waited))
    }

    /// As [`acquire_fresh`](Pool::acquire_fresh), within this time: with zero there is none to
    /// connect in, and it ends at once.
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
    /// As [`acquire_fresh`](Pool::acquire_fresh).
    pub async fn acquire_fresh_timeout<Q>(
        &self,
        key: &Q,
        timeout: Duration,
    ) -> Result<Pooled<'_, K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (lease, waited) = self.fresh(key, Some(timeout)).await?;
        Ok(Lease::new(lease.held_by(Home::new(self)), waited))
    }

    /// As [`acquire_fresh_timeout`](Pool::acquire_fresh_timeout), but `'static`.
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
    /// As [`acquire_fresh`](Pool::acquire_fresh).
    pub async fn acquire_fresh_timeout_owned<Q>(
        &self,
        key: &Q,
        timeout: Duration,
    ) -> Result<PooledOwned<K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (lease, waited) = self.fresh(key, Some(timeout)).await?;
        Ok(Lease::new(lease.held_by(Home::new(self.clone())), waited))
    }

    /// As [`acquire_fresh`](Pool::acquire_fresh), but `'static`.
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
    /// As [`acquire_fresh`](Pool::acquire_fresh).
    pub async fn acquire_fresh_owned<Q>(
        &self,
        key: &Q,
    ) -> Result<PooledOwned<K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (lease, waited) = self.fresh(key, None).await?;
        Ok(Lease::new(lease.held_by(Home::new(self.clone())), waited))
    }

    async fn fresh<Q>(
        &self,
        key: &Q,
        timeout: Option<Duration>,
    ) -> Result<(LeaseOf<K, M>, Duration), AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let inner = &self.inner;
        let group = inner.core.group(key);
        let spell = inner.spell_for(timeout, group.members());
        let wait = inner.registry.tally.wait(spell, false);
        let lease = Arc::clone(inner).seek_fresh(group, spell).await;
        let waited = wait.end(lease.as_ref().err());
        Ok((lease?, waited))
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    async fn seek_fresh(
        self: Arc<Self>,
        group: Group<K, Slot<M::Connection>>,
        spell: Spell,
    ) -> Result<LeaseOf<K, M>, ErrorOf<K, M>> {
        let visit = self.registry.visit(group.members()).map_err(AcquireError::GroupLimits)?;
        self.mind(&group, visit.desk);
        let mut since = Some(spell.start);
        loop {
            let since = since.take().unwrap_or_else(Instant::now);
            match self.wait(&visit, &group, spell, since, Kind::Fresh).await? {
                Got::Lease(lease) if lease.meta().reused && spell.is_over() => {
                    // It would be closed for nobody.
                    self.pass_on(lease);
                    return Err(AcquireError::Timeout { waited: spell.waited(), last: None });
                }
                Got::Lease(lease) if lease.meta().reused => lease.close(),
                Got::Lease(lease) => return Ok(lease),
                Got::Stream(_) => unreachable!("those who share get streams"),
            }
        }
    }
}
