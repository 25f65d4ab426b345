//! Real threads: limits, counts and wake-ups when all happens at once.

use std::time::Duration;

use slabpool::managed::{Fairness, OnMiss};

use crate::support::{Mode, Peer, TestPool, assert_group, builder};

async fn churn(pool: &TestPool, seed: u64, rounds: u64) {
    let mut draw = seed;
    for _ in 0..rounds {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
        let choice = draw >> 60;
        if choice == 0 {
            // Gives up at once, or somewhere on the way.
            let hurry = Duration::from_micros(draw >> 40 & 0xff);
            drop(tokio::time::timeout(hurry, pool.acquire(&1)).await);
            continue;
        }
        let lease = pool.acquire(&1).await.expect("connects succeed");
        if choice & 1 == 0 {
            tokio::task::yield_now().await;
        }
        match choice {
            1..4 => lease.close(),
            4 => drop(lease),
            _ => lease.release(),
        }
    }
}

/// A.1, B.16, B.22, B.23, B.24: three connections, sixteen tasks on four threads, leases that
/// end in every way, callers that give up: nobody sleeps for ever, the limit is kept, and all
/// counts are right in the end.
#[test]
fn nobody_is_forgotten_and_no_limit_exceeded() {
    let policies = [OnMiss::Race, OnMiss::Wait(Duration::from_micros(50)), OnMiss::Connect];
    for (on_miss, fairness) in policies
        .into_iter()
        .flat_map(|on_miss| [(on_miss, Fairness::Fair), (on_miss, Fairness::Barging)])
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .build()
            .unwrap();
        let peer = Peer::new();
        let pool = builder(&peer)
            .on_miss(on_miss)
            .fairness(fairness)
            .single_flight(on_miss == OnMiss::Race)
            .max_connections_per_group(3)
            .max_connecting_per_group(2)
            // Who waits for so long was forgotten.
            .acquire_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        peer.set(Mode::Open(Duration::ZERO));
        runtime.block_on(async {
            let tasks: Vec<_> = (0..16)
                .map(|seed| {
                    let pool = pool.clone();
                    tokio::spawn(async move { churn(&pool, seed, 400).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            while pool.group_status(&1).connecting > 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(peer.peak() <= 3, "{} connections at a time", peer.peak());
        assert_group(&pool, peer.open(), 0, 0, 0);
        pool.clear();
        assert_eq!((peer.open(), pool.status().groups), (0, 0));
    }
}

/// B.26, J.65: a drain that is complete leaves nothing behind, whatever was being opened,
/// waited for or handed over when it began.
#[test]
fn a_complete_drain_is_final() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
    let runtime = runtime.unwrap();
    for round in 0..300_u32 {
        let peer = Peer::new();
        let pool = builder(&peer).max_connections_per_group(3).build().unwrap();
        if round % 2 == 0 {
            peer.set(Mode::Open(Duration::from_micros(u64::from(round))));
        }
        runtime.block_on(async {
            let tasks: Vec<_> = (0..6_u32)
                .map(|task| {
                    let pool = pool.clone();
                    tokio::spawn(async move {
                        while let Ok(lease) = pool.acquire(&(task % 2)).await {
                            tokio::task::yield_now().await;
                            if task % 3 == 0 { lease.close() } else { lease.release() }
                        }
                    })
                })
                .collect();
            for _ in 0..round % 16 {
                tokio::task::yield_now().await;
            }
            assert!(pool.drain(Duration::from_secs(60)).await.is_complete());
            let (open, started) = (peer.open(), peer.started());
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!((open, peer.open(), peer.started()), (0, 0, started));
        });
        let stats = pool.stats();
        assert_eq!((pool.status().groups, stats.connects.connecting), (0, 0));
        assert_eq!(stats.connects.started, stats.connects.opened);
        assert_eq!(stats.wait_time.count(), stats.waits());
    }
}
