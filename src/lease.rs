//! A connection in use.

use std::borrow::Borrow;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use crate::engine::RawLease;
use crate::error::CloseReason;
use crate::pool::Pool;
use crate::settings::PutOptions;
use crate::stats::Meta;
use crate::token::Token;

/// A leased connection that borrows the pool.
pub type Pooled<'a, K, C> = Lease<&'a Pool<K, C>, K, C>;

/// A leased connection that keeps the pool alive; `'static`, to be moved into a
/// task. Costs one reference count more than [`Pooled`].
pub type PooledOwned<K, C> = Lease<Pool<K, C>, K, C>;

/// A leased connection: [`Pooled`] or [`PooledOwned`].
///
/// It dereferences to the connection, which stays where it is in the slab.
///
/// End it with [`release`](Lease::release) when the exchange is complete and the
/// connection is clean, and the next user may have it. **Dropping it closes the
/// connection**, since a lease is also dropped when a request is cancelled or fails
/// half-way, with an answer still to come; see
/// [`Builder::release_on_drop`](crate::Builder::release_on_drop).
///
/// To forget a lease ([`std::mem::forget`]) leaks the connection and its share of
/// the capacity.
#[must_use = "dropping a lease closes its connection"]
pub struct Lease<P: Borrow<Pool<K, C>>, K, C> {
    pool: P,
    raw: RawLease<K, C>,
}

// SAFETY: a lease is the only one to touch its connection (S2), so that it may be
// sent as `C` may, and shared as `C` may. What else it refers to is shared by way of
// the pool, which says for itself (`P`) whether it may be sent and shared.
unsafe impl<P: Borrow<Pool<K, C>> + Send, K: Send + Sync, C: Send> Send for Lease<P, K, C> {}
// SAFETY: as above.
unsafe impl<P: Borrow<Pool<K, C>> + Sync, K: Send + Sync, C: Send + Sync> Sync for Lease<P, K, C> {}

impl<P: Borrow<Pool<K, C>>, K, C> Lease<P, K, C> {
    #[inline(always)]
    pub(crate) fn new(pool: P, raw: RawLease<K, C>) -> Self {
        Self { pool, raw }
    }

    /// Makes the connection idle: the next to ask for its key gets it. Closes it
    /// instead if its time is up, or its group has enough, or the pool was closed.
    ///
    /// Takes no lock and does not allocate: one read-modify-write. In a pool that
    /// [watches](crate::Builder::watch), a connection whose user has read from it must be
    /// watched anew, which costs what its [`poll_liveness`](crate::Connection) does.
    #[inline(always)]
    pub fn release(self) {
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().release(raw);
    }

    /// As [`release`](Lease::release), with settings for this connection alone, in this
    /// idle spell and those after it: what the server's
    /// [`KeepAlive`](crate::KeepAlive) header says, for example. What they leave open is
    /// as it was said of this connection before; see [`PutOptions`].
    ///
    /// Takes no lock and does not allocate; a read-modify-write or two more than
    /// `release` where the idle timeout is shorter than in the spell before.
    #[inline]
    pub fn release_with(self, options: impl Into<PutOptions>) {
        let options = options.into();
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().release_with(raw, options);
    }

    /// Closes the connection, because the peer had closed it: a request on it failed
    /// before any part of the answer came ([`CloseReason::Dead`]).
    ///
    /// As [`close`](Lease::close), under another name in the statistics; and if the
    /// connection was [reused](crate::Meta::reused), its group may learn from it how long
    /// the peer keeps idle connections, where it is
    /// [told to](crate::Builder::learn_idle_timeout).
    pub fn close_dead(self) {
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().close_dead(raw);
    }

    /// Closes the connection, because it is of no more use
    /// ([`CloseReason::Unhealthy`]).
    pub fn close(self) {
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().end(raw, CloseReason::Unhealthy);
    }

    /// Closes the connection, for this reason.
    pub(crate) fn end(self, reason: CloseReason) {
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().end(raw, reason);
    }

