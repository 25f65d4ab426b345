//! Callers that go away, at every point where they can.

use std::time::Duration;

use slabpool::managed::{Fairness, OnMiss};

use crate::support::{MS, Mode, Peer, SECOND, assert_group, builder, poll_times, settle, spawn};

const POLICIES: [OnMiss; 3] =
    [OnMiss::Race, OnMiss::Wait(Duration::from_millis(3)), OnMiss::Connect];

/// B.15, B.16: dropped after any number of polls, an acquire leaves all numbers right, and
/// the next caller is served.
#[tokio::test(start_paused = true)]
async fn after_any_number_of_polls() {
    for on_miss in POLICIES {
        for times in 0..12 {
            let peer = Peer::new();
            let pool =
                builder(&peer).on_miss(on_miss).max_connections_per_group(1).build().unwrap();
            peer.set(Mode::Open(4 * MS));
            let ended = poll_times(pool.acquire_owned(&1), times, |_| ()).await.is_some();
            tokio::time::sleep(SECOND).await;
            let left = usize::from(times > 0 && !ended);
            assert_group(&pool, left, 0, 0, 0);
            let lease = pool.acquire(&1).await.unwrap();
            assert_eq!(peer.open(), 1);
            lease.release();
            assert_group(&pool, 1, 0, 0, 0);
        }
    }
}

/// The same where it waits for a lease that ends, in either way, at any time meanwhile; with
/// somebody behind it in the line (A.7, A.12).
#[tokio::test(start_paused = true)]
async fn while_a_lease_ends() {
    for (on_miss, fairness) in POLICIES
        .into_iter()
        .flat_map(|on_miss| [(on_miss, Fairness::Fair), (on_miss, Fairness::Barging)])
    {
        for (times, end, clean) in (0..8)
            .flat_map(|times| (0..8).map(move |end| (times, end)))
            .flat_map(|(times, end)| [(times, end, true), (times, end, false)])
        {
            let peer = Peer::new();
            let pool = builder(&peer)
                .on_miss(on_miss)
                .fairness(fairness)
                .max_connections_per_group(1)
                .build()
                .unwrap();
            let lease = std::cell::Cell::new(Some(pool.acquire_owned(&1).await.unwrap()));
            let behind = std::cell::Cell::new(None);
            let outcome = poll_times(pool.acquire_owned(&1), times, |time| {
                if time == 0 {
                    behind.set(Some(spawn(&pool, 1)));
                }
                if time == end
                    && let Some(lease) = lease.take()
                {
                    if clean { lease.release() } else { lease.close() }
                }
            })
            .await;
            drop(lease.take());
            drop(outcome);
            settle().await;
            if let Some(behind) = behind.take() {
                behind.await.unwrap().unwrap().release();
            }
            tokio::time::sleep(SECOND).await;
            let status = pool.group_status(&1);
            assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0));
            assert_eq!(status.connections, status.idle);
            assert_eq!((peer.open(), peer.peak()), (status.idle, 1));
            pool.acquire(&1).await.unwrap().close();
            assert_group(&pool, 0, 0, 0, 0);
            assert_eq!(pool.status().groups, 0);
        }
    }
}

/// A.12: what was handed over, and not seen, goes to the next one.
#[tokio::test(start_paused = true)]
async fn what_was_handed_over_can_be_taken_back() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
    settle().await;
    lease.release();
    assert_group(&pool, 0, 1, 0, 1);
    first.abort();
    let lease = second.await.unwrap().unwrap();
    assert_eq!((lease.id, peer.started()), (0, 1));
    let third = spawn(&pool, 1);
    settle().await;
    lease.release();
    third.abort();
    settle().await;
    assert_group(&pool, 1, 0, 0, 0);
}

/// A.7: a permit that was given, and not used, goes to the next one.
#[tokio::test(start_paused = true)]
async fn a_permit_that_was_not_used_goes_on() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
    settle().await;
    lease.close();
    assert_group(&pool, 0, 0, 1, 2);
    first.abort();
    let lease = second.await.unwrap().unwrap();
    assert_eq!((lease.id, peer.started()), (1, 2));
    lease.release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// A.2 (outside): a thousand that have given up cost the next one nothing, and are not
/// served.
#[tokio::test(start_paused = true)]
async fn many_that_have_given_up() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let tasks: Vec<_> = (0..1_000).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    let last = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 1, 0, 1_001);
    tasks.iter().for_each(|task| task.abort());
    settle().await;
    assert_group(&pool, 0, 1, 0, 1);
    lease.release();
    last.await.unwrap().unwrap().release();
    assert_eq!(peer.started(), 1);
    assert_group(&pool, 1, 0, 0, 0);
}

/// A caller that goes while its connection is checked takes it along, also where dropping
/// a lease releases it.
#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_check() {
    for release_on_drop in [false, true] {
        let peer = Peer::new();
        let pool = builder(&peer)
            .settings(move |pool| pool.release_on_drop(release_on_drop))
            .check_after(Duration::ZERO)
            .build()
            .unwrap();
        pool.acquire(&1).await.unwrap().release();
        peer.set_check(true, true);
        let caller = spawn(&pool, 1);
        settle().await;
        assert_eq!(peer.checks(), 1);
        caller.abort();
        settle().await;
        assert_group(&pool, 0, 0, 0, 0);
        assert_eq!(peer.open(), 0);
    }
}
