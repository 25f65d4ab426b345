//! What Pingora relies on.

mod common;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pingora_pool::{ConnectionMeta, ConnectionPool, PoolNode};
use tokio::sync::watch;

use common::{Hand, Peer, Shared, Step, alone, now, release};

const SECOND: Duration = Duration::from_secs(1);

fn meta() -> ConnectionMeta {
    ConnectionMeta::new(101, 7)
}

/// One connection of group 101 in a pool of this size, and its other end.
macro_rules! one_idle {
    ($pool:ident, $peer:ident, $watch:ident, $size:expr, $timeout:expr) => {
        let $pool: Arc<ConnectionPool<Shared>> = Arc::new(ConnectionPool::new($size));
        let $peer = Peer::default();
        let (meta, pool) = (meta(), Arc::clone(&$pool));
        let (guard, idle, watch_use) = release(&$pool, &meta, $peer.stream());
        #[allow(unused_mut)]
        let mut $watch =
            Hand::new(async move { pool.idle_poll(guard, &meta, $timeout, idle, watch_use).await });
    };
}

// 1. After a get the watcher lets go at once, and reads nothing.

#[test]
fn a_get_before_the_watcher_runs_waits_for_its_first_poll() {
    one_idle!(pool, peer, watch, 4, None);
    let mut getter = Hand::new(alone(pool.get(&101).unwrap()));
    assert!(getter.poll().is_pending(), "the watcher has it locked");
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert_eq!(peer.polls(), 0, "not even looked at");
    assert_eq!(getter.bell.rung(), 1);
    assert!(matches!(getter.poll(), Poll::Ready(Some(_))), "it is the getter's alone");
}

#[test]
fn a_get_after_the_watcher_ran_has_the_connection_at_once() {
    one_idle!(pool, peer, watch, 4, None);
    assert!(watch.poll().is_pending());
    let stream = now(alone(pool.get(&101).unwrap()));
    assert!(stream.is_some(), "nobody else has it, or has it locked");
    assert_eq!(watch.bell.rung(), 1, "the watcher knows");
    peer.does(Step::Data(1));
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert_eq!((peer.polls(), peer.read()), (1, 0), "it reads nothing of the getter's");
    drop(stream);
    assert!(peer.is_closed());
}

#[test]
fn a_watcher_that_is_woken_for_nothing_goes_on() {
    one_idle!(pool, peer, watch, 4, None);
    for _ in 0..10 {
        assert!(watch.poll().is_pending());
    }
    peer.does(Step::End);
    assert!(watch.bell.rung() > 0);
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert!(peer.is_closed() && pool.get(&101).is_none());
}

// 2. Whatever can be read, and the timeout, remove that connection and no other.

