//! Contenders at insertion: into a pool that is full, and must close a connection for
//! each it takes, and into one that is not.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use pingora_pool::ConnectionPool;

use super::{Connection, Contender, Work, pairs, pool};

/// What a full pool holds.
const BOUND: usize = 1_024;

/// Each insertion closes the connection that was put longest ago; pingora-pool closes
/// 17 at a time. Each connection has a key of its own.
pub const PUT_NEW_KEY: [Contender; 2] =
    [("slabpool", slabpool_put_new_key), ("pingora-pool", pingora_put_new_key)];

/// The same, with all connections in one group.
pub const PUT_ONE_KEY: [Contender; 3] = [
    ("slabpool, handle", slabpool_put_handle),
    ("slabpool, key", slabpool_put_one_key),
    ("pingora-pool", pingora_put_one_key),
];

/// A connection that comes and goes, with none closed for it.
pub const COME_AND_GO: [Contender; 4] = [
    ("slabpool insert + detach, handle", slabpool_churn_handle),
    ("slabpool insert + detach, one key", || slabpool_churn(|_| 7)),
    ("slabpool insert + detach, new key", || slabpool_churn(|connection| connection)),
    ("pingora-pool put + get, new key", pingora_churn),
];

/// A connection under a key of its own, so that its group comes and goes with it.
pub fn slabpool_put_new_key() -> Work {
    let pool = pool::<u64>(BOUND);
    full(move |connection| {
        pool.put(&connection, connection).expect("others are idle");
    })
}

/// All under one key.
pub fn slabpool_put_one_key() -> Work {
    let pool = pool::<u64>(BOUND);
    full(move |connection| {
        pool.put(&7, connection).expect("others are idle");
    })
}

fn slabpool_put_handle() -> Work {
    let group = pool::<u64>(BOUND).group(&7);
    full(move |connection| {
        group.put(connection).expect("others are idle");
    })
}

/// As [`slabpool_put_new_key`].
pub fn pingora_put_new_key() -> Work {
    pingora_put(|connection| connection)
}

/// As [`slabpool_put_one_key`].
pub fn pingora_put_one_key() -> Work {
    pingora_put(|_| 7)
}

fn pingora_put(key: impl Fn(Connection) -> u64 + Send + Sync + 'static) -> Work {
    let pool = ConnectionPool::new(BOUND);
    full(move |connection| pairs::pingora_put(&pool, key(connection), connection))
}

/// A new connection that is never released.
pub fn slabpool_churn_handle() -> Work {
    let group = pool::<u64>(BOUND).group(&7);
    numbered(move |connection| {
        let lease = group.insert(connection).expect("there is room");
        black_box(lease.detach());
    })
}

fn slabpool_churn(key: impl Fn(Connection) -> u64 + Send + Sync + 'static) -> Work {
    let pool = pool::<u64>(BOUND);
    // Keeps the group of the one key; no connection has this number.
    let group = pool.group(&7);
    numbered(move |connection| {
        let lease = group.pool().insert(&key(connection), connection).expect("there is room");
        black_box(lease.detach());
    })
}

fn pingora_churn() -> Work {
    let pool = ConnectionPool::new(BOUND);
    numbered(move |connection| {
        pairs::pingora_put(&pool, connection, connection);
        black_box(pool.get(&connection)).expect("it was just put");
    })
}

/// An operation on a pool that is full already.
fn full(operation: impl Fn(Connection) + Send + Sync + 'static) -> Work {
    let work = numbered(operation);
    work(0, 2 * BOUND as u64);
    work
}

/// An operation on a new connection each time.
fn numbered(operation: impl Fn(Connection) + Send + Sync + 'static) -> Work {
    let next = AtomicU64::new(1_000);
    Box::new(move |_, count| {
        let first = next.fetch_add(count, Ordering::Relaxed);
        (first..first + count).for_each(&operation);
    })
}
