//! A server that speaks HTTP/2 over TLS, and does as it is told.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::PATIENCE;

/// A certificate, with its key.
pub struct Identity(CertifiedKey<KeyPair>);

impl Identity {
    pub fn new(name: &str) -> Self {
        Self(generate_simple_self_signed([name.to_owned()]).unwrap())
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.cert.der().clone()
    }

    fn config(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(vec![self.certificate()], key).unwrap();
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        Arc::new(config)
    }
}

/// The server. It ends when this is dropped, and cuts its connections.
pub struct Origin {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    orders: watch::Sender<Order>,
    tasks: JoinSet<()>,
    port: TcpSocket,
}

#[derive(Clone, Copy)]
enum Order {
    Serve,
    GoAway,
}

struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    /// Requests that wait at the gate.
    holding: AtomicUsize,
    gate: Semaphore,
    /// The most requests at a time on one connection, as they are, and as they may be.
    peak: AtomicUsize,
    streams_max: Option<u32>,
}

/// One more, until it is dropped.
struct One<'a>(&'a AtomicUsize);

impl<'a> One<'a> {
    fn more(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Origin {
    pub fn start(identity: &Identity) -> Self {
        Self::start_at(reserve(), identity, &["h2"])
    }

    /// Where one was before, or with other protocols.
    pub fn start_at(port: TcpSocket, identity: &Identity, protocols: &[&str]) -> Self {
        Self::limited(port, identity, protocols, None)
    }

    /// One that lets a connection have no more than so many streams (`SETTINGS`).
    pub fn limited(
        port: TcpSocket,
        identity: &Identity,
        protocols: &[&str],
        streams_max: Option<u32>,
    ) -> Self {
        let address = port.local_addr().unwrap();
        let listener = TcpSocket::new_v4().unwrap();
        listener.set_reuseaddr(true).unwrap();
        listener.bind(address).unwrap();
        let listener = listener.listen(1_024).unwrap();
        let counts = Arc::new(Counts {
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            peak: AtomicUsize::new(0),
            streams_max,
        });
        let (orders, receiver) = watch::channel(Order::Serve);
        let acceptor = TlsAcceptor::from(identity.config(protocols));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, receiver, Arc::clone(&counts)));
        Self { address, counts, orders, tasks, port }
    }

    /// Tells all clients of now to go away; those that connect later may stay.
    pub fn go_away(&self) {
        self.orders.send_replace(Order::GoAway);
    }

    /// Cuts all connections, and is not there any more. Nobody else gets the port.
    pub async fn kill(mut self) -> TcpSocket {
        self.tasks.shutdown().await;
        self.port
    }

    /// Lets one request pass that is held.
    pub fn open_gate(&self) {
        self.counts.gate.add_permits(1);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// The most requests at a time that one connection had.
    pub fn peak(&self) -> usize {
        self.counts.peak.load(Ordering::SeqCst)
    }

    pub async fn until_open(&self, count: usize) {
        eventually(|| self.open() == count).await;
    }

    pub async fn until_holding(&self, count: usize) {
        eventually(|| self.counts.holding.load(Ordering::SeqCst) == count).await;
    }
}

/// A port where nobody listens, and that nobody gets by chance.
pub fn reserve() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket
}

pub async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it never came true");
}

/// Ends its connections with itself.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    orders: watch::Receiver<Order>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = counts.accepted.fetch_add(1, Ordering::SeqCst);
        let (acceptor, orders, counts) = (acceptor.clone(), orders.clone(), Arc::clone(&counts));
        connections.spawn(async move {
            let _open = One::more(&counts.open);
            connection(stream, acceptor, orders, &counts, number).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mut orders: watch::Receiver<Order>,
    counts: &Arc<Counts>,
    number: usize,
) {
    orders.mark_unchanged();
    // Who does not like our certificate says so to itself.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let (own, running) = (Arc::clone(counts), Arc::new(AtomicUsize::new(0)));
    let service =
        service_fn(move |request| answer(Arc::clone(&own), Arc::clone(&running), number, request));
    if agreed.as_deref() == Some(b"http/1.1") {
        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        return;
    }
    let mut builder = http2::Builder::new(TokioExecutor::new());
    if let Some(streams) = counts.streams_max {
        builder.max_concurrent_streams(streams);
    }
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            Ok(()) = orders.changed() => match *orders.borrow() {
                Order::Serve => {}
                Order::GoAway => serving.as_mut().graceful_shutdown(),
            },
        }
    }
}

/// Says what it was asked for, and on which connection; `/hold` only when the gate opens.
async fn answer(
    counts: Arc<Counts>,
    running: Arc<AtomicUsize>,
    number: usize,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let _running = One::more(&running);
    counts.peak.fetch_max(running.load(Ordering::SeqCst), Ordering::SeqCst);
    if request.uri().path() == "/hold" {
        let _holding = One::more(&counts.holding);
        counts.gate.acquire().await.expect("the gate is never closed").forget();
    }
    let response = Response::builder().header("x-connection", number);
    let text = Bytes::from(request.uri().path().to_owned());
    Ok(response.body(Full::new(text)).expect("a number is a header"))
}
