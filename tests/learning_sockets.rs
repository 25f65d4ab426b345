//! An upstream that closes idle connections after 5 s, at the very moment when the next
//! request arrives: no probe can see that coming. Real sockets; client and upstream share
//! a clock that is turned by hand, and neither ever waits for time to go by.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use slabpool::{Clock, ManualClock, Pool};

const UPSTREAM_TIMEOUT_MS: u64 = 5_000;

/// One clock for the pool, another for the upstream, turned together.
#[derive(Clone)]
struct Time {
    pool: ManualClock,
    upstream_ms: Arc<AtomicU64>,
}

impl Time {
    fn new() -> Self {
        Self { pool: Clock::manual(), upstream_ms: Arc::default() }
    }

    fn pass(&self, ms: u64) {
        self.pool.advance(Duration::from_millis(ms));
        self.upstream_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

/// Listens for as long as the test runs, and serves each connection until it was idle for
/// too long or the client hangs up.
fn upstream(time: &Time) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let now = Arc::clone(&time.upstream_ms);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, now) = (client.unwrap(), Arc::clone(&now));
            thread::spawn(move || serve(client, &now));
        }
    });
    address
}

fn serve(mut client: TcpStream, now: &AtomicU64) {
    let mut last = now.load(Ordering::SeqCst);
    let mut request = [0];
    while client.read_exact(&mut request).is_ok() {
        let now = now.load(Ordering::SeqCst);
        if now - last >= UPSTREAM_TIMEOUT_MS {
            // The request was on its way: it is not answered.
            return;
        }
        last = now;
        if client.write_all(&request).is_err() {
            return;
        }
    }
}

fn exchange(connection: &mut TcpStream) -> bool {
    connection.write_all(b"?").is_ok() && connection.read_exact(&mut [0]).is_ok()
}

#[derive(Debug, Default)]
struct Seen {
    /// Requests that were answered on a connection used before.
    reused: u32,
    /// Requests that failed on a connection used before.
    failed: u32,
    /// Connections that were opened.
    opened: u32,
}

/// So many requests, one every `pace_ms`. One that fails on a reused connection is sent
/// again on a new one.
fn requests(
    pool: &Pool<SocketAddr, TcpStream>,
    time: &Time,
    peer: SocketAddr,
    count: u32,
    pace_ms: u64,
) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..count {
        time.pass(pace_ms);
        pool.maintain();
        if let Some(mut lease) = pool.get(&peer) {
            if exchange(&mut lease) {
                seen.reused += 1;
                lease.release();
                continue;
            }
            assert!(lease.meta().reused);
            seen.failed += 1;
            lease.close_dead();
        }
        seen.opened += 1;
        let mut lease = pool.insert(&peer, TcpStream::connect(peer).unwrap()).unwrap();
        assert!(exchange(&mut lease), "a new connection is served");
        lease.release();
    }
    seen
}

fn pool(time: &Time, learn: bool) -> Pool<SocketAddr, TcpStream> {
    Pool::builder().learn_idle_timeout(learn).clock(&time.pool).build().unwrap()
}

#[test]
fn without_learning_every_request_at_that_pace_fails() {
    let time = Time::new();
    let peer = upstream(&time);
    let pool = pool(&time, false);
    let Seen { reused, failed, opened } = requests(&pool, &time, peer, 200, UPSTREAM_TIMEOUT_MS);
    assert_eq!((reused, failed, opened), (0, 199, 200));
}

#[test]
fn with_learning_three_fail_and_faster_paces_go_on_with_reuse() {
    let time = Time::new();
    let peer = upstream(&time);
    let pool = pool(&time, true);
    let Seen { reused, failed, opened } = requests(&pool, &time, peer, 100, UPSTREAM_TIMEOUT_MS);
    assert_eq!((reused, failed, opened), (0, 3, 100), "none after the third");
    assert_eq!(pool.group(&peer).idle_timeout(), Some(Duration::from_millis(4_000)));
    let Seen { reused, failed, opened } = requests(&pool, &time, peer, 200, 3_500);
    assert_eq!((reused, failed, opened), (200, 0, 0));
    let Seen { reused, failed, opened } = requests(&pool, &time, peer, 200, 100);
    assert_eq!((reused, failed, opened), (200, 0, 0));
}

#[test]
fn it_tries_again_less_and_less_often() {
    let time = Time::new();
    let peer = upstream(&time);
    let pool = pool(&time, true);
    // Ten hours: after the first three, whenever the timeout has grown past that of the
    // upstream, twice as it is, one request fails, and then it lasts four times as long.
    let Seen { reused, failed, .. } = requests(&pool, &time, peer, 7_200, UPSTREAM_TIMEOUT_MS);
    assert_eq!((reused, failed), (0, 3 + 3), "after 20 min, 80 min more, 320 min more");
}
