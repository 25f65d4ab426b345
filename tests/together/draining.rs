//! Drains of groups whose connections are watched, asked, or checked.

use std::pin::pin;

use slabpool::{Miss, RejectReason};

use super::*;

#[test]
fn a_drain_takes_what_has_rung_and_nobody_has_looked_at() {
    let mut bench = Bench::new();
    let pool = bench.builder().build().unwrap();
    let group = pool.group(&1);
    let lines = [(); 3].map(|()| bench.put(&pool, 1));
    let other = bench.put(&pool, 2);
    lines[1].suffer(Liveness::Closed);
    group.drain();
    assert_eq!(pool.maintain(), 0, "they are closed already");
    let mut closes = bench.closes();
    closes.sort_by_key(|&(id, _)| id);
    assert_eq!(closes, [1, 2, 3].map(|id| (id, CloseReason::Drained)));
    assert_eq!(group.stats().closed_by_peer, 0);
    // Seats that had one of these have another one now, and its bell.
    group.resume();
    let young = [(); 3].map(|()| bench.put(&pool, 1));
    lines.iter().for_each(|line| line.suffer(Liveness::Closed));
    assert_eq!(pool.maintain(), 0, "they ring for those that have gone");
    assert_eq!(idle(&pool), [4, 5, 6, 7]);
    young[2].suffer(Liveness::UnexpectedData);
    other.suffer(Liveness::Closed);
    assert_eq!(pool.maintain(), 2);
    assert_eq!(group.stats().unexpected_data, 1);
    assert_eq!(idle(&pool), [5, 6]);
    assert_accounted(&pool);
}

#[test]
fn one_that_dies_in_use_while_its_group_drains_is_drained() {
    for resumed in [false, true] {
        let mut bench = Bench::new();
        let pool = bench.builder().build().unwrap();
        let group = pool.group(&1);
        let line = bench.put(&pool, 1);
        let lease = group.get().unwrap();
        group.drain();
        line.suffer(Liveness::Closed);
        assert_eq!(pool.maintain(), 0);
        if resumed {
            group.resume();
        }
        lease.release();
        assert_eq!(bench.closes(), [(1, CloseReason::Drained)]);
        assert_eq!(pool.maintain(), 0);
        assert_eq!(group.stats(), Default::default());
        // The next one in this seat is watched as if nothing had been.
        group.resume();
        let next = bench.put(&pool, 1);
        assert_eq!(pool.maintain(), 0);
        next.suffer(Liveness::Closed);
        assert_eq!(pool.maintain(), 1);
        assert_accounted(&pool);
    }
}

/// A probe that drains the group of the connection that it looks at: it is held by the get,
/// the reaper or the release that asks.
#[test]
fn a_probe_may_drain_its_own_group() {
    for by_get in [true, false] {
        let mut bench = Bench::new();
        let home = Arc::new(Mutex::new(None::<Pool<u8, Line>>));
        let probed = Arc::clone(&home);
        let pool = bench
            .builder()
            .probe(move |line: &mut Line| {
                let liveness = line.liveness();
                if line.id == 2 {
                    let pool = probed.lock().unwrap().clone();
                    pool.expect("it is there").drain_group(&1);
                }
                liveness
            })
            .probe_interval(5 * SECOND)
            .build()
            .unwrap();
        *home.lock().unwrap() = Some(pool.clone());
        (0..3).for_each(|_| drop(bench.put(&pool, 1)));
        if by_get {
            drop(pool.get_owned(&1).unwrap());
            let lease = pool.get_owned(&1).expect("it was claimed before the drain");
            assert_eq!(lease.id, 2);
            lease.release();
        } else {
            bench.pass(&pool, 6 * SECOND);
        }
        assert!(pool.get(&1).is_none());
        assert_eq!(pool.status().idle, 0);
        let drained = pool.stats().closes[CloseReason::Drained];
        assert_eq!(drained, if by_get { 2 } else { 3 });
        assert_accounted(&pool);
        *home.lock().unwrap() = None;
    }
}

#[test]
fn a_check_that_is_under_way_ends_in_a_group_that_drains() {
    for passes in [true, false] {
        let mut bench = Bench::new();
        let pool = bench.builder().build().unwrap();
        let group = pool.group(&1);
        let lines = [(); 2].map(|()| bench.put(&pool, 1));
        bench.clock.advance(SECOND);
        let mut cx = Context::from_waker(Waker::noop());
        let (begin, answer) = std::sync::mpsc::channel();
        let lease = {
            let mut get = pin!(group.get_checked(SECOND, async |_| {
                let mut first = true;
                std::future::poll_fn(|_| match std::mem::take(&mut first) {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                })
                .await;
                begin.send(()).unwrap();
                passes
            }));
            assert!(get.as_mut().poll(&mut cx).is_pending());
            group.drain();
            assert_eq!(bench.closes(), [(1, CloseReason::Drained)], "the other one");
            assert_eq!(group.status().leased, 1);
            let Poll::Ready(lease) = get.as_mut().poll(&mut cx) else { panic!("it has passed") };
            lease
        };
        assert_eq!(answer.try_iter().count(), 1, "nobody else is there to be checked");
        assert_eq!(lease.is_some(), passes);
        match lease {
            Some(lease) => {
                assert!(group.put(bench.line()).is_err());
                lease.release();
                assert_eq!(bench.closes(), [(2, CloseReason::Drained)]);
            }
            None => {
                assert_eq!(bench.closes(), [(2, CloseReason::Dead)]);
                assert_eq!(pool.stats().misses[Miss::Closed], 1);
            }
        }
        lines[0].suffer(Liveness::Closed);
        assert_eq!(pool.maintain(), 0);
        assert_eq!(pool.status().leased, 0);
        let rejected = group.put(bench.line()).unwrap_err();
        assert_eq!(rejected.reason, RejectReason::Draining);
        assert_accounted(&pool);
    }
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_pool_that_drains_waits_for_a_check() {
    let mut bench = Bench::new();
    let pool = bench.builder().build().unwrap();
    bench.put(&pool, 1);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let mut gone = Some(gone);
    let check = async |_: &mut Line| gone.take().unwrap().await.is_ok();
    let get = async { pool.get_checked(&1, Duration::ZERO, check).await.unwrap().release() };
    let drain = async {
        assert_eq!(pool.status().leased, 1, "it is being checked");
        assert_eq!(pool.drain(Duration::ZERO).await.remaining, 1);
        let mut drained = pin!(pool.drain(HOUR));
        let waits = std::future::poll_fn(|cx| Poll::Ready(drained.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        go.send(()).unwrap();
        drained.await
    };
    let ((), drained) = tokio::join!(get, drain);
    assert!(drained.is_complete());
    assert_eq!(bench.closes(), [(1, CloseReason::Closed)]);
}
