//! Peers whose limits differ from those of their pool.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slabpool::managed::{AcquireError, ConfigError, GroupLimits};
use slabpool::{CloseReason, GroupSettings};
use tokio::time::Instant;

use crate::support::{MS, Mode, Peer, SECOND, TestPool, builder, settle, spawn};

/// A pool in which peer 1 has these limits of its own.
fn pool_with(peer: &Peer, limits: GroupLimits) -> TestPool {
    let limits_of = move |key: &u32| if *key == 1 { limits } else { GroupLimits::new() };
    builder(peer).max_connections_per_group(3).group_limits(limits_of).build().unwrap()
}

/// Connections, and those who wait.
fn counts(pool: &TestPool, key: u32) -> (usize, usize) {
    let status = pool.group_status(&key);
    (status.connections, status.waiting)
}

#[tokio::test(start_paused = true)]
async fn each_peer_has_its_own() {
    let peer = Peer::new();
    let pool = pool_with(&peer, GroupLimits::new().max_connections(1));
    let tasks: Vec<_> = (0..8).map(|task| spawn(&pool, 1 + task % 2)).collect();
    settle().await;
    assert_eq!((counts(&pool, 1), counts(&pool, 2)), ((1, 3), (3, 1)));
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }
    assert_eq!((counts(&pool, 1), counts(&pool, 2)), ((1, 0), (3, 0)));
    assert_eq!(peer.started(), 4);
    assert_eq!(pool.settings().max_connections_per_group, 3, "of all others");
}

/// What a peer has of its own is not changed with the rest; what it has not, is.
#[tokio::test(start_paused = true)]
async fn reconfigure_leaves_what_a_peer_has_of_its_own() {
    let peer = Peer::new();
    let pool = pool_with(&peer, GroupLimits::new().max_connections(2));
    let tasks: Vec<_> = (0..8).map(|task| spawn(&pool, 1 + task % 2)).collect();
    settle().await;
    assert_eq!((counts(&pool, 1), counts(&pool, 2)), ((2, 2), (3, 1)));
    // Raised: only at the other peer may one more connect.
    pool.reconfigure(|settings| settings.max_connections_per_group = 4).unwrap();
    settle().await;
    assert_eq!((counts(&pool, 1), counts(&pool, 2)), ((2, 2), (4, 0)));
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }
    // Lowered: what is idle above it is closed, and only there.
    pool.reconfigure(|settings| settings.max_connections_per_group = 1).unwrap();
    assert_eq!((counts(&pool, 1), counts(&pool, 2)), ((2, 0), (1, 0)));
    assert_eq!(pool.stats().pool.closes[CloseReason::GroupFull], 3);
    // How many may wait is the pool's, also for this peer.
    pool.reconfigure(|settings| settings.max_waiters_per_group = 0).unwrap();
    let leases = [pool.acquire(&1).await.unwrap(), pool.acquire(&1).await.unwrap()];
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::TooManyWaiters { waiters_max: 0 }), "{error:?}");
    drop(leases);
}

/// The closure is asked when the pool first has to do with a peer, and not again until it had
/// nothing to do with it.
#[tokio::test(start_paused = true)]
async fn it_holds_until_the_peer_is_gone() {
    let peer = Peer::new();
    let limit = Arc::new(AtomicUsize::new(2));
    let of = Arc::clone(&limit);
    let limits_of = move |_: &u32| GroupLimits::new().max_connections(of.load(Ordering::SeqCst));
    let pool = builder(&peer).group_limits(limits_of).build().unwrap();
    let leases = [pool.acquire(&1).await.unwrap(), pool.acquire(&1).await.unwrap()];
    limit.store(1, Ordering::SeqCst);
    pool.reconfigure(|settings| settings.max_connections_per_group = 1).unwrap();
    leases.into_iter().for_each(|lease| lease.release());
    assert_eq!(counts(&pool, 1), (2, 0));
    pool.clear_group(&1);
    let _lease = pool.acquire(&1).await.unwrap();
    let error = pool.acquire_timeout(&1, MS).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn how_many_wait_and_connect() {
    let peer = Peer::new();
    peer.set(Mode::Open(SECOND));
    let pool = pool_with(&peer, GroupLimits::new().max_connecting(1).max_waiters(1));
    let tasks: Vec<_> = (0..4).map(|task| spawn(&pool, 1 + task % 2)).collect();
    settle().await;
    let connecting = |key: u32| pool.group_status(&key).connecting;
    assert_eq!((connecting(1), connecting(2)), (1, 2));
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::TooManyWaiters { waiters_max: 1 }), "{error:?}");
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }

    let pool = pool_with(&peer, GroupLimits::new().single_flight(true));
    let tasks: Vec<_> = (0..4).map(|task| spawn(&pool, 1 + task % 2)).collect();
    settle().await;
    let connecting = |key: u32| pool.group_status(&key).connecting;
    assert_eq!((connecting(1), connecting(2)), (1, 2));
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }
}

