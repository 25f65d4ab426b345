//! Peers that go down: who is turned away, and who tries again, when.

use std::time::Duration;

use slabpool::Clock;
use slabpool::managed::{AcquireError, Builder, Health};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{MS, Mode, Refused, SECOND, settle};
use crate::watched::{
    Watched, WatchedLease, WatchedPool, assert_peer, builder, pass, retry_in, with_min,
};

pub type Outcome = Result<WatchedLease, AcquireError<Refused>>;

pub fn minds(peer: &Watched, down_after: u32) -> Builder<u32, Watched> {
    builder(peer).down_after(down_after).backoff(100 * MS, SECOND)
}

pub fn caller(pool: &WatchedPool) -> JoinHandle<Outcome> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_owned(&1).await })
}

pub async fn fails_with_cause(pool: &WatchedPool) {
    match pool.acquire(&1).await {
        Err(AcquireError::Connect(_)) => {}
        other => panic!("{other:?}"),
    }
}

pub async fn is_turned_away(pool: &WatchedPool) {
    let start = Instant::now();
    match pool.acquire(&1).await {
        Err(AcquireError::GroupDown) => assert_eq!(start.elapsed(), Duration::ZERO),
        other => panic!("{other:?}"),
    }
}

/// Every connect fails: three callers are told why, the others at once that the peer is
/// down, and one is told why each time that it is tried again, ever more seldom.
#[tokio::test(start_paused = true)]
async fn every_connect_fails() {
    let peer = Watched::new();
    let pool = minds(&peer, 3).build().unwrap();
    peer.peer.set(Mode::Fail(MS));
    let mut causes = 0;
    for _ in 0..1_000 {
        match pool.acquire(&1).await {
            Err(AcquireError::Connect(_)) => causes += 1,
            Err(AcquireError::GroupDown) => {}
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(10 * MS).await;
    }
    let times = peer.times();
    assert_eq!(causes, times.len());
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[..2].iter().all(|&gap| gap == 11 * MS), "callers are not delayed: {gaps:?}");
    // Three rounds have failed when the peer goes down. From there on half of the delay, at
    // least, and no more than all of it; a connect takes 1 ms, callers come each 10 ms.
    let slack = 12 * MS;
    for (gap, whole) in gaps[2..].iter().zip([400, 800, 1_000, 1_000, 1_000]) {
        let whole = whole * MS;
        assert!((whole / 2..=whole + slack).contains(gap), "{gap:?} for {whole:?}");
    }
    assert!((12..25).contains(&times.len()), "{}", times.len());
    assert_eq!(peer.peer.open(), 0);
    assert!(
        matches!(pool.group_status(&1).health, Health::Down { failures, .. } if failures as usize == causes)
    );
}

/// A hundred callers when it may be tried again: one connect. If it fails, it is told to
/// all; if not, all are served.
#[tokio::test(start_paused = true)]
async fn a_hundred_callers_and_one_trial() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).max_connections_per_group(4).build().unwrap();
    peer.peer.set(Mode::Fail(20 * MS));
    fails_with_cause(&pool).await;
    pass(retry_in(&pool, 1)).await;
    let callers: Vec<_> = (0..100).map(|_| caller(&pool)).collect();
    settle().await;
    assert_eq!((peer.times().len(), peer.peer.open()), (2, 1));
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(AcquireError::Connect(_))));
    }
    is_turned_away(&pool).await;
    assert_eq!(peer.times().len(), 2);
    pass(retry_in(&pool, 1)).await;
    peer.peer.set(Mode::Open(20 * MS));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&1).await.map(|lease| lease.release()) })
        })
        .collect();
    settle().await;
    assert_eq!((peer.times().len(), peer.peer.open()), (3, 1));
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(pool.group_status(&1).health, Health::Up);
    assert_eq!(pool.group_status(&1).waiting, 0);
}

/// Going down closes what is idle, and what is leased when its lease ends; who waits is
/// told at once.
#[tokio::test(start_paused = true)]
async fn going_down_ends_connections_and_waiting() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).max_connections_per_group(3).build().unwrap();
    let leased = pool.acquire_owned(&1).await.unwrap();
    pool.prewarm(&1, 2).await.unwrap();
    pool.acquire_owned(&2).await.unwrap().release();
    let other = pool.acquire_owned(&1).await.unwrap();
    peer.peer.set(Mode::Fail(SECOND));
    let (first, second) = (caller(&pool), caller(&pool));
    settle().await;
    other.release();
    // Idle again at once, in the hands of the first.
    let got = first.await.unwrap().unwrap();
    got.release();
    let got = second.await.unwrap().unwrap();
    let third = caller(&pool);
    settle().await;
    assert_peer(&pool, 1, (0, 2, 1));
    let start = Instant::now();
    assert!(matches!(third.await.unwrap(), Err(AcquireError::GroupDown)));
    assert!(start.elapsed() <= SECOND);
    assert_peer(&pool, 1, (0, 2, 0));
    leased.release();
    assert_peer(&pool, 1, (0, 1, 0));
    got.release();
    assert_peer(&pool, 1, (0, 0, 0));
    assert_peer(&pool, 2, (1, 0, 0));
    is_turned_away(&pool).await;
}

