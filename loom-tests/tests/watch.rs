//! Whatever happens to a watched connection is noticed, by whoever has it then or by
//! the reaper.

mod common;
#[path = "common/watched.rs"]
mod watched;

use common::check;
use loom::thread;
use watched::{Scene, builder, kill, trusting};

/// The bell rings while the lease ends, which does not register it again.
#[test]
fn a_ring_against_release() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        let killer = kill(&peer);
        lease.conn.touch();
        lease.release();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// As before; the waker that rings stays where it is.
#[test]
fn a_ring_by_reference_against_release() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        let other = peer.clone();
        let killer = thread::spawn(move || other.kill_by_ref());
        lease.conn.touch();
        lease.release();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// As before, and the release does register it again, since the user's waker had taken
/// its place.
#[test]
fn a_death_against_a_release_that_registers() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        lease.await_answer();
        let killer = kill(&peer);
        lease.release();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The user's waker takes the place of the bell while that rings.
#[test]
fn a_ring_against_a_user_who_waits() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        scene.use_one(true);
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The reaper takes up the ring while the connection is leased and released.
#[test]
fn a_ring_against_get_release_and_the_reaper() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.use_one(false);
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The reaper has seen the connection leased, and it is leased again before it looks
/// the next time.
#[test]
fn a_ring_against_two_leases_and_the_reaper() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        lease.release();
        scene.use_one(false);
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A connection that dies while it enters the pool.
#[test]
fn a_ring_against_put() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.group.put(line).unwrap();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A connection that dies while it is released for the first time.
#[test]
fn a_ring_against_the_first_release() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let lease = scene.group.insert(line).unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        lease.release();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// It rings for nothing, and then for its death, while it is examined for the first.
#[test]
fn a_ring_against_the_look_at_the_one_before() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let other = peer.clone();
        let killer = thread::spawn(move || {
            other.twitch();
            other.kill();
        });
        scene.pool.maintain();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// Two reapers share the rings.
#[test]
fn a_ring_against_two_reapers() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let other = peer.clone();
        let killer = thread::spawn(move || {
            other.twitch();
            other.kill();
        });
        let reaper = scene.reaper();
        scene.pool.maintain();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A get that asks finds the death, or the reaper does: it is closed once.
#[test]
fn a_death_is_found_by_get_or_by_the_reaper() {
    check(3, || {
        let (scene, peer) = Scene::of(builder()).with_one();
        peer.kill();
        let reaper = scene.reaper();
        assert!(scene.group.get().is_none(), "it is known to be dead");
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// Who meets a connection that the reaper looks at gets it, if it is alive.
#[test]
fn a_look_hides_nothing_from_get() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        peer.twitch();
        let reaper = scene.reaper();
        let lease = scene.group.get().expect("it is alive, and nobody has it");
        lease.conn.touch();
        lease.release();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}

/// As before, with a getter that asks; it may come before the twitch or after it.
#[test]
fn a_twitch_hides_nothing_from_a_get_that_asks() {
    check(2, || {
        let (scene, peer) = Scene::of(builder()).with_one();
        let other = peer.clone();
        let twitcher = thread::spawn(move || other.twitch());
        let reaper = scene.reaper();
        let lease = scene.group.get().expect("it is alive, and nobody has it");
        lease.await_answer();
        lease.release();
        twitcher.join().unwrap();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}
