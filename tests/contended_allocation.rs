//! Two threads that get and release the same connections at the same time allocate nothing.
//!
//! One test, since the allocator counts for the whole process.

mod counting;

use std::hint;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;

use counting::CALLS;
use slabpool::{Builder, Pool};

const THREADS: usize = 2;
const ROUNDS: u64 = if cfg!(miri) {
    200
} else if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// A get and a release by key, and as many on a handle, two connections at a time.
fn use_it(pool: &Pool<u64, u64>, rounds: u64) {
    let group = pool.group(&1);
    let round = || {
        let by_key = pool.get(&1).expect("there are as many as are held at a time");
        let by_handle = group.get().expect("there are as many as are held at a time");
        hint::black_box((*by_key, *by_handle));
        by_key.release();
        by_handle.release();
    };
    (0..rounds).for_each(|_| round());
}

/// Calls to the allocator while all threads are at it.
fn calls(builder: Builder<u64, u64>) -> usize {
    let pool = builder.capacity(64).build().unwrap();
    // Tickets that stay behind, so that there are spares.
    let mut below = pool.put(&1, 0).unwrap();
    for id in 0..64 {
        let top = pool.put(&1, id).unwrap();
        assert!(pool.evict(below));
        below = top;
    }
    (0..2 * THREADS as u64).for_each(|id| assert!(pool.put(&1, id).is_ok()));
    let (ready, done) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                // What a thread needs when it first comes.
                use_it(&pool, 100);
                ready.wait();
                ready.wait();
                use_it(&pool, ROUNDS);
                done.wait();
                // A thread that ends gives back its number, which may allocate.
                done.wait();
            });
        }
        ready.wait();
        let before = CALLS.load(Ordering::Relaxed);
        ready.wait();
        done.wait();
        let calls = CALLS.load(Ordering::Relaxed) - before;
        done.wait();
        assert_eq!(pool.stats().misses.total(), 0);
        calls
    })
}

#[test]
fn gets_and_releases_of_threads_that_contend_allocate_nothing() {
    assert_eq!(calls(Pool::builder().lanes(1)), 0, "one lane");
    assert_eq!(calls(Pool::builder().lanes(4)), 0, "four lanes");
    assert_eq!(calls(Pool::builder()), 0, "lanes that come by themselves");
    assert_eq!(calls(Pool::builder().max_idle_per_group(32)), 0, "a cap");
}
