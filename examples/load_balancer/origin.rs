//! The hosts of the demonstration: small HTTP servers on loopback that can be killed and
//! started again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

const BACKLOG: u32 = 1_024;

/// A server that answers with what it was asked. Ends when dropped.
pub struct Origin {
    pub address: SocketAddr,
    /// Before each answer.
    delay: Duration,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
    /// Bound, and never listening: nobody else gets the port while the server is down.
    _port: TcpSocket,
}

struct State {
    fit: AtomicBool,
    open: AtomicUsize,
}

impl Origin {
    pub async fn start(delay: Duration) -> io::Result<Self> {
        let port = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        let state = State { fit: AtomicBool::new(true), open: AtomicUsize::new(0) };
        let mut origin =
            Self { address, delay, state: Arc::new(state), acceptor: None, _port: port };
        origin.start_again().await?;
        Ok(origin)
    }

    /// Starts it where it was.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.kill().await;
        let listener = bind(self.address)?.listen(BACKLOG)?;
        let accepting = accept(listener, Arc::clone(&self.state), self.delay);
        self.acceptor = Some(tokio::spawn(accepting));
        Ok(())
    }

    /// Breaks off all that it is doing. When this returns all connections are closed, and
    /// further ones are refused.
    pub async fn kill(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        acceptor.abort();
        _ = acceptor.await;
        while self.open() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether it says that it is fit. It serves in any case.
    pub fn set_fit(&self, fit: bool) {
        self.state.fit.store(fit, Ordering::Relaxed);
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.acceptor.iter().for_each(JoinHandle::abort);
    }
}

/// What a host answers.
pub fn echo(method: &str, path: &str, body: &[u8]) -> Bytes {
    let mut text = format!("{method} {path}\n").into_bytes();
    text.extend_from_slice(body);
    Bytes::from(text)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, state: Arc<State>, delay: Duration) {
    let mut connections = JoinSet::new();
    // Goes first when this is dropped: whoever loses a connection gets no other one.
    let listener = listener;
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                let open = Open::new(&state);
                connections.spawn(serve(stream, open, delay));
            }
        }
    }
}

/// A connection that is open.
struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(stream: TcpStream, open: Open, delay: Duration) {
    _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, &open.0, delay));
    // Broken off or not: the balancer and its clients do the checking.
    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    state: &State,
    delay: Duration,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/health" {
        let mut health = Response::new(Full::default());
        if !state.fit.load(Ordering::Relaxed) {
            *health.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        return Ok(health);
    }
    let received = body.collect().await?.to_bytes();
    sleep(delay).await;
    Ok(Response::new(Full::new(echo(head.method.as_str(), head.uri.path(), &received))))
}
