//! A peer that is restarted while it is in use.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use slabpool::{CloseReason, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::world::{self, Journal};

const CLIENTS: usize = 8;
/// Answered requests between two restarts.
const REQUESTS: usize = 2_000;
const RESTARTS: usize = 5;

/// Answers each byte with itself.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (mut connection, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            while let Ok(byte) = connection.read_u8().await {
                if connection.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(1_024).unwrap()
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    /// Requests that failed on a connection that was reused.
    stale: AtomicUsize,
    opened: AtomicUsize,
    refused: AtomicUsize,
    locals: Mutex<Vec<SocketAddr>>,
}

/// One request: on what the pool has, or once more on a new connection.
async fn request(pool: &Pool<u8, TcpStream>, peer: SocketAddr, counts: &Counts, byte: u8) {
    if let Some(mut lease) = pool.get(&1) {
        if exchange(&mut lease, byte).await {
            counts.answered.fetch_add(1, Ordering::Relaxed);
            return lease.release();
        }
        // It died between the look at it and the answer: nothing can rule that out.
        counts.stale.fetch_add(1, Ordering::Relaxed);
    }
    let Ok(connection) = TcpStream::connect(peer).await else {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return tokio::task::yield_now().await;
    };
    counts.opened.fetch_add(1, Ordering::Relaxed);
    counts.locals.lock().unwrap().push(connection.local_addr().unwrap());
    let mut lease = pool.insert(&1, connection).unwrap();
    if exchange(&mut lease, byte).await {
        counts.answered.fetch_add(1, Ordering::Relaxed);
        lease.release();
    }
}

async fn exchange(connection: &mut TcpStream, byte: u8) -> bool {
    let sent = connection.write_all(&[byte]).await;
    match (sent, connection.read_u8().await) {
        (Ok(()), Ok(answer)) => {
            assert_eq!(answer, byte, "the answer to somebody else's request");
            true
        }
        _ => false,
    }
}

#[test]
fn a_restart_under_load_costs_no_more_than_what_was_in_flight() {
    let turn = world::turn();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let counts = Arc::new(Counts::default());
    let (pool, mut journal) = Journal::pool(|builder| builder);
    runtime.block_on(world::patiently(async {
        let mut listener = listen("127.0.0.1:0".parse().unwrap());
        let address = listener.local_addr().unwrap();
        let reaper = tokio::spawn(pool.reaper());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (pool, counts) = (pool.clone(), Arc::clone(&counts));
            clients.spawn(async move {
                for n in client.. {
                    request(&pool, address, &counts, n as u8).await;
                }
            });
        }
        for restart in 1..=RESTARTS {
            let server = tokio::spawn(serve(listener));
            while counts.answered.load(Ordering::Relaxed) < restart * REQUESTS {
                tokio::task::yield_now().await;
            }
            // All its connections go with it.
            server.abort();
            assert!(server.await.unwrap_err().is_cancelled());
            listener = listen(address);
        }
        clients.shutdown().await;
        drop(listener);
        // All that is idle by now is dead.
        while pool.status().idle > 0 {
            journal.next().await;
        }
        world::assert_no_close_wait(&*counts.locals.lock().unwrap());
        let stats = pool.stats();
        let opened = counts.opened.load(Ordering::Relaxed) as u64;
        assert_eq!(stats.inserts, opened);
        assert_eq!(stats.closes.total(), opened, "{:?}", stats.closes);
        assert_eq!(stats.closes[CloseReason::UnexpectedData], 0);
        let stale = counts.stale.load(Ordering::Relaxed);
        // One request of each client may be under way when the peer goes.
        assert!(stale <= CLIENTS * RESTARTS, "{stale} requests failed on reused connections");
        drop(pool);
        reaper.await.unwrap();
    }));
    drop((runtime, journal));
    turn.end();
}
