//! A peer that closes idle connections after 5 s, by the pool's clock.

use std::net::SocketAddr;
use std::time::Duration;

use slabpool::{Clock, CloseReason, ManualClock, Pool};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::world::{self, Journal, Marker};

const TIMEOUT_OF_THE_PEER: Duration = Duration::from_secs(5);

/// A connection is idle, with a step of the reaper in each tick, until the pool closes it,
/// or its peer does when it has had enough. Returns its local address, and whether it was
/// the pool.
async fn one_idle_spell(
    pool: &Pool<u8, TcpStream>,
    clock: &ManualClock,
    marker: &mut Marker,
) -> (SocketAddr, bool) {
    let (client, mut peer) = world::tcp().await;
    let local = client.local_addr().unwrap();
    pool.put(&1, client).unwrap();
    let mut idle_for = Duration::ZERO;
    while idle_for < TIMEOUT_OF_THE_PEER {
        let step = pool.tick().min(TIMEOUT_OF_THE_PEER - idle_for);
        clock.advance(step);
        idle_for += step;
        if pool.maintain() == 1 {
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "an orderly end");
            return (local, true);
        }
    }
    drop(peer);
    marker.settle().await;
    assert_eq!(pool.maintain(), 1);
    (local, false)
}

#[test]
fn three_that_the_peer_closes_are_enough() {
    for learns in [false, true] {
        world::run(|| async {
            let clock = Clock::manual();
            let (pool, mut journal) =
                Journal::pool(|builder| builder.clock(&clock).learn_idle_timeout(learns));
            let mut marker = Marker::new().await;
            let mut locals = Vec::new();
            for spell in 0..12 {
                let (local, by_us) = one_idle_spell(&pool, &clock, &mut marker).await;
                assert_eq!(by_us, learns && spell >= 3, "spell {spell}, learns: {learns}");
                let reason = if by_us { CloseReason::Idle } else { CloseReason::Dead };
                assert_eq!(journal.rest(), [reason]);
                locals.push(local);
                world::assert_no_close_wait(&locals);
            }
            let expected = Duration::from_secs(if learns { 4 } else { 30 });
            assert_eq!(pool.group(&1).idle_timeout(), Some(expected));
            assert_eq!(pool.stats().closes.total(), 12);
        });
    }
}
