//! What those who share have in hand, and must give back however they end.

use std::hash::Hash;

use crate::managed::manager::Manager;
use crate::managed::pool::Inner;

/// One who is about to open a connection to the others who share, or looks for one.
pub(crate) struct Prospect<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: &'a Inner<K, M>,
    pub desk: u32,
    /// Whether the desk still counts it.
    counts: bool,
}

impl<'a, K, M> Prospect<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// One that the desk has counted.
    pub fn of(inner: &'a Inner<K, M>, desk: u32) -> Self {
        Self { inner, desk, counts: true }
    }

    /// The caller says to the desk what came of it.
    pub fn spend(mut self) {
        self.counts = false;
    }

    /// It has a connection that serves one at a time.
    pub fn alone(mut self) {
        self.counts = false;
        self.end(true);
    }

    fn end(&self, alone: bool) {
        let registry = &self.inner.registry;
        let make = || registry.grant(self.desk);
        let desk = registry.desk(self.desk);
        desk.unprospect(alone, &desk.limits, make);
    }
}

impl<K, M> Drop for Prospect<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        if self.counts {
            self.end(false);
        }
    }
}

/// A stream that may not be kept: it is as if it had never begun, when this is dropped.
pub(super) struct Trial<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub inner: &'a Inner<K, M>,
    pub channel: u32,
}

impl<K, M> Drop for Trial<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        self.inner.undo_stream(self.channel);
    }
}

/// A channel that is held for a look. It is let go when this is dropped.
pub(super) struct Hold<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub inner: &'a Inner<K, M>,
    pub channel: u32,
}

impl<K, M> Drop for Hold<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        self.inner.end_stream(self.channel);
    }
}
