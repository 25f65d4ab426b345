//! A pool that is drained waits for its leases: until the last one has ended, or until
//! the deadline, and not longer.

#![cfg(feature = "tokio")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use slabpool::{Clock, CloseReason, Drained, Pool, RejectReason};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::Instant;

use common::{Connection, Journal, SECOND, Tally, paused_runtime};

/// Longer than any test takes: who waits for this has lost a wake-up.
const LONG: Duration = Duration::from_secs(3_600);

/// A runtime with threads and with the time of the clock on the wall.
fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Polls a future once, outside any runtime.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn complete(drained: Drained) -> bool {
    assert_eq!(drained.is_complete(), drained.remaining == 0);
    drained.is_complete()
}

#[test]
fn a_drained_pool_is_closed_and_the_last_lease_ends_the_waiting() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let builder = Pool::<u8, _>::builder().clock(Clock::manual()).on_close(journal.hook());
    let pool = builder.build().unwrap();
    paused_runtime().block_on(async {
        let start = Instant::now();
        pool.put(&1, tally.connect(0)).unwrap();
        let first = pool.insert_owned(&1, tally.connect(1)).unwrap();
        let second = pool.insert_owned(&2, tally.connect(2)).unwrap();
        let drain = pool.drain(LONG);
        assert!(pool.is_closed(), "before it is polled");
        assert_eq!(journal.read(), [(1, 0, CloseReason::Closed)]);
        let drain = tokio::spawn(drain);
        yield_now().await;
        first.release();
        yield_now().await;
        assert!(!drain.is_finished());
        assert_eq!(pool.put(&1, tally.connect(3)).unwrap_err().reason, RejectReason::Closed);
        assert!(pool.get(&1).is_none());
        second.release();
        assert!(complete(drain.await.unwrap()));
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody looked at the time");
    });
    assert_eq!(journal.read(), [(1, 1, CloseReason::Closed), (2, 2, CloseReason::Closed)]);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn a_forgotten_lease_is_waited_for_until_the_deadline() {
    let pool = Pool::<u8, u32>::builder().clock(Clock::manual()).build().unwrap();
    std::mem::forget(pool.insert(&1, 1).unwrap());
    let kept = pool.insert(&1, 2).unwrap();
    paused_runtime().block_on(async {
        let start = Instant::now();
        let drained = pool.drain(7 * SECOND).await;
        assert_eq!((drained.remaining, drained.is_complete()), (2, false));
        assert_eq!(drained.to_string(), "2 connections were still out at the deadline");
        let late = start.elapsed() - 7 * SECOND;
        assert!(late <= Duration::from_millis(1), "rounded up to a millisecond, not {late:?}");
        kept.release();
        let again = pool.drain(SECOND).await;
        assert_eq!(again.to_string(), "1 connection was still out at the deadline");
    });
    assert_eq!(pool.stats().closes[CloseReason::Closed], 1);
}

#[test]
fn a_deadline_of_zero_closes_and_reports_without_a_runtime() {
    let pool = Pool::<u8, u32>::new();
    pool.put(&1, 1).unwrap();
    let lease = pool.insert(&1, 2).unwrap();
    let Poll::Ready(drained) = poll_once(pool.drain(Duration::ZERO)) else { panic!("it waits") };
    assert_eq!(drained.remaining, 1);
    assert!(pool.is_closed());
    lease.release();
    let Poll::Ready(drained) = poll_once(pool.drain(LONG)) else { panic!("it waits") };
    assert!(complete(drained), "and needs no timer when there is nothing to wait for");
    assert_eq!(drained.to_string(), "drained");
}

#[test]
fn a_deadline_may_be_as_long_as_it_likes() {
    let pool = Pool::<u8, u32>::new();
    for deadline in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
        let pool = if pool.is_closed() { Pool::new() } else { pool.clone() };
        paused_runtime().block_on(async {
            let lease = pool.insert_owned(&1, 1).unwrap();
            let drain = tokio::spawn(pool.drain(deadline));
            yield_now().await;
            assert!(!drain.is_finished());
            lease.release();
            assert!(complete(drain.await.unwrap()));
        });
    }
}

