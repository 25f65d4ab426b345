//! Peers that are down, and how that ends.

use std::time::Duration;

use slabpool::Clock;
use slabpool::managed::{AcquireError, ConfigError, Health};

use crate::health::{caller, fails_with_cause, is_turned_away, minds};
use crate::support::{MS, Mode, SECOND, settle};
use crate::watched::{Watched, assert_peer, builder, pass, retry_in, with_min};

/// The peer comes back: whoever asks at the next trial is served, and all is forgotten.
#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back() {
    let peer = Watched::new();
    let pool = minds(&peer, 2).build().unwrap();
    peer.peer.set(Mode::Fail(MS));
    fails_with_cause(&pool).await;
    assert_eq!(pool.group_status(&1).health, Health::Up);
    pass(MS).await;
    fails_with_cause(&pool).await;
    peer.peer.set(Mode::Open(SECOND));
    let wait = retry_in(&pool, 1);
    assert!((100 * MS..=200 * MS).contains(&wait), "{wait:?}: two rounds");
    pass(wait - MS).await;
    is_turned_away(&pool).await;
    pass(MS).await;
    assert_eq!(retry_in(&pool, 1), Duration::ZERO);
    assert_eq!(peer.times().len(), 2);
    let served = caller(&pool);
    settle().await;
    assert_eq!(pool.group_status(&1).health, Health::Trial { failures: 2 });
    served.await.unwrap().unwrap().release();
    assert_eq!(pool.group_status(&1).health, Health::Up);
    assert_peer(&pool, 1, (1, 0, 0));
    // One failure does not bring it down again.
    pool.clear_group(&1);
    peer.peer.set(Mode::Fail(MS));
    fails_with_cause(&pool).await;
    assert_eq!(pool.group_status(&1).health, Health::Up);
}

/// To drain by hand wins, and to resume by hand ends both.
#[tokio::test(start_paused = true)]
async fn by_hand() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).build().unwrap();
    peer.peer.set(Mode::Fail(MS));
    fails_with_cause(&pool).await;
    pass(retry_in(&pool, 1)).await;
    peer.peer.set(Mode::Open(SECOND));
    let trial = caller(&pool);
    settle().await;
    pool.drain_group(&1);
    assert!(matches!(trial.await.unwrap(), Err(AcquireError::GroupDown)));
    pass(2 * SECOND).await;
    assert_eq!(pool.group_status(&1).health, Health::Drained);
    assert_eq!((peer.peer.open(), peer.times().len()), (0, 2));
    is_turned_away(&pool).await;
    pool.resume_group(&1);
    assert_eq!(pool.group_status(&1).health, Health::Up);
    pool.acquire(&1).await.unwrap().close();
    // Up by hand, long before its time.
    peer.peer.set(Mode::Fail(MS));
    fails_with_cause(&pool).await;
    is_turned_away(&pool).await;
    pool.resume_group(&1);
    peer.peer.set(Mode::Open(MS));
    pool.acquire(&1).await.unwrap().release();
    pool.resume_group(&7);
}

/// P8: a peer that nobody asks for is not remembered for ever.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_down_is_forgotten() {
    let peer = Watched::new();
    let pool = minds(&peer, 2).build().unwrap();
    peer.peer.set(Mode::Fail(MS));
    fails_with_cause(&pool).await;
    assert_eq!(pool.status().groups, 1, "one failure is remembered");
    fails_with_cause(&pool).await;
    pass(retry_in(&pool, 1) + 999 * MS).await;
    pool.maintain();
    assert_eq!(pool.status().groups, 1);
    pass(2 * MS).await;
    pool.maintain();
    assert_eq!(pool.status().groups, 0);
    assert_eq!(pool.group_status(&1).health, Health::Up);
    fails_with_cause(&pool).await;
    assert_eq!(pool.group_status(&1).health, Health::Up, "it is counted from the beginning");
    // A success leaves nothing either.
    peer.peer.set(Mode::Open(MS));
    pool.acquire(&1).await.unwrap().close();
    pool.maintain();
    assert_eq!(pool.status().groups, 0);
}

