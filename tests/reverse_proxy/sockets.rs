//! What becomes of upstream connections when one of the three parties misbehaves.
//!
//! Upstreams are played by the tests themselves, byte by byte.

use std::net::Ipv4Addr;
use std::time::Duration;

use slabpool::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use slabpool::http::{Connector, Key};
use slabpool::managed::Pool;

use crate::proxy::{RequestBody, Upstream};
use crate::support::{PATIENCE, Running, eventually, read_message};

const GET: &str = "GET /it HTTP/1.1\r\nhost: any\r\n\r\n";
const POST: &str = "POST /it HTTP/1.1\r\nhost: any\r\ncontent-length: 4\r\n\r\nbody";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_complete_answer_gives_the_connection_back() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        for _ in 0..3 {
            read_message(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        stream
    });
    for _ in 0..3 {
        assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    }
    let _open = playing.await.unwrap();
    assert_eq!(setup.opened_and_reused(), (1, 2));
    assert_eq!(setup.pool().status().idle, 1);
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_takes_its_connection() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        // The other half never comes: only the proxy can end this.
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        stream
    });
    let mut client = setup.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"half") {
        assert_ne!(client.read_buf(&mut seen).await.unwrap(), 0);
    }
    drop(client);
    eventually(|| setup.closed(CloseReason::Unhealthy) == 1).await;
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    let _open = playing.await.unwrap();
    assert_eq!(setup.opened_and_reused(), (2, 0));
}

#[tokio::test]
async fn a_client_that_does_not_wait_takes_its_connection() {
    let (setup, upstream) = Setup::start("").await;
    let mut client = setup.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut stream = accept(&upstream).await;
    read_message(&mut stream).await;
    drop(client);
    eventually(|| setup.closed(CloseReason::Unhealthy) == 1).await;
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(setup.upstream().tally.errors.get(), 0, "nobody is to blame");
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_not_used() {
    let (mut setup, upstream) = Setup::start("").await;
    let (end, ended) = oneshot::channel::<()>();
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        _ = ended.await;
        drop(stream);
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        stream
    });
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    drop(end);
    // For the proxy to see the end. If it does not, the request comes back unwritten
    // and is repeated.
    sleep(Duration::from_millis(50)).await;
    assert!(setup.ask(POST).await.ends_with("\r\n\r\nok"));
    let _open = playing.await.unwrap();
    assert_eq!(setup.closed(CloseReason::Dead), 1);
    assert_eq!(setup.opened_and_reused(), (2, 0));
}

#[tokio::test]
async fn a_connection_that_dies_under_a_request_is_replaced_once() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        let first = read_message(&mut stream).await;
        drop(stream);
        let mut stream = accept(&upstream).await;
        let second = read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        (first, second, stream)
    });
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    assert!(setup.ask(&POST.replace("POST", "PUT")).await.ends_with("\r\n\r\nok"));
    let (first, second, _open) = playing.await.unwrap();
    assert_eq!(first, second, "the same request, body and all");
    assert!(second.ends_with("\r\n\r\nbody"), "{second}");
    assert_eq!((setup.upstream().tally.repeated.get(), setup.closed(CloseReason::Dead)), (1, 1));
    assert_eq!((setup.upstream().tally.errors.get(), setup.pool().status().idle), (0, 1));
}

#[tokio::test]
async fn a_connection_is_kept_no_longer_than_its_upstream_says() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        // A second less the guard: it is not used again. Of two lines the smaller one holds.
        for says in ["timeout=1", "timeout=60\r\nkeep-alive: max=0", "timeout=60, max=1"] {
            let mut stream = accept(&upstream).await;
            read_message(&mut stream).await;
            let answer = OK.replace("\r\n\r\n", &format!("\r\nkeep-alive: {says}\r\n\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
            if says.contains("max=1") {
                read_message(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the proxy closes it");
        }
    });
    for _ in 0..4 {
        let answer = setup.ask(GET).await;
        assert!(answer.ends_with("\r\n\r\nok") && !answer.contains("timeout"), "{answer}");
    }
    playing.await.unwrap();
    assert_eq!(setup.opened_and_reused(), (3, 1));
    assert_eq!((setup.closed(CloseReason::Idle), setup.closed(CloseReason::Uses)), (1, 2));
}

#[tokio::test]
async fn an_answer_that_is_none_is_not_taken_for_a_dead_connection() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        read_message(&mut stream).await;
        stream.write_all(b"no HTTP at all\r\n\r\n").await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    });
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    assert!(setup.ask(POST).await.starts_with("HTTP/1.1 502 "));
    playing.await.unwrap();
    assert_eq!((setup.closed(CloseReason::Dead), setup.closed(CloseReason::Unhealthy)), (0, 1));
}

#[tokio::test]
async fn what_must_not_happen_twice_is_not_repeated() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        assert!(read_message(&mut stream).await.starts_with("POST"));
        drop(stream);
        upstream
    });
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    assert!(setup.ask(POST).await.starts_with("HTTP/1.1 502 "));
    let upstream = playing.await.unwrap();
    assert!(timeout(Duration::from_millis(50), upstream.accept()).await.is_err());
    assert_eq!(
        (setup.upstream().tally.repeated.get(), setup.upstream().tally.errors.get()),
        (0, 1)
    );
}

