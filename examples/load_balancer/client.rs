//! The clients of the demonstration.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::origin::echo;

type AnyError = Box<dyn Error + Send + Sync>;

/// What clients ask for, in turn: a third of it must not be repeated.
const METHODS: [Method; 3] = [Method::GET, Method::PUT, Method::POST];

/// What all clients have seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests with the right answer.
    pub right: AtomicU64,
    /// Requests that must not be repeated, and were answered by an error that says that the
    /// host broke off.
    pub lost: AtomicU64,
    /// Requests whose answer broke off in its middle.
    pub broken: AtomicU64,
    /// Requests with no answer, another error, or somebody else's answer.
    pub wrong: AtomicU64,
    stop: AtomicBool,
}

enum Answer {
    Right,
    Lost,
    Broken,
}

impl Seen {
    /// Has the clients end after the request that each is at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Requests that have ended.
    pub fn total(&self) -> u64 {
        let counts = [&self.right, &self.lost, &self.broken, &self.wrong];
        counts.map(|count| count.load(Ordering::Relaxed)).iter().sum()
    }
}

/// Sends requests to the balancer, one after the other, until it is told to stop.
pub async fn client(balancer: SocketAddr, number: usize, seen: &Seen) {
    let mut sent = 0_u64;
    let mut connection = None;
    while !seen.stop.load(Ordering::Relaxed) {
        sent += 1;
        let path = format!("/{number}/{sent}");
        let method = METHODS[sent as usize % METHODS.len()].clone();
        let outcome = ask(&mut connection, balancer, method, path).await;
        if !matches!(outcome, Ok(Answer::Right | Answer::Lost)) {
            connection = None;
        }
        let count = match outcome {
            Ok(Answer::Right) => &seen.right,
            Ok(Answer::Lost) => &seen.lost,
            Ok(Answer::Broken) => &seen.broken,
            Err(error) => {
                if seen.wrong.load(Ordering::Relaxed) == 0 {
                    eprintln!("the first failure: {error}");
                }
                &seen.wrong
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ask(
    connection: &mut Option<http1::SendRequest<Full<Bytes>>>,
    balancer: SocketAddr,
    method: Method,
    path: String,
) -> Result<Answer, AnyError> {
    let sender = match connection {
        Some(sender) => sender,
        None => connection.insert(connect(balancer).await?),
    };
    let sent = if method == Method::GET { Bytes::new() } else { Bytes::from_static(b"a body") };
    let expected = echo(method.as_str(), &path, &sent);
    let request = Request::builder().method(&method).uri(&path).header(HOST, "balanced");
    sender.ready().await?;
    let response = sender.send_request(request.body(Full::new(sent))?).await?;
    let status = response.status();
    let Ok(answer) = response.into_body().collect().await else { return Ok(Answer::Broken) };
    match (status, answer.to_bytes()) {
        (StatusCode::OK, answer) if answer == expected => Ok(Answer::Right),
        (StatusCode::BAD_GATEWAY, _) if method == Method::POST => Ok(Answer::Lost),
        (_, answer) => Err(format!("{method} {path}: {status} {answer:?}").into()),
    }
}

async fn connect(balancer: SocketAddr) -> Result<http1::SendRequest<Full<Bytes>>, AnyError> {
    let stream = TcpStream::connect(balancer).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender)
}
