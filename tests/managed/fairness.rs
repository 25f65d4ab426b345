//! Who comes first: `Fairness`. What barging is has a file of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use slabpool::managed::{AcquireError, Fairness};
use tokio::time::{Instant, sleep};

use crate::support::{MS, Peer, SECOND, assert_group, builder, settle};

/// What happened, in this order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<usize>>>);

impl Log {
    pub fn add(&self, number: usize) {
        self.0.lock().unwrap().push(number);
    }

    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// One, if all are the same; one in so many, if one has it all.
fn jain_index(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    sum * sum / (values.len() as f64 * squares)
}

/// A.2, A.6, A.14: a thousand tasks on eight connections wait as long as each other, and are
/// served exactly in the order in which they have come.
#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_wait_alike() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(8).acquire_timeout(60 * SECOND).build().unwrap();
    let (came, served) = (Log::default(), Log::default());
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let (pool, came, served) = (pool.clone(), came.clone(), served.clone());
            tokio::spawn(async move {
                let mut waited = Duration::ZERO;
                for _ in 0..20 {
                    let start = Instant::now();
                    came.add(number);
                    let lease = pool.acquire(&1).await.unwrap();
                    served.add(number);
                    waited += start.elapsed();
                    sleep(MS).await;
                    lease.release();
                }
                waited.as_secs_f64()
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.push(task.await.unwrap());
    }
    let (came, served) = (came.take(), served.take());
    assert_eq!(came.len(), 20_000);
    assert!(came == served, "somebody was overtaken");
    let index = jain_index(&waits);
    assert!(index > 0.99, "{index}");
    assert!((1..=8).contains(&peer.peak()), "{} connections", peer.peak());
    assert_group(&pool, peer.open(), 0, 0, 0);
}

/// What a caller of the next test does.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Served,
    GoesAway,
    /// Its time is up before it is served.
    TimesOut,
}

/// A.4 (outside), A.7, A.13: the order holds for each key, whoever goes away meanwhile and
/// whosever time is up.
#[tokio::test(start_paused = true)]
async fn the_order_holds_for_each_key_whoever_goes() {
    const KEYS: u32 = 20;
    for fairness in [Fairness::Fair, Fairness::Barging] {
        let peer = Peer::new();
        let pool = builder(&peer).max_connections_per_group(1).fairness(fairness).build().unwrap();
        let mut leases = Vec::new();
        for key in 0..KEYS {
            leases.push(pool.acquire_owned(&key).await.unwrap());
        }
        let logs: Vec<Log> = (0..KEYS).map(|_| Log::default()).collect();
        let mut tasks = Vec::new();
        for number in 0..60 {
            for key in 0..KEYS {
                let fate = match number % 5 {
                    1 => Fate::GoesAway,
                    3 => Fate::TimesOut,
                    _ => Fate::Served,
                };
                let (pool, log) = (pool.clone(), logs[key as usize].clone());
                let task = tokio::spawn(async move {
                    let time = if fate == Fate::TimesOut { SECOND } else { 5 * SECOND };
                    let outcome = pool.acquire_timeout(&key, time).await;
                    if fate == Fate::TimesOut {
                        let error = outcome.map(|lease| lease.id).unwrap_err();
                        assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
                        return;
                    }
                    let lease = outcome.unwrap();
                    log.add(number);
                    sleep(MS).await;
                    lease.release();
                });
                tasks.push((fate, task));
            }
        }
        settle().await;
        assert_eq!(pool.status().waiting, 60 * KEYS as usize);
        sleep(2 * SECOND).await;
        let mut gone = tasks.iter().filter(|(fate, _)| *fate == Fate::GoesAway);
        // Half of them before the first release, the others when all has begun to move.
        gone.by_ref().take(6 * KEYS as usize).for_each(|(_, task)| task.abort());
        settle().await;
        leases.into_iter().for_each(|lease| lease.release());
        gone.for_each(|(_, task)| task.abort());
        for (fate, task) in tasks {
            match task.await {
                Ok(()) => assert!(fate != Fate::GoesAway),
                Err(error) => assert!(error.is_cancelled() && fate == Fate::GoesAway, "{error}"),
            }
        }
        let order: Vec<usize> = (0..60).filter(|number| ![1, 3].contains(&(number % 5))).collect();
        for log in logs {
            assert_eq!(log.take(), order);
        }
        let status = pool.status();
        assert_eq!((status.idle, status.leased, status.waiting), (KEYS as usize, 0, 0));
        assert_eq!(peer.started(), KEYS as usize);
    }
}
