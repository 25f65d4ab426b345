//! Connections that somebody has got, and is not to use.
//!
//! A watcher may find out that something has happened to a connection, and have read it,
//! while somebody takes that connection out of the pool. Pingora does not use what it does
//! not have alone. So another share of it is kept until it has given up its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shares of connections. That there is one at all is rare.
#[derive(Default)]
pub(crate) struct Spoiled {
    /// Whether there may be any.
    any: AtomicBool,
    shares: Mutex<Vec<Box<dyn Share>>>,
}

/// A share of a connection, of whatever type.
trait Share: Send {
    fn is_last(&self) -> bool;
}

impl<T: Send + Sync> Share for Arc<T> {
    fn is_last(&self) -> bool {
        Arc::strong_count(self) == 1
    }
}

impl Spoiled {
    /// Keeps a share as long as there are others.
    pub fn keep<T: Send + Sync + 'static>(&self, share: Arc<T>) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.push(Box::new(share));
        // Relaxed: a later call sees it.
        self.any.store(true, Ordering::Relaxed);
    }

    /// Gives up the shares that are the last.
    #[inline]
    pub fn tidy(&self) {
        if self.any.load(Ordering::Relaxed) {
            self.tidy_slowly();
        }
    }

    #[cold]
    fn tidy_slowly(&self) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let last: Vec<_> = shares.extract_if(.., |share| share.is_last()).collect();
        self.any.store(!shares.is_empty(), Ordering::Relaxed);
        drop(shares);
        // Not sooner: this may close sockets.
        drop(last);
    }
}

impl fmt::Debug for Spoiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spoiled").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_until_it_is_the_last() {
        let (spoiled, theirs) = (Spoiled::default(), Arc::new(1));
        spoiled.keep(Arc::clone(&theirs));
        spoiled.tidy();
        assert_eq!(Arc::strong_count(&theirs), 2);
        let witness = Arc::downgrade(&theirs);
        drop(theirs);
        spoiled.tidy();
        assert!(witness.upgrade().is_none());
        assert!(!spoiled.any.load(Ordering::Relaxed), "nothing to do any more");
    }
}
