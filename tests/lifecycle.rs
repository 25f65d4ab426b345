//! Nothing is hidden: building a pool starts nothing, and what runs in the background
//! ends with the pool.

mod common;

use slabpool::Pool;

/// The threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_pool_built_before_a_fork_starts_nothing_and_works_after_it() {
    let before = threads();
    let pool = Pool::<u8, u8>::new();
    // Other tests of this file may start or end threads meanwhile, by a few.
    assert!(threads() <= before + 8, "a pool is not made of threads");
    pool.put(&1, 1).unwrap();
    // SAFETY: the child does nothing but use the pool, allocate, and exit.
    match unsafe { libc::fork() } {
        0 => {
            let works = pool.put(&1, 2).is_ok()
                && pool.get(&1).is_some_and(|lease| *lease == 2)
                && pool.get(&1).is_some_and(|lease| *lease == 1)
                && pool.maintain() == 0;
            // SAFETY: ends the child at once, without the parent's destructors.
            unsafe { libc::_exit(if works { 0 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child that was just made.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
        }
    }
    assert_eq!(*pool.get(&1).unwrap(), 1);
}

#[cfg(feature = "tokio")]
mod reaper {
    use std::time::Duration;

    use slabpool::{Builder, Clock, CloseReason, ManualClock, Pool};

    use crate::common::paused_runtime;

    fn pool() -> (Pool<u8, u8>, ManualClock) {
        let clock = Clock::manual();
        let build = Builder::default().idle_timeout(Duration::from_secs(32)).clock(&clock);
        (build.build().unwrap(), clock)
    }

    async fn tick(pool: &Pool<u8, u8>) {
        tokio::time::sleep(pool.tick() + Duration::from_millis(1)).await;
    }

    #[test]
    fn the_first_insertion_in_a_runtime_starts_it() {
        let (pool, clock) = pool();
        pool.put(&1, 1).unwrap();
        paused_runtime().block_on(async {
            clock.advance(Duration::from_secs(32));
            tick(&pool).await;
            assert_eq!(pool.status().idle, 1, "nothing runs yet");
            pool.put(&2, 2).unwrap();
            tick(&pool).await;
            assert_eq!(pool.status().idle, 1);
            assert_eq!(pool.stats().closes[CloseReason::Idle], 1);
        });
    }

    #[test]
    fn it_is_started_again_where_its_runtime_has_gone() {
        let (pool, clock) = pool();
        for round in 1..=3 {
            paused_runtime().block_on(async {
                pool.put(&1, 1).unwrap();
                clock.advance(Duration::from_secs(32));
                tick(&pool).await;
            });
            assert_eq!(pool.stats().closes[CloseReason::Idle], round);
        }
    }

    #[test]
    fn it_is_not_started_by_pools_that_do_not_want_it() {
        let clock = Clock::manual();
        let build = Builder::<u8, u8>::default().spawn_reaper(false).clock(&clock);
        let pool = build.build().unwrap();
        paused_runtime().block_on(async {
            pool.put(&1, 1).unwrap();
            clock.advance(Duration::from_secs(60));
            tick(&pool).await;
        });
        assert_eq!(pool.status().idle, 1);
        assert_eq!(pool.maintain(), 1);
    }

    #[test]
    fn it_ends_with_the_pool() {
        let (pool, _) = pool();
        let tick = pool.tick();
        paused_runtime().block_on(async {
            let reaper = tokio::spawn(pool.reaper());
            tokio::time::sleep(10 * tick).await;
            assert!(!reaper.is_finished());
            drop(pool);
            reaper.await.unwrap();
        });
    }

    #[test]
    fn it_closes_more_than_one_step_of_connections() {
        let (pool, clock) = pool();
        for at in 0..1_000 {
            pool.put(&(at as u8), 0).unwrap();
        }
        clock.advance(Duration::from_secs(32));
        paused_runtime().block_on(async {
            tokio::spawn(pool.reaper());
            tick(&pool).await;
            assert_eq!(pool.status().idle, 0);
        });
    }
}
