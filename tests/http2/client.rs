//! A client whose connections are in a managed pool.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slabpool::managed::{AcquireError, Builder, Manager, Pool, SharedPooled, Status};
use slabpool::{Connection, Liveness};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::origin::{Identity, Origin, eventually};

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The most attempts at one request: more than a server goes away in a row.
const ATTEMPTS_MAX: usize = 8;

/// What is pooled: one half of a connection. The other half is a task, which ends with it.
pub struct Upstream {
    sender: Sender,
    driver: AbortHandle,
}

/// As the server has agreed to.
enum Sender {
    /// HTTP/1, for one request at a time.
    One(http1::SendRequest<Empty<Bytes>>),
    Many(http2::SendRequest<Empty<Bytes>>),
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

/// Connects over TLS, and goes by what the server agrees to.
pub struct Http2 {
    config: Arc<ClientConfig>,
    /// Requests at a time on a connection that can have several. The server says it too,
    /// and hyper keeps it to itself.
    streams: u32,
    name: ServerName<'static>,
    connects: Arc<AtomicUsize>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    Tcp(io::Error),
    Tls(io::Error),
    /// The server has agreed to this, or to nothing.
    Protocol(Option<Vec<u8>>),
    Http(hyper::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(error) => write!(f, "TCP: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Protocol(agreed) => write!(f, "no HTTP, but {agreed:?}"),
            Self::Http(error) => write!(f, "HTTP: {error}"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Tcp(error) | Self::Tls(error) => Some(error),
            Self::Protocol(_) => None,
            Self::Http(error) => Some(error),
        }
    }
}

impl Manager<SocketAddr> for Http2 {
    type Connection = Upstream;
    type Error = ConnectError;

    async fn connect(&self, address: &SocketAddr) -> Result<Upstream, ConnectError> {
        let stream = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
        stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.name.clone(), stream);
        let stream = stream.await.map_err(ConnectError::Tls)?;
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        // Whoever uses it hears of its errors.
        let (sender, driver) = match agreed.as_deref() {
            Some(b"h2") => {
                let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = opened.map_err(ConnectError::Http)?;
                (Sender::Many(sender), tokio::spawn(async move { _ = connection.await }))
            }
            Some(b"http/1.1") => {
                let opened = http1::handshake(TokioIo::new(stream)).await;
                let (sender, connection) = opened.map_err(ConnectError::Http)?;
                (Sender::One(sender), tokio::spawn(async move { _ = connection.await }))
            }
            _ => return Err(ConnectError::Protocol(agreed)),
        };
        self.connects.fetch_add(1, Ordering::SeqCst);
        Ok(Upstream { sender, driver: driver.abort_handle() })
    }

    fn probe(&self, upstream: &mut Upstream) -> Liveness {
        match &mut upstream.sender {
            Sender::One(sender) => sender.liveness(),
            Sender::Many(sender) => sender.liveness(),
        }
    }

    fn streams(&self, upstream: &Upstream) -> u32 {
        match upstream.sender {
            Sender::One(_) => 1,
            Sender::Many(_) => self.streams,
        }
    }

    async fn check(&self, upstream: &mut Upstream) -> bool {
        match &mut upstream.sender {
            Sender::One(sender) => sender.ready().await.is_ok(),
            Sender::Many(sender) => sender.ready().await.is_ok(),
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub text: String,
    /// The server's number of the connection.
    pub connection: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    Acquire(AcquireError<ConnectError>),
    Request(hyper::Error),
}

/// What an attempt has come to.
enum Attempt {
    Answered(Answer),
    /// The connection was on its way out: again, on another one.
    Again(hyper::Error),
    Failed(Failure),
}

pub struct Client {
    pub pool: Pool<SocketAddr, Http2>,
    address: SocketAddr,
    connects: Arc<AtomicUsize>,
}

impl Client {
    /// One that trusts this certificate, for a server of this name, and has one request at a
    /// time on a connection.
    pub fn new(
        address: SocketAddr,
        trusted: &Identity,
        name: &'static str,
        set: impl FnOnce(Builder<SocketAddr, Http2>) -> Builder<SocketAddr, Http2>,
    ) -> Self {
        Self::sharing(address, trusted, name, (1, &["h2"]), set)
    }

    /// One that has so many, and offers these protocols.
    pub fn sharing(
        address: SocketAddr,
        trusted: &Identity,
        name: &'static str,
        (streams, protocols): (u32, &[&str]),
        set: impl FnOnce(Builder<SocketAddr, Http2>) -> Builder<SocketAddr, Http2>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.certificate()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        let connects = Arc::new(AtomicUsize::new(0));
        let manager = Http2 {
            config: Arc::new(config),
            streams,
            name: ServerName::try_from(name).unwrap(),
            connects: Arc::clone(&connects),
        };
        let builder = Pool::builder(manager).acquire_timeout(PATIENCE).connect_timeout(PATIENCE);
        Self { pool: set(builder).build().unwrap(), address, connects }
    }

    /// Connections opened so far.
    pub fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }

    pub async fn ask(&self, path: &str) -> Result<Answer, Failure> {
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            match self.once(path).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Again(error) => last = Some(error),
                Attempt::Failed(failure) => return Err(failure),
            }
        }
        Err(Failure::Request(last.expect("there was an attempt")))
    }