#[test]
fn to_drop_the_future_leaves_the_pool_closed_and_drainable() {
    let pool = Pool::<u8, u32>::new();
    let lease = pool.insert_owned(&1, 1).unwrap();
    drop(pool.drain(LONG));
    assert!(pool.is_closed());
    paused_runtime().block_on(async {
        let waiting = tokio::spawn(pool.drain(LONG));
        yield_now().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        let waiting = tokio::spawn(pool.drain(LONG));
        yield_now().await;
        lease.release();
        assert!(complete(waiting.await.unwrap()));
    });
}

#[test]
fn many_wait_and_all_are_woken() {
    let pool = Pool::<u8, u32>::new();
    let lease = pool.insert_owned(&1, 1).unwrap();
    paused_runtime().block_on(async {
        let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(pool.drain(LONG))).collect();
        let impatient = pool.drain(SECOND).await;
        assert_eq!(impatient.remaining, 1);
        lease.release();
        for drain in waiting {
            assert!(complete(drain.await.unwrap()));
        }
    });
}

#[test]
fn a_lease_has_ended_however_it_ended() {
    let tally = Tally::default();
    for release_on_drop in [false, true] {
        let pool = Pool::<u8, Connection>::builder().release_on_drop(release_on_drop);
        let pool = pool.build().unwrap();
        let leases: Vec<_> =
            (0..5).map(|id| pool.insert_owned(&1, tally.connect(id)).unwrap()).collect();
        let [released, closed, dropped, detached, evicted] = leases.try_into().unwrap();
        paused_runtime().block_on(async {
            let drain = tokio::spawn(pool.drain(LONG));
            yield_now().await;
            released.release();
            closed.close();
            drop(dropped);
            assert!(pool.evict(evicted.token()));
            let kept = detached.detach();
            yield_now().await;
            assert!(!drain.is_finished(), "an evicted one is out until it is released");
            drop(evicted);
            assert!(complete(drain.await.unwrap()));
            assert_eq!(kept.id, 3, "what was detached is no longer the pool's");
        });
    }
    assert_eq!(tally.alive(), 0);
}

#[test]
fn it_waits_for_hooks_that_are_at_work() {
    let (in_hook, hook_runs) = mpsc::channel::<()>();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let gate = Mutex::new((in_hook, may_go_on));
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let builder = Pool::<u8, u32>::builder().on_close(move |_, _, _| {
        let gate = gate.lock().unwrap();
        gate.0.send(()).unwrap();
        gate.1.recv().unwrap();
        // Relaxed: the drain must make it visible.
        count.fetch_add(1, Ordering::Relaxed);
    });
    let pool = builder.build().unwrap();
    let lease = pool.insert_owned(&1, 1).unwrap();
    threads().block_on(async {
        let releasing = thread::spawn(move || lease.release());
        // Released into the open pool, or closed in the hook: it counts until that is over.
        let drain = thread::spawn({
            let pool = pool.clone();
            move || drop(pool.drain(Duration::ZERO))
        });
        hook_runs.recv().unwrap();
        assert_eq!(pool.status().leased, 0);
        let waiting = tokio::spawn(async move {
            let Poll::Ready(now) = poll_once(pool.drain(Duration::ZERO)) else { panic!() };
            assert_eq!(now.remaining, 1);
            go_on.send(()).unwrap();
            pool.drain(LONG).await
        });
        assert!(complete(waiting.await.unwrap()));
        assert_eq!(closed.load(Ordering::Relaxed), 1);
        releasing.join().unwrap();
        drain.join().unwrap();
    });
}

