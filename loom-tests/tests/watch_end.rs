//! A bell says nothing about the next connection in its seat, and rings while its own is
//! removed, or the pool goes.

mod common;
#[path = "common/watched.rs"]
mod watched;

use std::sync::Arc;

use common::{Ledger, check};
use loom::thread;
use slabpool::Clock;
use watched::{SECOND, Scene, builder, kill, trusting};

/// The dead connection has gone, by the token, when its ring is taken up, and another
/// one is in the seat.
#[test]
fn a_ring_is_not_for_the_next_after_evict() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        // Perhaps the reaper was first.
        scene.pool.evict(token);
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// As before; the first connection lives on, outside.
#[test]
fn a_ring_is_not_for_the_next_after_take() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let killer = kill(&peer);
        let taken = scene.pool.take(token).expect("nobody else has it");
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        taken.conn.touch();
        let reaper = scene.reaper();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 0, "it is the taker's");
        drop(taken);
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// As before; the next connection comes by a lease, and the wait for its answer.
#[test]
fn a_ring_is_not_for_the_next_that_is_inserted() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let killer = kill(&peer);
        drop(scene.pool.take(token));
        let (line, next) = scene.line(1);
        let lease = scene.group.insert(line).unwrap();
        lease.await_answer();
        lease.release();
        killer.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// A waker that was kept rings when its connection has gone: not even a look comes of
/// it.
#[test]
fn a_stale_waker_rings_into_nothing() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let kept = peer.waker().unwrap();
        drop(scene.pool.take(token));
        let ringer = thread::spawn(move || kept.wake());
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        scene.pool.maintain();
        ringer.join().unwrap();
        scene.maintain();
        assert_eq!(next.polls(), 1, "the bell of a connection that has gone is silent");
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// A waker that was kept rings for its own connection, leased or idle.
#[test]
fn a_kept_waker_does_no_harm() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let kept = peer.waker().unwrap();
        let ringer = thread::spawn(move || {
            kept.wake_by_ref();
            kept.wake();
        });
        let reaper = scene.reaper();
        scene.use_one(true);
        ringer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}

/// A clear takes the ticket of a connection that is looked at.
#[test]
fn a_ring_against_clear() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        peer.twitch();
        let reaper = scene.reaper();
        scene.group.clear();
        reaper.join().unwrap();
        match scene.ledger.dropped(0) {
            // It was looked at, and is there afterwards.
            0 => scene.expect_watched(0, &peer),
            _ => assert_eq!(scene.group.status().idle, 0),
        }
        scene.settle(1);
    });
}

/// `retain` and the reaper look at the same connection, which rings.
#[test]
fn a_ring_against_retain() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.retain(|_, _, line| {
            line.conn.touch();
            true
        });
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A dead connection is closed by the reaper or by its token, once.
#[test]
fn a_look_against_evict() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        peer.kill();
        let reaper = scene.reaper();
        scene.pool.evict(token);
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.settle(1);
    });
}

/// It expires while it rings: it is closed once.
#[test]
fn a_ring_against_expiry() {
    check(3, || {
        let clock = Clock::manual();
        let pool = builder().idle_timeout(SECOND).probe_after(SECOND).clock(&clock).build();
        let pool = pool.unwrap();
        let group = Arc::new(pool.group(&1));
        let (scene, peer) = Scene { pool, group, ledger: Ledger::default() }.with_one();
        clock.advance(2 * SECOND);
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.maintain();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.maintain();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.settle(1);
    });
}

/// The pool is closed while a connection rings and is looked at.
#[test]
fn a_ring_against_close() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.close();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.settle(1);
    });
}

/// The pool goes while a connection rings: the ring finds what it needs.
#[test]
fn a_ring_against_the_end_of_the_pool() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let kept = peer.waker().unwrap();
        let killer = kill(&peer);
        scene.settle(1);
        killer.join().unwrap();
        kept.wake();
    });
}

/// Three at once: a user, another user, and the peer.
#[test]
fn a_ring_against_two_users() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let user = scene.user(true);
        scene.use_one(false);
        killer.join().unwrap();
        user.join().unwrap();
        scene.expect_found_dead();
    });
}
