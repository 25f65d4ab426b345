//! Connections that maintenance opens, to keep a minimum.

use std::time::Duration;

use slabpool::Clock;
use slabpool::managed::{AcquireError, Health};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::support::{MS, Mode, SECOND, settle};
use crate::watched::{Watched, WatchedPool, assert_peer, pass, with_min};

/// A pool with a minimum of three, whose reaper runs.
fn warm(peer: &Watched, capacity: usize, clock: &slabpool::ManualClock) -> WatchedPool {
    let pool = with_min(peer, 3, capacity, clock).backoff(100 * MS, 30 * SECOND).build().unwrap();
    tokio::spawn(pool.reaper());
    pool
}

/// The first who asks for a peer has it brought to its minimum; whatever closes
/// connections, they are replaced before anybody asks.
#[tokio::test(start_paused = true)]
async fn a_minimum_is_kept_up() {
    let peer = Watched::new();
    let pool = warm(&peer, 100, &Clock::manual());
    peer.peer.set(Mode::Open(10 * MS));
    let lease = pool.acquire(&1).await.unwrap();
    pass(20 * MS).await;
    assert_peer(&pool, 1, (2, 1, 0));
    lease.close();
    pass(200 * MS).await;
    assert_peer(&pool, 1, (3, 0, 0));
    pool.clear_group(&1);
    assert_peer(&pool, 1, (0, 0, 0));
    pass(200 * MS).await;
    assert_peer(&pool, 1, (3, 0, 0));
    // The server closes all.
    pool.retain(|_, _, conn| {
        conn.alive = false;
        true
    });
    assert!(pool.try_acquire(&1).is_none());
    pass(200 * MS).await;
    assert_peer(&pool, 1, (3, 0, 0));
    assert_eq!(peer.peer.open(), 3);
    assert!(pool.try_acquire(&1).is_some());
    let own = pool.try_acquire(&1).unwrap().detach();
    pass(200 * MS).await;
    assert_eq!(peer.peer.open(), 4, "what was taken out does not count");
    drop(own);
}

/// E.45: what has reached the end of its lifetime is replaced in the background.
#[tokio::test(start_paused = true)]
async fn a_lifetime_ends_and_nobody_has_to_connect() {
    let peer = Watched::new();
    let clock = Clock::manual();
    let of_pool = clock.clone();
    let pool = slabpool::managed::Pool::builder(peer.clone())
        .settings(move |pool| {
            pool.capacity(100)
                .min_idle_per_group(3)
                .idle_timeout(None)
                .max_lifetime(60 * SECOND)
                .clock(of_pool)
                .spawn_reaper(false)
        })
        .build()
        .unwrap();
    tokio::spawn(pool.reaper());
    pool.acquire(&1).await.unwrap().release();
    for _ in 0..300 {
        clock.advance(SECOND);
        pass(SECOND).await;
        let lease = pool.try_acquire(&1).expect("there is always one");
        lease.release();
    }
    assert_peer(&pool, 1, (3, 0, 0));
    assert!((12..=21).contains(&peer.peer.started()), "{}", peer.peer.started());
    assert_eq!(peer.peer.peak(), 3);
}

