//! A connection that may serve others at the same time.

mod asking;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::time::Duration;

use crate::managed::lease::{Home, Lease, Meta};
use crate::managed::manager::Manager;
use crate::managed::pool::{Inner, Pool};
use crate::managed::sharing::Taken;
use crate::managed::streams::Begun;
use crate::managed::waiting::LeaseOf;
use crate::settings::PutOptions;
use crate::token::Token;

/// A share of a connection that borrows the pool.
pub type SharedPooled<'a, K, M> = Shared<&'a Pool<K, M>, K, M>;

/// A share of a connection that keeps the pool alive; `'static`, to be moved into a task.
pub type SharedOwned<K, M> = Shared<Pool<K, M>, K, M>;

/// A connection that may serve others at the same time: [`SharedPooled`] or [`SharedOwned`],
/// from [`Pool::acquire_shared`]. It dereferences to the connection, but not mutably.
///
/// * Of a connection that serves [several](Manager::streams) it is one *stream*. To drop it
///   ends that stream and nothing else, so that a request that is cancelled does no harm.
///   When the last one ends, the connection is idle.
/// * A connection that serves one at a time it has alone: see
///   [`exclusive`](Shared::exclusive). **To drop it closes that connection**, as with
///   [`Lease`](crate::managed::Lease); [`release`](Shared::release) gives it back.
///
/// What must be had mutably to be used, such as hyper's `SendRequest` of HTTP/2, is cloned.
///
/// To forget one ([`std::mem::forget`]) leaks the connection and its share of the limits.
#[must_use = "dropping it ends the stream, or closes the connection"]
pub struct Shared<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    kind: Kind<P, K, M>,
}

enum Kind<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    Alone(Lease<P, K, M>),
    Stream(Stream<P, K, M>),
}

/// A stream, which ends when this is dropped.
struct Stream<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    pool: P,
    begun: Begun,
    waited: Duration,
    _key: std::marker::PhantomData<fn() -> (K, M)>,
}

impl<P, K, M> Stream<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    #[inline(always)]
    fn inner(&self) -> &Inner<K, M> {
        self.pool.borrow().inner()
    }

    #[inline(always)]
    fn lease(&self) -> &LeaseOf<K, M> {
        // SAFETY: this is a stream of the channel, for as long as the reference lives (H4).
        unsafe { self.inner().registry.channels.get(self.begun.channel).lease() }
    }

    /// The connection takes no more streams.
    fn drain(&self, dead: bool) {
        // This is a stream, so that nothing is parked.
        let _parked = self.inner().registry.channels.get(self.begun.channel).streams.drain(dead);
    }
}

impl<P, K, M> Drop for Stream<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    #[inline]
    fn drop(&mut self) {
        self.inner().leave_stream(self.begun.channel);
    }
}

