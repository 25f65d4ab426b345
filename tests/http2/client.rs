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
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use slabpool::managed::{AcquireError, Builder, Manager, Pool, Status};
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
    sender: http2::SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
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

/// Connects over TLS, and insists on HTTP/2.
pub struct Http2 {
    config: Arc<ClientConfig>,
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
    Http2(hyper::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(error) => write!(f, "TCP: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Protocol(agreed) => write!(f, "no HTTP/2, but {agreed:?}"),
            Self::Http2(error) => write!(f, "HTTP/2: {error}"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Tcp(error) | Self::Tls(error) => Some(error),
            Self::Protocol(_) => None,
            Self::Http2(error) => Some(error),
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
        let agreed = stream.get_ref().1.alpn_protocol();
        if agreed != Some(b"h2") {
            return Err(ConnectError::Protocol(agreed.map(<[u8]>::to_vec)));
        }
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(ConnectError::Http2)?;
        self.connects.fetch_add(1, Ordering::SeqCst);
        // Whoever uses it hears of its errors.
        let driver = tokio::spawn(async move { _ = connection.await }).abort_handle();
        Ok(Upstream { sender, driver })
    }

    fn probe(&self, upstream: &mut Upstream) -> Liveness {
        upstream.sender.liveness()
    }

    async fn check(&self, upstream: &mut Upstream) -> bool {
        upstream.sender.ready().await.is_ok()
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
    /// One that trusts this certificate, for a server of this name.
    pub fn new(
        address: SocketAddr,
        trusted: &Identity,
        name: &'static str,
        set: impl FnOnce(Builder<SocketAddr, Http2>) -> Builder<SocketAddr, Http2>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.certificate()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connects = Arc::new(AtomicUsize::new(0));
        let manager = Http2 {
            config: Arc::new(config),
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

    /// One attempt, on one connection. The lease is exclusive, and dropping it closes the
    /// connection: also if the caller goes away.
    async fn once(&self, path: &str) -> Attempt {
        let lease = match self.pool.acquire(&self.address).await {
            Ok(lease) => lease,
            Err(error) => return Attempt::Failed(Failure::Acquire(error)),
        };
        let uri = format!("https://localhost{path}");
        let request = Request::get(uri).body(Empty::new()).unwrap();
        // A clone, so that this needs the connection for itself no more than HTTP/2 does.
        let response = match lease.sender.clone().try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                // It was not sent, or it was idle for a while and only reads: once more.
                let again = error.take_message().is_some() || lease.meta().reused;
                let error = error.into_error();
                lease.close_dead();
                let failed = |error| Attempt::Failed(Failure::Request(error));
                return if again { Attempt::Again(error) } else { failed(error) };
            }
        };
        let number = response.headers()["x-connection"].to_str().unwrap().parse().unwrap();
        match response.into_body().collect().await {
            Ok(body) => {
                lease.release();
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
