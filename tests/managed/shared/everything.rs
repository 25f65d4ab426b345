//! Real threads, and all that the pool can do at the same time.

use std::sync::atomic::AtomicU64;

use slabpool::managed::{Fairness, OnMiss};

use super::*;

const PEERS: u64 = 3;
const CAPACITY: usize = 6;

struct Lot(u64);

impl Lot {
    /// Below this.
    fn draw(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Whatever an acquire may end with here, but for the end of its time: that is a minute.
fn told<T>(outcome: Result<T, AcquireError<usize>>) -> Option<T> {
    match outcome {
        Ok(lease) => Some(lease),
        Err(AcquireError::Connect(_) | AcquireError::GroupDown) => None,
        Err(AcquireError::TooManyWaiters { .. } | AcquireError::Rejected(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn use_alone(pool: &MuxPool, key: u32, lot: &mut Lot) {
    let Some(lease) = told(pool.acquire(&key).await) else { return };
    assert_eq!((lease.key_of, lease.running.fetch_add(1, SeqCst)), (key, 0));
    if lot.draw(3) == 0 {
        tokio::task::yield_now().await;
    }
    lease.running.fetch_sub(1, SeqCst);
    match lot.draw(12) {
        0 => lease.close_dead(),
        1 => drop(lease),
        2 => lease.close(),
        _ => lease.release(),
    }
}

async fn use_shared(pool: &MuxPool, key: u32, lot: &mut Lot) {
    let Some(share) = told(pool.acquire_shared(&key).await) else { return };
    assert_eq!(share.key_of, key);
    let running = share.running.fetch_add(1, SeqCst) + 1;
    assert!(running <= 4, "{running} streams");
    if lot.draw(3) == 0 {
        tokio::task::yield_now().await;
    }
    share.running.fetch_sub(1, SeqCst);
    match lot.draw(16) {
        0 => share.close_dead(),
        1 => share.drain(),
        2 => pool.refresh_streams(&key),
        3 => {
            share.limit.store(lot.draw(4) as u32 + 1, SeqCst);
            share.release();
        }
        4 => drop(share),
        _ => share.release(),
    }
}

async fn caller(pool: MuxPool, seed: u64, rounds: u64) {
    let mut lot = Lot(seed);
    for _ in 0..rounds {
        let key = lot.draw(PEERS) as u32;
        match lot.draw(16) {
            0 => {
                let hurry = Duration::from_micros(lot.draw(200));
                drop(tokio::time::timeout(hurry, pool.acquire_shared(&key)).await);
            }
            1 => {
                let hurry = Duration::from_micros(lot.draw(200));
                drop(tokio::time::timeout(hurry, pool.acquire(&key)).await);
            }
            2 => drop(pool.try_acquire(&key).map(|lease| lease.release())),
            3..8 => use_alone(&pool, key, &mut lot).await,
            _ => use_shared(&pool, key, &mut lot).await,
        }
    }
}

/// Until it is told that it is over; leaves all as callers need it.
async fn operator(pool: MuxPool, mux: Mux, seed: u64, over: Arc<AtomicBool>) {
    let mut lot = Lot(seed);
    while !over.load(SeqCst) {
        let key = lot.draw(PEERS) as u32;
        match lot.draw(12) {
            0 => pool.drain_group(&key),
            1 => pool.clear_group(&key),
            2 => pool.invalidate_group(&key),
            3 => pool.retain(|key, _, _| key % 2 == 0),
            4 => drop(pool.prewarm(&key, lot.draw(3) as usize + 1).await),
            5 => mux.0.fails.store(lot.draw(4) == 0, SeqCst),
            6 | 7 => {
                let (capacity, connections) = (lot.draw(CAPACITY as u64), lot.draw(3));
                let (connecting, single) = (lot.draw(3), lot.draw(2) == 0);
                let change = |settings: &mut slabpool::managed::Settings| {
                    settings.pool.capacity = capacity as usize + 1;
                    settings.max_connections_per_group = connections as usize + 1;
                    settings.max_connecting_per_group = connecting as usize + 1;
                    settings.single_flight = single;
                };
                pool.reconfigure(change).unwrap();
            }
            _ => drop(pool.maintain()),
        }
        tokio::task::yield_now().await;
        pool.resume_group(&key);
    }
    mux.0.fails.store(false, SeqCst);
}

fn run(on_miss: OnMiss, fairness: Fairness, seed: u64, rounds: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let mux = Mux::new(4);
    let minute = Duration::from_secs(60);
    let pool = builder(&mux)
        .settings(move |pool| {
            pool.capacity(CAPACITY).min_idle_per_group(1).release_on_drop(seed.is_multiple_of(2))
        })
        .on_miss(on_miss)
        .fairness(fairness)
        .grow_by(2)
        .down_after(3)
        .backoff(Duration::from_micros(50), MS)
        .check_after(Duration::from_micros(seed % 3 * 20))
        .max_connections_per_group(3)
        // Who waits for so long was forgotten.
        .acquire_timeout(minute)
        .connect_timeout(minute)
        .build()
        .unwrap();
    runtime.block_on(async {
        let over = Arc::new(AtomicBool::new(false));
        let operator = operator(pool.clone(), mux.clone(), seed, Arc::clone(&over));
        let operator = tokio::spawn(operator);
        let callers = (0..16).map(|n| tokio::spawn(caller(pool.clone(), seed * 16 + n, rounds)));
        for task in callers.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        over.store(true, SeqCst);
        operator.await.unwrap();
        while pool.status().connecting > 0 {
            tokio::task::yield_now().await;
        }
    });
    let peak = mux.0.peak.load(SeqCst);
    assert!(peak <= CAPACITY, "{peak} connections at a time");
    let (status, stats) = (pool.status(), pool.stats());
    assert_eq!((status.leased, status.waiting, status.streams), (0, 0, 0), "{status:?}");
    assert_eq!(status.idle, mux.open());
    let connects = &stats.connects;
    let ended = connects.opened + connects.errors + connects.timeouts + connects.aborted;
    assert_eq!((connects.started, connects.aborted), (ended, 0), "{stats:?}");
    // What is looked after keeps its place until the pool is closed.
    pool.close();
    drop(runtime);
    assert_all_gone(pool, &mux);
}

/// Three peers, room for fewer connections than they may have, limits that change all the
/// time, peers that fail, are down, drained and resumed, and sixteen callers of both kinds.
#[test]
fn nobody_is_forgotten_and_nothing_is_lost() {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let asked = std::env::var("SLABPOOL_STRESS_ROUNDS").ok().and_then(|text| text.parse().ok());
    for on_miss in [OnMiss::Race, OnMiss::Wait(Duration::from_micros(50)), OnMiss::Connect] {
        for fairness in [Fairness::Fair, Fairness::Barging] {
            for _ in 0..asked.unwrap_or(1) {
                run(on_miss, fairness, SEED.fetch_add(1, SeqCst), 200);
            }
        }
    }
}
