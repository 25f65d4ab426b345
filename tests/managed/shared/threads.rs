//! Real threads, all at once.

use slabpool::managed::OnMiss;

use super::*;

async fn churn(pool: &MuxPool, seed: u64, rounds: u64) {
    let mut draw = seed;
    for _ in 0..rounds {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
        let choice = draw >> 59;
        if choice == 0 {
            let hurry = Duration::from_micros(draw >> 40 & 0xff);
            drop(tokio::time::timeout(hurry, pool.acquire_shared(&1)).await);
            continue;
        }
        if choice == 1 {
            pool.acquire(&1).await.expect("connects succeed").release();
            continue;
        }
        let share = pool.acquire_shared(&1).await.expect("connects succeed");
        let running = share.running.fetch_add(1, SeqCst) + 1;
        share.peak.fetch_max(running, SeqCst);
        assert!(running <= 4, "{running} streams");
        if choice & 1 == 0 {
            tokio::task::yield_now().await;
        }
        share.running.fetch_sub(1, SeqCst);
        match choice {
            2 => share.close_dead(),
            3 => share.drain(),
            4 => pool.refresh_streams(&1),
            5 => drop(pool.maintain()),
            6 => {
                share.limit.store((draw >> 33) as u32 % 4 + 1, SeqCst);
                share.release();
            }
            _ => share.release(),
        }
    }
}

/// Two connections of four streams at most, sixteen tasks on four threads: the limits are exact,
/// nobody sleeps for ever, and all counts are right in the end.
#[test]
fn all_at_once() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(Duration::from_micros(50))] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .build()
            .unwrap();
        let mux = Mux::new(4);
        let pool = builder(&mux)
            .on_miss(on_miss)
            .max_connections_per_group(2)
            // Who waits for so long was forgotten.
            .acquire_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
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
        assert!(mux.0.peak.load(SeqCst) <= 2);
        assert_peer(&pool, [mux.open(), 0, 0, 0], [0, 0]);
        drop(runtime);
        assert_all_gone(pool, &mux);
    }
}

async fn wander(pool: &MuxPool, seed: u64, rounds: u64) {
    let mut draw = seed;
    for _ in 0..rounds {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
        let key = (draw >> 60) as u32 % 5;
        let share = pool.acquire_shared(&key).await.expect("connects succeed");
        assert_eq!((*share.key(), share.key_of), (key, key));
        let running = share.running.fetch_add(1, SeqCst) + 1;
        assert!(running <= 3, "{running} streams");
        if draw >> 50 & 3 == 0 {
            tokio::task::yield_now().await;
        }
        share.running.fetch_sub(1, SeqCst);
        match draw >> 40 & 15 {
            0 => share.drain(),
            1 => pool.clear(),
            2 => pool.invalidate_group(&key),
            _ => share.release(),
        }
    }
}

/// Peers that come and go, so that desks and channels change hands all the time: whoever
/// comes by a number that is out of date gets no stream of another peer.
#[test]
fn numbers_change_hands() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let mux = Mux::new(3);
    let pool = builder(&mux).acquire_timeout(Duration::from_secs(60)).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|seed| {
                let pool = pool.clone();
                tokio::spawn(async move { wander(&pool, seed, 600).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        while pool.status().connecting > 0 {
            tokio::task::yield_now().await;
        }
    });
    let status = pool.status();
    assert_eq!((status.leased, status.streams, status.idle), (0, 0, mux.open()));
    drop(runtime);
    assert_all_gone(pool, &mux);
}
