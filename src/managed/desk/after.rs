//! What comes after the lock.

use std::task::Waker;

use super::Trade;

/// What is to be done without the lock, by dropping this. So it is made before the lock is
/// taken.
#[must_use = "somebody may have to be woken"]
pub struct After<T: Trade> {
    pub(super) wakers: Vec<Waker>,
    grants: Vec<T::Grant>,
    pub(super) failure: Option<T::Failure>,
}

impl<T: Trade> Default for After<T> {
    fn default() -> Self {
        Self { wakers: Vec::new(), grants: Vec::new(), failure: None }
    }
}

impl<T: Trade> After<T> {
    pub(super) fn note(&mut self, (waker, grant): (Option<Waker>, Option<T::Grant>)) {
        self.wakers.extend(waker);
        self.grants.extend(grant);
    }
}

impl<T: Trade> Drop for After<T> {
    fn drop(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
        // Permits that were not used free themselves, and so find their next waiter.
        self.grants.clear();
    }
}