/// Maintenance by hand does the same, within a step; outside a runtime as well.
#[test]
fn maintenance_by_hand() {
    let peer = Watched::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let pool = with_min(&peer, 2, 100, &Clock::manual()).backoff(MS, SECOND).build().unwrap();
    runtime.block_on(async { pool.acquire(&1).await.unwrap().release() });
    pool.maintain();
    runtime.block_on(settle());
    assert_peer(&pool, 1, (2, 0, 0));
    drop(runtime);
    std::thread::sleep(2 * MS);
    pool.clear();
    // Its runtime is gone: the connects are aborted, and nothing is lost.
    pool.maintain();
    assert_peer(&pool, 1, (0, 0, 0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { pool.acquire(&1).await.unwrap().release() });
    std::thread::sleep(2 * MS);
    pool.maintain();
    runtime.block_on(settle());
    assert_peer(&pool, 1, (2, 0, 0));
}

/// While connects fail, there is one at a time, after the delay, which doubles; callers are
/// not delayed. When the peer is back, so are its connections.
#[tokio::test(start_paused = true)]
async fn a_minimum_of_a_peer_that_fails() {
    let peer = Watched::new();
    let pool = warm(&peer, 100, &Clock::manual());
    pool.acquire(&1).await.unwrap().release();
    pass(100 * MS).await;
    assert_peer(&pool, 1, (3, 0, 0));
    peer.peer.set(Mode::Fail(Duration::ZERO));
    pool.clear_group(&1);
    tokio::time::sleep(60 * SECOND).await;
    let times = &peer.times()[3..];
    let gaps: Vec<Duration> = times[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(times[0], times[2], "three at first, together");
    for (n, gap) in gaps.iter().enumerate() {
        let whole = (100 * MS * (1 << n)).min(30 * SECOND);
        assert!((whole / 2..=whole + 2 * MS).contains(gap), "{gap:?} for {whole:?}");
    }
    assert!((12..=15).contains(&times.len()), "{}", times.len());
    assert_eq!(pool.group_status(&1).health, Health::Up);
    let start = Instant::now();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Connect(_))));
    assert!(start.elapsed() < 2 * MS);
    peer.peer.set(Mode::Open(MS));
    pass(31 * SECOND).await;
    assert_peer(&pool, 1, (3, 0, 0));
}

/// A peer that closes what was just opened does not make the pool spin.
#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_at_once() {
    let peer = Watched::new();
    let pool = warm(&peer, 100, &Clock::manual());
    pool.acquire(&1).await.unwrap().release();
    settle().await;
    let before = peer.peer.started();
    for _ in 0..1_000 {
        pool.clear_group(&1);
        pass(MS).await;
    }
    let times = peer.peer.started() - before;
    assert!((24..=33).contains(&times), "{times}: three in each 100 ms, for one second");
}

/// Minimums that do not fit into the capacity do not take each other's connections.
#[tokio::test(start_paused = true)]
async fn minimums_that_do_not_fit() {
    let peer = Watched::new();
    let pool = warm(&peer, 5, &Clock::manual());
    for key in 1..=3 {
        pool.acquire(&key).await.unwrap().release();
        pass(10 * MS).await;
    }
    let started = peer.peer.started();
    tokio::time::sleep(60 * SECOND).await;
    // A caller's connect evicts, and the peer that has lost one has no room for another.
    assert_eq!((peer.peer.started(), peer.peer.open()), (started, 5));
    let counts = [1, 2, 3].map(|key| pool.group_status(&key).connections);
    assert_eq!(counts.iter().sum::<usize>(), 5, "{counts:?}");
    // When there is room, it is used.
    pool.reconfigure(|settings| settings.pool.capacity = 100).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    (1..=3).for_each(|key| assert_peer(&pool, key, (3, 0, 0)));
}

/// Settings that change hold for peers that are looked after; where nothing may be idle,
/// there is no minimum.
#[tokio::test(start_paused = true)]
async fn a_minimum_that_changes() {
    let peer = Watched::new();
    let pool = warm(&peer, 100, &Clock::manual());
    pool.acquire(&1).await.unwrap().release();
    pass(SECOND).await;
    pool.reconfigure(|settings| settings.pool.min_idle_per_group = 5).unwrap();
    pass(SECOND).await;
    assert_peer(&pool, 1, (5, 0, 0));
    pool.reconfigure(|settings| settings.pool.idle_timeout = Some(Duration::ZERO)).unwrap();
    pool.clear_group(&1);
    pass(60 * SECOND).await;
    assert_eq!((peer.peer.started(), pool.status().groups), (5, 0));
    pool.acquire(&1).await.unwrap().release();
    pass(60 * SECOND).await;
    assert_eq!((peer.peer.started(), pool.status().groups), (6, 0));
}

