//! The clients of the demonstration.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::origin::echo;

type AnyError = Box<dyn Error + Send + Sync>;

/// What clients ask for, in turn: a third of it must not be repeated.
const METHODS: [Method; 3] = [Method::GET, Method::PUT, Method::POST];

/// What the clients of one upstream do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The upstream's name.
    pub host: &'static str,
    pub clients: usize,
    /// Requests, one after the other, before a pause.
    pub burst: u32,
    pub pause: Duration,
}

/// What all clients have seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests with the right answer.
    pub right: AtomicU64,
    /// Requests with no answer, an error, or somebody else's answer.
    pub wrong: AtomicU64,
    /// Requests that the client did not wait for.
    pub deserted: AtomicU64,
}

/// Sends requests to the proxy until the time is over.
pub async fn client(proxy: SocketAddr, plan: Plan, number: usize, end: Instant, seen: &Seen) {
    let mut sent = 0_u64;
    let mut connection = None;
    while Instant::now() < end {
        for _ in 0..plan.burst {
            sent += 1;
            let path = format!("/{}/{number}/{sent}", plan.host);
            let method = METHODS[sent as usize % METHODS.len()].clone();
            match ask(&mut connection, proxy, plan.host, method, path).await {
                Ok(()) => seen.right.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    if seen.wrong.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("the first failure: {error}");
                    }
                    connection = None;
                    0
                }
            };
        }
        sleep_until(end.min(Instant::now() + plan.pause)).await;
    }
}

async fn ask(
    connection: &mut Option<http1::SendRequest<Full<Bytes>>>,
    proxy: SocketAddr,
    host: &str,
    method: Method,
    path: String,
) -> Result<(), AnyError> {
    let sender = match connection {
        Some(sender) => sender,
        None => connection.insert(connect(proxy).await?),
    };
    let sent = if method == Method::GET { Bytes::new() } else { Bytes::from_static(b"a body") };
    let expected = echo(method.as_str(), &path, &sent);
    let request = Request::builder().method(method).uri(path).header(HOST, host);
    sender.ready().await?;
    let response = sender.send_request(request.body(Full::new(sent))?).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK || answer != expected {
        return Err(format!("{status} {answer:?} instead of {expected:?}").into());
    }
    Ok(())
}

async fn connect(proxy: SocketAddr) -> Result<http1::SendRequest<Full<Bytes>>, AnyError> {
    let stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender)
}

/// Sends requests, and hangs up each time before the answer is complete: during
/// `delay`, before the head, or during the next, before the body.
pub async fn deserter(
    proxy: SocketAddr,
    host: &'static str,
    delay: Duration,
    end: Instant,
    seen: &Seen,
) -> Result<(), AnyError> {
    let request = format!("GET /deserted HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut patience = delay / 2;
    while Instant::now() < end {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.write_all(request.as_bytes()).await?;
        sleep(patience).await;
        drop(stream);
        seen.deserted.fetch_add(1, Ordering::Relaxed);
        patience = delay * 2 - patience;
        sleep(delay * 2).await;
    }
    Ok(())
}

/// What a page says.
pub async fn fetch(server: SocketAddr, path: &str) -> Result<String, AnyError> {
    let mut sender = connect(server).await?;
    let request = Request::builder().uri(path).header(HOST, server.to_string());
    let response = sender.send_request(request.body(Full::default())?).await?;
    let body = response.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}