#[tokio::test]
async fn what_concerns_one_connection_stays_there() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        let request = read_message(&mut stream).await;
        let answer =
            OK.replace("\r\n\r\n", "\r\nconnection: close, x-hop\r\nx-hop: 1\r\nx-end: 2\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        // It says that it will close, but does not: the proxy must.
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        request
    });
    let secret = "connection: x-secret\r\nx-secret: 1\r\nte: trailers\r\nx-end: 2\r\n\r\n";
    let answer =
        setup.ask(&format!("GET http://target:81/it?q HTTP/1.1\r\nhost: any\r\n{secret}")).await;
    let request = playing.await.unwrap();
    assert!(request.starts_with("GET /it?q HTTP/1.1\r\n"), "{request}");
    for (message, gone) in [(&request, "x-secret"), (&request, "te:"), (&answer, "x-hop")] {
        assert!(!message.contains(gone), "{gone} in {message}");
    }
    assert!(request.contains("x-forwarded-for: 127.0.0.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: target:81\r\n"), "the target has it: {request}");
    assert!(request.contains("via: 1.1 slabpool\r\n") && answer.contains("via: 1.1 slabpool\r\n"));
    assert!(request.contains("x-end: 2\r\n") && answer.contains("x-end: 2\r\n"));
    assert!(!answer.contains("close"), "the client's connection stays: {answer}");
    assert_eq!(setup.closed(CloseReason::Unhealthy), 1);
}

#[tokio::test]
async fn whom_a_request_is_for_is_not_in_doubt() {
    let (mut setup, upstream) = Setup::start("").await;
    let playing = tokio::spawn(async move {
        let mut stream = accept(&upstream).await;
        let request = read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        (request, stream)
    });
    let two = GET.replace("\r\n\r\n", "\r\nhost: other\r\n\r\n");
    assert!(setup.ask(&two).await.starts_with("HTTP/1.1 400 "));
    let without = GET.replace("\r\n\r\n", "\r\nconnection: host, x-forwarded-for\r\n\r\n");
    assert!(setup.ask(&without).await.ends_with("\r\n\r\nok"));
    let (request, _open) = playing.await.unwrap();
    assert!(request.contains("\r\nhost: any\r\n"), "{request}");
    assert!(request.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{request}");
}

#[tokio::test]
async fn an_upstream_that_refuses_is_named() {
    let (mut setup, upstream) = Setup::start("").await;
    let address = upstream.local_addr().unwrap();
    drop(upstream);
    let answer = setup.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains(&format!("upstream origin: host {address}: ")), "{answer}");
}

#[tokio::test]
async fn connections_for_one_use_change_nothing_but_reuse() {
    let (mut setup, upstream) = Setup::start("max_uses: 1").await;
    let playing = tokio::spawn(async move {
        for _ in 0..2 {
            let mut stream = accept(&upstream).await;
            read_message(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        }
    });
    for _ in 0..2 {
        assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    }
    playing.await.unwrap();
    assert_eq!((setup.opened_and_reused(), setup.closed(CloseReason::Uses)), ((2, 0), 2));
}

#[tokio::test]
async fn the_end_waits_for_running_requests() {
    let (setup, upstream) = Setup::start("").await;
    let mut client = setup.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut stream = accept(&upstream).await;
    read_message(&mut stream).await;
    let Running { proxy, address, stop, serving, .. } = setup.running;
    drop(stop);
    eventually(|| proxy.is_ending()).await;
    assert!(TcpStream::connect(address).await.is_err(), "no new clients");
    stream.write_all(OK.as_bytes()).await.unwrap();
    assert!(read_message(&mut client).await.ends_with("\r\n\r\nok"));
    let end = serving.await.unwrap();
    assert_eq!(end.cut_off, 0);
    assert!(end.is_complete(), "{end:?}");
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the pool is closed");
    assert!(proxy.upstreams()[0].client.pool().is_closed());
}

#[tokio::test]
async fn a_request_that_is_not_done_in_time_is_cut_off() {
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = upstream.local_addr().unwrap();
    let config = format!("drain_timeout: 50ms\nupstreams:\n  a: {{ hosts: [{address}] }}\n");
    let running = Running::start(&config).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut stream = accept(&upstream).await;
    read_message(&mut stream).await;
    drop(running.stop);
    let end = running.serving.await.unwrap();
    assert_eq!((end.cut_off, end.is_complete()), (1, false));
    for stream in [&mut client, &mut stream] {
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "both sides are closed");
    }
}

/// A proxy for one upstream, and a client of it.
struct Setup {
    running: Running,
    client: Option<TcpStream>,
}

impl Setup {
    /// With these settings of the pool.
    async fn start(pool: &str) -> (Self, TcpListener) {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = upstream.local_addr().unwrap();
        let pool =
            format!("connection_pool: {{ connect_timeout: 10, acquire_timeout: 20, {pool} }}");
        let config = format!("upstreams:\n  origin:\n    hosts: [{address}]\n    {pool}\n");
        (Self { running: Running::start(&config).await, client: None }, upstream)
    }

    fn upstream(&self) -> &Upstream {
        self.running.upstream(0)
    }

    fn pool(&self) -> &Pool<Key, Connector<RequestBody>> {
        self.upstream().client.pool()
    }

    fn opened_and_reused(&self) -> (u64, u64) {
        (self.pool().stats().connects.opened, self.upstream().tally.reused.get())
    }

    fn closed(&self, reason: CloseReason) -> u64 {
        self.pool().stats().pool.closes[reason]
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.running.address).await.unwrap()
    }

    /// One request and its answer, on one connection for all of them.
    async fn ask(&mut self, request: &str) -> String {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await,
        };
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_message(&mut client).await;
        self.client = Some(client);
        answer
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("nobody connects").unwrap().0
}