/// P8: a peer that nobody uses is let go, one that is used stays, whether by misses, hits
/// or one long lease.
#[tokio::test(start_paused = true)]
async fn a_minimum_is_for_peers_that_are_used() {
    let peer = Watched::new();
    let clock = Clock::manual();
    let pool = with_min(&peer, 2, 100, &clock).keep_warm(60 * SECOND).build().unwrap();
    tokio::spawn(pool.reaper());
    for key in 1..=3 {
        pool.acquire(&key).await.unwrap().release();
    }
    let _long = pool.acquire(&3).await.unwrap();
    for _ in 0..100 {
        clock.advance(SECOND);
        pass(SECOND).await;
        pool.try_acquire(&2).unwrap().release();
    }
    // Nobody has asked for the first one since.
    pool.clear();
    pass(SECOND).await;
    assert_eq!(pool.group_status(&1).connections, 0);
    assert_eq!(pool.group_status(&2).connections, 2);
    assert_eq!(pool.group_status(&3).connections, 2);
    assert_eq!(pool.status().groups, 2);
    // To ask for it begins it anew.
    pool.acquire(&1).await.unwrap().release();
    pass(SECOND).await;
    assert_eq!(pool.group_status(&1).connections, 2);
}

/// What is drained is let go at once, and a pool that is closed opens nothing.
#[tokio::test(start_paused = true)]
async fn no_minimum_after_the_end() {
    let peer = Watched::new();
    let pool = warm(&peer, 100, &Clock::manual());
    for key in 1..=2 {
        pool.acquire(&key).await.unwrap().release();
    }
    pass(SECOND).await;
    assert_eq!(peer.peer.started(), 6);
    pool.drain_group(&1);
    pass(2 * SECOND).await;
    assert_eq!((peer.peer.started(), pool.status().groups), (6, 1));
    pool.resume_group(&1);
    pass(2 * SECOND).await;
    assert_eq!(peer.peer.started(), 6, "until somebody asks for it");
    peer.peer.set(Mode::Open(SECOND));
    pool.clear();
    pass(500 * MS).await;
    let started = peer.peer.started();
    pool.close();
    pass(10 * SECOND).await;
    assert_eq!((peer.peer.started(), peer.peer.open()), (started, 0));
    assert_eq!(pool.status().groups, 0);
}

/// A pool that is dropped leaves no task behind, but for connects until they end.
#[tokio::test(start_paused = true)]
async fn no_task_outlives_the_pool() {
    let peer = Watched::new();
    let clock = Clock::manual();
    let pool = slabpool::managed::Pool::builder(peer.clone())
        .settings(move |pool| pool.min_idle_per_group(3).idle_timeout(None).clock(clock))
        .down_after(3)
        .build()
        .unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 0, "to build it spawns nothing");
    pool.acquire(&1).await.unwrap().release();
    pass(SECOND).await;
    assert_peer(&pool, 1, (3, 0, 0));
    assert_eq!(tasks(), 1, "the reaper");
    peer.peer.set(Mode::Fail(MS));
    pool.clear();
    pass(SECOND).await;
    drop(pool);
    pass(5 * SECOND).await;
    assert_eq!((tasks(), peer.peer.open()), (0, 0));
}

/// A peer that was never reached has its minimum tried as well, by the reaper that the first
/// caller starts.
#[tokio::test(start_paused = true)]
async fn a_peer_that_was_never_there() {
    let peer = Watched::new();
    let clock = Clock::manual();
    let pool = slabpool::managed::Pool::builder(peer.clone())
        .settings(move |pool| pool.min_idle_per_group(1).idle_timeout(None).clock(clock))
        .build()
        .unwrap();
    peer.peer.set(Mode::Fail(MS));
    assert!(pool.prewarm(&1, 1).await.is_err());
    tokio::time::sleep(SECOND).await;
    assert!(peer.peer.started() > 2, "{}", peer.peer.started());
    peer.peer.set(Mode::Open(MS));
    tokio::time::sleep(2 * SECOND).await;
    assert_peer(&pool, 1, (1, 0, 0));
}