#[test]
fn hooks_and_destructors_that_panic_are_waited_for_as_well() {
    struct Rude;
    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("by the destructor");
        }
    }
    for hook in [false, true] {
        let mut builder = Pool::<u8, Rude>::builder();
        if hook {
            builder = builder.on_close(|_, connection, _| {
                std::mem::forget(connection);
                panic!("by the hook");
            });
        }
        let pool = builder.build().unwrap();
        assert!(pool.put(&1, Rude).is_ok());
        let lease = pool.insert_owned(&1, Rude).ok().unwrap();
        paused_runtime().block_on(async {
            let drain = tokio::spawn(pool.drain(LONG));
            yield_now().await;
            lease.release();
            assert!(complete(drain.await.unwrap()));
        });
        assert_eq!(pool.stats().panics, 2);
    }
}

#[test]
fn a_hook_may_use_the_pool_that_drains() {
    type Shared = Arc<Mutex<Option<Pool<u8, u32>>>>;
    let (shared, remaining) = (Shared::default(), Arc::new(Mutex::new(Vec::new())));
    let (own, notes) = (Arc::clone(&shared), Arc::clone(&remaining));
    let builder = Pool::<u8, u32>::builder().on_close(move |_, _, _| {
        let pool = own.lock().unwrap().clone();
        let Some(pool) = pool else { return };
        assert_eq!(pool.put(&3, 0).unwrap_err().reason, RejectReason::Closed);
        pool.drain_group(&1);
        pool.resume_group(&1);
        let Poll::Ready(drained) = poll_once(pool.drain(Duration::ZERO)) else { panic!() };
        notes.lock().unwrap().push(drained.remaining);
    });
    let pool = builder.build().unwrap();
    *shared.lock().unwrap() = Some(pool.clone());
    for id in 0..3 {
        pool.put(&1, id).unwrap();
    }
    let lease = pool.insert_owned(&2, 3).unwrap();
    paused_runtime().block_on(async {
        let drain = tokio::spawn(pool.drain(LONG));
        yield_now().await;
        lease.release();
        assert!(complete(drain.await.unwrap()));
    });
    assert_eq!(pool.stats().panics, 0);
    let mut remaining = remaining.lock().unwrap().clone();
    remaining.sort_unstable();
    assert_eq!(remaining, [1, 2, 3, 4], "the hook's own connection is out as well");
    *shared.lock().unwrap() = None;
}

#[test]
fn the_last_handle_may_go_meanwhile() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    let lease = pool.insert_owned(&1, tally.connect(2)).unwrap();
    threads().block_on(async move {
        let drain = tokio::spawn(pool.drain(LONG));
        drop(pool);
        yield_now().await;
        let releasing = thread::spawn(move || lease.release());
        assert!(complete(drain.await.unwrap()));
        releasing.join().unwrap();
    });
    assert_eq!(journal.reasons(), [(1, CloseReason::Closed), (2, CloseReason::Closed)]);
    assert_eq!(tally.alive(), 0);
    // And a drain that is dropped as the last of all.
    let pool = Pool::<u8, _>::new();
    let lease = pool.insert_owned(&1, tally.connect(3)).unwrap();
    let drain = pool.drain(LONG);
    drop((pool, lease, drain));
    assert_eq!(tally.alive(), 0);
}

#[test]
fn it_waits_for_what_retain_looks_at() {
    let (at_work, looks) = mpsc::channel::<()>();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let pool = Pool::<u8, u32>::new();
    pool.put(&1, 1).unwrap();
    threads().block_on(async {
        let other = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.retain(|_, _, _| {
                    at_work.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    true
                });
            }
        });
        looks.recv().unwrap();
        assert_eq!(pool.drain(Duration::ZERO).await.remaining, 1);
        let drain = tokio::spawn(pool.drain(LONG));
        go_on.send(()).unwrap();
        assert!(complete(drain.await.unwrap()));
        other.join().unwrap();
        assert_eq!(pool.stats().closes[CloseReason::Closed], 1);
    });
}

#[test]
#[should_panic(expected = "no reactor")]
fn to_wait_needs_a_runtime() {
    let pool = Pool::<u8, u32>::new();
    let _lease = pool.insert(&1, 1).unwrap();
    let _ = poll_once(pool.drain(SECOND));
}
