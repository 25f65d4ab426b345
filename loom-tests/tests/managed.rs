//! The desk of a managed pool: nobody sleeps while there is something for him, no permit
//! is lost or given twice, whoever releases, closes, fails or goes away meanwhile.

mod common;

#[path = "common/desk.rs"]
mod desk;

use std::task::{Context, Poll, Waker};

use common::{Ledger, check, pool_of};
use desk::*;
use slabpool::model::{News, Place, any_idle};

/// A connection that is released while somebody comes to wait is his.
#[test]
fn release_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        release(&peer, lease);
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The same with a newcomer who may get it first: he leaves it to the one who waits, or has
/// come before him.
#[test]
fn release_against_wait_and_get() {
    check(1, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        let newcomer = spawn(&peer, |peer| {
            let Some(lease) = peer.group.get_owned() else { return };
            if peer.desk.word.load().is_waiting() {
                pass_on(&peer, lease);
            } else {
                release(&peer, lease);
            }
        });
        release(&peer, lease);
        newcomer.join().unwrap();
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// What is handed to one who goes away goes to the next in line.
#[test]
fn hand_over_against_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let goes = join(&peer);
        let stays = sleep(&peer);
        let other = spawn(&peer, move |peer| leave(&peer, goes));
        release(&peer, lease);
        other.join().unwrap();
        let lease = leased(stays.end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// ... and if nobody else is there, it is idle.
#[test]
fn hand_over_against_the_last_to_cancel() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let goes = join(&peer);
        let other = spawn(&peer, move |peer| leave(&peer, goes));
        release(&peer, lease);
        other.join().unwrap();
        assert!(any_idle(&group));
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Two come to wait while the only connection is closed: one of them may connect, and when
/// he goes without having done so, the other may.
#[test]
fn limit_against_close() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let other = spawn(&peer, |peer| sleep(&peer));
        let closer = spawn(&peer, move |peer| {
            lease.close();
            free(&peer, false);
        });
        let own = sleep(&peer);
        closer.join().unwrap();
        let other = other.join().unwrap();
        assert_eq!(peer.desk.word.load().connections(), 1);
        let granted = |news: &Option<News<Model>>| matches!(news, Some(News::Grant(_)));
        let own = own.end(&peer);
        let own_was_granted = granted(&own);
        drop(own);
        let other = other.end(&peer);
        assert!(granted(&other), "the first has gone, or was second: {own_was_granted}");
        drop(other);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// One alone comes to wait while the only connection is closed: he may connect. Nobody else
/// comes who would find that he may.
#[test]
fn limit_against_close_and_one_alone() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        lease.close();
        free(&peer, false);
        let news = waiter.join().unwrap().end(&peer);
        assert!(matches!(news, Some(News::Grant(_))), "forgotten");
        drop(news);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// Whoever comes to wait while the pool is closed learns it, by himself or from the closer.
#[test]
fn close_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let waiter = spawn(&peer, |peer| {
            let sleeper = sleep(&peer);
            (sleeper, peer.group.pool().is_closed())
        });
        pool.close();
        peer.desk.fail_all("closed");
        let (sleeper, saw_it) = waiter.join().unwrap();
        let told = matches!(sleeper.end(&peer), Some(News::Outcome(Err("closed"))));
        assert!(saw_it || told, "forgotten");
        lease.close();
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

/// The last connect fails while somebody comes: he is told, or may connect himself.
#[test]
fn a_failed_connect_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = peer(&group, false);
        let first = sleep(&peer);
        let Poll::Ready(News::Grant(grant)) = first.first else { panic!("nothing is there") };
        let by = first.place.id;
        let waiter = spawn(&peer, |peer| sleep(&peer));
        // The desk frees the permit itself.
        grant.spend();
        let make = || Grant::of(&peer);
        let _state = peer.desk.fail(by, "refused", &peer.bounds, make);
        match waiter.join().unwrap().end(&peer) {
            Some(News::Outcome(Err("refused"))) | Some(News::Grant(_)) => {}
            Some(_) => panic!("nothing was opened"),
            None => panic!("forgotten"),
        }
        leave(&peer, first.place);
        assert_eq!(peer.desk.word.load().connections(), 0);
        settle(peer, group, pool, &ledger, 0);
    });
}

/// A late connection that nobody waits for is idle; whoever comes meanwhile gets it.
#[test]
fn a_late_connection_against_wait() {
    check(3, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let peer = peer(&group, false);
        let gone = join(&peer);
        let News::Grant(grant) = poll_now(&peer, gone) else { panic!("nothing is there") };
        leave(&peer, gone);
        grant.spend();
        let waiter = spawn(&peer, |peer| sleep(&peer));
        let make = || Grant::of(&peer);
        if peer.desk.has_taker(gone.id) {
            let lease = group.insert_owned(ledger.connection(0)).unwrap();
            if let Err(lease) = peer.desk.give_new(lease, gone.id, &peer.bounds, make) {
                pass_on(&peer, lease);
            }
        } else {
            group.put(ledger.connection(0)).unwrap();
            peer.desk.shelved_new(&peer.bounds, make);
            if peer.desk.word.load().is_waiting() {
                serve(&peer);
            }
        }
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}

fn poll_now(peer: &Peer, place: Place) -> News<Model> {
    match peer.desk.poll(place.id, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(news) => news,
        Poll::Pending => panic!("nothing there"),
    }
}

/// The sum of all: one releases, one waits, one gives up.
#[test]
fn release_against_wait_and_cancel() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(1, &ledger);
        let peer = peer(&group, true);
        let lease = group.get_owned().unwrap();
        let stays = spawn(&peer, |peer| sleep(&peer));
        let goes = spawn(&peer, |peer| {
            let place = join(&peer);
            leave(&peer, place);
        });
        release(&peer, lease);
        goes.join().unwrap();
        let lease = leased(stays.join().unwrap().end(&peer));
        release(&peer, lease);
        free(&peer, false);
        settle(peer, group, pool, &ledger, 1);
    });
}