/// For whoever asks, in whatever way; what the caller says goes before.
#[tokio::test(start_paused = true)]
async fn times_of_its_own() {
    let peer = Peer::new();
    peer.set(Mode::Hang);
    let limits = GroupLimits::new().acquire_timeout(2 * SECOND).connect_timeout(SECOND);
    let pool = pool_with(&peer, limits);
    let took = async |what: &str, after: Duration, error: AcquireError<_>, start: Instant| {
        let (name, elapsed) = (error.name(), start.elapsed());
        assert_eq!(name, what);
        assert!(elapsed >= after && elapsed < after + 2 * MS, "{what}: {elapsed:?}");
    };
    let start = Instant::now();
    took("connect_timeout", SECOND, pool.acquire(&1).await.unwrap_err(), start).await;
    let start = Instant::now();
    took("connect_timeout", SECOND, pool.acquire_fresh(&1).await.unwrap_err(), start).await;
    let start = Instant::now();
    took("connect_timeout", 3 * SECOND, pool.acquire(&2).await.unwrap_err(), start).await;

    // One that is leased, so that there is something to wait for.
    peer.set(Mode::Open(Duration::ZERO));
    let limits = GroupLimits::new().acquire_timeout(2 * SECOND).max_connections(1);
    let pool = pool_with(&peer, limits);
    let _lease = pool.acquire(&1).await.unwrap();
    let start = Instant::now();
    took("timeout", 2 * SECOND, pool.acquire(&1).await.unwrap_err(), start).await;
    let start = Instant::now();
    took("timeout", 2 * SECOND, pool.acquire_fresh(&1).await.unwrap_err(), start).await;
    let start = Instant::now();
    took("timeout", 2 * SECOND, pool.acquire_shared(&1).await.unwrap_err(), start).await;
    let start = Instant::now();
    let error = pool.acquire_timeout(&1, SECOND).await.unwrap_err();
    took("timeout", SECOND, error, start).await;
    // It is the pool's connect timeout that may not be longer than its own time.
    assert_eq!(pool.settings().connect_timeout, 3 * SECOND);
    peer.set(Mode::Hang);
    let limits = GroupLimits::new().acquire_timeout(SECOND);
    let pool = pool_with(&peer, limits);
    assert!(pool.prewarm(&1, 1).await.is_err());
    let start = Instant::now();
    let error = pool.prewarm(&1, 1).await.unwrap_err();
    took("connect_timeout", SECOND, error, start).await;
}

/// There is nobody to tell but whoever asks for the peer. Others are not harmed.
#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_told_to_who_asks() {
    let peer = Peer::new();
    let zero = ConfigError::Zero { setting: "acquire_timeout" };
    let range = |setting, value, min, max| ConfigError::OutOfRange { setting, value, min, max };
    let cases = [
        (
            GroupLimits::new().max_connections(0),
            range("max_connections_per_group", 0, 1, 8_388_608),
        ),
        (
            GroupLimits::new().max_connecting(65_536),
            range("max_connecting_per_group", 65_536, 1, 65_535),
        ),
        (
            GroupLimits::new().max_waiters(usize::MAX),
            range("max_waiters_per_group", usize::MAX, 0, 4_194_304),
        ),
        (GroupLimits::new().acquire_timeout(Duration::ZERO), zero),
        (
            GroupLimits::new().connect_timeout(Duration::ZERO),
            ConfigError::Zero { setting: "connect_timeout" },
        ),
        (
            GroupLimits::new().acquire_timeout(MS).connect_timeout(SECOND),
            ConfigError::ConnectTimeoutAboveAcquireTimeout {
                connect_timeout: SECOND,
                acquire_timeout: MS,
            },
        ),
    ];
    for (limits, expected) in cases {
        assert_eq!(limits.validate(), Err(expected.clone()));
        let error = AcquireError::<std::io::Error>::GroupLimits(expected.clone()).to_string();
        assert_eq!(error, format!("the limits of the peer cannot work: {expected}"));
        let pool = pool_with(&peer, limits);
        let started = peer.started();
        for error in [
            pool.acquire(&1).await.unwrap_err(),
            pool.acquire_fresh(&1).await.unwrap_err(),
            pool.acquire_shared(&1).await.unwrap_err(),
            pool.prewarm(&1, 1).await.unwrap_err(),
        ] {
            assert!(matches!(&error, AcquireError::GroupLimits(why) if *why == expected));
        }
        pool.drain_group(&1);
        pool.resume_group(&1);
        assert_eq!((peer.started(), pool.stats().failed, counts(&pool, 1)), (started, 3, (0, 0)));
        pool.acquire(&2).await.unwrap().release();
    }
}

