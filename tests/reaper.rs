//! The reaper starts when it is first needed, and goes with the pool or its runtime.

#![cfg(feature = "tokio")]

mod common;

use std::time::Duration;

use slabpool::{Clock, CloseReason, Pool};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{advance, sleep, timeout};

use common::{Journal, SECOND, Tally};

/// A runtime whose time passes only when all tasks wait.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn tasks(runtime: &Runtime) -> usize {
    runtime.metrics().num_alive_tasks()
}

#[test]
fn it_starts_with_the_first_insertion_in_a_runtime() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = Pool::builder().clock(&clock).on_close(journal.hook()).build().unwrap();
    pool.put(&1_u8, tally.connect(1)).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        assert!(pool.get(&2).is_none());
        assert_eq!(tasks(&runtime), 0, "nothing was inserted here");
        pool.put(&1, tally.connect(2)).unwrap();
        pool.put(&1, tally.connect(3)).unwrap();
        assert_eq!(tasks(&runtime), 1);
        sleep(3 * pool.tick()).await;
        assert_eq!(tally.alive(), 3, "the pool's clock stands still");
        clock.advance(30 * SECOND);
        sleep(2 * pool.tick()).await;
        assert_eq!(tally.alive(), 0);
    });
    let idle = CloseReason::Idle;
    assert_eq!(journal.reasons(), [(1, idle), (2, idle), (3, idle)]);
}

#[test]
fn it_closes_no_more_than_some_at_a_time() {
    let (clock, tally) = (Clock::manual(), Tally::default());
    let pool = Pool::builder().capacity(2_000).clock(&clock).build().unwrap();
    let runtime = runtime();
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
fn it_ends_with_the_pool() {
    let runtime = runtime();
    runtime.block_on(async {
        let pool = Pool::<u8, u8>::builder().spawn_reaper(false).build().unwrap();
        pool.put(&1, 1).unwrap();
        assert_eq!(tasks(&runtime), 0, "as it was told");
        let reaper = tokio::spawn(pool.reaper());
        sleep(10 * pool.tick()).await;
        let tick = pool.tick();
        drop(pool);
        timeout(2 * tick, reaper).await.expect("it ends in time").unwrap();

        let pool = Pool::<u8, u8>::new();
        pool.put(&1, 1).unwrap();
        assert_eq!(tasks(&runtime), 1);
        drop(pool);
        sleep(2 * tick).await;
        assert_eq!(tasks(&runtime), 0);
    });
}

#[test]
fn a_reaper_that_is_dropped_harms_nothing() {
    let (clock, tally) = (Clock::manual(), Tally::default());
    let pool = Pool::<u8, _>::builder().clock(&clock).spawn_reaper(false).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    drop(pool.reaper());
    runtime().block_on(async {
        assert!(timeout(5 * SECOND, pool.reaper()).await.is_err());
    });
    clock.advance(30 * SECOND);
    assert_eq!((pool.maintain(), tally.alive()), (1, 0));
}

#[test]
fn it_starts_again_when_its_runtime_is_gone() {
    let (clock, tally) = (Clock::manual(), Tally::default());
    let pool = Pool::<u8, _>::builder().clock(&clock).build().unwrap();
    for id in 0..3 {
        let runtime = runtime();
        runtime.block_on(async {
            pool.put(&1, tally.connect(id)).unwrap();
            assert_eq!(tasks(&runtime), 1, "in runtime {id}");
            clock.advance(30 * SECOND);
            sleep(2 * pool.tick()).await;
            assert_eq!(tally.alive(), 0);
        });
    }
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
    let panics = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&panics);
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.to_string().contains("timer") {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
    assert!(panics.load(std::sync::atomic::Ordering::Relaxed) <= 1);
}
