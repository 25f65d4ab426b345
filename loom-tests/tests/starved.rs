//! Room in the pool: nobody sleeps while there is some for him, no place is lost or given
//! twice, whoever closes, releases, comes, or goes away meanwhile.

mod common;

#[path = "common/larder.rs"]
mod larder;

use common::{Ledger, check};
use larder::*;
use slabpool::model::{permits, set_capacity};

/// A connection is closed while somebody comes to wait for room: it is his.
#[test]
fn free_against_starve() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let waiter = spawn(&world, |world| sleep(&world, 1));
        close(&world, 0, lease);
        waiter.join().unwrap().end(&world).expect("forgotten");
        settle(world, &ledger, 1);
    });
}

/// The same with a connection that becomes idle, which is closed to make room.
#[test]
fn release_against_starve() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let waiter = spawn(&world, |world| sleep(&world, 1));
        release(&world, 0, lease);
        waiter.join().unwrap().end(&world).expect("forgotten");
        assert_eq!(ledger.dropped(0), 1);
        settle(world, &ledger, 1);
    });
}

/// ... while another one leases it, and releases it in turn.
#[test]
fn release_and_get_against_starve() {
    check(2, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let waiter = spawn(&world, |world| sleep(&world, 1));
        let other = spawn(&world, |world| {
            if let Some(lease) = world.peers[0].group.get_owned() {
                release(&world, 0, lease);
            }
        });
        release(&world, 0, lease);
        other.join().unwrap();
        waiter.join().unwrap().end(&world).expect("forgotten");
        settle(world, &ledger, 1);
    });
}

/// A place that nobody has used comes free while somebody starves.
#[test]
fn unused_place_against_starve() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let first = sleep(&world, 0);
        assert!(first.has_place());
        let waiter = spawn(&world, |world| sleep(&world, 1));
        assert!(first.end(&world).is_some());
        waiter.join().unwrap().end(&world).expect("forgotten");
        settle(world, &ledger, 0);
    });
}

/// The capacity is raised while somebody starves.
#[test]
fn more_room_against_starve() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let waiter = spawn(&world, |world| sleep(&world, 1));
        set_capacity(&world.pool, 2);
        waiter.join().unwrap().end(&world).expect("forgotten");
        close(&world, 0, lease);
        settle(world, &ledger, 1);
    });
}

/// Who starves goes away while room is made: it is the next one's.
#[test]
fn starve_against_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let (goes, stays) = (sleep(&world, 0), sleep(&world, 1));
        let other = spawn(&world, move |world| goes.leave(&world));
        close(&world, 0, lease);
        other.join().unwrap();
        stays.end(&world).expect("forgotten");
        settle(world, &ledger, 1);
    });
}

/// ... and if nobody else is there, it is free, or the connection stays.
#[test]
fn starve_against_the_last_to_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let goes = sleep(&world, 1);
        let other = spawn(&world, move |world| goes.leave(&world));
        release(&world, 0, lease);
        other.join().unwrap();
        let (idle, used) = (1 - ledger.dropped(0), permits(&world.pool));
        assert_eq!(idle, used, "the place of the connection, if it was not closed");
        settle(world, &ledger, 1);
    });
}

/// Who starves goes away while another one comes to the same desk.
#[test]
fn cancel_against_a_newcomer() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let goes = sleep(&world, 1);
        let comes = spawn(&world, |world| sleep(&world, 1));
        goes.leave(&world);
        close(&world, 0, lease);
        comes.join().unwrap().end(&world).expect("forgotten");
        settle(world, &ledger, 1);
    });
}

/// Two peers starve, and there is one place: one of them gets it, and the other one when
/// the first has done.
#[test]
fn two_starve_for_one_place() {
    check(1, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let one = spawn(&world, |world| sleep(&world, 0));
        let two = spawn(&world, |world| sleep(&world, 1));
        close(&world, 0, lease);
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        assert_eq!(permits(&world.pool), 1);
        let (first, second) = if one.has_news(&world) { (one, two) } else { (two, one) };
        drop(first.end(&world).expect("one of them has it"));
        second.end(&world).expect("forgotten");
        settle(world, &ledger, 1);
    });
}

/// Two connections go, and two starve: at one desk, which gets them one by one.
#[test]
fn two_places_for_one_desk() {
    check(2, || {
        let ledger = Ledger::default();
        let world = world(2, &ledger);
        let one = open(&world, 0, ledger.connection(0));
        let two = open(&world, 0, ledger.connection(1));
        let (first, second) = (sleep(&world, 1), sleep(&world, 1));
        let other = spawn(&world, |world| close(&world, 0, two));
        release(&world, 0, one);
        other.join().unwrap();
        let first = first.end(&world).expect("forgotten");
        let second = second.end(&world).expect("forgotten");
        assert_eq!(permits(&world.pool), 2);
        drop((first, second));
        settle(world, &ledger, 2);
    });
}

/// The pool is closed while somebody starves: he learns it, by himself or from the closer.
#[test]
fn close_against_starve() {
    check(3, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let waiter = spawn(&world, |world| {
            let sleeper = sleep(&world, 1);
            (sleeper, world.pool.is_closed())
        });
        world.pool.close();
        world.peers.iter().for_each(|peer| peer.desk.fail_all("closed"));
        let (sleeper, saw_it) = waiter.join().unwrap();
        assert!(saw_it || sleeper.was_told(&world, "closed"), "forgotten");
        sleeper.leave(&world);
        close(&world, 0, lease);
        settle(world, &ledger, 1);
    });
}

/// A peer takes its connection back while another one starves for it.
#[test]
fn own_return_against_starve() {
    check(2, || {
        let ledger = Ledger::default();
        let world = world(1, &ledger);
        let lease = open(&world, 0, ledger.connection(0));
        let own = sleep(&world, 0);
        let other = spawn(&world, |world| sleep(&world, 1));
        release(&world, 0, lease);
        let other = other.join().unwrap();
        // Either it was handed over before it could be closed for the other one, or not.
        if own.has_news(&world) {
            own.end_with_any(&world);
            other.end(&world).expect("forgotten");
        } else {
            drop(other.end(&world).expect("one of them has it"));
            own.end_with_any(&world);
        }
        settle(world, &ledger, 1);
    });
}
