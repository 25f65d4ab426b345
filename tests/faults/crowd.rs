//! Thousands of connections that the peer closes at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slabpool::{CloseReason, Pool};
use tokio::net::TcpStream;

use crate::peer::{self, Peer};
use crate::world::{self, Journal};

/// As many as the system lets one process have, up to this.
const CROWD: usize = 20_000;
/// For all else that is open.
const RESERVE: usize = 300;
const GROUPS: usize = 100;

/// Puts so many into the pool. Returns their local addresses.
async fn fill(pool: &Pool<usize, TcpStream>, peer: &Peer, count: usize) -> Vec<SocketAddr> {
    let mut locals = Vec::with_capacity(count);
    for (n, address) in (0..count).zip(peer.addresses.iter().cycle()) {
        let connection = TcpStream::connect(address).await.unwrap();
        locals.push(connection.local_addr().unwrap());
        pool.put(&(n % GROUPS), connection).unwrap();
    }
    locals
}

#[test]
fn a_crowd_that_dies_at_once_is_closed_to_the_last() {
    let turn = world::turn();
    let count = CROWD.min(peer::raise_limit() - RESERVE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut peer = Peer::start();
        let (pool, mut journal) =
            Journal::pool(|builder| builder.capacity(CROWD).idle_timeout(None));
        let locals = fill(&pool, &peer, count).await;
        while peer.count() < count {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.maintain(), 0);
        let reaper = tokio::spawn(pool.reaper());
        // Others go on with the pool meanwhile.
        let all_closed = Arc::new(AtomicBool::new(false));
        let user = tokio::spawn({
            let (pool, all_closed) = (pool.clone(), Arc::clone(&all_closed));
            async move {
                for n in (0..GROUPS).cycle() {
                    if all_closed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Some(lease) = pool.get(&n) {
                        lease.release();
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        peer.close_all();
        for _ in 0..count {
            assert_eq!(journal.next().await, CloseReason::Dead);
        }
        all_closed.store(true, Ordering::Relaxed);
        world::assert_no_close_wait(&locals);
        assert_eq!(pool.status().idle, 0);
        assert_eq!(pool.status().groups, 0);
        let stats = pool.stats();
        assert_eq!(stats.closes[CloseReason::Dead], count as u64);
        assert_eq!(stats.closes.total(), count as u64);
        world::patiently(user).await.unwrap();
        drop(pool);
        world::patiently(reaper).await.unwrap();
    });
    drop(runtime);
    turn.end();
}
