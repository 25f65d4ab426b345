//! The bound of the pool: a count of permits, one for each connection in it.

use crate::sync::{AtomicUsize, Ordering};

/// Permits, given out and free.
#[derive(Debug)]
pub(crate) struct Capacity {
    used: AtomicUsize,
    max: usize,
}

impl Capacity {
    pub fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// Takes a permit if one is free. Never more than `max` are out.
    pub fn reserve(&self) -> Option<Permit<'_>> {
        // Relaxed: the count guards no data, only itself.
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
        // Relaxed: as in `reserve`.
        let before = self.0.used.fetch_sub(1, Ordering::Relaxed);
        debug_assert_ne!(before, 0, "a permit was freed twice");
    }
}
