//! Checks that take time, before a connection is leased.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use slabpool::{Clock, CloseReason, ManualClock, Miss, Pool};

use common::SECOND;

fn pool() -> (Pool<u8, u32>, ManualClock) {
    let clock = Clock::manual();
    (Pool::builder().clock(&clock).build().unwrap(), clock)
}

/// The result of a future that waits for nothing.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn only_those_idle_for_long_are_checked() {
    let (pool, clock) = pool();
    let asked = RefCell::new(Vec::new());
    let check = async |connection: &mut u32| {
        asked.borrow_mut().push(*connection);
        true
    };
    pool.put(&1, 7).unwrap();
    clock.advance(9 * SECOND);
    now(pool.get_checked(&1, 10 * SECOND, check)).unwrap().release();
    assert_eq!(*asked.borrow(), []);
    clock.advance(10 * SECOND);
    now(pool.group(&1).get_checked(10 * SECOND, check)).unwrap().release();
    assert_eq!(*asked.borrow(), [7]);
}

#[test]
fn those_that_fail_are_closed_and_the_next_is_taken() {
    let (pool, clock) = pool();
    for connection in 0..4 {
        pool.put(&1, connection).unwrap();
    }
    clock.advance(SECOND);
    let lease = now(pool.get_checked_owned(&1, SECOND, async |c| *c < 2)).unwrap();
    assert_eq!(*lease, 1);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 2);
    drop(lease);
    assert!(now(pool.group(&1).get_checked_owned(SECOND, async |_| false)).is_none());
    assert_eq!(pool.status().idle, 0);
    assert_eq!(pool.stats().misses[Miss::Dead], 1);
}

#[test]
fn one_that_is_checked_when_the_caller_goes_away_is_closed() {
    let (pool, clock) = pool();
    pool.put(&1, 7).unwrap();
    clock.advance(SECOND);
    {
        let mut checked = pin!(pool.get_checked(&1, SECOND, async |_| pending().await));
        assert!(checked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(pool.status().leased, 1);
    }
    assert_eq!(pool.status().leased, 0);
    assert_eq!(pool.stats().closes[CloseReason::Dropped], 1);
}

/// Also where dropping a lease releases it: half a ping may be left in the connection.
#[test]
fn one_that_is_checked_when_the_caller_goes_away_is_not_released() {
    let clock = Clock::manual();
    let pool = Pool::builder().clock(&clock).release_on_drop(true).build().unwrap();
    let (first, second) = (pool.insert(&1, 7).unwrap(), pool.insert(&1, 8).unwrap());
    drop((first, second));
    assert_eq!(pool.status().idle, 2, "dropping releases");
    clock.advance(SECOND);
    let group = pool.group(&1);
    for owned in [false, true] {
        let check = async |_: &mut u32| pending().await;
        let mut cx = Context::from_waker(Waker::noop());
        if owned {
            let mut checked = pin!(group.get_checked_owned(SECOND, check));
            assert!(checked.as_mut().poll(&mut cx).is_pending());
        } else {
            let mut checked = pin!(pool.get_checked(&1, SECOND, check));
            assert!(checked.as_mut().poll(&mut cx).is_pending());
        }
    }
    assert_eq!((pool.status().idle, pool.status().leased), (0, 0));
    assert_eq!(pool.stats().closes[CloseReason::Dropped], 2);
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn the_future_may_be_spawned() {
    let (pool, clock) = pool();
    pool.put(&1, 7).unwrap();
    clock.advance(SECOND);
    let task = tokio::spawn(async move {
        let lease = pool.get_checked(&1, SECOND, async |c: &mut u32| {
            tokio::task::yield_now().await;
            *c == 7
        });
        lease.await.map(|lease| *lease)
    });
    assert_eq!(task.await.unwrap(), Some(7));
}