/// A caller that goes away before it has begun its trial leaves it to the next one.
#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up() {
    let peer = Watched::new();
    let pool = minds(&peer, 1).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.peer.set(Mode::Fail(MS));
    lease.close();
    fails_with_cause(&pool).await;
    pass(retry_in(&pool, 1)).await;
    peer.peer.set(Mode::Open(SECOND));
    let trial = caller(&pool);
    settle().await;
    // The connect is nobody's own: it goes on.
    trial.abort();
    let second = caller(&pool);
    settle().await;
    assert_eq!(peer.times().len(), 3);
    second.await.unwrap().unwrap().release();
    assert_eq!((peer.times().len(), pool.group_status(&1).health), (3, Health::Up));
}

/// Where there is a minimum, maintenance tries: the peer comes back without any caller.
#[tokio::test(start_paused = true)]
async fn maintenance_tries_peers_that_have_a_minimum() {
    let peer = Watched::new();
    let pool = with_min(&peer, 2, 100, &Clock::manual())
        .down_after(2)
        .backoff(100 * MS, SECOND)
        .build()
        .unwrap();
    let reaper = tokio::spawn(pool.reaper());
    peer.peer.set(Mode::Fail(MS));
    fails_with_cause(&pool).await;
    tokio::time::sleep(5 * SECOND).await;
    let tries = peer.times();
    assert!((6..=14).contains(&tries.len()), "{}", tries.len());
    is_turned_away(&pool).await;
    assert_eq!(peer.times().len(), tries.len());
    peer.peer.set(Mode::Open(MS));
    tokio::time::sleep(1_200 * MS).await;
    assert_peer(&pool, 1, (2, 0, 0));
    assert_eq!(pool.group_status(&1).health, Health::Up);
    drop(pool);
    reaper.await.unwrap();
}

/// Threads at peers that come and go: nobody hangs, nothing is left, and while a peer is
/// down there is one connect at a time.
#[test]
fn threads_at_peers_that_come_and_go() {
    let peer = Watched::new();
    let pool = with_min(&peer, 2, 16, &Clock::manual())
        .max_connections_per_group(6)
        .grow_by(2)
        .down_after(2)
        .backoff(MS / 10, MS)
        .acquire_timeout(600 * SECOND)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let reaper = tokio::spawn(pool.reaper());
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (pool, peer) = (pool.clone(), peer.clone());
                tokio::spawn(async move {
                    let mut served = 0;
                    for n in 0..400 {
                        let fails = (n / 40) % 2 == 1;
                        let zero = Duration::ZERO;
                        peer.peer.set(if fails { Mode::Fail(zero) } else { Mode::Open(zero) });
                        match pool.acquire_owned(&((task + n) % 3)).await {
                            Ok(lease) if n % 3 == 0 => lease.close(),
                            Ok(lease) => {
                                served += 1;
                                lease.release();
                            }
                            Err(AcquireError::Connect(_) | AcquireError::GroupDown) => {}
                            // More peers than there is room for.
                            Err(AcquireError::Rejected(_)) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                        tokio::task::yield_now().await;
                    }
                    served
                })
            })
            .collect();
        let mut served = 0;
        for task in tasks {
            served += task.await.unwrap();
        }
        assert!(served > 0);
        pool.close();
        while pool.status().connecting > 0 || pool.status().groups > 0 {
            tokio::task::yield_now().await;
        }
        drop(pool);
        reaper.await.unwrap();
    });
    assert_eq!(peer.peer.open(), 0);
}

#[test]
fn settings_that_cannot_work() {
    let peer = Watched::new();
    let error = builder(&peer).backoff(SECOND, MS).build().unwrap_err();
    assert_eq!(error, ConfigError::BackoffReversed { min: SECOND, max: MS });
    assert_eq!(
        error.to_string(),
        "backoff begins with 1s, at most the 1ms of its end are possible"
    );
    let error = builder(&peer).backoff(Duration::ZERO, SECOND).build().unwrap_err();
    assert_eq!(error, ConfigError::Zero { setting: "backoff" });
    assert!(builder(&peer).backoff(MS, MS).down_after(u32::MAX).build().is_ok());
    assert!(
        builder(&peer)
            .backoff(Duration::MAX, Duration::MAX)
            .keep_warm(Duration::MAX)
            .build()
            .is_ok()
    );
    for grow_by in [0, 65_536] {
        let error = builder(&peer).grow_by(grow_by).build().unwrap_err();
        let setting = "grow_by";
        assert_eq!(error, ConfigError::OutOfRange { setting, value: grow_by, min: 1, max: 65_535 });
    }
}
