//! How connections are asked for that may serve others at the same time.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::{Shared, SharedOwned, SharedPooled};
use crate::managed::error::AcquireError;
use crate::managed::manager::Manager;
use crate::managed::pool::Pool;
use crate::managed::sharing::{Now, Taken};

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    /// A share of a connection to a peer, for what can serve [several](Manager::streams) at a
    /// time: a stream of the warmest connection that has room, else an idle connection, else
    /// a new one, else what comes next in line. A connection that serves one at a time is
    /// had alone.
    ///
    /// The warmest is the one in use for longest, so that those which are not needed run dry
    /// and become idle. A connection in use counts as one that is leased, however many
    /// streams it has, and [`acquire`](Pool::acquire) gets it when it is idle.
    ///
    /// How many connects are started for those who share goes by how many the last
    /// connection could serve; of a peer of which that is not known, one for all. With
    /// [`OnMiss::Connect`](crate::managed::OnMiss::Connect) as with
    /// [`Race`](crate::managed::OnMiss::Race).
    ///
    /// Where the warmest connection has room and nobody waits, takes no lock and does not
    /// allocate: one read-modify-write, besides the lookup. Else takes time for each
    /// connection of the peer that is in use. A connection takes no new stream once its
    /// lifetime is over, it was leased as often as it may, its group or the pool was
    /// drained, cleared, invalidated or closed; it is closed when its last stream ends.
    ///
    /// ```
    /// use slabpool::managed::{Manager, Pool};
    ///
    /// # #[derive(Clone)] struct Handle;
    /// # impl Handle {
    /// #     async fn open(_: &str) -> std::io::Result<Self> { Ok(Self) }
    /// #     fn streams_allowed(&self) -> u32 { 100 }
    /// #     async fn exchange(&mut self) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// struct Http2;
    ///
    /// impl Manager<String> for Http2 {
    ///     type Connection = Handle;
    ///     type Error = std::io::Error;
    ///
    ///     async fn connect(&self, peer: &String) -> std::io::Result<Handle> {
    ///         Handle::open(peer).await
    ///     }
    ///
    ///     fn streams(&self, connection: &Handle) -> u32 {
    ///         connection.streams_allowed()
    ///     }
    /// }
    ///
    /// # async fn example(pool: Pool<String, Http2>) -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = pool.acquire_shared("10.0.0.7:443").await?;
    /// stream.clone().exchange().await?;  // however it ends, others are not harmed
    /// stream.release();
    /// # Ok(())
    /// # }
    /// ```
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
    /// As [`acquire`](Pool::acquire). A stream that it was to get goes to the next one.
    pub async fn acquire_shared<Q>(
        &self,
        key: &Q,
    ) -> Result<SharedPooled<'_, K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        if let Some(begun) = self.inner.first_stream(key) {
            return Ok(Shared::stream(self, begun, Duration::ZERO));
        }
        let (taken, waited) = self.seek_shared(key, None).await?;
        Ok(Shared::taken(self, taken, waited))
    }

    /// As [`acquire_shared`](Pool::acquire_shared), within this time. With zero, it has no time
    /// to wait in, but takes what is there.
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
    /// As [`acquire_shared`](Pool::acquire_shared).
    pub async fn acquire_shared_timeout<Q>(
        &self,
        key: &Q,
        timeout: Duration,
    ) -> Result<SharedPooled<'_, K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        if let Some(begun) = self.inner.first_stream(key) {
            return Ok(Shared::stream(self, begun, Duration::ZERO));
        }
        let (taken, waited) = self.seek_shared(key, Some(timeout)).await?;
        Ok(Shared::taken(self, taken, waited))
    }

    /// As [`acquire_shared`](Pool::acquire_shared), but `'static`.
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
    /// As [`acquire_shared`](Pool::acquire_shared).
    pub async fn acquire_shared_owned<Q>(
        &self,
        key: &Q,
    ) -> Result<SharedOwned<K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        if let Some(begun) = self.inner.first_stream(key) {
            return Ok(Shared::stream(self.clone(), begun, Duration::ZERO));
        }
        let (taken, waited) = self.seek_shared(key, None).await?;
        Ok(Shared::taken(self.clone(), taken, waited))
    }

    /// As [`acquire_shared_timeout`](Pool::acquire_shared_timeout), but `'static`.
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
    /// As [`acquire_shared`](Pool::acquire_shared).
    pub async fn acquire_shared_timeout_owned<Q>(
        &self,
        key: &Q,
        timeout: Duration,
    ) -> Result<SharedOwned<K, M>, AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        if let Some(begun) = self.inner.first_stream(key) {
            return Ok(Shared::stream(self.clone(), begun, Duration::ZERO));
        }
        let (taken, waited) = self.seek_shared(key, Some(timeout)).await?;
        Ok(Shared::taken(self.clone(), taken, waited))
    }

    /// Asks all connections of a peer that are in use how many streams they can have
    /// ([`Manager::streams`]), and serves those who wait if that has risen. To be called when
    /// the peer says that it has (HTTP/2 `SETTINGS`): who asks for a stream asks anew by
    /// itself, but one who waits does not.
    pub fn refresh_streams<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.inner.core.engine().directory.hash(key);
        if let Some(desk) = self.inner.registry.look_up(hash, key) {
            self.inner.refresh(desk);
        }
    }

    async fn seek_shared<Q>(
        &self,
        key: &Q,
        timeout: Option<Duration>,
    ) -> Result<(Taken<K, M>, Duration), AcquireError<M::Error>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let due = match self.inner.share_now(key) {
            Now::Taken(taken) => return Ok((taken, Duration::ZERO)),
            Now::Due(lease) => Some(lease),
            Now::Nothing => None,
        };
        let inner = &self.inner;
        let group = inner.core.group(key);
        let spell = inner.spell_for(timeout, group.members());
        let wait = inner.registry.tally.wait(spell, due.is_some());
        let taken = Arc::clone(inner).seek_shared(group, due, spell).await;
        let waited = wait.end(taken.as_ref().err());
        Ok((taken?, waited))
    }
}
