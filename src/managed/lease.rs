//! A connection in use.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::lease::Lease as CoreLease;
use crate::managed::manager::Manager;
use crate::managed::pool::Pool;
use crate::managed::slot::Slot;
use crate::pool::Pool as CorePool;
use crate::settings::PutOptions;
use crate::token::Token;

/// A leased connection that borrows the pool.
pub type Pooled<'a, K, M> = Lease<&'a Pool<K, M>, K, M>;

/// A leased connection that keeps the pool alive; `'static`, to be moved into a task.
pub type PooledOwned<K, M> = Lease<Pool<K, M>, K, M>;

/// A leased connection: [`Pooled`] or [`PooledOwned`]. It dereferences to the connection.
///
/// End it with [`release`](Lease::release) when the exchange is complete and the connection
/// is clean. **Dropping it closes the connection**, unless the pool was
/// [told](crate::Builder::release_on_drop) otherwise. However it ends, the next who waits
/// for the peer hears of it.
///
/// To forget a lease ([`std::mem::forget`]) leaks the connection and its share of the
/// limits.
#[must_use = "dropping a lease closes its connection"]
pub struct Lease<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Until it ends.
    inner: Option<Inner<P, K, M>>,
    /// How long the caller has waited, in nanoseconds: half of a [`Duration`].
    waited: u64,
}

type Inner<P, K, M> = CoreLease<Home<P, K, M>, K, Slot<<M as Manager<K>>::Connection>>;

/// How a lease holds the pool below: by way of the managed one.
pub(crate) struct Home<P, K, M>(P, PhantomData<fn() -> (K, M)>);

impl<P, K, M> Home<P, K, M> {
    pub fn new(pool: P) -> Self {
        Self(pool, PhantomData)
    }
}

impl<P, K, M> Borrow<CorePool<K, Slot<M::Connection>>> for Home<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline(always)]
    fn borrow(&self) -> &CorePool<K, Slot<M::Connection>> {
        &self.0.borrow().inner().core
    }
}

/// What is known of a leased connection. From [`Lease::meta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// Since it was opened.
    pub age: Duration,
    /// How long it was idle until it was leased.
    pub idle_for: Duration,
    /// How often it was leased, this lease included.
    pub uses: u64,
    /// Whether it was in use, or idle, before: the peer may have closed it meanwhile, and a
    /// request that fails on it before any answer may be tried again on a new one.
    pub reused: bool,
    /// Whether it was opened for this caller, who is the first to use it. False for one that
    /// another caller had opened, and that came to this one first.
    pub connected: bool,
    /// How long the caller has waited for it; zero if it was there. A check is part of it.
    pub waited: Duration,
}

impl<P, K, M> Lease<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline(always)]
    pub(crate) fn new(inner: Inner<P, K, M>, waited: Duration) -> Self {
        Self { inner: Some(inner), waited: u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// Makes the connection idle: the first who waits for its peer gets it, else the next to
    /// ask. Closes it instead if its time is up, or its group has enough, or the pool was
    /// closed.
    ///
    /// Takes no lock and does not allocate, unless somebody waits: one read-modify-write,
    /// and one load.
    #[inline(always)]
    pub fn release(mut self) {
        if let Some(inner) = self.inner.take() {
            give_back(inner);
        }
    }

    /// As [`release`](Lease::release), with settings for this connection alone; see
    /// [`slabpool::Lease::release_with`](crate::Lease::release_with).
    pub fn release_with(mut self, options: impl Into<PutOptions>) {
        if let Some(inner) = self.inner.take() {
            let desk = inner.permit().desk;
            let home = inner.release_with_keeping(options.into());
            home.0.borrow().look_at(desk);
        }
    }

    /// Closes the connection, because it is of no more use.
    pub fn close(mut self) {
        self.inner.take().into_iter().for_each(CoreLease::close);
    }

    /// Closes the connection, because the peer had closed it; see
    /// [`slabpool::Lease::close_dead`](crate::Lease::close_dead).
    pub fn close_dead(mut self) {
        self.inner.take().into_iter().for_each(CoreLease::close_dead);
    }

    /// Takes the connection out of the pool, which forgets it: it counts no longer.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use = "the connection is no longer in the pool"]
    pub fn detach(mut self) -> M::Connection {
        let inner = self.inner.take().expect("a lease ends once");
        inner.detach().into_inner()
    }

    /// The connection's name in the pool.
    pub fn token(&self) -> Token {
        self.inner().token()
    }

    /// The key that it was opened for.
    pub fn key(&self) -> &K {
        self.inner().key()
    }

    /// What is known of it.
    pub fn meta(&self) -> Meta {
        let crate::Meta { age, idle_for, uses, reused, .. } = self.inner().meta();
        Meta {
            age,
            idle_for,
            uses,
            reused,
            connected: !reused && self.inner().is_own(),
            waited: Duration::from_nanos(self.waited),
        }
    }

    /// The pool that it is of.
    pub(crate) fn holder(&self) -> &Pool<K, M> {
        self.inner().holder().0.borrow()
    }

    #[inline(always)]
    fn inner(&self) -> &Inner<P, K, M> {
        self.inner.as_ref().expect("a lease ends once")
    }
}

/// Releases a connection, and looks whether somebody waits for one: in this order, see
/// `desk.rs`.
#[inline(always)]
fn give_back<P, K, M>(inner: Inner<P, K, M>)
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    let desk = inner.permit().desk;
    let home = inner.release_keeping();
    home.0.borrow().look_at(desk);
}

/// Closes the connection of a lease that was dropped; its permit wakes who waits. Out of the
/// way of those that are released.
#[inline(never)]
fn let_go<P, K, M>(inner: Inner<P, K, M>)
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    drop(inner);
}

impl<P, K, M> Drop for Lease<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline]
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if inner.holder().0.borrow().inner().core.engine().config.release_on_drop {
            give_back(inner);
        } else {
            let_go(inner);
        }
    }
}

impl<P, K, M> Deref for Lease<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    type Target = M::Connection;

    #[inline]
    fn deref(&self) -> &M::Connection {
        self.inner()
    }
}

impl<P, K, M> DerefMut for Lease<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        self.inner.as_mut().expect("a lease ends once")
    }
}

impl<P, K, M> fmt::Debug for Lease<P, K, M>
where
    P: Borrow<Pool<K, M>>,
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("token", &self.token())
            .field("connection", &**self)
            .finish_non_exhaustive()
    }
}
