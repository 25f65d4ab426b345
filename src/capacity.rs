//! The bound of the pool: a count of permits, one for each connection in it.

use crate::sync::{AtomicUsize, Ordering};

/// Set in the count when the pool was closed: none are given out any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Permits, given out and free.
#[derive(Debug)]
pub(crate) struct Capacity {
    /// How many are out, and [`CLOSED`].
    used: AtomicUsize,
    max: usize,
    /// Wakes those who wait for the last permit of a closed pool.
    #[cfg(feature = "tokio")]
    emptied: tokio::sync::Notify,
}

impl Capacity {
    pub fn new(max: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            max,
            #[cfg(feature = "tokio")]
            emptied: tokio::sync::Notify::new(),
        }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// Gives out no more permits. Their number only falls from here on.
    pub fn close(&self) {
        // Relaxed: as in `reserve`.
        self.used.fetch_or(CLOSED, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        // Relaxed: for whoever was refused for that reason, and has read it then.
        self.used.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// How many permits are out.
    #[cfg(any(feature = "tokio", slabpool_loom))]
    pub fn used(&self) -> usize {
        // Acquire: pairs with the Release of whoever freed a permit. What became of
        // its connection is seen.
        self.used.load(Ordering::Acquire) & !CLOSED
    }

    /// Waits until no permit of a closed pool is out.
    #[cfg(feature = "tokio")]
    pub async fn emptied(&self) {
        let mut emptied = std::pin::pin!(self.emptied.notified());
        // Before the count is read: whoever frees the last one after that wakes us.
        emptied.as_mut().enable();
        if self.used() > 0 {
            emptied.await;
        }
    }

    /// Takes a permit if one is free. Never more than `max` are out, none if closed.
    pub fn reserve(&self) -> Option<Permit<'_>> {
        // Relaxed: the count guards no data, only itself. CLOSED is larger than any
        // `max`.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < self.max).then_some(used + 1)
            })
            .is_ok()
            .then(|| Permit(self))
    }

    /// The permit that was left with a connection, when that is removed.
    pub fn reclaim(&self) -> Permit<'_> {
        Permit(self)
    }
}

/// The right of one connection to be in the pool. Dropping it frees it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit<'a>(&'a Capacity);

impl Permit<'_> {
    /// Leaves the permit with a connection, until it is reclaimed.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `used`.
        let before = self.0.used.fetch_sub(1, Ordering::Release);
        debug_assert_ne!(before & !CLOSED, 0, "a permit was freed twice");
        #[cfg(feature = "tokio")]
        if before == CLOSED | 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
