//! hyper's senders, with a peer that is played byte by byte, or by hyper.

use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use slabpool::{CloseMode, Connection, Liveness};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::watcher::Watcher;

type Sender = SendRequest<Empty<Bytes>>;

const ALIVE: Poll<Liveness> = Poll::Ready(Liveness::Alive);
const CLOSED: Poll<Liveness> = Poll::Ready(Liveness::Closed);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A sender that is ready, the task of its connection, and the peer.
async fn ready() -> (Sender, JoinHandle<hyper::Result<()>>, DuplexStream) {
    let (client, server) = duplex(4_096);
    let (mut sender, connection) = handshake(TokioIo::new(client)).await.unwrap();
    let task = tokio::spawn(connection);
    sender.ready().await.unwrap();
    (sender, task, server)
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("/").header("host", "any").body(Empty::new()).unwrap()
}

/// Reads a request.
async fn hear(server: &mut DuplexStream) {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        server.read_buf(&mut heard).await.unwrap();
    }
}

#[tokio::test]
async fn ready_is_alive() {
    let (mut sender, _task, mut server) = ready().await;
    let watcher = Watcher::new();
    for _ in 0..3 {
        assert_eq!(sender.liveness(), Liveness::Alive);
        assert_eq!(watcher.poll(&mut sender), ALIVE, "and tells nobody when it ends");
        assert_eq!(watcher.clones(), 0);
        let answer = sender.send_request(request());
        hear(&mut server).await;
        server.write_all(OK).await.unwrap();
        let body = answer.await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
        sender.ready().await.unwrap();
    }
    assert_eq!((watcher.clones(), watcher.wakes()), (0, 0));
}

#[tokio::test]
async fn the_end_of_its_connection_is_its_own() {
    let (mut sender, task, server) = ready().await;
    drop(server);
    // What hyper makes of it is its own affair.
    let _ = task.await.unwrap();
    assert_eq!(sender.liveness(), Liveness::Closed);
    assert_eq!(Watcher::new().poll(&mut sender), CLOSED);
}

#[tokio::test]
async fn data_that_nobody_asked_for_are_an_end() {
    let (mut sender, task, mut server) = ready().await;
    server.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    task.await.unwrap().unwrap_err();
    assert_eq!(sender.liveness(), Liveness::Closed);
    assert_eq!(Watcher::new().poll(&mut sender), CLOSED);
}

#[tokio::test]
async fn an_exchange_that_has_not_ended_is_no_life() {
    let (mut sender, _task, mut server) = ready().await;
    let watcher = Watcher::new();
    let answer = sender.send_request(request());
    hear(&mut server).await;
    assert_eq!(sender.liveness(), Liveness::Closed, "for one who wants to lease it");
    for _ in 0..3 {
        assert_eq!(watcher.poll(&mut sender), Poll::Pending);
        assert_eq!((watcher.clones(), watcher.wakes()), (1, 0));
    }
    server.write_all(OK).await.unwrap();
    let body = answer.await.unwrap().into_body();
    body.collect().await.unwrap();
    // Now it may be released, and it says so.
    watcher.woken().await;
    assert_eq!((watcher.clones(), watcher.wakes()), (0, 1));
    assert_eq!(watcher.poll(&mut sender), ALIVE);
    assert_eq!(sender.liveness(), Liveness::Alive);
}

#[tokio::test]
async fn an_end_in_an_exchange_wakes() {
    let (mut sender, task, mut server) = ready().await;
    let watcher = Watcher::new();
    let answer = sender.send_request(request());
    hear(&mut server).await;
    assert_eq!(watcher.poll(&mut sender), Poll::Pending);
    drop(server);
    watcher.woken().await;
    answer.await.unwrap_err();
    let _ = task.await.unwrap();
    assert_eq!(watcher.clones(), 0);
    assert_eq!(watcher.poll(&mut sender), CLOSED);
    assert_eq!(sender.liveness(), Liveness::Closed);
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_no_life() {
    let (mut sender, task, mut server) = ready().await;
    let answer = sender.send_request(request());
    hear(&mut server).await;
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    let body = answer.await.unwrap().into_body();
    let watcher = Watcher::new();
    assert_eq!(sender.liveness(), Liveness::Closed);
    assert_eq!(watcher.poll(&mut sender), Poll::Pending);
    drop(body);
    watcher.woken().await;
    let _ = task.await.unwrap();
    assert_eq!(watcher.poll(&mut sender), CLOSED);
}

#[tokio::test]
async fn a_sender_that_is_dropped_ends_its_connection() {
    for mode in [CloseMode::Graceful, CloseMode::Abort] {
        let (mut sender, task, mut server) = ready().await;
        sender.prepare_close(mode);
        drop(sender);
        task.await.unwrap().unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}

#[cfg(feature = "hyper-http2")]
mod http2 {
    use std::convert::Infallible;
    use std::pin::pin;

    use hyper::client::conn::http2;
    use hyper::server::conn::http2 as peer;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;
    use tokio::sync::oneshot;

    use super::*;

    type Sender = http2::SendRequest<Empty<Bytes>>;

    /// A sender, the task of its connection, and how its peer is made to go.
    async fn sender() -> (Sender, JoinHandle<hyper::Result<()>>, oneshot::Sender<()>) {
        let (client, server) = duplex(65_536);
        let (goodbye, asked_to_go) = oneshot::channel();
        tokio::spawn(async move {
            let answer =
                service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
            let connection = peer::Builder::new(TokioExecutor::new());
            let mut connection = pin!(connection.serve_connection(TokioIo::new(server), answer));
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = asked_to_go => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        (sender, tokio::spawn(connection), goodbye)
    }

    #[tokio::test]
    async fn settings_and_answers_are_no_data() {
        let (mut sender, _task, _goodbye) = sender().await;
        let watcher = Watcher::new();
        for _ in 0..3 {
            assert_eq!(sender.liveness(), Liveness::Alive);
            assert_eq!(watcher.poll(&mut sender), ALIVE);
            assert_eq!(watcher.clones(), 0);
            let answer = sender.send_request(request());
            assert_eq!(sender.liveness(), Liveness::Alive, "it takes more than one");
            answer.await.unwrap().into_body().collect().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_peer_that_says_goodbye_ends_it() {
        let (mut sender, task, goodbye) = sender().await;
        sender.send_request(request()).await.unwrap().into_body().collect().await.unwrap();
        goodbye.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(sender.liveness(), Liveness::Closed);
        assert_eq!(Watcher::new().poll(&mut sender), CLOSED);
    }
}
