//! Connections that serve several at a time: no stream is begun that may not be, nobody sleeps
//! while there is room, nobody connects while something is coming, and the connection is
//! somebody's alone when the last stream has ended.

mod common;

#[path = "common/desk.rs"]
mod desk;
#[path = "common/hub.rs"]
mod hub;

use std::rc::Rc;

use common::{Handle, Ledger, check, pool_of};
use desk::{Peer, free, leased, peer, release, settle, sleep};
use hub::{Found, Hub, with_hub};
use slabpool::Pool;
use slabpool::model::{Begun, Bounds, Limits, any_idle};

use crate::common::Conn;

/// A peer with one idle connection that serves `limit`, and may have `connections`.
fn hub_of(limit: u32, connections: u32) -> (Ledger, Pool<u8, Conn>, Handle, Rc<Hub>) {
    let ledger = Ledger::default();
    let (pool, group) = pool_of(1, &ledger);
    let plain = peer(&group, true);
    let bounds = Bounds { connections, connecting: 1, single_flight: false, waiters: 2 };
    let peer = Peer { bounds: Limits::new(bounds), ..Rc::into_inner(plain).unwrap() };
    let hub = Hub::new(&Rc::new(peer), limit);
    (ledger, pool, group, hub)
}

/// All is idle, or closed if `closed`; everything was given back.
fn account(ledger: Ledger, pool: Pool<u8, Conn>, group: Handle, hub: Rc<Hub>, closed: bool) {
    assert_eq!(any_idle(&group), !closed);
    if !closed {
        free(&hub.peer, false);
    }
    assert_eq!(hub.peer.desk.word.load().connections(), 0);
    let hub = Rc::into_inner(hub).unwrap();
    // A channel that was given back can be taken again.
    assert!(hub.channels.take().is_some_and(|index| index < 2));
    settle(hub.peer, group, pool, &ledger, 1);
}

/// A stream that ends while somebody comes to wait is his.
#[test]
fn stream_end_against_wait() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let first = hub.first();
        let second = hub.first();
        let waiter = with_hub(&hub, |hub| hub.seek());
        hub.end(first);
        let third = hub.finally(waiter.join().unwrap());
        hub.end(second);
        hub.end(third);
        account(ledger, pool, group, hub, false);
    });
}

/// The last stream ends while another one begins: the connection is used by that, or idle,
/// and never both.
#[test]
fn last_end_against_begin() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let first = hub.first();
        let other = with_hub(&hub, |hub| hub.hinted().into_iter().for_each(|s| hub.end(s)));
        let third = with_hub(&hub, |hub| {
            if let Some(lease) = hub.peer.group.get_owned() {
                lease.touch();
                release(&hub.peer, lease);
            }
        });
        hub.end(first);
        other.join().unwrap();
        third.join().unwrap();
        account(ledger, pool, group, hub, false);
    });
}

/// Both streams end at once: one of the two owns the channel.
#[test]
fn end_against_end() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let (first, second) = (hub.first(), hub.first());
        let other = with_hub(&hub, move |hub| hub.end(second));
        hub.end(first);
        other.join().unwrap();
        account(ledger, pool, group, hub, false);
    });
}

/// A channel is given up, and its place taken by the next one, while somebody who knew its
/// number tries it: he finds the one that is there, complete.
#[test]
fn begin_against_another_in_its_place() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let first = hub.first();
        let other = with_hub(&hub, move |hub| {
            // As by a hint that is out of date.
            let streams = &hub.channels.get(first.channel).streams;
            if let Ok(state) = streams.open() {
                let stream = Begun { channel: first.channel, number: state.opened() };
                hub.look(stream);
                hub.undo(stream);
            }
        });
        hub.end(first);
        let second = hub.seek();
        other.join().unwrap();
        let second = hub.finally(second);
        hub.end(second);
        account(ledger, pool, group, hub, false);
    });
}

