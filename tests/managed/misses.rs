//! What a caller does who finds nothing: `OnMiss`.

use slabpool::managed::OnMiss;
use tokio::time::Instant;

use crate::support::{MS, Mode, Peer, SECOND, assert_group, builder, settle, spawn};

/// C.28: a connection that is returned wins over the connect, whose late connection is kept.
#[tokio::test(start_paused = true)]
async fn race_takes_what_comes_first_and_keeps_the_other() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(SECOND));
    let next = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 1, 1, 1);
    lease.release();
    let lease = next.await.unwrap().unwrap();
    assert!(lease.id == 0 && lease.meta().reused);
    assert_group(&pool, 0, 1, 1, 0);
    tokio::time::sleep(2 * SECOND).await;
    assert_group(&pool, 1, 1, 0, 0);
    assert_eq!(pool.try_acquire(&1).unwrap().id, 1);
    lease.release();
}

/// A.4: a connect that nobody waits for any more does for the next caller.
#[tokio::test(start_paused = true)]
async fn a_connect_whose_caller_was_served_covers_the_next_one() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(SECOND));
    let next = spawn(&pool, 1);
    settle().await;
    lease.release();
    let first = next.await.unwrap().unwrap();
    let after = pool.acquire(&1).await.unwrap();
    assert_eq!((peer.started(), after.id), (2, 1));
    first.release();
    after.release();
    assert_group(&pool, 2, 0, 0, 0);
}

/// C.27: waits for a returned one first, and connects when none comes.
#[tokio::test(start_paused = true)]
async fn wait_waits_before_it_connects() {
    let peer = Peer::new();
    let pool = builder(&peer).on_miss(OnMiss::Wait(100 * MS)).build().unwrap();
    let start = Instant::now();
    let lease = pool.acquire_owned(&1).await.unwrap();
    assert!(start.elapsed() < 10 * MS, "nothing could be returned");
    let next = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 1, 0, 1);
    lease.release();
    let lease = next.await.unwrap().unwrap();
    assert_eq!(peer.started(), 1);
    let start = Instant::now();
    let other = pool.acquire(&1).await.unwrap();
    assert!((100 * MS..200 * MS).contains(&start.elapsed()));
    assert_eq!((peer.started(), other.id), (2, 1));
    lease.release();
    other.release();
    assert_group(&pool, 2, 0, 0, 0);
}

/// One that waits longer than its time for a returned one times out, and opens none.
#[tokio::test(start_paused = true)]
async fn wait_longer_than_there_is_time() {
    let peer = Peer::new();
    let pool = builder(&peer).on_miss(OnMiss::Wait(60 * SECOND)).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    assert!(pool.acquire_timeout(&1, SECOND).await.is_err());
    assert_eq!(peer.started(), 1);
    lease.release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// Its own connect and no other; what is returned meanwhile stays for others.
#[tokio::test(start_paused = true)]
async fn connect_takes_its_own_connect() {
    let peer = Peer::new();
    let pool = builder(&peer).on_miss(OnMiss::Connect).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(SECOND));
    let next = spawn(&pool, 1);
    settle().await;
    lease.release();
    settle().await;
    assert!(!next.is_finished());
    assert_group(&pool, 1, 0, 1, 1);
    let lease = next.await.unwrap().unwrap();
    assert!(lease.id == 1 && lease.meta().connected);
    lease.release();
    assert_group(&pool, 2, 0, 0, 0);
}

/// At the limit it waits its turn as everybody does.
#[tokio::test(start_paused = true)]
async fn connect_at_the_limit_takes_what_is_returned() {
    let peer = Peer::new();
    let pool =
        builder(&peer).on_miss(OnMiss::Connect).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let next = spawn(&pool, 1);
    settle().await;
    lease.release();
    let lease = next.await.unwrap().unwrap();
    assert_eq!(lease.id, 0);
    let next = spawn(&pool, 1);
    settle().await;
    lease.close();
    assert_eq!(next.await.unwrap().unwrap().id, 1);
}

/// A caller that goes away leaves its connect to others, also where that was its own.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_cancels_no_connect() {
    for on_miss in [OnMiss::Race, OnMiss::Connect] {
        let peer = Peer::new();
        let pool = builder(&peer).on_miss(on_miss).max_connections_per_group(1).build().unwrap();
        peer.set(Mode::Open(SECOND));
        let first = spawn(&pool, 1);
        settle().await;
        let second = spawn(&pool, 1);
        settle().await;
        first.abort();
        settle().await;
        assert_group(&pool, 0, 0, 1, 1);
        let lease = second.await.unwrap().unwrap();
        assert_eq!((lease.id, peer.started()), (0, 1));
        lease.release();
    }
}

/// Whoever's connect has gone to one who came before has the next one.
#[tokio::test(start_paused = true)]
async fn a_connect_that_another_one_took_is_made_again() {
    let peer = Peer::new();
    let pool =
        builder(&peer).on_miss(OnMiss::Wait(SECOND)).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let patient = spawn(&pool, 1);
    settle().await;
    lease.close();
    // There is nothing to wait for, so this one connects at once, and is second in line.
    let next = spawn(&pool, 1);
    patient.await.unwrap().unwrap().close();
    assert_eq!(next.await.unwrap().unwrap().id, 2);
}

/// ... and if the last connect of all fails, it is told so.
#[tokio::test(start_paused = true)]
async fn a_connect_that_another_one_took_and_another_that_fails() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    peer.set(Mode::Fail(2 * SECOND));
    let first = spawn(&pool, 1);
    settle().await;
    peer.set(Mode::Open(SECOND));
    let second = spawn(&pool, 1);
    let lease = first.await.unwrap().unwrap();
    assert_eq!(lease.id, 1);
    lease.close();
    settle().await;
    // The first one's connect covers it, for as long as that lasts.
    assert_group(&pool, 0, 0, 1, 1);
    let outcome = second.await.unwrap();
    assert!(matches!(outcome, Err(slabpool::managed::AcquireError::Connect(_))));
    assert_group(&pool, 0, 0, 0, 0);
}

/// Takes what is idle, and nothing else.
#[tokio::test]
async fn try_acquire_opens_nothing() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    assert!(pool.try_acquire(&1).is_none());
    pool.acquire(&1).await.unwrap().release();
    let lease = pool.try_acquire(&1).unwrap();
    assert!(pool.try_acquire(&1).is_none());
    lease.release();
    assert_eq!(peer.started(), 1);
}
