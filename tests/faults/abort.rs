//! How the peer sees the end of a connection.

use std::io::ErrorKind;

use slabpool::{Clock, CloseMode, CloseReason, ManualClock, Pool};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::world::{self, Journal};

#[test]
fn an_aborted_connection_is_reset_and_another_ended() {
    for mode in [CloseMode::Abort, CloseMode::Graceful] {
        world::run(|| async {
            let clock = Clock::manual();
            let (pool, mut journal) =
                Journal::pool(|builder| builder.clock(&clock).close_mode(mode));
            let (client, mut peer) = world::tcp().await;
            pool.put(&1, client).unwrap();
            clock.advance(pool.tick() * 64);
            assert_eq!(pool.maintain(), 1);
            assert_eq!(journal.rest(), [CloseReason::Idle]);
            let seen = peer.read(&mut [0]).await.map_err(|error| error.kind());
            let aborted = mode == CloseMode::Abort;
            let expected = if aborted { Err(ErrorKind::ConnectionReset) } else { Ok(0) };
            assert_eq!(seen, expected);
        });
    }
}

#[test]
fn a_connection_that_leaves_alive_is_not_marked() {
    world::run(|| async {
        let (pool, _journal) = Journal::pool(|builder| builder.close_mode(CloseMode::Abort));
        let (client, mut peer) = world::tcp().await;
        let token = pool.put(&1, client).unwrap();
        drop(pool.take(token).unwrap());
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "an orderly end");
        let (client, mut peer) = world::tcp().await;
        drop(pool.insert(&1, client).unwrap().detach());
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    });
}

/// A way in which the one idle connection goes, of key 1, and for which reason.
type WayOut = (CloseReason, fn(&Pool<u8, TcpStream>, &ManualClock));

const WAYS_OUT: [WayOut; 9] = [
    (CloseReason::Idle, |pool, clock| {
        clock.advance(pool.tick() * 64);
        assert!(pool.get(&1).is_none());
    }),
    (CloseReason::Evicted, |pool, _| {
        pool.reconfigure(|settings| settings.capacity = 0).unwrap();
    }),
    (CloseReason::Cleared, |pool, _| pool.clear()),
    (CloseReason::Drained, |pool, _| pool.drain_group(&1)),
    (CloseReason::Trimmed, |pool, clock| {
        pool.reconfigure(|settings| settings.trim_window = Some(pool.tick())).unwrap();
        // It sees the connection idle from the beginning of a window to its end.
        for _ in 0..3 {
            pool.maintain();
            clock.advance(pool.tick());
        }
        pool.maintain();
    }),
    (CloseReason::Dropped, |pool, _| drop(pool.get(&1).unwrap())),
    (CloseReason::Unhealthy, |pool, _| pool.get(&1).unwrap().close()),
    (CloseReason::Invalidated, |pool, _| {
        pool.invalidate();
        pool.maintain();
    }),
    (CloseReason::Closed, |pool, _| pool.close()),
];

#[test]
fn whatever_it_is_aborted_for_the_peer_sees_a_reset() {
    for (reason, leave) in WAYS_OUT {
        world::run(|| async {
            let clock = Clock::manual();
            let (pool, mut journal) =
                Journal::pool(|builder| builder.clock(&clock).close_mode(CloseMode::Abort));
            let (client, mut peer) = world::tcp().await;
            pool.put(&1, client).unwrap();
            leave(&pool, &clock);
            assert_eq!(journal.rest(), [reason]);
            let seen = peer.read(&mut [0]).await.map_err(|error| error.kind());
            assert_eq!(seen, Err(ErrorKind::ConnectionReset), "{reason}");
            assert_eq!(pool.stats().closes.total(), 1);
        });
    }
}

/// What the peer has ended already, or what it has sent, is nothing that an abort may
/// stumble over.
#[test]
fn what_is_found_dead_is_aborted_without_a_trace() {
    for data in [false, true] {
        world::run(|| async {
            use tokio::io::AsyncWriteExt;

            let (pool, mut journal) = Journal::pool(|builder| builder.close_mode(CloseMode::Abort));
            let mut marker = world::Marker::new().await;
            let (client, mut peer) = world::tcp().await;
            let local = client.local_addr().unwrap();
            pool.put(&1, client).unwrap();
            if data {
                peer.write_all(b"?").await.unwrap();
            } else {
                peer.shutdown().await.unwrap();
            }
            marker.settle().await;
            assert_eq!(pool.maintain(), 1);
            let reason = if data { CloseReason::UnexpectedData } else { CloseReason::Dead };
            assert_eq!(journal.rest(), [reason]);
            world::assert_no_close_wait([&local]);
            let seen = peer.read(&mut [0]).await.map_err(|error| error.kind());
            assert_eq!(seen, Err(ErrorKind::ConnectionReset));
            assert_eq!(pool.stats().panics, 0);
        });
    }
}
