//! Who waits for room in the pool: turns, ends, and whoever goes away meanwhile.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slabpool::managed::{AcquireError, OnMiss};
use tokio::time::Instant;

use crate::capacity::{assert_pool, is_idle, lease, of, pool_of};
use crate::support::{Leased, MS, Mode, Peer, SECOND, settle, spawn};

/// Peers take turns, in the order in which they came, one connection each.
#[tokio::test(start_paused = true)]
async fn peers_take_turns() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 9).await;
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    for (task, key) in [(0, 1), (1, 1), (2, 2), (3, 1), (4, 3), (5, 2)] {
        let (pool, sender) = (pool.clone(), sender.clone());
        tokio::spawn(async move {
            let got = lease(&pool, key).await;
            sender.send((task, key)).unwrap();
            // Something else than its own peer must be served.
            got.close();
        });
        settle().await;
    }
    drop(sender);
    assert_pool(&pool, 0, 1, 0, 6);
    held.close();
    let mut seen = Vec::new();
    while let Some(one) = order.recv().await {
        seen.push(one);
    }
    assert_eq!(seen, [(0, 1), (2, 2), (4, 3), (1, 1), (5, 2), (3, 1)]);
    assert_eq!((peer.peak(), peer.started()), (1, 7));
    assert_pool(&pool, 0, 0, 0, 0);
}

/// A peer whose own callers always wait for what it returns does not keep it for ever: after
/// 16 hand-overs it is another one's turn.
#[tokio::test(start_paused = true)]
async fn a_busy_peer_does_not_starve_others() {
    let peer = Peer::new();
    let pool = of(&peer, 1).acquire_timeout(600 * SECOND).build().unwrap();
    let held = lease(&pool, 1).await;
    let handed = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let (pool, handed) = (pool.clone(), handed.clone());
        tokio::spawn(async move {
            loop {
                let lease = lease(&pool, 1).await;
                handed.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(MS).await;
                lease.release();
            }
        });
    }
    settle().await;
    let others = [spawn(&pool, 2), spawn(&pool, 3)];
    settle().await;
    held.release();
    for (turn, other) in others.into_iter().enumerate() {
        let got = other.await.unwrap().unwrap();
        let handed = handed.load(Ordering::SeqCst);
        // And one for its own turn, when that comes.
        assert!(handed <= 17 * (turn + 1), "{handed} went first");
        assert!(handed >= 8 * (turn + 1), "it costs a connect, and so is not done for each");
        got.release();
    }
    assert_eq!(peer.peak(), 1);
}

/// Who comes when others wait for room does not overtake them, whatever comes free.
#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 1).await;
    let waiter = spawn(&pool, 2);
    settle().await;
    held.close();
    // The place is the waiter's already, who has not been polled since.
    let newcomer = pool.acquire_timeout(&3, SECOND).await;
    assert!(matches!(newcomer, Err(AcquireError::Timeout { .. })), "{newcomer:?}");
    let got = waiter.await.unwrap().unwrap();
    assert_eq!(*got.key(), 2);
    got.release();
    lease(&pool, 3).await.release();
}

/// Who waits for room takes what its own peer returns, if that comes first.
#[tokio::test(start_paused = true)]
async fn an_own_connection_serves_as_well() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(MS), OnMiss::Connect] {
        let peer = Peer::new();
        let pool = of(&peer, 1).on_miss(on_miss).build().unwrap();
        let held = lease(&pool, 1).await;
        let (same, other) = (spawn(&pool, 1), spawn(&pool, 2));
        settle().await;
        tokio::time::sleep(2 * MS).await;
        assert_pool(&pool, 0, 1, 0, 2);
        held.release();
        let same = same.await.unwrap().unwrap();
        assert_eq!(same.id, 0, "{on_miss:?}");
        settle().await;
        assert_pool(&pool, 0, 1, 0, 1);
        same.release();
        other.await.unwrap().unwrap().release();
        assert_eq!((peer.started(), peer.peak()), (2, 1));
    }
}

/// Who has gone leaves nothing behind: nothing is closed for it, and the place that it had
/// is the next one's.
#[tokio::test(start_paused = true)]
async fn who_goes_away_is_passed_over() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 1).await;
    let (gone, stays) = (spawn(&pool, 2), spawn(&pool, 3));
    settle().await;
    gone.abort();
    settle().await;
    held.release();
    assert_eq!(*stays.await.unwrap().unwrap().key(), 3);
    assert_eq!((peer.started(), pool.group_status(&2).waiting), (2, 0));
    // The only one that waits goes: what is released stays.
    let held = lease(&pool, 1).await;
    let gone = spawn(&pool, 2);
    settle().await;
    gone.abort();
    settle().await;
    held.release();
    assert!(is_idle(&pool, 1));
    assert_pool(&pool, 1, 0, 0, 0);
}

