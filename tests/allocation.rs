//! What the pool allocates: nothing for a get and a release, little for an
//! insertion, and no more in the long run than at the beginning.
//!
//! One test, since the allocator counts for the whole process.

mod counting;

use std::hint;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use counting::{BYTES, CALLS};
use slabpool::{Clock, Connection, KeepAlive, Liveness, Pool};

const MILLION: u64 = if cfg!(miri) {
    2_000
} else if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// Calls to the allocator while `run` runs.
fn calls(run: impl FnOnce()) -> usize {
    let before = CALLS.load(Ordering::Relaxed);
    run();
    CALLS.load(Ordering::Relaxed) - before
}

/// Bytes more than before, after `run`.
fn growth(run: impl FnOnce()) -> isize {
    let before = BYTES.load(Ordering::Relaxed);
    run();
    BYTES.load(Ordering::Relaxed) - before
}

fn pool(capacity: usize) -> Pool<u64, u64> {
    Pool::builder().capacity(capacity).build().unwrap()
}

#[test]
fn the_allocator_has_little_to_do() {
    gets_and_releases_allocate_nothing();
    gets_and_releases_of_watched_connections_allocate_nothing();
    #[cfg(feature = "tokio")]
    hits_of_the_managed_pool_allocate_nothing();
    an_insertion_allocates_once_at_most();
    memory_stays_flat_while_connections_come_and_go_in_one_group();
    memory_stays_flat_while_connections_are_removed_by_token();
    memory_stays_flat_over_any_number_of_keys();
    memory_stays_flat_while_connections_expire();
}

fn gets_and_releases_allocate_nothing() {
    let pool = pool(2_000);
    for key in 0..1_000 {
        pool.put(&key, key).unwrap();
        pool.get(&key).unwrap().release();
    }
    let group = pool.group(&7);
    let run = || {
        for n in 0..MILLION {
            let lease = group.get().unwrap();
            hint::black_box(*lease);
            lease.release();
            let lease = pool.get(&(n % 1_000)).unwrap();
            hint::black_box((*lease, lease.meta(), lease.token()));
            lease.release();
        }
    };
    assert_eq!(calls(run), 0);
    // Each one sooner than the reaper had planned to look.
    let leases: Vec<_> = (0..1_000).map(|key| pool.get(&key).unwrap()).collect();
    let said = || {
        for (n, lease) in leases.into_iter().enumerate() {
            lease.release_with(KeepAlive::parse(["timeout=5, max=100", "timeout=\"7\""][n % 2]));
        }
    };
    assert_eq!(calls(said), 0);
    let misses = || {
        for key in 0..MILLION {
            assert!(pool.get(&(key + 1_000)).is_none());
        }
    };
    assert_eq!(calls(misses), 0);
    let owned = || (0..1_000).for_each(|key| pool.get_owned(&key).unwrap().release());
    assert_eq!(calls(owned), 0);
}

/// Knows who waits for something to read.
#[derive(Default)]
struct Watched {
    reader: Option<Waker>,
    dead: bool,
}

impl Connection for Watched {
    fn liveness(&mut self) -> Liveness {
        Liveness::Alive
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        if self.dead {
            return Poll::Ready(Liveness::Closed);
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn gets_and_releases_of_watched_connections_allocate_nothing() {
    let pool = Pool::<u64, Watched>::builder().watch().build().unwrap();
    let leases: Vec<_> = (0..100).map(|_| pool.insert(&1, Watched::default()).unwrap()).collect();
    // Also when it is the first release.
    assert_eq!(calls(|| leases.into_iter().for_each(|lease| lease.release())), 0);
    let run = || {
        for n in 0..MILLION {
            let mut lease = pool.get(&1).unwrap();
            if n % 2 == 0 {
                lease.reader = None;
            }
            lease.release();
        }
    };
    assert_eq!(calls(run), 0);
    let dead = || {
        for _ in 0..MILLION {
            pool.put(&1, Watched { reader: None, dead: true }).unwrap();
        }
    };
    dead();
    assert_eq!(growth(dead), 0, "those that are dead when they are put leave something");
}

fn an_insertion_allocates_once_at_most() {
    let pool = pool(100);
    let group = pool.group(&1);
    let run = || {
        for n in 0..MILLION {
            assert_eq!(group.insert(n).unwrap().detach(), n);
        }
    };
    run();
    let detached = calls(run);
    assert!(detached as u64 <= MILLION, "{detached} allocations in {MILLION} insertions");
    let closed = calls(|| (0..MILLION).for_each(|n| group.insert(n).unwrap().close()));
    assert!(closed as u64 <= MILLION, "{closed} allocations in {MILLION} insertions");
}

fn memory_stays_flat_while_connections_come_and_go_in_one_group() {
    let pool = pool(1_000);
    let run = || {
        for n in 0..MILLION {
            pool.put(&1, n).unwrap();
        }
    };
    run();
    let growth = growth(run);
    assert!(growth < 64 << 10, "{growth} bytes after {MILLION} insertions");
    assert_eq!((pool.status().idle, pool.status().groups), (1_000, 1));
}

fn memory_stays_flat_while_connections_are_removed_by_token() {
    let pool = pool(1_000);
    pool.put(&1, 0).unwrap();
    // From below: nobody ever gets to the tickets that are left.
    let run = || {
        let mut below = pool.put(&1, 1).unwrap();
        for n in 0..MILLION / 2 {
            let top = pool.put(&1, n).unwrap();
            assert!(pool.evict(below));
            below = top;
        }
        assert!(pool.take(below).is_some());
    };
    run();
    let growth = growth(run);
    assert!(growth < 64 << 10, "{growth} bytes after {MILLION} removals");
}

fn memory_stays_flat_over_any_number_of_keys() {
    let pool = pool(1_000);
    let run = |first: u64| {
        for key in first..first + MILLION / 2 {
            pool.put(&key, key).unwrap();
        }
    };
    run(0);
    let growth = growth(|| run(MILLION));
    assert!(growth < 64 << 10, "{growth} bytes after {MILLION} keys");
    assert_eq!((pool.status().idle, pool.status().groups), (1_000, 1_000));
    pool.clear();
    assert_eq!((pool.status().idle, pool.status().groups), (0, 0));
}

fn memory_stays_flat_while_connections_expire() {
    let clock = Clock::manual();
    let pool = Pool::<u64, u64>::builder().capacity(1_000).clock(&clock).build().unwrap();
    let run = || {
        for n in 0..MILLION / 2 {
            pool.put(&(n % 100), n).unwrap();
            if n % 500 == 0 {
                clock.advance(pool.tick());
                pool.maintain();
            }
        }
    };
    run();
    let growth = growth(run);
    assert!(growth < 64 << 10, "{growth} bytes after {MILLION} insertions");
}

#[cfg(feature = "tokio")]
fn hits_of_the_managed_pool_allocate_nothing() {
    use std::convert::Infallible;
    use std::pin::pin;

    let connect = |key: &u64| std::future::ready(Ok::<u64, Infallible>(*key));
    let pool = slabpool::managed::Pool::builder(connect)
        .settings(|core| core.spawn_reaper(false))
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { pool.acquire(&7).await.unwrap().release() });
    let calls = calls(|| {
        for _ in 0..1_000 {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Ok(lease)) = pin!(pool.acquire(&7)).poll(&mut cx) else {
                panic!("one is idle")
            };
            lease.release();
            let Poll::Ready(Ok(lease)) = pin!(pool.acquire_owned(&7)).poll(&mut cx) else {
                panic!("one is idle")
            };
            lease.release();
        }
    });
    assert_eq!(calls, 0);
}
