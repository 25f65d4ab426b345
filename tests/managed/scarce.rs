//! Real threads and too little room: the bound, the counts, and nobody forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use slabpool::managed::OnMiss;

use crate::support::{Mode, Peer, TestPool, builder};

const PEERS: u64 = 5;

async fn churn(pool: &TestPool, seed: u64, rounds: u64) {
    let mut draw = seed;
    for _ in 0..rounds {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
        let (choice, key) = (draw >> 60, ((draw >> 32) % PEERS) as u32);
        if choice == 0 {
            // Gives up at once, or somewhere on the way.
            let hurry = Duration::from_micros(draw >> 40 & 0xff);
            drop(tokio::time::timeout(hurry, pool.acquire(&key)).await);
            continue;
        }
        let lease = pool.acquire(&key).await.expect("connects succeed, and there is time");
        if choice & 1 == 0 {
            tokio::task::yield_now().await;
        }
        match choice {
            1 => lease.close(),
            2 => lease.close_dead(),
            3 => pool.retain(|_, _, _| true),
            4 => drop(lease),
            _ => lease.release(),
        }
    }
}

/// B.19, B.22, B.24: five peers in room for two or three, sixteen tasks on four threads, leases
/// that end in every way, callers that give up, connections that are looked at, a capacity that
/// changes: nobody sleeps for ever, and no place is lost.
#[test]
fn nobody_starves_for_ever_and_no_place_is_lost() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(Duration::from_micros(50)), OnMiss::Connect] {
        for changes in [false, true] {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(4)
                .enable_time()
                .build()
                .unwrap();
            let peer = Peer::new();
            let pool = builder(&peer)
                .settings(|pool| pool.capacity(3).idle_timeout(None).spawn_reaper(false))
                .on_miss(on_miss)
                .max_connections_per_group(2)
                // Who waits for so long was forgotten.
                .acquire_timeout(Duration::from_secs(60))
                .build()
                .unwrap();
            peer.set(Mode::Open(Duration::ZERO));
            let over = Arc::new(AtomicBool::new(false));
            runtime.block_on(async {
                let changer = changes.then(|| {
                    let (pool, over) = (pool.clone(), Arc::clone(&over));
                    tokio::spawn(async move {
                        while !over.load(Ordering::Relaxed) {
                            for capacity in [2, 3, 1, 3] {
                                pool.reconfigure(|settings| settings.pool.capacity = capacity).unwrap();
                                tokio::task::yield_now().await;
                            }
                        }
                    })
                });
                let tasks: Vec<_> = (0..16)
                    .map(|seed| {
                        let pool = pool.clone();
                        tokio::spawn(async move { churn(&pool, seed, 300).await })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                over.store(true, Ordering::Relaxed);
                if let Some(changer) = changer {
                    changer.await.unwrap();
                }
                while pool.status().connecting > 0 {
                    tokio::task::yield_now().await;
                }
            });
            assert!(peer.peak() <= 3, "{} connections at a time", peer.peak());
            pool.maintain();
            let status = pool.status();
            assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0));
            assert_eq!(status.idle, peer.open());
            pool.clear();
            assert_eq!((peer.open(), pool.status().groups), (0, 0));
            // All places are there again, and nobody stands before them.
            runtime.block_on(async {
                let all = [pool.acquire(&1).await, pool.acquire(&2).await, pool.acquire(&3).await];
                let full = pool.acquire_timeout(&4, Duration::ZERO).await;
                assert!(full.is_err() && all.iter().all(Result::is_ok));
            });
        }
    }
}