/// What is idle goes when the peer goes down.
#[tokio::test(start_paused = true)]
async fn going_down_closes_what_is_idle() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).build().unwrap();
    pool.prewarm(&1, 3).await.unwrap();
    peer.peer.set(Mode::Fail(MS));
    assert!(matches!(pool.prewarm(&1, 4).await, Err(AcquireError::Connect(_))));
    assert_peer(&pool, 1, (0, 0, 0));
    assert_eq!(peer.peer.open(), 0);
    assert!(matches!(pool.prewarm(&1, 1).await, Err(AcquireError::GroupDown)));
    is_turned_away(&pool).await;
}

/// A connect that was under way already, and succeeds, brings the peer up; one that fails
/// makes the delay no longer.
#[tokio::test(start_paused = true)]
async fn connects_that_are_late() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).backoff(10 * SECOND, 10 * SECOND).build().unwrap();
    peer.peer.set(Mode::Open(3 * SECOND));
    let lucky = caller(&pool);
    settle().await;
    peer.peer.set(Mode::Fail(SECOND));
    let unlucky = caller(&pool);
    settle().await;
    peer.peer.set(Mode::Fail(2 * SECOND));
    let late = caller(&pool);
    settle().await;
    assert!(matches!(unlucky.await.unwrap(), Err(AcquireError::Connect(_))));
    assert!(matches!(late.await.unwrap(), Err(AcquireError::GroupDown)));
    assert!(matches!(lucky.await.unwrap(), Err(AcquireError::GroupDown)));
    let before = retry_in(&pool, 1);
    assert_peer(&pool, 1, (0, 0, 2));
    pass(SECOND).await;
    assert_eq!(retry_in(&pool, 1), before - SECOND);
    is_turned_away(&pool).await;
    pass(SECOND).await;
    assert_eq!(pool.group_status(&1).health, Health::Up);
    assert_peer(&pool, 1, (1, 0, 0));
    pool.acquire(&1).await.unwrap().release();
}

/// While other connects are under way, no trial is begun beside them: they decide.
#[tokio::test(start_paused = true)]
async fn a_connect_under_way_is_the_trial() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).backoff(100 * MS, 100 * MS).build().unwrap();
    peer.peer.set(Mode::Open(2 * SECOND));
    let first = caller(&pool);
    settle().await;
    peer.peer.set(Mode::Fail(MS));
    let second = caller(&pool);
    assert!(second.await.unwrap().is_err() && first.await.unwrap().is_err());
    pass(SECOND).await;
    assert_eq!(pool.group_status(&1).health, Health::Trial { failures: 1 });
    let third = caller(&pool);
    settle().await;
    assert_eq!(peer.times().len(), 2);
    third.await.unwrap().unwrap().release();
    assert_peer(&pool, 1, (1, 0, 0));
}

/// Connects that take too long, and those that panic, count as well; a success in between
/// begins the count anew.
#[tokio::test(start_paused = true)]
async fn what_counts() {
    let peer = Watched::new();
    let pool = minds(&peer, 3).connect_timeout(SECOND).build().unwrap();
    let fail = async |mode| {
        peer.peer.set(mode);
        assert!(pool.acquire(&1).await.is_err());
    };
    fail(Mode::Hang).await;
    fail(Mode::Panic).await;
    peer.peer.set(Mode::Open(MS));
    pool.acquire(&1).await.unwrap().close();
    fail(Mode::Panic).await;
    fail(Mode::Hang).await;
    assert_eq!(pool.group_status(&1).health, Health::Up);
    fail(Mode::Fail(MS)).await;
    assert!(matches!(pool.group_status(&1).health, Health::Down { failures: 3, .. }));
    is_turned_away(&pool).await;
}

/// Connects that the pool does not take were connects that have succeeded.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_rejected_is_no_failure_of_the_peer() {
    let peer = Watched::new();
    let pool = with_min(&peer, 0, 0, &Clock::manual()).down_after(1).build().unwrap();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Rejected(_))));
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Rejected(_))));
    assert_eq!(pool.group_status(&1).health, Health::Up);
}
