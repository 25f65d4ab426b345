//! Watched connections, and what else the pool does with connections meanwhile: drains,
//! capacities that are lowered, connections that are exempt or trimmed.

mod common;
#[path = "common/watched.rs"]
mod watched;

use std::sync::Arc;

use common::check;
use loom::thread::{self, JoinHandle};
use slabpool::model::permits;
use slabpool::{Clock, CloseReason, Group, ManualClock, Pool};
use watched::{Line, Peer, SECOND, Scene, builder, kill, trusting};

const TIMEOUT: std::time::Duration = SECOND.saturating_mul(32);

/// A pool with a clock of the model's.
fn timed(
    settings: impl Fn(slabpool::Builder<u8, Line>) -> slabpool::Builder<u8, Line>,
) -> (ManualClock, Scene) {
    let clock = Clock::manual();
    // A get asks no connection: only the bell tells.
    let builder = settings(builder().probe_after(1_000 * SECOND)).clock(&clock);
    let pool = builder.build().unwrap();
    let group = Arc::new(pool.group(&1));
    (clock, Scene { pool, group, ledger: common::Ledger::default() })
}

fn with_group<R: 'static>(
    scene: &Scene,
    body: impl FnOnce(&Group<u8, Line>) -> R + 'static,
) -> JoinHandle<R> {
    let group = Arc::clone(&scene.group);
    thread::spawn(move || body(&group))
}

fn twitch(peer: &Peer) -> JoinHandle<()> {
    let peer = peer.clone();
    thread::spawn(move || peer.twitch())
}

/// As many permits are out as there are connections.
fn account(pool: &Pool<u8, Line>) {
    let status = pool.status();
    assert_eq!(permits(pool), status.idle + status.leased);
}

/// A drain closes what is looked at, or the look does.
#[test]
fn a_ring_against_drain() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.group.drain();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!((scene.ledger.dropped(0), scene.group.status().idle), (1, 0));
        let closes = scene.pool.stats().closes;
        assert_eq!(closes[CloseReason::Drained] + closes[CloseReason::Dead], 1);
        account(&scene.pool);
        scene.group.resume();
        scene.settle(1);
    });
}

/// A connection that is looked at, whose ticket a getter has taken, is drained.
#[test]
fn a_look_against_get_and_drain() {
    check(1, || {
        let (scene, peer) = trusting().with_one();
        peer.twitch();
        let reaper = scene.reaper();
        let getter = scene.user(false);
        scene.group.drain();
        assert!(scene.group.get().is_none(), "the group is drained");
        reaper.join().unwrap();
        getter.join().unwrap();
        assert_eq!((scene.ledger.dropped(0), scene.group.status().idle), (1, 0));
        assert_eq!(scene.pool.stats().closes[CloseReason::Drained], 1);
        account(&scene.pool);
        scene.group.resume();
        scene.settle(1);
    });
}

/// As before; the pool is closed.
#[test]
fn a_look_against_get_and_close() {
    check(1, || {
        let (scene, peer) = trusting().with_one();
        peer.twitch();
        let reaper = scene.reaper();
        let getter = scene.user(false);
        scene.pool.close();
        assert!(scene.group.get().is_none(), "the pool is closed");
        reaper.join().unwrap();
        getter.join().unwrap();
        assert_eq!((scene.ledger.dropped(0), permits(&scene.pool)), (1, 0));
        scene.settle(1);
    });
}

/// As before; the connection is evicted by its token.
#[test]
fn a_look_against_get_and_evict() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        peer.twitch();
        let reaper = scene.reaper();
        let getter = scene.user(false);
        assert!(scene.pool.evict(token), "nobody else closes it");
        assert!(scene.group.get().is_none(), "it was evicted");
        reaper.join().unwrap();
        getter.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        assert_eq!(scene.pool.stats().closes[CloseReason::Removed], 1);
        account(&scene.pool);
        scene.settle(1);
    });
}