/// The same for one who goes when it was told that there is room, and when its connect is
/// under way.
#[tokio::test(start_paused = true)]
async fn who_goes_away_with_a_place_passes_it_on() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 1).await;
    let (gone, stays) = (spawn(&pool, 2), spawn(&pool, 3));
    settle().await;
    held.close();
    // Not polled since.
    gone.abort();
    let got = stays.await.unwrap().unwrap();
    assert_eq!(peer.started(), 2);
    // While it connects: the connection comes, and makes room.
    peer.set(Mode::Open(SECOND));
    let (gone, stays) = (spawn(&pool, 2), spawn(&pool, 1));
    settle().await;
    got.close();
    settle().await;
    assert_pool(&pool, 0, 0, 1, 2);
    gone.abort();
    settle().await;
    let start = Instant::now();
    stays.await.unwrap().unwrap().close();
    assert_eq!((start.elapsed(), peer.peak(), peer.started()), (2 * SECOND, 1, 4));
    assert_pool(&pool, 0, 0, 0, 0);
    assert_eq!(pool.status().groups, 0);
}

/// An acquire that is dropped after so many polls, whatever happens in between.
#[tokio::test(start_paused = true)]
async fn cancelled_after_any_number_of_polls() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(Duration::ZERO), OnMiss::Connect] {
        for polls in 0..6 {
            for room_after in 0..6 {
                let peer = Peer::new();
                let pool = of(&peer, 1).on_miss(on_miss).build().unwrap();
                let mut held = Some(lease(&pool, 1).await);
                {
                    let mut acquire = pin!(pool.acquire_owned(&2));
                    let mut cx = Context::from_waker(Waker::noop());
                    for poll in 0..polls {
                        if poll == room_after {
                            held.take().into_iter().for_each(Leased::release);
                        }
                        match acquire.as_mut().poll(&mut cx) {
                            Poll::Ready(got) => {
                                got.unwrap().release();
                                break;
                            }
                            Poll::Pending => settle().await,
                        }
                    }
                }
                held.take().into_iter().for_each(Leased::release);
                settle().await;
                assert_pool(&pool, 1, 0, 0, 0);
                assert_eq!(peer.peak(), 1, "{polls} polls, room after {room_after}");
                let third = pool.acquire_timeout_owned(&3, MS).await.unwrap();
                third.close();
                assert_eq!((peer.open(), pool.status().groups), (0, 0));
            }
        }
    }
}

/// The deadline holds, also for who came first.
#[tokio::test(start_paused = true)]
async fn the_time_of_one_who_waits_for_room_is_up() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 1).await;
    let start = Instant::now();
    match pool.acquire_timeout(&2, SECOND).await {
        Err(AcquireError::Timeout { waited, last: None }) => assert!(waited >= SECOND),
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < SECOND + 2 * MS);
    held.release();
    assert!(is_idle(&pool, 1), "nobody is there to close it for");
    assert_pool(&pool, 1, 0, 0, 0);
}

/// The end of the pool, and of a peer, is told at once.
#[tokio::test(start_paused = true)]
async fn ends_while_others_wait_for_room() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 1).await;
    let (down, other) = (spawn(&pool, 2), spawn(&pool, 3));
    settle().await;
    let start = Instant::now();
    pool.drain_group(&2);
    assert!(matches!(down.await.unwrap(), Err(AcquireError::GroupDown)));
    assert!(matches!(pool.acquire(&2).await, Err(AcquireError::GroupDown)));
    assert_eq!(start.elapsed(), Duration::ZERO);
    held.release();
    let held = other.await.unwrap().unwrap();
    pool.resume_group(&2);
    let again = spawn(&pool, 2);
    settle().await;
    pool.close();
    assert!(matches!(again.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(pool.acquire(&2).await, Err(AcquireError::Closed)));
    assert_eq!(start.elapsed(), Duration::ZERO);
    held.release();
    assert!(pool.drain(SECOND).await.is_complete());
    assert_eq!((peer.open(), pool.status().groups), (0, 0));
}

/// A drain waits for what is being opened as well, which has a place.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_connects() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    peer.set(Mode::Open(SECOND));
    let task = spawn(&pool, 1);
    settle().await;
    let start = Instant::now();
    let drained = pool.drain(MS).await;
    assert_eq!((drained.remaining, drained.connecting), (0, 1));
    assert!(matches!(task.await.unwrap(), Err(AcquireError::Closed)));
    assert!(pool.drain(2 * SECOND).await.is_complete());
    assert_eq!((start.elapsed().as_secs(), peer.open()), (1, 0));
}

/// The limits of a peer hold as ever, and who waits for those does not keep others waiting
/// for room.
#[tokio::test(start_paused = true)]
async fn a_peer_at_its_own_limit_is_passed_over() {
    let peer = Peer::new();
    let pool = of(&peer, 2).max_connections_per_group(1).build().unwrap();
    let (one, two) = (lease(&pool, 1).await, lease(&pool, 2).await);
    // Peer 1 has what it may have; peer 3 has nothing.
    let (same, third) = (spawn(&pool, 1), spawn(&pool, 3));
    settle().await;
    two.release();
    third.await.unwrap().unwrap().close();
    settle().await;
    assert_pool(&pool, 0, 1, 0, 1);
    one.close();
    same.await.unwrap().unwrap().close();
    assert_eq!((peer.started(), peer.peak()), (4, 2));
}
