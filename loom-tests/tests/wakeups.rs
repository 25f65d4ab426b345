//! Wake-ups without hand-over (barging): who is nudged looks for itself, and no idle
//! connection is left beside somebody who sleeps.

mod common;

#[path = "common/desk.rs"]
mod desk;
#[path = "common/nudged.rs"]
mod nudged;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::{Ledger, check, check_all, pool_of};
use desk::{free, leased, pass_on, peer, settle, spawn};
use nudged::*;
use slabpool::model::{BYPASS_MAX, News, Turn};

/// A connection that is released while somebody comes to wait, or looks in vain, is his.
#[test]
fn nudge_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| Waiter::join(&peer));
        release(&peer, lease);
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// A newcomer takes it before whoever was nudged: that one falls asleep again, and is nudged
/// when the newcomer is done.
#[test]
fn nudge_against_take() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let mut waiter = Waiter::join(&peer);
        let newcomer = spawn(&peer, |peer| barge(&peer));
        let releaser = spawn(&peer, move |peer| release(&peer, lease));
        waiter.run(&peer);
        newcomer.join().unwrap();
        releaser.join().unwrap();
        let lease = leased(waiter.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// ... also if that comes just while it looks in vain.
#[test]
fn a_look_in_vain_against_release() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let mut waiter = Waiter::join(&peer);
        release(&peer, lease);
        // A newcomer has it.
        let lease = group.get_owned().unwrap();
        assert!(peer.desk.turn.pass());
        let newcomer = spawn(&peer, move |peer| release(&peer, lease));
        waiter.run(&peer);
        newcomer.join().unwrap();
        let lease = leased(waiter.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Whoever goes away passes its nudge on.
#[test]
fn nudge_against_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let goes = Waiter::join(&peer);
        let stays = Waiter::join(&peer);
        let other = spawn(&peer, move |peer| drop(goes.leave(&peer)));
        release(&peer, lease);
        other.join().unwrap();
        let lease = leased(stays.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// ... also if it goes while it looks, and with what it has found.
#[test]
fn nudge_against_a_look_and_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let mut goes = Waiter::join(&peer);
        let stays = Waiter::join(&peer);
        let other = spawn(&peer, move |peer| {
            goes.poll(&peer);
            if let Some(News::Outcome(Ok(lease))) = goes.leave(&peer) {
                pass_on(&peer, lease);
            }
        });
        release(&peer, lease);
        other.join().unwrap();
        let lease = leased(stays.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Two are released, and one may be nudged at a time: whoever looks says that there is more.
#[test]
fn two_releases_against_one_nudge() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer_of_two(&group);
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let mut first = Waiter::join(&peer);
        let second = Waiter::join(&peer);
        release(&peer, a);
        let releaser = spawn(&peer, move |peer| release(&peer, b));
        first.run(&peer);
        releaser.join().unwrap();
        first.run(&peer);
        let (a, b) = (leased(first.end(&peer)), leased(second.end(&peer)));
        assert_ne!(a.number, b.number);
        for lease in [a, b] {
            release(&peer, lease);
            free(&peer, false);
        }
        settle(peer, group, pool, &ledger, 2);
    });
}

/// Whoever is served by another way, before it has looked, passes its nudge on.
#[test]
fn nudge_against_hand_over() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer_of_two(&group);
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let first = Waiter::join(&peer);
        let second = Waiter::join(&peer);
        let releaser = spawn(&peer, move |peer| release(&peer, a));
        pass_on(&peer, b);
        releaser.join().unwrap();
        let (first, second) = (leased(first.end(&peer)), leased(second.end(&peer)));
        assert_ne!(first.number, second.number);
        for lease in [first, second] {
            release(&peer, lease);
            free(&peer, false);
        }
        settle(peer, group, pool, &ledger, 2);
    });
}

/// Of all who try at a time, no more go past the first than may.
#[test]
fn so_many_and_no_more() {
    check_all(|| {
        let turn = Arc::new(Turn::default());
        let others = [(); 2].map(|()| {
            let turn = Arc::clone(&turn);
            loom::thread::spawn(move || usize::from(turn.pass()) + usize::from(turn.pass()))
        });
        let own = usize::from(turn.pass());
        let passed: usize = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(own + passed, BYPASS_MAX as usize);
        assert!(turn.is_spent());
    });
}

/// When as many have gone past the first as may, it gets what comes next.
#[test]
fn the_bound_of_bypasses() {
    check(1, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let peer = peer_of_two(&group);
        let (a, b) = (group.get_owned().unwrap(), group.get_owned().unwrap());
        let waiter = Waiter::join(&peer);
        a.release();
        b.release();
        let newcomer = spawn(&peer, |peer| (0..2).for_each(|_| barge(&peer)));
        (0..2).for_each(|_| barge(&peer));
        newcomer.join().unwrap();
        // Four have come.
        assert!(waiter.got.is_some() || waiter.bell.0.load(Ordering::Relaxed) > 0);
        let lease = leased(waiter.end(&peer));
        release(&peer, lease);
        for _ in 0..2 {
            free(&peer, false);
        }
        settle(peer, group, pool, &ledger, 2);
    });
}
