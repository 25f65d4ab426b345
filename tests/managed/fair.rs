//! How long who waits: the fair share, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::{MS, Peer, SECOND, assert_group, builder, settle};

/// A.14: a thousand tasks that come back again and again wait as long, each time.
#[tokio::test(start_paused = true)]
async fn a_thousand_wait_alike() {
    const TASKS: usize = 1_000;
    const TURNS: usize = 5;
    let pool =
        builder(&Peer::new()).max_connections_per_group(8).acquire_timeout(60 * SECOND).build();
    let pool = pool.unwrap();
    let turns = |_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut waits = Vec::new();
            for _ in 0..TURNS {
                let start = Instant::now();
                let lease = pool.acquire(&1).await.unwrap();
                waits.push(start.elapsed());
                sleep(MS).await;
                lease.release();
            }
            waits
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(turns).collect();
    let mut waits = Vec::new();
    for task in tasks {
        // The first wait is longer for each than for the one before it: all came at once.
        waits.extend(task.await.unwrap().into_iter().skip(1).map(|wait| wait.as_secs_f64()));
    }
    let sum: f64 = waits.iter().sum();
    let squares: f64 = waits.iter().map(|wait| wait * wait).sum();
    let jain = sum * sum / (waits.len() as f64 * squares);
    assert!(jain > 0.99, "{jain}");
    assert_group(&pool, 8, 0, 0, 0);
}

/// A caller that comes when five thousand are there, who come back again and again, is served
/// after those who were there before, and before all who come later.
#[tokio::test(start_paused = true)]
async fn a_caller_among_five_thousand_has_its_share() {
    const TASKS: usize = 5_000;
    const CONNECTIONS: usize = 50;
    const HOLD: Duration = Duration::from_millis(2);
    let builder = builder(&Peer::new()).max_connections_per_group(CONNECTIONS);
    let builder = builder.max_waiters_per_group(TASKS).acquire_timeout(60 * SECOND);
    let pool = builder.build().unwrap();
    let (served, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let come_back = |_| {
        let (pool, served, over) = (pool.clone(), Arc::clone(&served), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let lease = pool.acquire(&1).await.unwrap();
                served.fetch_add(1, Ordering::Relaxed);
                sleep(HOLD).await;
                lease.release();
            }
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(come_back).collect();
    while pool.group_status(&1).waiting < TASKS - CONNECTIONS {
        settle().await;
    }
    for _ in 0..5 {
        let ahead = pool.group_status(&1).waiting;
        assert!((TASKS - 2 * CONNECTIONS..TASKS).contains(&ahead), "{ahead}");
        let (start, before) = (Instant::now(), served.load(Ordering::Relaxed));
        let lease = pool.acquire(&1).await.unwrap();
        let passed = served.load(Ordering::Relaxed) - before;
        // Those who were handed a connection at the same time may have run first, or not yet.
        assert!(passed.abs_diff(ahead) <= CONNECTIONS, "{passed} were served, {ahead} were there");
        // Its own hold is one of those in the last round; timers have a grain of 1 ms.
        let rounds = ahead.div_ceil(CONNECTIONS) as u32 + 1;
        assert!(start.elapsed() <= rounds * (HOLD + MS), "{:?}", start.elapsed());
        assert_eq!(lease.meta().waited, start.elapsed());
        lease.release();
        settle().await;
    }
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    assert_group(&pool, CONNECTIONS, 0, 0, 0);
}
