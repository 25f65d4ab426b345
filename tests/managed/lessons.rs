//! Known mistakes of other pools that no other test here is about.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use slabpool::managed::{AcquireError, Fairness, OnMiss, Pool};
use tokio::time::{Instant, advance};

use crate::support::{
    MS, Mode, Outcome, Peer, SECOND, TestPool, assert_group, builder, poll_once, settle, spawn,
};

const BOTH: [Fairness; 2] = [Fairness::Fair, Fairness::Barging];

/// Counts how often somebody is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One who waits, in no task.
struct Waiter {
    acquire: Pin<Box<dyn Future<Output = Outcome>>>,
    bell: Arc<Bell>,
}

impl Waiter {
    fn new(pool: &TestPool, key: u32) -> Self {
        let pool = pool.clone();
        let acquire = Box::pin(async move { pool.acquire_owned(&key).await });
        let mut waiter = Self { acquire, bell: Arc::default() };
        assert!(waiter.poll().is_none());
        waiter
    }

    fn poll(&mut self) -> Option<Outcome> {
        let waker = Waker::from(Arc::clone(&self.bell));
        match self.acquire.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    fn woken(&self) -> usize {
        self.bell.0.load(Ordering::SeqCst)
    }
}

/// A.5, A.13: a release wakes one who waits for that peer, once, and nobody else.
#[tokio::test(start_paused = true)]
async fn a_release_wakes_one() {
    for fairness in BOTH {
        let peer = Peer::new();
        let pool = builder(&peer).fairness(fairness).max_connections_per_group(1).build().unwrap();
        let lease = pool.acquire_owned(&1).await.unwrap();
        let _other = pool.acquire_owned(&2).await.unwrap();
        let mut waiters: Vec<Waiter> = (0..50).map(|_| Waiter::new(&pool, 1)).collect();
        let elsewhere: Vec<Waiter> = (0..50).map(|_| Waiter::new(&pool, 2)).collect();
        lease.release();
        let woken = |waiters: &[Waiter]| waiters.iter().map(Waiter::woken).collect::<Vec<_>>();
        let mut expected = vec![0; 50];
        expected[0] = 1;
        assert_eq!(woken(&waiters), expected);
        let lease = waiters[0].poll().unwrap().unwrap();
        assert_eq!(woken(&waiters), expected);
        // However it ends.
        lease.close();
        expected[1] = 1;
        assert_eq!(woken(&waiters), expected);
        assert!(waiters[1].poll().is_none(), "it connects");
        settle().await;
        expected[1] = 2;
        assert_eq!(woken(&waiters), expected);
        waiters[1].poll().unwrap().unwrap().release();
        expected[2] = 1;
        assert_eq!(woken(&waiters), expected);
        assert_eq!(woken(&elsewhere), vec![0; 50]);
    }
}

/// A.2, A.3, A.4 (outside): a thousand whose time is up are told so then, each at its own time,
/// with nothing released meanwhile; and what is released then goes to one who still waits.
#[tokio::test(start_paused = true)]
async fn whose_time_is_up_is_told_so_at_once() {
    for fairness in BOTH {
        let peer = Peer::new();
        let pool = builder(&peer).fairness(fairness).max_connections_per_group(1).build().unwrap();
        let lease = pool.acquire_owned(&1).await.unwrap();
        let tasks: Vec<_> = (0..1_000)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let time = (number * 7 % 1_000 + 1) * MS;
                    let start = Instant::now();
                    let outcome = pool.acquire_timeout(&1, time).await.map(|lease| lease.id);
                    let waited = start.elapsed();
                    let Err(AcquireError::Timeout { waited: said, .. }) = outcome else {
                        panic!("{outcome:?}")
                    };
                    // Of the timers of tokio, one is as exact as a millisecond.
                    assert!((time..=time + 2 * MS).contains(&waited), "{time:?}, {waited:?}");
                    assert_eq!(said, waited);
                })
            })
            .collect();
        settle().await;
        let last = spawn(&pool, 1);
        settle().await;
        assert_group(&pool, 0, 1, 0, 1_001);
        for task in tasks {
            task.await.unwrap();
        }
        assert_group(&pool, 0, 1, 0, 1);
        lease.release();
        last.await.unwrap().unwrap().release();
        assert_eq!(peer.started(), 1);
    }
}

/// A.5 (outside): what is being opened when the pool is closed is closed as well, and counts
/// until then.
#[tokio::test(start_paused = true)]
async fn closed_while_connects_are_under_way() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(3).build().unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..5).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    pool.close();
    assert_eq!(pool.group_status(&1).connections, 3);
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AcquireError::Closed)));
    }
    assert_eq!(peer.open(), 3);
    tokio::time::sleep(SECOND + MS).await;
    assert_eq!((peer.open(), pool.status().groups), (0, 0));
}

/// A connection whose destructor uses the pool.
struct Nosy(Arc<OnceLock<Pool<u32, NosyManager>>>, Arc<AtomicUsize>);

struct NosyManager(Arc<OnceLock<Pool<u32, NosyManager>>>, Arc<AtomicUsize>);

impl slabpool::managed::Manager<u32> for NosyManager {
    type Connection = Nosy;
    type Error = ();

