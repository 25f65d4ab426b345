//! Peers that are down: who is turned away, and who tries again, when.

use std::time::Duration;

use slabpool::Clock;
use slabpool::managed::{AcquireError, Builder, ConfigError, Health};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{MS, Mode, Refused, SECOND, settle};
use crate::watched::{
    Watched, WatchedLease, WatchedPool, assert_peer, builder, pass, retry_in, with_min,
};

type Outcome = Result<WatchedLease, AcquireError<Refused>>;

fn minds(peer: &Watched, down_after: u32) -> Builder<u32, Watched> {
    builder(peer).down_after(down_after).backoff(100 * MS, SECOND)
}

fn caller(pool: &WatchedPool) -> JoinHandle<Outcome> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_owned(&1).await })
}

async fn fails_with_cause(pool: &WatchedPool) {
    match pool.acquire(&1).await {
        Err(AcquireError::Connect(_)) => {}
        other => panic!("{other:?}"),
    }
}

async fn is_turned_away(pool: &WatchedPool) {
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
