//! The future of an acquire: small, and quick where a connection is idle.

use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::lease::PooledOwned as CoreOwned;
use crate::managed::error::AcquireError;
use crate::managed::lease::{Home, Lease};
use crate::managed::manager::Manager;
use crate::managed::pool::{First, Pool};
use crate::managed::slot::Slot;

/// What a caller gets that had to seek, and how long that took.
pub(crate) type Sought<K, M> = Result<
    (CoreOwned<K, Slot<<M as Manager<K>>::Connection>>, Duration),
    AcquireError<<M as Manager<K>>::Error>,
>;

/// Seeking is long, and its future large. It is boxed, so that those who need not seek do
/// not carry it around.
pub(crate) type Seeking<K, M> = Pin<Box<dyn Future<Output = Sought<K, M>> + Send>>;

/// How a lease holds the pool.
pub(crate) trait Hold<'a, K, M>: Borrow<Pool<K, M>>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn of(pool: &'a Pool<K, M>) -> Self;
}

impl<'a, K, M> Hold<'a, K, M> for &'a Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline(always)]
    fn of(pool: &'a Pool<K, M>) -> Self {
        pool
    }
}

impl<K, M> Hold<'_, K, M> for Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline(always)]
    fn of(pool: &Pool<K, M>) -> Self {
        pool.clone()
    }
}

/// Looks when it is polled first, and seeks from then on if it must.
///
/// Not an `async fn`: the compiler would not inline that, and a lease would be copied by
/// way of memory, which takes a third of the time of a hit.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Acquire<'a, P, Q: ?Sized, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pool: &'a Pool<K, M>,
    key: &'a Q,
    /// `None` for that of the pool.
    timeout: Option<Duration>,
    seeking: Option<Seeking<K, M>>,
    _lease: PhantomData<fn() -> P>,
}

impl<'a, P, Q: ?Sized, K, M> Acquire<'a, P, Q, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    #[inline(always)]
    pub fn new(pool: &'a Pool<K, M>, key: &'a Q, timeout: Option<Duration>) -> Self {
        Self { pool, key, timeout, seeking: None, _lease: PhantomData }
    }
}

impl<'a, P, Q, K, M> Acquire<'a, P, Q, K, M>
where
    P: Hold<'a, K, M>,
    K: Hash + Eq + Send + Sync + Borrow<Q> + 'static,
    M: Manager<K>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    #[cold]
    #[inline(never)]
    fn seek(
        &mut self,
        found: Option<CoreOwned<K, Slot<M::Connection>>>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        self.seeking = Some(self.pool.seek(self.key, found, self.timeout));
        self.go_on(cx)
    }

    #[cold]
    #[inline(never)]
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let seeking = self.seeking.as_mut().expect("it seeks");
        seeking.as_mut().poll(cx).map_ok(|(lease, waited)| {
            Lease::new(lease.held_by(Home::new(P::of(self.pool))), waited)
        })
    }
}

impl<'a, P, Q, K, M> Future for Acquire<'a, P, Q, K, M>
where
    P: Hold<'a, K, M>,
    K: Hash + Eq + Send + Sync + Borrow<Q> + 'static,
    M: Manager<K>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    type Output = Result<Lease<P, K, M>, AcquireError<M::Error>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.seeking.is_some() {
            return this.go_on(cx);
        }
        match this.pool.first(this.key) {
            First::Hit(lease) => {
                let home = Home::new(P::of(this.pool));
                Poll::Ready(Ok(Lease::new(lease.held_by(home), Duration::ZERO)))
            }
            First::Other(found) => this.seek(found, cx),
        }
    }
}