    async fn connect(&self, _: &u32) -> Result<Nosy, ()> {
        Ok(Nosy(Arc::clone(&self.0), Arc::clone(&self.1)))
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let pool = self.0.get().expect("it is made by the pool");
        ask_all(pool);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// Takes every lock that there is.
fn ask_all(pool: &Pool<u32, NosyManager>) {
    let _status = (pool.status(), pool.group_status(&1));
    drop(pool.try_acquire(&2));
    drop(poll_once(pool.acquire(&1)));
}

/// Uses the pool when it is woken, cloned or dropped.
struct NosyWaker(Pool<u32, NosyManager>, Arc<AtomicUsize>);

impl Wake for NosyWaker {
    fn wake(self: Arc<Self>) {
        ask_all(&self.0);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// A.11 (outside): no code of a user runs under a lock, be it of a connection or of whoever
/// waits. Under one, this would not come to an end.
#[tokio::test(start_paused = true)]
async fn what_users_do_when_they_are_called() {
    for fairness in BOTH {
        let (cell, closed, woken) = (Arc::default(), Arc::default(), Arc::<AtomicUsize>::default());
        let manager = NosyManager(Arc::clone(&cell), Arc::clone(&closed));
        let pool = Pool::builder(manager)
            .settings(|pool| pool.spawn_reaper(false))
            .fairness(fairness)
            .max_connections_per_group(1)
            .build()
            .unwrap();
        assert!(cell.set(pool.clone()).is_ok());
        let lease = pool.acquire_owned(&1).await.ok().unwrap();
        let wait = || {
            let (pool, woken) = (pool.clone(), Arc::clone(&woken));
            let waker = Waker::from(Arc::new(NosyWaker(pool.clone(), woken)));
            let mut acquire = Box::pin(async move { pool.acquire_owned(&1).await });
            assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            acquire
        };
        let (first, second, third) = (wait(), wait(), wait());
        lease.release();
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        drop(first);
        assert_eq!(woken.load(Ordering::SeqCst), 2);
        let lease = second.await.ok().unwrap();
        lease.close();
        // A waker that barges has closed one more.
        assert!(closed.load(Ordering::SeqCst) > 0);
        assert_eq!(woken.load(Ordering::SeqCst), 3);
        drop(third);
        settle().await;
        pool.clear();
        pool.close();
        assert_eq!(pool.status().leased, 0);
    }
}

/// B.20: those who come and go leave nothing behind beside one that stays, and do not wake it.
#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_leaves_nothing() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let stays = Waiter::new(&pool, 1);
    for _ in 0..20_000 {
        assert!(poll_once(pool.acquire(&1)).is_none());
    }
    assert_group(&pool, 0, 1, 0, 1);
    assert_eq!(stays.woken(), 0);
    lease.release();
    assert_eq!(stays.woken(), 1);
}

/// B.23: the capacity is changed while others wait: nobody is forgotten, nothing is counted
/// twice, nothing is poisoned.
#[tokio::test(start_paused = true)]
async fn resized_while_others_wait() {
    let peer = Peer::new();
    let pool = builder(&peer)
        .settings(|pool| pool.capacity(4).idle_timeout(None).spawn_reaper(false))
        .max_connections_per_group(3)
        .build()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..60)
        .map(|number| {
            let (pool, log) = (pool.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                let lease = match pool.acquire(&1).await {
                    Ok(lease) => lease,
                    // The capacity was too small for one more at that moment.
                    Err(AcquireError::Rejected(_)) => return,
                    Err(error) => panic!("{error:?}"),
                };
                log.lock().unwrap().push(number);
                tokio::time::sleep(MS).await;
                lease.release();
            })
        })
        .collect();
    for capacity in [1, 8, 2, 1, 3, 5] {
        advance(3 * MS).await;
        pool.reconfigure(|settings| settings.pool.capacity = capacity).unwrap();
        settle().await;
        let status = pool.group_status(&1);
        assert!(status.connections <= 3, "{status:?}");
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(!log.lock().unwrap().is_empty());
    assert_group(&pool, peer.open(), 0, 0, 0);
    assert!(peer.open() <= 3);
}

/// A.4: as many are opened as are wanted, whatever wakes whom meanwhile.
#[tokio::test(start_paused = true)]
async fn no_more_are_opened_than_are_waited_for() {
    for (fairness, on_miss) in
        BOTH.into_iter().flat_map(|fair| [OnMiss::Race, OnMiss::Connect].map(|miss| (fair, miss)))
    {
        let peer = Peer::new();
        let pool = builder(&peer).fairness(fairness).on_miss(on_miss).build().unwrap();
        peer.set(Mode::Open(SECOND));
        let tasks: Vec<_> = (0..10).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        assert_group(&pool, 0, 0, 10, 10);
        tasks.iter().take(5).for_each(|task| task.abort());
        settle().await;
        let more: Vec<_> = (0..5).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        if on_miss == OnMiss::Race {
            assert_group(&pool, 0, 0, 10, 10);
        }
        let mut leases = Vec::new();
        for task in tasks.into_iter().skip(5).chain(more) {
            leases.push(task.await.unwrap().unwrap());
        }
        if on_miss == OnMiss::Race {
            assert_eq!(peer.started(), 10);
        }
        leases.into_iter().for_each(|lease| lease.release());
        tokio::time::sleep(2 * SECOND).await;
        assert_group(&pool, peer.open(), 0, 0, 0);
    }
}