    /// One attempt, on one connection. Where that is had alone, dropping it closes it: also
    /// if the caller goes away. Else that ends a stream.
    async fn once(&self, path: &str) -> Attempt {
        let mut share = match self.pool.acquire_shared(&self.address).await {
            Ok(share) => share,
            Err(error) => return Attempt::Failed(Failure::Acquire(error)),
        };
        let uri = format!("https://localhost{path}");
        let request = Request::get(uri).header("host", "localhost").body(Empty::new()).unwrap();
        let response = match send(&mut share, request).await {
            Ok(response) => response,
            Err(mut error) => {
                // It was not sent, or it was idle for a while and only reads: once more.
                let again = error.take_message().is_some() || share.meta().reused;
                let error = error.into_error();
                if share.exclusive().is_some() {
                    share.close_dead();
                } else {
                    // The server goes away, or has gone: other streams may end well.
                    share.drain();
                }
                let failed = |error| Attempt::Failed(Failure::Request(error));
                return if again { Attempt::Again(error) } else { failed(error) };
            }
        };
        let number = response.headers()["x-connection"].to_str().unwrap().parse().unwrap();
        match response.into_body().collect().await {
            Ok(body) => {
                // HTTP/1 is ready for the next one a moment later.
                if let Some(Upstream { sender: Sender::One(sender), .. }) = share.exclusive()
                    && sender.ready().await.is_err()
                {
                    share.close_dead();
                } else {
                    share.release();
                }
                let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
                Attempt::Answered(Answer { text, connection: number })
            }
            Err(error) => Attempt::Failed(Failure::Request(error)),
        }
    }

    /// A request that the server holds until its gate opens.
    pub async fn hold(self: &Arc<Self>) -> JoinHandle<Result<Answer, Failure>> {
        let client = Arc::clone(self);
        tokio::spawn(async move { client.ask("/hold").await })
    }

    /// Waits until it is known that no idle connection is alive.
    pub async fn until_none_is_idle(&self) {
        let none = || self.pool.try_acquire(&self.address).map(|lease| lease.release()).is_none();
        eventually(none).await;
    }

    pub async fn until(&self, holds: impl Fn(Status) -> bool) {
        eventually(|| holds(self.pool.status())).await;
    }

    /// Tasks that ask for as long as they may.
    pub fn load(self: &Arc<Self>, tasks: usize) -> Load {
        let counts = Arc::new(Counts::default());
        let mut set = JoinSet::new();
        for task in 0..tasks {
            let (client, counts) = (Arc::clone(self), Arc::clone(&counts));
            set.spawn(async move {
                let path = format!("/{task}");
                while !counts.stop.load(Ordering::SeqCst) {
                    match client.ask(&path).await {
                        Ok(answer) => {
                            assert_eq!(answer.text, path);
                            counts.answers.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(failure) => {
                            counts.failures.lock().unwrap().push(failure);
                            // Not to turn round and round while nothing is there.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
            });
        }
        Load { counts, set }
    }

    /// Closes the pool: nothing is left here, nor at the server.
    pub async fn end(&self, origin: &Origin) {
        assert!(self.pool.drain(PATIENCE).await.is_complete());
        self.until(|status| status.connecting == 0).await;
        let status = self.pool.status();
        let left = (status.idle, status.leased, status.waiting, status.groups);
        assert_eq!(left, (0, 0, 0, 0), "{status:?}");
        origin.until_open(0).await;
    }
}

/// By a clone of the sender where others use it too.
async fn send(
    share: &mut SharedPooled<'_, SocketAddr, Http2>,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, TrySendError<Request<Empty<Bytes>>>> {
    if let Sender::Many(sender) = &share.sender {
        return sender.clone().try_send_request(request).await;
    }
    match share.exclusive().map(|upstream| &mut upstream.sender) {
        Some(Sender::One(sender)) => sender.try_send_request(request).await,
        _ => panic!("HTTP/1 is had alone"),
    }
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    answers: AtomicUsize,
    failures: Mutex<Vec<Failure>>,
}

/// Tasks that ask.
pub struct Load {
    counts: Arc<Counts>,
    set: JoinSet<()>,
}

impl Load {
    pub async fn until(&self, answers: usize) {
        eventually(|| self.counts.answers.load(Ordering::SeqCst) >= answers).await;
    }

    pub async fn until_failures(&self, failures: usize) {
        eventually(|| self.counts.failures.lock().unwrap().len() >= failures).await;
    }

    pub fn answers(&self) -> usize {
        self.counts.answers.load(Ordering::SeqCst)
    }

    /// What has failed.
    pub async fn stop(mut self) -> Vec<Failure> {
        self.counts.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.set.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.counts.failures.lock().unwrap())
    }
}