/// A release that registers the bell, a drain and an eviction by the token: it is closed
/// once, by whoever, and nothing is left of it.
#[test]
fn a_release_against_drain_and_evict() {
    check(2, || {
        let scene = trusting();
        let (line, _peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let lease = scene.group.get().unwrap();
        lease.await_answer();
        let drain = with_group(&scene, Group::drain);
        let pool = scene.pool.clone();
        let evict = thread::spawn(move || pool.evict(token));
        lease.release();
        drain.join().unwrap();
        let evicted = evict.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        let closes = scene.pool.stats().closes;
        assert!(evicted || closes[CloseReason::Drained] == 1);
        assert_eq!(closes.total(), 1);
        account(&scene.pool);
        scene.group.resume();
        scene.settle(1);
    });
}

/// The capacity is lowered while one of two connections rings. A dead one is not left,
/// and a live one that is left is watched.
#[test]
fn a_ring_against_shrink() {
    check(2, || {
        let (scene, peer) = Scene::of(builder().capacity(2).probe_after(SECOND)).with_one();
        let (line, other) = scene.line(1);
        scene.group.put(line).unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.reconfigure(|settings| settings.capacity = 1).unwrap();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.maintain();
        assert_eq!(scene.ledger.dropped(0), 1, "a dead connection is idle");
        account(&scene.pool);
        let closes = scene.pool.stats().closes;
        if scene.ledger.dropped(1) == 0 {
            scene.expect_watched(1, &other);
        } else {
            // It went while the other one was looked at, which turned out to be dead.
            assert_eq!((closes[CloseReason::Evicted], closes[CloseReason::Dead]), (1, 1));
        }
        scene.settle(2);
    });
}

/// The only connection is looked at while the capacity is lowered to nothing: then it
/// goes when that is done.
#[test]
fn a_look_against_shrink_to_nothing() {
    check(3, || {
        let (scene, peer) = Scene::of(builder().capacity(1).probe_after(SECOND)).with_one();
        peer.twitch();
        let reaper = scene.reaper();
        scene.pool.reconfigure(|settings| settings.capacity = 0).unwrap();
        reaper.join().unwrap();
        scene.maintain();
        assert_eq!((scene.ledger.dropped(0), permits(&scene.pool)), (1, 0));
        scene.settle(1);
    });
}

/// A connection that is exempt, and past its timeout, is found by get while the reaper
/// looks at it and judges it.
#[test]
fn a_look_hides_no_exempt_connection() {
    check(3, || {
        let (clock, scene) = timed(|b| b.idle_timeout(TIMEOUT).min_idle_per_group(1));
        let (scene, peer) = scene.with_one();
        clock.advance(TIMEOUT);
        peer.twitch();
        let reaper = scene.reaper();
        let lease = scene.group.get().expect("it is alive and exempt, and nobody has it");
        lease.conn.touch();
        lease.release();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}

/// To be exempt does not keep a dead connection.
#[test]
fn a_ring_of_an_exempt_connection() {
    check(2, || {
        let (clock, scene) = timed(|b| b.idle_timeout(TIMEOUT).min_idle_per_group(1));
        let (scene, peer) = scene.with_one();
        clock.advance(TIMEOUT);
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.use_one(false);
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The same step of the reaper looks at a connection and trims it, or a get has it.
#[test]
fn a_ring_against_trim_and_get() {
    check(2, || {
        let (clock, scene) = timed(|b| b.trim_window(TIMEOUT));
        let (scene, peer) = scene.with_one();
        clock.advance(TIMEOUT);
        let ringer = twitch(&peer);
        let reaper = scene.reaper();
        let used = scene.group.get().is_some_and(|lease| {
            lease.conn.touch();
            lease.release();
            true
        });
        ringer.join().unwrap();
        reaper.join().unwrap();
        match scene.ledger.dropped(0) {
            0 => scene.expect_watched(0, &peer),
            _ => assert!(!used, "it was needed"),
        }
        account(&scene.pool);
        scene.settle(1);
    });
}

/// The connection that was trimmed had rung; the next one in its seat is looked at in
/// its stead, and watched.
#[test]
fn a_ring_against_trim_and_put() {
    check(2, || {
        let (clock, scene) = timed(|b| b.trim_window(TIMEOUT));
        let (scene, peer) = scene.with_one();
        clock.advance(TIMEOUT);
        peer.twitch();
        let reaper = scene.reaper();
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(1), 0, "it is new");
        next.kill();
        scene.maintain();
        assert_eq!(scene.ledger.dropped(1), 1, "nobody watches it");
        account(&scene.pool);
        scene.settle(2);
    });
}

/// All at once: a user, the peer, the reaper, and the end.
#[test]
fn a_ring_a_user_and_the_reaper_against_close() {
    check(1, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        let user = scene.user(true);
        scene.pool.close();
        killer.join().unwrap();
        reaper.join().unwrap();
        user.join().unwrap();
        assert_eq!((scene.ledger.dropped(0), permits(&scene.pool)), (1, 0));
        assert_eq!(scene.pool.stats().closes.total(), 1);
        scene.settle(1);
    });
}
