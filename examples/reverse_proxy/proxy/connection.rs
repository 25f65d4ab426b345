//! One connection to an upstream, in the pool or beside it.

use std::error::Error;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use slabpool::{KeepAlive, Liveness, PooledOwned};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::RequestBody;
use super::upstream::{Tally, Upstream};

/// A released connection is ready as soon as its task has run. One that takes longer
/// is in the middle of something: a request body that is not over, say.
const READY_WAIT: Duration = Duration::from_millis(100);

/// What is pooled: the sending half of a hyper connection. The other half is a task
/// of its own, which ends with this.
pub struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: AbortHandle,
    fate: Arc<Mutex<Fate>>,
    upstream: Arc<Upstream>,
}

impl Connection {
    pub async fn open(upstream: Arc<Upstream>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(upstream.address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // Whoever uses the connection hears of its errors: nobody else needs to.
        let fate = Arc::new(Mutex::new(Fate::default()));
        let told = Arc::clone(&fate);
        let driver = tokio::spawn(async move {
            _ = driver.await;
            end(&told);
        });
        Ok(Self { sender, driver: driver.abort_handle(), fate, upstream })
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

    pub fn tally(&self) -> &Tally {
        &self.upstream.tally
    }
}

/// What the task of a connection knows, and the pool would like to know.
#[derive(Default)]
struct Fate {
    /// The upstream has closed it, or it has failed.
    ended: bool,
    /// Whom to tell.
    waker: Option<Waker>,
}

fn end(fate: &Mutex<Fate>) {
    let mut fate = fate.lock().unwrap_or_else(PoisonError::into_inner);
    fate.ended = true;
    let waker = fate.waker.take();
    drop(fate);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// So that the pool hears of it when an idle connection ends, and asks before it hands one
/// out.
impl slabpool::Connection for Connection {
    fn liveness(&mut self) -> Liveness {
        if self.is_closed() { Liveness::Closed } else { Liveness::Alive }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        let mut fate = self.fate.lock().unwrap_or_else(PoisonError::into_inner);
        if fate.ended {
            return Poll::Ready(Liveness::Closed);
        }
        fate.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Connection {
    /// Closes the socket now, whatever hyper would still like to read from it.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection in use. Dropping it closes the connection, in both cases.
pub enum Carrier {
    Pooled(PooledOwned<SocketAddr, Connection>),
    /// The pool had no room.
    Unpooled(Connection),
}

impl Carrier {
    /// Whether it was idle before, so that the upstream may have closed it.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Pooled(lease) => lease.meta().reused,
            Self::Unpooled(_) => false,
        }
    }

    /// The exchange is complete: the next one may have the connection, for as long as the
    /// upstream says.
    pub fn release(self, keep_alive: KeepAlive) {
        match self {
            Self::Pooled(lease) if lease.is_closed() => lease.close(),
            Self::Pooled(lease) => lease.release_with(keep_alive),
            Self::Unpooled(connection) => drop(connection),
        }
    }

    /// The connection is of no more use.
    pub fn close(self) {
        match self {
            Self::Pooled(lease) => lease.close(),
            Self::Unpooled(connection) => drop(connection),
        }
    }

    /// The upstream has closed the connection while it was idle.
    pub fn close_dead(self) {
        match self {
            Self::Pooled(lease) => lease.close_dead(),
            Self::Unpooled(connection) => drop(connection),
        }
    }
}

impl Deref for Carrier {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Pooled(lease) => lease,
            Self::Unpooled(connection) => connection,
        }
    }
}

impl DerefMut for Carrier {
    fn deref_mut(&mut self) -> &mut Connection {
        match self {
            Self::Pooled(lease) => lease,
            Self::Unpooled(connection) => connection,
        }
    }
}
