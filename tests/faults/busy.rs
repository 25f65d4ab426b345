//! The runtime has no time for the reaper.

use std::sync::{Arc, Barrier};

use slabpool::{Clock, CloseReason};
use tokio::runtime::Runtime;

use crate::world::{self, Journal};

const WORKERS: usize = 2;

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKERS).enable_all().build().unwrap()
}

/// Keeps all workers of a runtime busy, from when it returns until it is told.
struct Load(Arc<Barrier>);

impl Load {
    fn on(runtime: &Runtime) -> Self {
        let [began, free] = [(); 2].map(|()| Arc::new(Barrier::new(WORKERS + 1)));
        for _ in 0..WORKERS {
            let (began, free) = (Arc::clone(&began), Arc::clone(&free));
            runtime.spawn(async move {
                began.wait();
                free.wait();
            });
        }
        began.wait();
        Self(free)
    }

    fn end(self) {
        self.0.wait();
    }
}

#[test]
fn what_expires_while_all_workers_are_busy_is_never_leased() {
    let turn = world::turn();
    let clock = Clock::manual();
    let runtime = runtime();
    let (pool, mut journal) = Journal::pool(|builder| builder.clock(&clock));
    let mut peers = Vec::new();
    for key in 0..10_u8 {
        let (client, peer) = runtime.block_on(world::tcp());
        pool.put(&key, client).unwrap();
        peers.push(peer);
    }
    let reaper = runtime.spawn(pool.reaper());
    let load = Load::on(&runtime);
    clock.advance(pool.tick() * 40);
    assert_eq!(pool.status().idle, 10, "nobody has had the time to close them");
    for key in 0..5_u8 {
        assert!(pool.get(&key).is_none(), "exact at checkout");
    }
    assert_eq!(journal.rest(), [CloseReason::Idle; 5]);
    load.end();
    runtime.block_on(async {
        for _ in 0..5 {
            assert_eq!(journal.next().await, CloseReason::Idle);
        }
        assert_eq!(pool.status().idle, 0);
        assert_eq!(pool.stats().closes[CloseReason::Idle], 10);
        drop(pool);
        world::patiently(reaper).await.unwrap();
    });
    drop((peers, journal, runtime));
    turn.end();
}

#[test]
fn what_dies_while_all_workers_are_busy_is_closed_when_they_are_free() {
    let turn = world::turn();
    let runtime = runtime();
    let (pool, mut journal) = Journal::pool(|builder| builder.idle_timeout(None));
    let (mut peers, mut locals) = (Vec::new(), Vec::new());
    for key in 0..10_u8 {
        let (client, peer) = runtime.block_on(world::tcp());
        locals.push(client.local_addr().unwrap());
        pool.put(&key, client).unwrap();
        peers.push(peer);
    }
    let reaper = runtime.spawn(pool.reaper());
    let load = Load::on(&runtime);
    let alive = peers.split_off(9);
    drop(peers);
    load.end();
    runtime.block_on(async {
        for _ in 0..9 {
            assert_eq!(journal.next().await, CloseReason::Dead);
        }
        world::assert_no_close_wait(&locals);
        for key in 0..9 {
            assert!(pool.get(&key).is_none());
        }
        assert_eq!(pool.get(&9).expect("it lives").local_addr().unwrap(), locals[9]);
        assert_eq!(pool.stats().closes[CloseReason::Dead], 9);
        drop((pool, alive));
        world::patiently(reaper).await.unwrap();
    });
    drop((journal, runtime));
    turn.end();
}