impl<P, K, M> Shared<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    #[inline]
    fn stream(pool: P, begun: Begun, waited: Duration) -> Self {
        let stream = Stream { pool, begun, waited, _key: std::marker::PhantomData };
        Self { kind: Kind::Stream(stream) }
    }

    fn taken(pool: P, taken: Taken<K, M>, waited: Duration) -> Self {
        match taken {
            Taken::Stream(begun) => Self::stream(pool, begun, waited),
            Taken::Alone(lease) => {
                let lease = Lease::new(lease.held_by(Home::new(pool)), waited);
                Self { kind: Kind::Alone(lease) }
            }
        }
    }

    /// Ends it in good order: a stream ends, a connection that was had alone is idle again,
    /// clean.
    ///
    /// Takes no lock and does not allocate, unless somebody waits or this was the last stream
    /// of the connection: two loads and one read-modify-write.
    #[inline]
    pub fn release(self) {
        match self.kind {
            Kind::Alone(lease) => lease.release(),
            Kind::Stream(stream) => drop(stream),
        }
    }

    /// As [`release`](Shared::release), with settings for this connection alone, if it was
    /// had alone; see [`slabpool::Lease::release_with`](crate::Lease::release_with).
    pub fn release_with(self, options: impl Into<PutOptions>) {
        match self.kind {
            Kind::Alone(lease) => lease.release_with(options),
            Kind::Stream(stream) => drop(stream),
        }
    }

    /// Ends it because it is of no more use: a stream ends, a connection that was had alone
    /// is closed.
    pub fn close(self) {
        match self.kind {
            Kind::Alone(lease) => lease.close(),
            Kind::Stream(stream) => drop(stream),
        }
    }

    /// The connection, if it is had alone, to do with it what one at a time can do.
    pub fn exclusive(&mut self) -> Option<&mut M::Connection> {
        match &mut self.kind {
            Kind::Alone(lease) => Some(lease),
            Kind::Stream(_) => None,
        }
    }

    /// Lets nobody else have the connection from now on: the peer wants no more (HTTP/2
    /// `GOAWAY`). Streams go on; when the last one ends, the connection is closed
    /// ([`CloseReason::Drained`](crate::CloseReason::Drained)). One that is had alone is closed
    /// when it is released ([`Removed`](crate::CloseReason::Removed)).
    pub fn drain(&self) {
        match &self.kind {
            Kind::Alone(lease) => drop(lease.holder().inner().core.evict(lease.token())),
            Kind::Stream(stream) => stream.drain(false),
        }
    }

    /// Ends it because the connection was found dead: nobody else gets it from now on, and when
    /// its last stream ends it is closed ([`CloseReason::Dead`](crate::CloseReason::Dead)).
    pub fn close_dead(self) {
        match self.kind {
            Kind::Alone(lease) => lease.close_dead(),
            Kind::Stream(stream) => stream.drain(true),
        }
    }

    /// The connection's name in the pool.
    pub fn token(&self) -> Token {
        match &self.kind {
            Kind::Alone(lease) => lease.token(),
            Kind::Stream(stream) => stream.lease().token(),
        }
    }

    /// The key that it was opened for.
    pub fn key(&self) -> &K {
        match &self.kind {
            Kind::Alone(lease) => lease.key(),
            Kind::Stream(stream) => stream.lease().key(),
        }
    }

    /// What is known of it. Each stream is one use; one that is not the first since the
    /// connection was idle has not waited for it idly.
    pub fn meta(&self) -> Meta {
        let stream = match &self.kind {
            Kind::Alone(lease) => return lease.meta(),
            Kind::Stream(stream) => stream,
        };
        let crate::Meta { age, idle_for, uses, reused, .. } = stream.lease().meta();
        let first = stream.begun.number == 1;
        Meta {
            age,
            idle_for: if first { idle_for } else { Duration::ZERO },
            uses: uses - 1 + u64::from(stream.begun.number),
            reused: reused || !first,
            connected: first && !reused,
            waited: stream.waited,
        }
    }

    /// How many streams the connection has, this one included, and how many it may have, as it
    /// is now. A limit that has fallen below what runs is less. 1 and 1 for one that is had
    /// alone.
    pub fn streams(&self) -> (u32, u32) {
        let stream = match &self.kind {
            Kind::Alone(_) => return (1, 1),
            Kind::Stream(stream) => stream,
        };
        let channels = &stream.inner().registry.channels;
        let state = channels.get(stream.begun.channel).streams.load();
        (state.used(), state.limit())
    }
}

impl<P, K, M> Deref for Shared<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    type Target = M::Connection;

    #[inline]
    fn deref(&self) -> &M::Connection {
        match &self.kind {
            Kind::Alone(lease) => lease,
            Kind::Stream(stream) => stream.lease(),
        }
    }
}

impl<P, K, M> fmt::Debug for Shared<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("token", &self.token())
            .field("streams", &self.streams())
            .field("connection", &**self)
            .finish_non_exhaustive()
    }
}