/// No stream begins after a drain, and the connection is closed when the last one ends.
#[test]
fn begin_against_drain() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(3, 1);
        let first = hub.first();
        let other = with_hub(&hub, |hub| hub.hinted().into_iter().for_each(|s| hub.end(s)));
        assert!(!hub.channels.get(first.channel).streams.drain(false));
        assert!(hub.hinted().is_none());
        hub.end(first);
        other.join().unwrap();
        account(ledger, pool, group, hub, true);
    });
}

/// While the last stream ends, whoever comes finds room, or a connection that is about to be
/// idle: he does not connect, although he may.
#[test]
fn park_against_join() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 2);
        let first = hub.first();
        let waiter = with_hub(&hub, |hub| hub.seek());
        hub.end(first);
        let second = hub.finally(waiter.join().unwrap());
        hub.end(second);
        account(ledger, pool, group, hub, false);
    });
}

/// The same with one who is in the line already, behind somebody who gives up.
#[test]
fn park_against_join_and_cancel() {
    check(2, || {
        let (ledger, pool, group, hub) = hub_of(1, 1);
        let first = hub.first();
        let goes = hub.wait(false);
        let stays = with_hub(&hub, |hub| hub.seek());
        let other = with_hub(&hub, move |hub| hub.end(first));
        hub.leave(goes);
        other.join().unwrap();
        let second = hub.finally(stays.join().unwrap());
        hub.end(second);
        account(ledger, pool, group, hub, false);
    });
}

/// Two come, and one connection is idle that serves both: the one who does not find it waits
/// for the other to open it, and does not connect.
#[test]
fn one_opens_it_to_the_other() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 2);
        let other = with_hub(&hub, |hub| hub.seek());
        let own = hub.seek();
        let other = other.join().unwrap();
        let own = hub.finally(own);
        let other = hub.finally(other);
        assert_eq!(own.channel, other.channel);
        hub.end(own);
        hub.end(other);
        account(ledger, pool, group, hub, false);
    });
}

/// The limit is raised while somebody comes to wait.
#[test]
fn limit_raised_against_wait() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(1, 1);
        let first = hub.first();
        let waiter = with_hub(&hub, |hub| hub.seek());
        hub.channels.get(first.channel).streams.set_limit(2);
        if hub.peer.desk.word.load().is_waiting() {
            hub.peer.desk.serve_streams();
        }
        let second = hub.finally(waiter.join().unwrap());
        hub.end(first);
        hub.end(second);
        account(ledger, pool, group, hub, false);
    });
}

/// A stream that was handed to one who goes away goes to the next.
#[test]
fn hand_over_against_cancel() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let (first, second) = (hub.first(), hub.first());
        let (goes, stays) = (hub.wait(false), hub.wait(false));
        let other = with_hub(&hub, move |hub| hub.leave(goes));
        hub.end(first);
        other.join().unwrap();
        let third = hub.got(stays).expect("forgotten");
        hub.end(second);
        hub.end(third);
        account(ledger, pool, group, hub, false);
    });
}

/// A newcomer who begins a stream while somebody waits leaves it to him.
#[test]
fn stream_end_against_wait_and_newcomer() {
    check(2, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let (first, second) = (hub.first(), hub.first());
        let waiter = with_hub(&hub, |hub| hub.seek());
        let newcomer = with_hub(&hub, |hub| hub.hinted().into_iter().for_each(|s| hub.end(s)));
        hub.end(first);
        newcomer.join().unwrap();
        let third = hub.finally(waiter.join().unwrap());
        hub.end(second);
        hub.end(third);
        account(ledger, pool, group, hub, false);
    });
}

/// The same while somebody is in the line already: he gets it, however long the newcomer would
/// keep his.
#[test]
fn stream_end_against_newcomer() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let (first, second) = (hub.first(), hub.first());
        let waits = hub.wait(false);
        let newcomer = with_hub(&hub, |hub| hub.hinted());
        hub.end(first);
        assert!(newcomer.join().unwrap().is_none(), "overtaken");
        let third = hub.got(waits).expect("forgotten");
        hub.end(second);
        hub.end(third);
        account(ledger, pool, group, hub, false);
    });
}

