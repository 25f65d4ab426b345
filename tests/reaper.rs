//! The reaper is no burden: to other tasks, to runtimes that cannot have it, to a pool
//! that loses it.

#![cfg(feature = "tokio")]

mod common;

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use slabpool::{Clock, Pool};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{advance, sleep, timeout};

use common::{SECOND, Tally, paused_runtime};

#[test]
fn it_closes_no_more_than_some_at_a_time() {
    let (clock, tally) = (Clock::manual(), Tally::default());
    let pool = Pool::builder().capacity(2_000).clock(&clock).build().unwrap();
    let runtime = paused_runtime();
    runtime.block_on(async {
        for id in 0..2_000 {
            pool.put(&1_u8, tally.connect(id)).unwrap();
        }
        sleep(2 * pool.tick()).await;
        clock.advance(30 * SECOND);
        advance(2 * pool.tick()).await;
        let mut before = tally.alive();
        while before > 0 {
            yield_now().await;
            assert!(before - tally.alive() <= 256, "others have their turn");
            before = tally.alive();
        }
    });
}

#[test]
fn a_reaper_that_is_dropped_harms_nothing() {
    let (clock, tally) = (Clock::manual(), Tally::default());
    let pool = Pool::<u8, _>::builder().clock(&clock).spawn_reaper(false).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    drop(pool.reaper());
    paused_runtime().block_on(async {
        assert!(timeout(5 * SECOND, pool.reaper()).await.is_err());
    });
    clock.advance(30 * SECOND);
    assert_eq!((pool.maintain(), tally.alive()), (1, 0));
}

#[test]
fn it_goes_with_its_runtime_while_the_pool_stays() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::new();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.block_on(async { pool.insert(&1, tally.connect(1)).unwrap().release() });
    runtime.shutdown_timeout(Duration::from_secs(10));
    assert_eq!(pool.get(&1).unwrap().id, 1);
}

/// A runtime that cannot sleep has no place for a reaper; the pool works all the same.
#[test]
fn in_a_runtime_without_time_it_fails_once_and_the_pool_works() {
    let pool = Pool::<u8, u8>::new();
    let runtime = Builder::new_current_thread().build().unwrap();
    let panics = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&panics);
    let loud = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.to_string().contains("timer") {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            loud(info);
        }
    }));
    runtime.block_on(async {
        for id in 0..10 {
            pool.insert(&1, id).unwrap().release();
            yield_now().await;
        }
    });
    assert_eq!(pool.status().idle, 10);
    assert!(panics.load(Ordering::Relaxed) <= 1);
}