    /// Takes the connection out of the pool, which forgets it.
    #[must_use = "the connection is no longer in the pool"]
    pub fn detach(self) -> C {
        let (pool, raw) = self.into_parts();
        let engine = pool.borrow().engine();
        engine.hand_out(engine.recall(raw))
    }

    /// As [`release`](Lease::release); what the lease had of the pool is the caller's.
    #[cfg(feature = "tokio")]
    #[inline(always)]
    pub(crate) fn release_keeping(self) -> P {
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().release(raw);
        pool
    }

    /// As [`release_with`](Lease::release_with); what the lease had of the pool is the
    /// caller's.
    #[cfg(feature = "tokio")]
    pub(crate) fn release_with_keeping(self, options: PutOptions) -> P {
        let (pool, raw) = self.into_parts();
        pool.borrow().engine().release_with(raw, options);
        pool
    }

    /// The lease with something else to hold the same pool.
    #[cfg(feature = "tokio")]
    #[inline(always)]
    pub(crate) fn held_by<Q: Borrow<Pool<K, C>>>(self, pool: Q) -> Lease<Q, K, C> {
        let (former, raw) = self.into_parts();
        debug_assert!(std::ptr::eq(former.borrow().engine(), pool.borrow().engine()), "E1");
        drop(former);
        Lease { pool, raw }
    }

    #[cfg(feature = "tokio")]
    #[inline(always)]
    pub(crate) fn holder(&self) -> &P {
        &self.pool
    }

    /// How long the connection was idle, in nanoseconds.
    #[cfg(feature = "tokio")]
    #[inline(always)]
    pub(crate) fn idle_nanos(&self) -> u64 {
        self.raw.since.saturating_sub(self.raw.seat().stamp.get())
    }

    /// The connection's name.
    pub fn token(&self) -> Token {
        let record = self.raw.record();
        let card = self.pool.borrow().engine().core.card(record.seat);
        Token { serial: card.serial.get(), key: card.key.get() as usize }
    }

    /// Its age, how long it was idle, how often it was leased, and whether it came
    /// out of the pool or was just inserted.
    pub fn meta(&self) -> Meta {
        self.pool.borrow().engine().meta(&self.raw)
    }

    /// The key that it was inserted under.
    pub fn key(&self) -> &K {
        &self.raw.record().group.key
    }

    /// The parts, for a look.
    #[cfg(feature = "tokio")]
    #[inline(always)]
    pub(crate) fn parts(&self) -> (&Pool<K, C>, &RawLease<K, C>) {
        (self.pool.borrow(), &self.raw)
    }

    /// The parts, without the drop.
    #[inline(always)]
    fn into_parts(self) -> (P, RawLease<K, C>) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped and not used again.
        let pool = unsafe { std::ptr::read(&this.pool) };
        // SAFETY: as above.
        let raw = unsafe { std::ptr::read(&this.raw) };
        (pool, raw)
    }
}

impl<P: Borrow<Pool<K, C>>, K, C> Drop for Lease<P, K, C> {
    fn drop(&mut self) {
        let engine = self.pool.borrow().engine();
        // SAFETY: this is the end of the lease, which is not used again.
        let raw = unsafe { std::ptr::read(&self.raw) };
        if engine.config.release_on_drop {
            engine.release(raw);
        } else {
            engine.end(raw, CloseReason::Dropped);
        }
    }
}

impl<P: Borrow<Pool<K, C>>, K, C> Deref for Lease<P, K, C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        // SAFETY: the lease owns the seat (S2), and the connection is taken out only when
        // it ends (R1).
        unsafe { self.raw.record().connection() }
    }
}

impl<P: Borrow<Pool<K, C>>, K, C> DerefMut for Lease<P, K, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        // SAFETY: as in `deref`; exclusive by `&mut self`.
        unsafe { self.raw.record().connection_mut() }
    }
}

impl<P: Borrow<Pool<K, C>>, K, C: fmt::Debug> fmt::Debug for Lease<P, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("token", &self.token())
            .field("connection", &**self)
            .finish_non_exhaustive()
    }
}
