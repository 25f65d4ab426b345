//! A server of hyper's that does as it is told, and counts.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a server speaks.
#[derive(Clone, Copy, Debug)]
pub enum Speaks {
    Http1,
    /// Without TLS.
    Http2,
    /// What is agreed on of these.
    Tls(&'static [&'static str]),
}

/// Comes after a body of halves.
static LAST: HeaderName = HeaderName::from_static("x-last");

pub const BOTH: Speaks = Speaks::Tls(&["h2", "http/1.1"]);

/// A certificate, with its key.
pub struct Identity(pub CertifiedKey<KeyPair>);

impl Identity {
    pub fn new(name: &str) -> Self {
        Self(generate_simple_self_signed([name.to_owned()]).unwrap())
    }

    pub fn certificate(&self) -> &[u8] {
        self.0.cert.der()
    }

    fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        let config = ServerConfig::builder().with_no_client_auth();
        let certificate = self.0.cert.der().clone();
        let mut config = config.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Trusts this one.
    pub fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.cert.der().clone()).unwrap();
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }
}

/// The server. It ends when this is dropped, and cuts its connections.
pub struct Origin {
    pub address: SocketAddr,
    pub identity: Identity,
    speaks: Speaks,
    counts: Arc<Counts>,
    orders: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    /// Requests that wait at the gate.
    holding: AtomicUsize,
    gate: Semaphore,
    /// Of HTTP/2.
    streams_max: u32,
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
    pub async fn start(speaks: Speaks) -> Self {
        Self::with_streams(speaks, 200).await
    }

    /// One that allows so many streams.
    pub async fn with_streams(speaks: Speaks, streams_max: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let identity = Identity::new("localhost");
        let counts = Arc::new(Counts {
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            streams_max,
        });
        let acceptor = match speaks {
            Speaks::Tls(protocols) => Some(TlsAcceptor::from(identity.server(protocols))),
            Speaks::Http1 | Speaks::Http2 => None,
        };
        let (orders, receiver) = watch::channel(());
        let mut tasks = JoinSet::new();
        let counting = Arc::clone(&counts);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counting.accepted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counting));
                let receiver = receiver.clone();
                connections.spawn(async move {
                    let _open = One::more(&counts.open);
                    let Some(acceptor) = acceptor else {
                        let http2 = matches!(speaks, Speaks::Http2);
                        return serve(stream, http2, receiver, &counts, number).await;
                    };
                    // Who does not like our certificate says so to itself.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, http2, receiver, &counts, number).await;
                });
            }
        });
        Self { address, identity, speaks, counts, orders, _tasks: tasks }
    }

    pub fn uri(&self, path: &str) -> String {
        let scheme = if matches!(self.speaks, Speaks::Tls(_)) { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    /// Tells all clients of now to go away, when what they have asked for is done.
    pub fn go_away(&self) {
        self.orders.send_replace(());
    }

    /// Lets so many requests pass that are held.
    pub fn open_gate(&self, requests: usize) {
        self.counts.gate.add_permits(requests);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    pub async fn until_open(&self, count: usize) {
        eventually(|| self.counts.open.load(Ordering::SeqCst) == count).await;
    }

    pub async fn until_holding(&self, count: usize) {
        eventually(|| self.counts.holding.load(Ordering::SeqCst) == count).await;
    }
}

pub async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it never came true");
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    mut orders: watch::Receiver<()>,
    counts: &Arc<Counts>,
    number: usize,
) {
    orders.mark_unchanged();
    let streams_max = counts.streams_max;
    let counts = Arc::clone(counts);
    let service = service_fn(move |request| answer(Arc::clone(&counts), number, request));
    let stream = TokioIo::new(stream);
    macro_rules! drive {
        ($serving:expr) => {{
            let mut serving = pin!($serving);
            loop {
                tokio::select! {
                    _ = serving.as_mut() => return,
                    Ok(()) = orders.changed() => serving.as_mut().graceful_shutdown(),
                }
            }
        }};
    }
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(streams_max);
        drive!(builder.serve_connection(stream, service))
    } else {
        drive!(http1::Builder::new().serve_connection(stream, service))
    }
}

/// Says what it was asked for, and on which connection.
async fn answer(
    counts: Arc<Counts>,
    number: usize,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let text = |text: String| Full::new(Bytes::from(text)).boxed();
    let (halves, head) = (path == "/halves", request.method() == Method::HEAD);
    let body = match path.as_str() {
        "/hold" => {
            hold(&counts).await;
            text(path)
        }
        // Half of it comes at once.
        "/halves" => {
            let (mut sender, body) = Channel::new(2);
            tokio::spawn(async move {
                _ = sender.send(Frame::data(Bytes::from_static(b"one"))).await;
                hold(&counts).await;
                _ = sender.send(Frame::data(Bytes::from_static(b"two"))).await;
                let trailers =
                    HeaderMap::from_iter([(LAST.clone(), HeaderValue::from_static("words"))]);
                _ = sender.send(Frame::trailers(trailers)).await;
            });
            body.boxed()
        }
        "/empty" => text(String::new()),
        "/large" => text("x".repeat(4 << 20)),
        "/echo" => {
            let body = request.into_body().collect().await;
            let Ok(body) = body else { return Ok(Response::new(text(String::new()))) };
            Full::new(body.to_bytes()).boxed()
        }
        "/asked" => {
            let host = request.headers().get(HOST).map(|host| host.to_str().unwrap());
            text(format!("{:?} {} {host:?}", request.version(), request.uri()))
        }
        _ => text(path),
    };
    let mut response = Response::builder().header("x-connection", number);
    if halves {
        response = response.header(TRAILER, LAST.clone());
    }
    if head {
        // Over HTTP/2 hyper would send the body.
        let length = body.size_hint().exact().unwrap_or_default();
        let response = response.header(CONTENT_LENGTH, length);
        return Ok(response.body(text(String::new())).expect("numbers are headers"));
    }
    Ok(response.body(body).expect("a number is a header"))
}

async fn hold(counts: &Counts) {
    let _holding = One::more(&counts.holding);
    counts.gate.acquire().await.expect("the gate is never closed").forget();
}
