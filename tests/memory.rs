//! How much memory an idle connection takes, beyond the connection itself: also at the worst
//! sizes, at which whatever grows by doubling has just grown.
//!
//! Counted in bytes that were asked of the allocator, so that the numbers are the same
//! wherever this runs. One test, since the allocator counts for the whole process.

mod counting;

use std::sync::atomic::Ordering;

use counting::BYTES;
use slabpool::{Clock, Pool};

/// The bytes of a connection.
const VALUE: usize = size_of::<u64>();
/// The most that is allowed, for each connection, where a hundred keys share them.
const OF_MANY_MAX: f64 = 192.0;
/// The same where each has a key of its own.
const OF_OWN_MAX: f64 = 640.0;

/// Bytes for each of so many idle connections beyond the connection itself, those that an
/// empty pool takes included. `key` says under which key each is.
fn bytes_each(connections: u64, key: impl Fn(u64) -> u64) -> f64 {
    let clock = Clock::manual();
    let before = BYTES.load(Ordering::Relaxed);
    let pool = Pool::<u64, u64>::builder().capacity(1 << 20).clock(&clock).build().unwrap();
    for number in 0..connections {
        pool.put(&key(number), number).unwrap();
    }
    // Now the reaper has them all in its wheel.
    pool.maintain();
    assert_eq!(pool.status().idle as u64, connections);
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    drop(pool);
    bytes as f64 / connections as f64 - VALUE as f64
}

#[test]
fn an_idle_connection_takes_little() {
    // At the first of them a slab has just grown.
    for connections in [65_281, 100_000] {
        let of_many = bytes_each(connections, |number| number % 100);
        assert!(of_many <= OF_MANY_MAX, "{of_many:.1} bytes each for {connections}");
        // Also the least that it can be, so that it is known to be all that is counted.
        assert!(of_many > 128.0, "{of_many:.1} bytes each for {connections}");
    }
    for connections in [65_281, 100_000] {
        let of_own = bytes_each(connections, |number| number);
        assert!(of_own <= OF_OWN_MAX, "{of_own:.1} bytes each for {connections} keys");
    }
}