/// The last stream of a connection ends whose time is up, while somebody comes who counts on it:
/// he may connect then.
#[test]
fn unfit_against_join() {
    check(2, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let first = hub.first();
        hub.unfit.set(true);
        let waiter = with_hub(&hub, |hub| match hub.seek() {
            Found::Waits(sharer) => Some(sharer),
            Found::Stream(stream) => {
                hub.end(stream);
                None
            }
        });
        hub.end(first);
        if let Some(sharer) = waiter.join().unwrap() {
            assert!(sharer.may_connect(&hub), "forgotten");
        }
        account(ledger, pool, group, hub, true);
    });
}

/// The last stream ends while one comes who wants the connection alone.
#[test]
fn park_against_exclusive_wait() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let first = hub.first();
        let waiter = with_hub(&hub, |hub| sleep(&hub.peer));
        hub.end(first);
        let lease = leased(waiter.join().unwrap().end(&hub.peer));
        release(&hub.peer, lease);
        account(ledger, pool, group, hub, false);
    });
}

/// A broken connection's last stream ends while somebody comes: he may connect.
#[test]
fn closed_against_wait() {
    check(2, || {
        let (ledger, pool, group, hub) = hub_of(1, 1);
        let first = hub.first();
        let waiter = with_hub(&hub, |hub| {
            let found = hub.seek();
            let Found::Waits(sharer) = found else { panic!("there is no room") };
            sharer
        });
        let _parked = hub.channels.get(first.channel).streams.drain(true);
        hub.end(first);
        let sharer = waiter.join().unwrap();
        assert!(sharer.may_connect(&hub), "forgotten");
        account(ledger, pool, group, hub, true);
    });
}

/// A connection that can have no stream for now is looked at while it is drained: one of the
/// two closes it.
#[test]
fn look_against_drain() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(1, 1);
        let first = hub.first();
        hub.channels.get(first.channel).streams.set_limit(0);
        hub.end(first);
        let drainer = with_hub(&hub, |hub| {
            hub.peer.desk.drain_channels().into_iter().for_each(|index| hub.finish(index));
        });
        tend(&hub);
        drainer.join().unwrap();
        account(ledger, pool, group, hub, true);
    });
}

/// The last stream of such a connection ends while it is looked at: whoever looks has it alone.
#[test]
fn look_against_end() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let first = hub.first();
        hub.channels.get(first.channel).streams.set_limit(0);
        let other = with_hub(&hub, move |hub| hub.end(first));
        tend(&hub);
        other.join().unwrap();
        hub.peer.desk.drain_channels().into_iter().for_each(|index| hub.finish(index));
        account(ledger, pool, group, hub, true);
    });
}

/// Looks at what is suspended, as the owner.
fn tend(hub: &Hub) {
    for index in hub.peer.desk.suspended() {
        let channel = hub.channels.get(index);
        if channel.streams.seize() {
            // SAFETY: parked by `seize`.
            unsafe { channel.with_owned(|lease| lease.touch()) };
            if !channel.streams.suspend() {
                hub.finish(index);
            }
        }
    }
}

/// The first connection is opened while somebody comes by the way without a lock: he finds all
/// of it, or nothing.
#[test]
fn hint_against_the_first_stream() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let other = with_hub(&hub, |hub| hub.hinted().into_iter().for_each(|s| hub.end(s)));
        let first = hub.first();
        hub.end(first);
        other.join().unwrap();
        account(ledger, pool, group, hub, false);
    });
}

/// A stream that nobody has used ends after one that was: whoever had it owns the connection,
/// and comes after the other one.
#[test]
fn undo_against_end() {
    check(3, || {
        let (ledger, pool, group, hub) = hub_of(2, 1);
        let (first, second) = (hub.first(), hub.first());
        let other = with_hub(&hub, move |hub| hub.undo(second));
        hub.end(first);
        other.join().unwrap();
        account(ledger, pool, group, hub, false);
    });
}
