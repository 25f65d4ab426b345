//! What is allocated, and when. One test, so that no other thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use slabpool::{Clock, Pool};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates, and how many bytes it leaves allocated.
fn cost(work: impl FnOnce()) -> (u64, i64) {
    let before = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    work();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before.0;
    (allocations, BYTES.load(Ordering::Relaxed) as i64 - before.1 as i64)
}

/// Fewer rounds without optimisations, where they take long.
const ROUNDS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// More than any of this may leave behind: a page of a queue, say.
const SLACK: i64 = 64 * 1024;

fn get_and_release_allocate_nothing() {
    let pool = Pool::<u64, u64>::builder().capacity(1_000).build().unwrap();
    for key in 0..100 {
        pool.put(&key, key).unwrap();
    }
    let group = pool.group(&7);
    let by_handle = || (0..ROUNDS).for_each(|_| group.get().unwrap().release());
    let by_key = || (0..ROUNDS).for_each(|at| pool.get(&(at % 100)).unwrap().release());
    by_key();
    assert_eq!(cost(by_handle), (0, 0), "on a handle");
    assert_eq!(cost(by_key), (0, 0), "by key");
    let missing = || (0..ROUNDS).for_each(|_| assert!(pool.get(&100).is_none()));
    assert_eq!(cost(missing), (0, 0), "a miss");
}

fn what_comes_and_goes_allocates_next_to_nothing() {
    let pool = Pool::<u64, u64>::builder().capacity(1_000).build().unwrap();
    let group = pool.group(&7);
    let churn = || (0..ROUNDS).for_each(|at| assert_eq!(group.insert(at).unwrap().detach(), at));
    churn();
    let (allocations, bytes) = cost(churn);
    assert!(allocations <= ROUNDS / 100, "{allocations} in {ROUNDS} rounds");
    assert!(bytes <= SLACK, "{bytes} bytes left");
}

fn memory_stays_flat_at_the_bound() {
    let pool = Pool::<u64, u64>::builder().capacity(64).build().unwrap();
    let put = |key: u64, at: u64| {
        pool.put(&key, at).unwrap();
    };
    let one_group = || (0..ROUNDS).for_each(|at| put(1, at));
    one_group();
    let (_, bytes) = cost(one_group);
    assert!(bytes <= SLACK, "{bytes} bytes left by one group");
    assert_eq!(pool.status().groups, 1);

    let many = ROUNDS / 10;
    let many_groups = |from: u64| (0..many).for_each(|at| put(from + at, at));
    many_groups(1_000);
    let (_, bytes) = cost(|| many_groups(1_000_000_000));
    assert!(bytes <= SLACK, "{bytes} bytes left by {many} groups");
    assert_eq!(pool.status().groups, 64);
    pool.clear();
    assert_eq!(pool.status().groups, 0);
}

fn a_group_that_is_emptied_from_below_stays_flat() {
    // The top is used all the time, and what lies below is evicted and replaced: void
    // tickets would collect where no get ever comes.
    let pool = Pool::<u8, u64>::builder().capacity(1_000).build().unwrap();
    let round = |at: u64| {
        let below = pool.put(&1, at).unwrap();
        pool.put(&1, at).unwrap();
        assert!(pool.evict(below));
        assert_eq!(pool.get(&1).unwrap().detach(), at);
    };
    pool.put(&1, 0).unwrap();
    (0..ROUNDS / 10).for_each(round);
    let (_, bytes) = cost(|| (0..ROUNDS / 10).for_each(round));
    assert!(bytes <= SLACK, "{bytes} bytes left");
    assert_eq!(pool.status().idle, 1);
}

fn memory_stays_flat_while_connections_expire() {
    let clock = Clock::manual();
    let pool = Pool::<u64, u64>::builder().capacity(1_000).clock(&clock).build().unwrap();
    let churn = || {
        for at in 0..ROUNDS / 10 {
            pool.put(&(at % 100), at).unwrap();
            if at % 500 == 0 {
                clock.advance(pool.tick());
                pool.maintain();
            }
        }
    };
    churn();
    let (_, bytes) = cost(churn);
    assert!(bytes <= SLACK, "{bytes} bytes left");
}

#[test]
fn allocations_are_few_and_memory_is_bounded() {
    get_and_release_allocate_nothing();
    what_comes_and_goes_allocates_next_to_nothing();
    memory_stays_flat_at_the_bound();
    a_group_that_is_emptied_from_below_stays_flat();
    memory_stays_flat_while_connections_expire();
}
