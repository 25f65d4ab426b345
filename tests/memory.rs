//! How much memory an idle connection takes, beyond the connection itself: also at the worst
//! sizes, at which whatever grows by doubling has just grown.
//!
//! Counted in bytes that were asked of the allocator, so that the numbers are the same
//! wherever this runs. One test, since the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use slabpool::{Clock, Pool};

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes of a connection.
const VALUE: usize = size_of::<u64>();
/// The sum of the slab's first pages, one after the other, is this and twice this.
const PAGES: u64 = 65_504;

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
    for connections in [32_513, 65_025, 100_000, 130_050] {
        let of_many = bytes_each(connections, |number| number % 100);
        let of_own = bytes_each(connections, |number| number);
        println!("{connections}: {of_many:.1} in large groups, {of_own:.1} with a key each");
    }
}