#[test]
fn whatever_is_read_removes_the_connection() {
    for step in [|| Step::Data(9), || Step::End, || Step::Fail] {
        // Seen by the first look, and by a later one.
        for looks in 0..2 {
            one_idle!(pool, peer, watch, 4, None);
            let (other, other_meta) = (Peer::default(), ConnectionMeta::new(101, 8));
            let _other_watch = release(&pool, &other_meta, other.stream());
            (0..looks).for_each(|_| assert!(watch.poll().is_pending()));
            peer.does(step());
            assert_eq!(watch.poll(), Poll::Ready(false));
            assert!(peer.is_closed(), "closed at once");
            assert!(!other.is_closed() && pool.get(&101).is_some());
            assert!(pool.get(&101).is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_removes_the_connection() {
    one_idle!(pool, peer, watch, 4, Some(SECOND));
    assert!(watch.poll().is_pending());
    tokio::time::sleep(SECOND - Duration::from_millis(2)).await;
    assert!(watch.poll().is_pending());
    assert!(!peer.is_closed());
    tokio::time::sleep(Duration::from_millis(3)).await;
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert!(peer.is_closed() && pool.get(&101).is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_it_stays() {
    for timeout in [None, Some(Duration::MAX)] {
        one_idle!(pool, peer, watch, 4, timeout);
        assert!(watch.poll().is_pending());
        tokio::time::sleep(SECOND * 86_400 * 365).await;
        assert!(watch.poll().is_pending());
        assert!(!peer.is_closed() && pool.get(&101).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn use_comes_before_eviction_and_that_before_the_stream() {
    one_idle!(pool, peer, watch, 1, Some(SECOND));
    assert!(watch.poll().is_pending());
    peer.does(Step::End);
    tokio::time::sleep(SECOND * 2).await;
    let _other = release(&pool, &ConnectionMeta::new(102, 8), Peer::default().stream());
    assert_eq!(watch.poll(), Poll::Ready(true), "evicted, then ended, then late: evicted");

    one_idle!(pool, peer, watch, 1, None);
    assert!(watch.poll().is_pending());
    let stream = pool.get(&101);
    peer.does(Step::End);
    let _other = release(&pool, &ConnectionMeta::new(102, 8), Peer::default().stream());
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert_eq!(peer.polls(), 1);
    drop(stream);
}

// 3. True is for eviction alone.

#[test]
fn eviction_is_told_before_and_after_the_first_poll() {
    for polls in 0..2 {
        one_idle!(pool, peer, watch, 1, None);
        (0..polls).for_each(|_| assert!(watch.poll().is_pending()));
        let other = release(&pool, &ConnectionMeta::new(102, 8), Peer::default().stream());
        assert_eq!(watch.bell.rung(), polls);
        assert_eq!(watch.poll(), Poll::Ready(true));
        assert!(peer.is_closed(), "with its watcher");
        drop(other);
    }
}

#[test]
fn all_other_ends_are_not_evictions() {
    for polls in 0..2 {
        one_idle!(pool, peer, watch, 1, None);
        (0..polls).for_each(|_| assert!(watch.poll().is_pending()));
        pool.pop_closed(&meta());
        assert_eq!(watch.poll(), Poll::Ready(false));
        assert!(peer.is_closed());
        drop(pool);
    }
}

// 4. Connections that others look after.

/// An idle connection that is not looked at: with its end, its watcher, and who closes it.
macro_rules! one_shared {
    ($pool:ident, $closed:ident, $watch:ident, $timeout:expr) => {
        let $pool: Arc<ConnectionPool<&'static str>> = Arc::new(ConnectionPool::new(1));
        let ($closed, closed) = watch::channel(false);
        let (meta, pool) = (meta(), Arc::clone(&$pool));
        let (idle, watch_use) = $pool.put(&meta, "a connection");
        let mut $watch =
            Hand::new(
                async move { pool.idle_timeout(&meta, $timeout, idle, closed, watch_use).await },
            );
    };
}

#[test]
fn a_close_is_seen_without_a_timeout() {
    for polls in 0..2 {
        one_shared!(pool, closed, watch, None);
        (0..polls).for_each(|_| assert!(watch.poll().is_pending()));
        closed.send(true).unwrap();
        assert_eq!(watch.poll(), Poll::Ready(false));
        assert_eq!(pool.get(&101), None);
        assert_eq!(pool.status().idle, 0);
    }
}

#[test]
fn a_sender_that_goes_is_a_close() {
    one_shared!(pool, closed, watch, None);
    assert!(watch.poll().is_pending());
    drop(closed);
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert_eq!(pool.get(&101), None);
}

#[test]
fn an_eviction_is_seen_without_a_timeout() {
    for polls in 0..2 {
        one_shared!(pool, _closed, watch, None);
        (0..polls).for_each(|_| assert!(watch.poll().is_pending()));
        let _other = pool.put(&ConnectionMeta::new(102, 8), "another");
        assert_eq!(watch.poll(), Poll::Ready(true));
        assert_eq!(pool.get(&101), None);
        assert_eq!(pool.get(&102), Some("another"));
    }
}

#[test]
fn a_get_ends_the_watch() {
    for polls in 0..2 {
        one_shared!(pool, closed, watch, None);
        (0..polls).for_each(|_| assert!(watch.poll().is_pending()));
        assert_eq!(pool.get(&101), Some("a connection"));
        closed.send(true).unwrap();
        assert_eq!(watch.poll(), Poll::Ready(false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_the_watch() {
    one_shared!(pool, _closed, watch, Some(SECOND));
    assert!(watch.poll().is_pending());
    tokio::time::sleep(SECOND + Duration::from_millis(2)).await;
    assert_eq!(watch.poll(), Poll::Ready(false));
    assert_eq!(pool.status().idle, 0);
}

#[test]
fn what_is_known_to_be_closed_is_not_handed_out() {
    one_shared!(pool, closed, watch, None);
    assert!(watch.poll().is_pending());
    closed.send(true).unwrap();
    assert_eq!(pool.get(&101), None, "although the watcher has not run");
    assert_eq!(watch.poll(), Poll::Ready(false));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_handed_out() {
    one_shared!(pool, _closed, watch, Some(SECOND));
    assert!(watch.poll().is_pending());
    tokio::time::advance(SECOND).await;
    assert_eq!(pool.get(&101), None, "although the watcher has not run");
    assert_eq!(watch.poll(), Poll::Ready(false));

    one_idle!(pool, peer, watch, 1, Some(SECOND));
    assert!(watch.poll().is_pending());
    tokio::time::advance(SECOND).await;
    assert!(pool.get(&101).is_none(), "although the watcher has not run");
    assert!(peer.is_closed());
    assert_eq!(watch.poll(), Poll::Ready(false));
}

// 5. `pop_closed` may be called at any time, and numbers come again.

#[test]
fn pop_closed_does_not_mind() {
    let pool: ConnectionPool<&str> = ConnectionPool::new(4);
    pool.pop_closed(&meta());
    let _first = pool.put(&meta(), "first");
    pool.pop_closed(&ConnectionMeta::new(101, 8));
    pool.pop_closed(&ConnectionMeta::new(102, 7));
    assert_eq!(pool.status().idle, 1);
    pool.pop_closed(&meta());
    pool.pop_closed(&meta());
    assert_eq!(pool.get(&101), None);
    let _second = pool.put(&meta(), "second");
    assert_eq!(pool.get(&101), Some("second"));
    pool.pop_closed(&meta());
    let _third = pool.put(&meta(), "third");
    assert_eq!(pool.get(&101), Some("third"));
}

// 6. Nothing runs, and nothing is needed: see `lifecycle.rs`.
// 7. Connections are closed outside of everything.

/// A connection that uses the pool when it is closed.
struct Reentrant(std::sync::Weak<ConnectionPool<Reentrant>>, u64);

impl Drop for Reentrant {
    fn drop(&mut self) {
        let Some(pool) = self.0.upgrade() else { return };
        if self.1 > 0 {
            let again = Reentrant(self.0.clone(), self.1 - 1);
            drop(pool.put(&ConnectionMeta::new(101, self.1 as i32), again));
            pool.pop_closed(&ConnectionMeta::new(999, 1));
            std::mem::forget(pool.get(&102));
        }
    }
}

#[test]
fn a_connection_may_use_the_pool_when_it_is_closed() {
    let pool = Arc::new(ConnectionPool::new(2));
    for id in 0..20 {
        drop(pool.put(&ConnectionMeta::new(101, id), Reentrant(Arc::downgrade(&pool), 3)));
    }
    assert!(pool.status().idle <= 2);
    // Also inside of a removal, and of a miss.
    (0..4).for_each(|id| pool.pop_closed(&ConnectionMeta::new(101, id)));
    drop(pool.put(&ConnectionMeta::new(101, 999), Reentrant(Arc::downgrade(&pool), 3)));
    pool.pop_closed(&ConnectionMeta::new(101, 999));
    std::mem::forget(pool.get(&101));
    std::mem::forget(pool.get(&101));
}

// What else can happen to a watcher.

#[test]
fn a_watcher_that_goes_leaves_the_connection() {
    for polls in 0..2 {
        one_idle!(pool, peer, watch, 4, None);
        (0..polls).for_each(|_| assert!(watch.poll().is_pending()));
        drop(watch);
        assert!(!peer.is_closed());
        assert!(now(alone(pool.get(&101).unwrap())).is_some());
    }
}

#[test]
fn a_stream_that_panics_is_gone() {
    one_idle!(pool, peer, watch, 4, None);
    peer.does(Step::Panic);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.poll()));
    assert!(panic.is_err());
    drop(watch);
    assert_eq!(pool.status().idle, 0);
    assert!(peer.is_closed() && pool.get(&101).is_none());
}

#[test]
fn a_handle_names_its_connection_whatever_the_meta_says() {
    let pool: ConnectionPool<Shared> = ConnectionPool::new(4);
    let (one, two) = (Peer::default(), Peer::default());
    let (guard, idle, watch_use) = release(&pool, &meta(), one.stream());
    let _two = release(&pool, &meta(), two.stream());
    one.does(Step::End);
    let wrong = ConnectionMeta::new(102, 9);
    assert!(!now(pool.idle_poll(guard, &wrong, None, idle, watch_use)));
    assert!(one.is_closed() && !two.is_closed());
}

// The set of HTTP/2 connections in use.

#[test]
fn a_node_gives_what_came_last() {
    let node = PoolNode::new();
    assert!(node.is_empty() && node.get_any().is_none() && node.remove(1).is_none());
    (0..40).for_each(|id| node.insert(id, id * 10));
    assert!(!node.is_empty());
    assert_eq!(node.remove(20), Some(200));
    assert_eq!(node.remove(20), None);
    for id in (0..40).rev().filter(|id| *id != 20) {
        assert_eq!(node.get_any(), Some((id, id * 10)));
    }
    assert!(node.is_empty());
}

#[test]
fn what_is_put_into_a_node_twice_is_there_once() {
    let node = PoolNode::default();
    node.insert(1, "older");
    node.insert(2, "another");
    node.insert(1, "newer");
    assert_eq!(node.remove(1), Some("newer"));
    assert_eq!(node.remove(1), None);
    assert_eq!(node.get_any(), Some((2, "another")));
    assert!(node.is_empty());
}
