//! Watching, where the connection or its user does something odd.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use slabpool::{Builder, Clock, CloseReason, Connection, Liveness, ManualClock, Pool};

use common::SECOND;
use common::line::Line;

fn builder(clock: &ManualClock) -> Builder<u8, Line> {
    Pool::builder().clock(clock).idle_timeout(None).watch()
}

/// The closure reads from the connection: another waker takes the bell's place.
#[test]
fn who_waits_inside_retain_leaves_the_connection_watched() {
    let pool = builder(&Clock::manual()).build().unwrap();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    pool.retain(|_, _, line| {
        line.await_answer();
        true
    });
    line.kill();
    assert_eq!(pool.maintain(), 1);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
}

/// A connection that was watched, and on its release cannot be, is asked from then on.
#[test]
fn who_cannot_be_watched_any_more_is_asked() {
    let clock = Clock::manual();
    let pool = builder(&clock).probe_interval(5 * SECOND).build().unwrap();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    // The alarm of the insertion has rung by now.
    clock.advance(60 * SECOND);
    pool.maintain();
    let lease = pool.get(&1).unwrap();
    line.stop_watching();
    lease.await_answer();
    lease.release();
    line.kill();
    assert_eq!(pool.status().idle, 1);
    for _ in 0..3 {
        clock.advance(5 * SECOND);
        pool.maintain();
    }
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
}

/// As before, and a look at it finds that.
#[test]
fn who_cannot_be_watched_any_more_while_idle_is_asked() {
    let clock = Clock::manual();
    let pool = builder(&clock).probe_interval(5 * SECOND).build().unwrap();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    clock.advance(60 * SECOND);
    pool.maintain();
    line.stop_watching();
    line.twitch();
    assert_eq!(pool.maintain(), 0);
    line.kill();
    assert_eq!(pool.maintain(), 0);
    clock.advance(6 * SECOND);
    assert_eq!(pool.maintain(), 1);
}

/// A connection that says that it is watched, and keeps no waker, is not.
#[test]
fn who_keeps_no_waker_is_asked() {
    let clock = Clock::manual();
    let pool = builder(&clock).probe_interval(5 * SECOND).build().unwrap();
    let line = Line::forgetful();
    pool.put(&1, line.clone()).unwrap();
    line.kill();
    assert_eq!(pool.maintain(), 0);
    clock.advance(6 * SECOND);
    assert_eq!(pool.maintain(), 1);
}

/// A waker that stays registered when it is woken rings again and again.
#[test]
fn who_rings_by_reference_is_looked_at() {
    let pool = builder(&Clock::manual()).build().unwrap();
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    let waker = line.reader().unwrap();
    for _ in 0..3 {
        waker.wake_by_ref();
        assert_eq!(pool.maintain(), 0);
    }
    line.suffer_quietly(Liveness::Closed);
    waker.wake_by_ref();
    assert_eq!(pool.maintain(), 1);
}

/// Each gives back all that it took.
#[test]
fn any_number_may_be_dead_when_they_are_put() {
    let pool = builder(&Clock::manual()).capacity(2).build().unwrap();
    let (alive, dead) = (Line::default(), Line::default());
    pool.put(&1, alive).unwrap();
    dead.kill();
    for _ in 0..10_000 {
        pool.put(&1, dead.clone()).unwrap();
    }
    assert_eq!((pool.status().idle, pool.stats().closes[CloseReason::Dead]), (1, 10_000));
    assert!(dead.is_closed());
}

/// A poll that panics leaves a bell behind, of which the next connection knows nothing.
#[test]
fn the_seat_of_a_poll_that_panicked_is_watched_again() {
    let pool = builder(&Clock::manual()).build().unwrap();
    let bad = Line::panicking();
    pool.put(&1, bad.clone()).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.panics, stats.closes[CloseReason::Dead]), (1, 1));
    let line = Line::default();
    pool.put(&1, line.clone()).unwrap();
    bad.kill();
    assert_eq!(pool.maintain(), 0);
    assert_eq!(line.polls(), 1, "nothing was rung for");
    line.kill();
    assert_eq!(pool.maintain(), 1);
}

/// A waker that was kept while its connection left is not even a reason to look at the
/// next one in the seat.
#[test]
fn who_has_gone_rings_for_nobody() {
    let pool = builder(&Clock::manual()).probe_interval(None).build().unwrap();
    // The next one is polled at each look.
    let (gone, next) = (Line::default(), Line::unwatchable());
    let token = pool.put(&1, gone.clone()).unwrap();
    drop(pool.take(token));
    pool.put(&1, next.clone()).unwrap();
    let polls = next.polls();
    gone.kill();
    pool.maintain();
    assert_eq!(next.polls(), polls);
}

/// Rings as soon as it is listened to, for as long as it may.
#[derive(Clone)]
struct Restless(Arc<AtomicUsize>);

impl Connection for Restless {
    fn liveness(&mut self) -> Liveness {
        Liveness::Alive
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        // Else a test that fails would not end.
        if self.0.fetch_add(1, Ordering::Relaxed) < 100_000 {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[test]
fn maintenance_ends_though_connections_ring_again_at_once() {
    let polls = Arc::new(AtomicUsize::new(0));
    let pool = Pool::<u8, Restless>::builder().watch().clock(Clock::manual()).build().unwrap();
    for _ in 0..1_000 {
        pool.put(&1, Restless(Arc::clone(&polls))).unwrap();
    }
    assert_eq!(pool.maintain(), 0);
    assert_eq!(pool.status().idle, 1_000);
    assert_eq!(polls.load(Ordering::Relaxed), 2_000, "each is looked at once");
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn the_reaper_lets_others_run_though_connections_ring_again_at_once() {
    let polls = Arc::new(AtomicUsize::new(0));
    let pool = Pool::<u8, Restless>::builder().watch().build().unwrap();
    for _ in 0..10 {
        pool.put(&1, Restless(Arc::clone(&polls))).unwrap();
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(polls.load(Ordering::Relaxed) < 10_000, "the reaper is alone on this thread");
}

#[cfg(all(feature = "tokio", unix))]
mod sockets {
    use std::io::ErrorKind;

    use tokio::net::UnixStream;

    use super::*;

    struct Socket(UnixStream);

    impl Socket {
        fn look(&self) -> Liveness {
            match self.0.try_read(&mut [0]) {
                Ok(0) => Liveness::Closed,
                Ok(_) => Liveness::UnexpectedData,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Liveness::Alive,
                Err(_) => Liveness::Closed,
            }
        }
    }

    impl Connection for Socket {
        fn liveness(&mut self) -> Liveness {
            self.look()
        }

        fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
            loop {
                if std::task::ready!(self.0.poll_read_ready(cx)).is_err() {
                    return Poll::Ready(Liveness::Closed);
                }
                match self.look() {
                    Liveness::Alive => {}
                    other => return Poll::Ready(other),
                }
            }
        }
    }

    /// More die at once than one task may ask in a row: then tokio's sockets say that
    /// nothing is there, and wake who asks a little later.
    #[tokio::test]
    async fn the_reaper_gets_through_more_deaths_than_its_budget() {
        const COUNT: usize = 200;
        let pool = Pool::<u8, Socket>::builder().idle_timeout(None).watch().build().unwrap();
        let mut peers = Vec::new();
        for _ in 0..COUNT {
            let (near, far) = UnixStream::pair().unwrap();
            pool.put(&1, Socket(near)).unwrap();
            peers.push(far);
            // They are not asked in a row.
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.status().idle, COUNT);
        drop(peers);
        while pool.status().idle > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.stats().closes[CloseReason::Dead], COUNT as u64);
    }
}
