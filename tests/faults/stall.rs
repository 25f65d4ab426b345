//! A peer that stops reading.

use std::io::ErrorKind;

use slabpool::{Clock, CloseMode, CloseReason};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::world::{self, Journal, Marker};

/// Writes until the connection takes no more. Returns how much it took.
fn fill(connection: &TcpStream) -> usize {
    let mut taken = 0;
    loop {
        match connection.try_write(&[0; 65_536]) {
            Ok(count) => taken += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return taken;
            }
        }
    }
}

#[test]
fn a_lease_that_is_given_up_on_a_full_connection_is_closed() {
    world::run(|| async {
        let (pool, mut journal) = Journal::pool(|builder| builder);
        let (client, mut peer) = world::tcp().await;
        pool.put(&1, client).unwrap();
        let lease = pool.get(&1).unwrap();
        lease.writable().await.unwrap();
        let taken = fill(&lease);
        assert!(taken > 0);
        drop(lease);
        assert_eq!(journal.rest(), [CloseReason::Dropped]);
        assert!(pool.get(&1).is_none());
        // The peer finds what was sent, and then the end.
        let mut found = Vec::new();
        peer.read_to_end(&mut found).await.unwrap();
        assert_eq!(found.len(), taken);
    });
}

#[test]
fn a_full_connection_that_is_released_neither_blocks_nor_hides_its_end() {
    world::run(|| async {
        let (pool, mut journal) = Journal::pool(|builder| builder);
        let mut marker = Marker::new().await;
        let (client, peer) = world::tcp().await;
        pool.put(&1, client).unwrap();
        for round in 0..3 {
            let lease = pool.get(&1).unwrap();
            if round == 0 {
                lease.writable().await.unwrap();
            }
            fill(&lease);
            lease.release();
            marker.settle().await;
            assert_eq!(pool.maintain(), 0, "nothing has come from the peer");
            assert_eq!(pool.status().idle, 1);
        }
        // With data unread, this is a reset.
        drop(peer);
        marker.settle().await;
        assert_eq!(pool.maintain(), 1);
        assert_eq!(journal.rest(), [CloseReason::Dead]);
    });
}

/// Whatever is still to be sent, the pool does not wait for it.
#[test]
fn a_full_connection_that_expires_is_closed_at_once() {
    for mode in [CloseMode::Graceful, CloseMode::Abort] {
        world::run(|| async {
            let clock = Clock::manual();
            let (pool, mut journal) =
                Journal::pool(|builder| builder.clock(&clock).close_mode(mode));
            let (client, mut peer) = world::tcp().await;
            client.writable().await.unwrap();
            let taken = fill(&client);
            pool.put(&1, client).unwrap();
            clock.advance(pool.tick() * 40);
            assert_eq!(pool.maintain(), 1);
            assert_eq!(journal.rest(), [CloseReason::Idle]);
            let mut found = Vec::new();
            let end = peer.read_to_end(&mut found).await.map_err(|error| error.kind());
            match mode {
                CloseMode::Graceful => assert_eq!(end, Ok(taken), "all that was sent, and an end"),
                _ => assert_eq!(end, Err(ErrorKind::ConnectionReset)),
            }
        });
    }
}
