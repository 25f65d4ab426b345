//! The upstreams of the demonstration: small HTTP servers with different habits.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertifiedKey, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self, ServerConfig};

pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How an upstream treats those who connect to it.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Whether it speaks TLS; HTTP/2 then, to those who would like that.
    pub tls: bool,
    /// Before the head of an answer, and again before its body.
    pub delay: Duration,
    /// How long it lets a connection idle. See [`Impatient`].
    pub patience: Option<Duration>,
}

/// A server on loopback that answers with what it was asked. Ends when dropped.
pub struct Origin {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    acceptor: AbortHandle,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    closed: AtomicU64,
}

impl Origin {
    pub async fn start(habits: Habits, identity: &Identity) -> Result<Self, AnyError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let tls = if habits.tls { Some(identity.acceptor()?) } else { None };
        let accepting = accept(listener, habits, tls, Arc::clone(&counts));
        Ok(Self { address, counts, acceptor: tokio::spawn(accepting).abort_handle() })
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.accepted() - self.counts.closed.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What an upstream answers.
pub fn echo(method: &str, path: &str, body: &[u8]) -> Bytes {
    let mut text = format!("{method} {path}\n").into_bytes();
    text.extend_from_slice(body);
    Bytes::from(text)
}

/// Who the upstreams say that they are: `localhost`, by a certificate of their own.
pub struct Identity(CertifiedKey<KeyPair>);

impl Identity {
    pub fn new() -> Result<Self, AnyError> {
        Ok(Self(rcgen::generate_simple_self_signed(["localhost".to_owned()])?))
    }

    /// The certificate, to be trusted.
    pub fn pem(&self) -> String {
        self.0.cert.pem()
    }

    fn acceptor(&self) -> Result<TlsAcceptor, AnyError> {
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = config.with_single_cert(vec![self.0.cert.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

async fn accept(
    listener: TcpListener,
    habits: Habits,
    tls: Option<TlsAcceptor>,
    counts: Arc<Counts>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let number = counts.accepted.fetch_add(1, Ordering::Relaxed);
        // Every other connection is not closed in time, but when it is used again.
        let late = number % 2 == 1;
        let (counts, tls) = (Arc::clone(&counts), tls.clone());
        tokio::spawn(async move {
            _ = stream.set_nodelay(true);
            let stream = Impatient::new(stream, habits.patience, late);
            match tls {
                None => serve(stream, habits.delay).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, habits.delay).await;
                    }
                }
            }
            counts.closed.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// Serves what the peer begins with, HTTP/1.1 or HTTP/2. Broken off or not: the proxy and its
/// clients do the checking.
async fn serve<S>(stream: S, delay: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, delay));
    let builder = auto::Builder::new(TokioExecutor::new());
    _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    delay: Duration,
) -> Result<Response<Late>, hyper::Error> {
    let (head, body) = request.into_parts();
    let received = body.collect().await?.to_bytes();
    let text = echo(head.method.as_str(), head.uri.path(), &received);
    pause(delay).await;
    let wait = (!delay.is_zero()).then(|| Box::pin(sleep(delay)));
    Ok(Response::new(Late { wait, text: Some(text) }))
}

/// A body that comes after a while, when the head has gone.
struct Late {
    wait: Option<Pin<Box<Sleep>>>,
    text: Option<Bytes>,
}

impl Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(self.text.take().map(|text| Ok(Frame::data(text))))
    }
}

/// Not even a tick, if there is nothing to wait for.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

/// A connection that ends when it was idle for too long: in time, so that the peer
/// can know, or `late`, when the next request arrives. The latter is what a request
/// meets that crosses the end of the connection on its way, made certain.
struct Impatient {
    stream: TcpStream,
    patience: Option<Duration>,
    late: bool,
    expiry: Pin<Box<Sleep>>,
}

impl Impatient {
    fn new(stream: TcpStream, patience: Option<Duration>, late: bool) -> Self {
        let expiry = Box::pin(sleep(patience.unwrap_or_default()));
        Self { stream, patience, late, expiry }
    }

    fn postpone(&mut self) {
        if let Some(patience) = self.patience {
            self.expiry.as_mut().reset(Instant::now() + patience);
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let expired = self.patience.is_some() && self.expiry.as_mut().poll(context).is_ready();
        if expired && !self.late {
            return Poll::Ready(Ok(()));
        }
        let filled = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if expired {
            buffer.set_filled(filled);
        } else {
            self.postpone();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.postpone();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
