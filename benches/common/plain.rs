//! What has locks and queues for a pool, in the shapes of `shapes`.

use std::collections::HashMap;

use ahash::RandomState;
use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;

use super::peers::{MapOfStacks, dash_get, dash_put};
use super::shapes::{Subject, filled};
use super::{Connection, IDLE};

/// A map of vectors, and one lock.
pub type MutexMap = Mutex<HashMap<u64, Vec<Connection>, RandomState>>;

impl Subject for MutexMap {
    type Lease<'a> = Connection;

    fn new(keys: &[u64], idle: u64) -> Self {
        let map = Self::default();
        let put = |key, connection| map.lock().entry(key).or_default().push(connection);
        filled(keys, idle, put);
        map
    }

    #[inline(always)]
    fn get(&self, key: u64) -> Connection {
        self.lock().get_mut(&key).and_then(Vec::pop).expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, key: u64, connection: Connection) {
        self.lock().get_mut(&key).expect("no key goes").push(connection);
    }
}

impl Subject for MapOfStacks<u64> {
    type Lease<'a> = Connection;

    fn new(keys: &[u64], idle: u64) -> Self {
        let map = Self::default();
        filled(keys, idle, |key, connection| dash_put(&map, &key, connection));
        map
    }

    #[inline(always)]
    fn get(&self, key: u64) -> Connection {
        dash_get(self, &key)
    }

    #[inline(always)]
    fn release(&self, key: u64, connection: Connection) {
        dash_put(self, &key, connection);
    }
}

impl Subject for Mutex<Vec<Connection>> {
    type Lease<'a> = Connection;

    fn new(_: &[u64], idle: u64) -> Self {
        Self::new((0..idle).collect())
    }

    #[inline(always)]
    fn get(&self, _: u64) -> Connection {
        self.lock().pop().expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, _: u64, connection: Connection) {
        self.lock().push(connection);
    }
}

impl Subject for ArrayQueue<Connection> {
    type Lease<'a> = Connection;

    fn new(_: &[u64], idle: u64) -> Self {
        let queue = Self::new(idle as usize);
        (0..idle).for_each(|connection| queue.push(connection).expect("there is room"));
        queue
    }

    #[inline(always)]
    fn get(&self, _: u64) -> Connection {
        self.pop().expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, _: u64, connection: Connection) {
        self.push(connection).expect("it was taken out");
    }
}