/// The closure may use the pool: it is called under no lock.
#[tokio::test(start_paused = true)]
async fn it_is_asked_without_a_lock() {
    let peer = Peer::new();
    let (cell, asked) = (Arc::new(OnceLock::<TestPool>::new()), Arc::new(AtomicUsize::new(0)));
    let (pool, count) = (Arc::clone(&cell), Arc::clone(&asked));
    let limits_of = move |key: &u32| {
        count.fetch_add(1, Ordering::SeqCst);
        let pool = pool.get().unwrap();
        assert!(pool.try_acquire(key).is_none());
        assert_eq!(pool.group_status(key).connections, 0);
        pool.reconfigure(|settings| settings.max_waiters_per_group += 1).unwrap();
        GroupLimits::new().max_connections(1)
    };
    cell.set(builder(&peer).group_limits(limits_of).build().unwrap()).unwrap();
    let pool = cell.get().unwrap();
    pool.acquire(&1).await.unwrap().release();
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..10 {
        pool.acquire(&1).await.unwrap().release();
    }
    let lease = pool.acquire(&1).await.unwrap();
    assert!(pool.acquire_timeout(&1, MS).await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), before, "while it has a connection");
    lease.release();
}

/// Minimum and prewarming go by the limit of the peer.
#[tokio::test(start_paused = true)]
async fn what_is_kept_ready_is_within_it() {
    let peer = Peer::new();
    let limits_of = |key: &u32| GroupLimits::new().max_connections(1 + *key as usize);
    let pool = builder(&peer)
        .settings(|pool| pool.group_settings(|_| GroupSettings::new().min_idle(3)))
        .group_limits(limits_of)
        .build()
        .unwrap();
    for key in [1, 5] {
        pool.acquire(&key).await.unwrap().release();
    }
    for _ in 0..5 {
        settle().await;
        pool.maintain();
        tokio::time::advance(SECOND).await;
    }
    assert_eq!((counts(&pool, 1), counts(&pool, 5)), ((2, 0), (3, 0)));
    let error = pool.prewarm(&1, 3).await.unwrap_err();
    assert!(
        matches!(error, AcquireError::TooManyConnections { connections_max: 2, .. }),
        "{error:?}"
    );
    assert_eq!(pool.prewarm(&5, 6).await.unwrap(), 3);
}

/// Peers come and go while the limits change: in the end all have the last ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_last_change_holds_at_every_desk() {
    let peer = Peer::new();
    let limits_of = |key: &u32| match key % 2 {
        0 => GroupLimits::new(),
        _ => GroupLimits::new().max_connections(2),
    };
    let pool = builder(&peer).group_limits(limits_of).build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let comers: Vec<_> = (0..4)
        .map(|comer| {
            let (pool, stop) = (pool.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut key = comer;
                while !stop.load(Ordering::Relaxed) {
                    key = (key + 1) % 16;
                    let lease = pool.acquire(&key).await.unwrap();
                    if key % 3 == 0 { lease.close() } else { lease.release() }
                }
            })
        })
        .collect();
    for round in 0..200 {
        let changers: Vec<_> = (1..3)
            .map(|plus| {
                let pool = pool.clone();
                let limit = round % 5 + plus;
                let change = move |settings: &mut slabpool::managed::Settings| {
                    settings.max_connections_per_group = limit;
                };
                tokio::task::spawn_blocking(move || pool.reconfigure(change).unwrap())
            })
            .collect();
        for changer in changers {
            changer.await.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for comer in comers {
        comer.await.unwrap();
    }
    let last = pool.settings().max_connections_per_group;
    for key in 0..16 {
        let max = if key % 2 == 0 { last } else { 2 };
        let mut leases = Vec::new();
        for _ in 0..max {
            leases.push(pool.acquire(&key).await.unwrap());
        }
        assert!(pool.acquire_timeout(&key, Duration::ZERO).await.is_err(), "{key}: {max}");
        leases.into_iter().for_each(|lease| lease.release());
    }
}
