//! How the peer sees the end of a connection.

use std::io::ErrorKind;

use slabpool::{Clock, CloseMode, CloseReason};
use tokio::io::AsyncReadExt;

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
