//! The runtime has no time for the reaper.

use std::sync::{Arc, Barrier};

use slabpool::{Clock, CloseReason};

use crate::world::{self, Journal};

#[test]
fn what_expires_while_all_workers_are_busy_is_never_leased() {
    const WORKERS: usize = 2;
    let turn = world::turn();
    let clock = Clock::manual();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap();
    let (pool, mut journal) = Journal::pool(|builder| builder.clock(&clock));
    let mut peers = Vec::new();
    for key in 0..10_u8 {
        let (client, peer) = runtime.block_on(world::tcp());
        pool.put(&key, client).unwrap();
        peers.push(peer);
    }
    let reaper = runtime.spawn(pool.reaper());
    let [began, free] = [(); 2].map(|()| Arc::new(Barrier::new(WORKERS + 1)));
    for _ in 0..WORKERS {
        let (began, free) = (Arc::clone(&began), Arc::clone(&free));
        runtime.spawn(async move {
            began.wait();
            free.wait();
        });
    }
    began.wait();
    clock.advance(pool.tick() * 40);
    assert_eq!(pool.status().idle, 10, "nobody has had the time to close them");
    for key in 0..5_u8 {
        assert!(pool.get(&key).is_none(), "exact at checkout");
    }
    assert_eq!(journal.rest(), [CloseReason::Idle; 5]);
    free.wait();
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
