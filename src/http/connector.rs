//! Opens connections: TCP, TLS, and HTTP of the version that the peer prefers.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;

use super::RequestBody;
use super::builder::{Speech, Versions};
use super::error::ConnectError;
use super::key::Key;
use super::upstream::{Sender, Stream, Upstream};
use crate::managed::Manager;

/// What a connection tells the pool that it is in, once there is one: that its peer allows
/// another number of streams.
pub(super) type Home = Arc<OnceLock<Box<dyn Fn(&Key) + Send + Sync>>>;

/// Opens the connections of a [`Client`](super::Client).
pub struct Connector<B> {
    pub(super) speech: Speech,
    pub(super) home: Home,
    pub(super) _body: PhantomData<fn(B)>,
}

impl<B: RequestBody> Connector<B> {
    async fn plain(&self, key: &Key, stream: TcpStream) -> Result<Upstream<B>, ConnectError> {
        match self.speech.versions {
            Versions::Http2 => self.http2(key, stream).await,
            Versions::Any | Versions::Http1 => Upstream::http1(stream).await,
        }
    }

    async fn http2(&self, key: &Key, stream: impl Stream) -> Result<Upstream<B>, ConnectError> {
        let (home, key) = (Arc::clone(&self.home), key.clone());
        let changed = move || home.get().into_iter().for_each(|changed| changed(&key));
        Upstream::http2(stream, &self.speech, changed).await
    }

    #[cfg(feature = "rustls")]
    async fn secure(&self, key: &Key, stream: TcpStream) -> Result<Upstream<B>, ConnectError> {
        use tokio_rustls::rustls::pki_types::ServerName;

        let Some(config) = &self.speech.tls else { return Err(ConnectError::NoTls) };
        let name = ServerName::try_from(key.server_name().to_owned());
        let name = name.map_err(|_| ConnectError::ServerName(key.server_name().to_owned()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(ConnectError::Tls)?;
        match (stream.get_ref().1.alpn_protocol(), self.speech.versions) {
            (Some(b"h2"), Versions::Any | Versions::Http2) => self.http2(key, stream).await,
            (agreed, Versions::Http2) => Err(ConnectError::NoHttp2(agreed.map(<[u8]>::to_vec))),
            _ => Upstream::http1(stream).await,
        }
    }

    #[cfg(not(feature = "rustls"))]
    async fn secure(&self, _: &Key, _: TcpStream) -> Result<Upstream<B>, ConnectError> {
        Err(ConnectError::NoTls)
    }
}

impl<B: RequestBody> Manager<Key> for Connector<B> {
    type Connection = Upstream<B>;
    type Error = ConnectError;

    /// The pool watches them instead.
    const PROBES: bool = false;

    async fn connect(&self, key: &Key) -> Result<Upstream<B>, ConnectError> {
        let stream = TcpStream::connect((key.host(), key.port())).await;
        let stream = stream.map_err(ConnectError::Tcp)?;
        stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
        if key.is_https() { self.secure(key, stream).await } else { self.plain(key, stream).await }
    }

    fn streams(&self, upstream: &Upstream<B>) -> u32 {
        match upstream.sender {
            Sender::Http1(_) => 1,
            Sender::Http2(_) => upstream.fate.streams().min(self.speech.streams_max),
        }
    }

    /// Lets the task of the connection say first what it has not said yet.
    async fn check(&self, upstream: &mut Upstream<B>) -> bool {
        match &mut upstream.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }
}

impl<B> fmt::Debug for Connector<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("speech", &self.speech).finish()
    }
}
