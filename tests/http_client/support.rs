//! What the tests ask with, and servers of a few lines.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response};
use slabpool::http::{Body, Builder, Client, Error};
use slabpool::managed::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::origin::{Origin, PATIENCE, Speaks, eventually};

pub type Asks = Client<Full<Bytes>>;

/// A client for this server.
pub fn client(
    origin: &Origin,
    set: impl FnOnce(Builder<Full<Bytes>>) -> Builder<Full<Bytes>>,
) -> Asks {
    set(patient().tls(origin.identity.client())).build().unwrap()
}

pub fn patient() -> Builder<Full<Bytes>> {
    Client::builder().pool(|pool| pool.acquire_timeout(PATIENCE).connect_timeout(PATIENCE))
}

/// A server, and a client for it.
pub async fn both(speaks: Speaks) -> (Origin, Asks) {
    let origin = Origin::start(speaks).await;
    let http2 = matches!(speaks, Speaks::Http2);
    let client = client(&origin, |it| if http2 { it.http2_only() } else { it });
    (origin, client)
}

pub fn get(uri: &str) -> Request<Full<Bytes>> {
    ask(Method::GET, uri, "")
}

pub fn ask(method: Method, uri: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(uri).body(Full::from(body)).unwrap()
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    /// The server's number of the connection.
    pub connection: usize,
    pub reused: bool,
    pub repeated: bool,
}

pub async fn read(response: Response<Body>) -> Result<Answer, Error> {
    let number = response.headers().get("x-connection");
    let connection = number.map_or(0, |number| number.to_str().unwrap().parse().unwrap());
    let travel = *response.body().travel();
    let body = response.into_body().collect().await?;
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let (reused, repeated) = (travel.connection.reused, travel.repeated);
    Ok(Answer { text, connection, reused, repeated })
}

pub async fn fetch(client: &Asks, uri: &str) -> Result<Answer, Error> {
    read(client.request(get(uri)).await?).await
}

/// Waits until the pool has so many connections that are idle, and so many in use.
pub async fn until(client: &Asks, idle: usize, leased: usize) {
    let counts = |status: Status| (status.idle, status.leased, status.connecting, status.waiting);
    eventually(|| counts(client.pool().status()) == (idle, leased, 0, 0)).await;
}

/// Nothing is left in the pool.
pub async fn end(client: &Asks) {
    assert!(client.pool().drain(PATIENCE).await.is_complete());
    let status = client.pool().status();
    assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0), "{status:?}");
}

/// A server that says what it is told to say, whatever it is asked.
pub struct Raw {
    pub port: u16,
    requests: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// One of its connections.
pub struct Wire {
    pub number: usize,
    pub stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Wire {
    /// Counts one request that was read by other means.
    pub fn counter(&self) -> impl Fn() + Send + use<> {
        let requests = Arc::clone(&self.requests);
        move || {
            requests.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Reads one request, as far as its body. False if there is none.
    pub async fn request(&mut self) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        true
    }

    pub async fn say(&mut self, text: &str) {
        // Who does not listen any more says so by other means.
        _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Answers in good order, with these headers.
    pub async fn answer(&mut self, headers: &str) {
        self.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\nok")).await;
    }
}

impl Raw {
    pub async fn start<F>(serve: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::new(AtomicUsize::new(0));
        let counts = (Arc::clone(&requests), Arc::clone(&accepted));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counts.1.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(Wire { number, stream, requests: counts.0.clone() }));
            }
        });
        Self { port, requests, accepted, _tasks: tasks }
    }

    pub fn uri(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// What comes of it, if it comes to an end at all.
pub async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it took too long")
}
