//! Connections to hosts: how they are opened, looked at and used.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use slabpool::managed::{AcquireError, Manager, PooledOwned};
use slabpool::{KeepAlive, Liveness};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::RequestBody;
use super::host::{Host, Load, Tally};

pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
pub type Refusal = AcquireError<AnyError>;

/// A released connection is ready as soon as its task has run. One that takes longer is in
/// the middle of something: a request body that is not over, say.
const READY_WAIT: Duration = Duration::from_millis(100);

/// Opens connections to the hosts, for the pool.
pub struct Hosts(pub Arc<[Arc<Host>]>);

impl Manager<SocketAddr> for Hosts {
    type Connection = Connection;
    type Error = AnyError;

    /// They are watched.
    const PROBES: bool = false;

    async fn connect(&self, address: &SocketAddr) -> Result<Connection, AnyError> {
        let connection = Connection::open(*address).await?;
        let host = self.0.iter().find(|host| host.address == *address);
        host.into_iter().for_each(|host| host.tally.connects.add());
        Ok(connection)
    }
}

/// What is pooled: the sending half of a hyper connection. The other half is a task of its
/// own, which ends with this.
pub struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, AnyError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // Whoever uses the connection hears of its errors: nobody else needs to.
        let driver = tokio::spawn(async move { _ = driver.await });
        Ok(Self { sender, driver })
    }

    /// Whether it can take a request now, as far as anyone can know.
    pub async fn is_usable(&mut self) -> bool {
        let ready = |waited| matches!(waited, Ok(Ok(())));
        !self.is_closed()
            && (self.sender.is_ready() || ready(timeout(READY_WAIT, self.sender.ready()).await))
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub async fn try_send_request(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.sender.try_send_request(request).await
    }
}

/// So that the pool hears of it when an idle connection ends, and asks before it hands one
/// out.
impl slabpool::Connection for Connection {
    fn liveness(&mut self) -> Liveness {
        if self.is_closed() { Liveness::Closed } else { Liveness::Alive }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        // A task that has ended must not be asked twice.
        if self.driver.is_finished() {
            return Poll::Ready(Liveness::Closed);
        }
        Pin::new(&mut self.driver).poll(cx).map(|_ended| Liveness::Closed)
    }
}

impl Drop for Connection {
    /// Closes the socket now, whatever hyper would still like to read from it.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection in use. Dropping it closes the connection.
pub struct Carrier {
    pub lease: PooledOwned<SocketAddr, Hosts>,
    pub load: Load,
}

impl Carrier {
    /// The exchange is complete: the next one may have the connection, for as long as the
    /// host says.
    pub fn release(self, keep_alive: KeepAlive) {
        if self.is_closed() {
            self.lease.close();
        } else {
            self.lease.release_with(keep_alive);
        }
    }

    /// The connection is of no more use.
    pub fn close(self) {
        self.lease.close();
    }

    pub fn tally(&self) -> &Tally {
        &self.load.host().tally
    }
}

impl Deref for Carrier {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.lease
    }
}

impl DerefMut for Carrier {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.lease
    }
}

/// Asks a host how it is, on a connection of its own: whether a new client would be served.
pub async fn ask_health(address: SocketAddr, path: &str) -> Result<(), AnyError> {
    let mut connection = Connection::open(address).await?;
    let request = Request::builder().uri(path).header(HOST, address.to_string());
    let body = Either::Left(Full::<Bytes>::default());
    match connection.sender.send_request(request.body(body)?).await?.status() {
        StatusCode::OK => Ok(()),
        status => Err(format!("it says {status}").into()),
    }
}
