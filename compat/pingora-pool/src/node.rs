//! A set of things with numbers. Pingora keeps the HTTP/2 connections of a peer in one that
//! have streams, and room for more.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::meta::Id;

/// Things with numbers. The one that came last goes first.
///
/// A lock and a vector: Pingora makes one of these for each peer that has HTTP/2 connections
/// in use, behind a lock of its own, and there are few connections in it.
pub struct PoolNode<T> {
    /// In the order in which they came.
    things: Mutex<Vec<(Id, T)>>,
}

impl<T> PoolNode<T> {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self { things: Mutex::new(Vec::new()) }
    }

    /// Takes the thing that came last.
    pub fn get_any(&self) -> Option<(Id, T)> {
        self.lock().pop()
    }

    /// Puts a thing in, in the place of what has this number. Takes time for each thing that
    /// is in it.
    ///
    /// Pingora may put one connection in twice, when two of its streams begin and end at the
    /// same time, and takes it out once. The other one would keep it open for ever.
    pub fn insert(&self, id: Id, conn: T) {
        let mut things = self.lock();
        let index = things.iter().rposition(|(other, _)| *other == id);
        let former = index.map(|index| things.remove(index));
        things.push((id, conn));
        drop(things);
        // Not sooner: this may close a socket.
        drop(former);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes the thing with this number. The others stay where they are, and are there for
    /// everybody meanwhile. Takes time for each that came later.
    pub fn remove(&self, id: Id) -> Option<T> {
        let mut things = self.lock();
        let index = things.iter().rposition(|(other, _)| *other == id)?;
        Some(things.remove(index).1)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, T)>> {
        // Nobody panics with it, but for want of memory: then nothing was changed.
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for PoolNode<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for PoolNode<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolNode").field("len", &self.lock().len()).finish_non_exhaustive()
    }
}
