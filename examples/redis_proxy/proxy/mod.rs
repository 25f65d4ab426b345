//! The proxy: takes commands, leases a connection for them, passes the answers on.
//!
//! The rules that keep it correct, and where they are kept:
//!
//! * A connection goes back to the pool only when all answers were read, and nothing else
//!   has come ([`Proxy::finish`]). An exchange that fails half-way closes it; its client
//!   gets an error for each command that has no answer.
//! * A connection that was idle may have died unseen. What only reads is repeated then,
//!   once, on one that is known to be alive ([`Proxy::run`]). What writes is not: nobody
//!   knows whether it was done.
//! * Nothing that a client does to its connection is left in it for the next one
//!   ([`commands`]). `WATCH` and `MULTI` hold a connection until the transaction ends, for
//!   `hold_timeout` between two commands. `BLPOP` and its like hold one for as long as they
//!   block, half of the connections at most; if the client goes away, so does the
//!   connection. All else that belongs to a connection is refused: `SUBSCRIBE`, `SELECT`,
//!   `AUTH`, `CLIENT`, `HELLO`, `MONITOR`, `WAIT` and others.
//! * Commands that come together go together: a run of those that only read, or of those
//!   that may write, is one exchange. Answers come in the order of the commands.

mod commands;
pub mod frames;
mod link;
mod server;
mod session;
mod tally;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use slabpool::managed::{AcquireError, ConfigError, Pool, Pooled};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use commands::Kind;
use link::{Answers, ConnectError, Fault, Redis};
use tally::Tally;

pub use server::{End, serve};

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The server.
    pub redis: SocketAddr,
    /// The most connections to it.
    pub max_connections: usize,
    /// How long a connect may take, ping and all.
    pub connect_timeout: Duration,
    /// How long a command may wait for a connection.
    pub acquire_timeout: Duration,
    /// How long the server may take for commands that do not block.
    pub answer_timeout: Duration,
    /// How long a client may hold a connection and say nothing, or not read its answers.
    pub hold_timeout: Duration,
    /// A connection that was idle for so long is asked by a ping whether it is there.
    pub check_after: Duration,
    /// How long the answer may take.
    pub ping_timeout: Duration,
}

impl Settings {
    pub fn new(redis: SocketAddr) -> Self {
        Self {
            redis,
            max_connections: 8,
            connect_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(30),
            check_after: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(1),
        }
    }
}

/// A connection in use.
pub type Lease<'a> = Pooled<'a, SocketAddr, Redis>;

/// Commands that go together.
#[derive(Debug)]
pub struct Batch {
    pub kind: Kind,
    pub count: usize,
    pub bytes: BytesMut,
}

/// A proxy for one server.
pub struct Proxy {
    pool: Pool<SocketAddr, Redis>,
    settings: Settings,
    tally: Arc<Tally>,
    /// One for each client that may block at a time.
    blocking: Semaphore,
    blocking_max: usize,
}

impl Proxy {
    /// # Errors
    ///
    /// If the pool cannot work like that.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        let tally = Arc::new(Tally::default());
        let redis = Redis { tally: Arc::clone(&tally), ping_timeout: settings.ping_timeout };
        let pool = Pool::builder(redis)
            .max_connections_per_group(settings.max_connections)
            .connect_timeout(settings.connect_timeout)
            .acquire_timeout(settings.acquire_timeout)
            .check_after(settings.check_after)
            .build()?;
        let blocking_max = (settings.max_connections / 2).max(1);
        Ok(Self { pool, settings, tally, blocking: Semaphore::new(blocking_max), blocking_max })
    }

    pub fn pool(&self) -> &Pool<SocketAddr, Redis> {
        &self.pool
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Has commands answered, by the server or, if it has `limit` for it and fails, by an
    /// error; `None` is as long as it likes. What was answered before a failure is in
    /// `answers`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that the commands were on.
    async fn run(
        &self,
        batch: &Batch,
        limit: Option<Duration>,
        answers: &mut Answers,
    ) -> Result<Lease<'_>, Failure> {
        let mut lease = self.lease().await?;
        let Err(fault) = converse(&mut lease, batch, limit, answers).await else {
            return Ok(lease);
        };
        let unanswered = answers.count == 0 && !lease.has_rest();
        if !(unanswered && lease.meta().reused && fault.is_end()) {
            lease.close();
            return Err(Failure::Fault(fault));
        }
        lease.close_dead();
        // Nothing is lost if the server has begun a transaction twice.
        if !matches!(batch.kind, Kind::Repeatable | Kind::Multi | Kind::Watch | Kind::Unwatch) {
            return Err(Failure::Fault(fault));
        }
        self.tally.retries.add();
        let mut lease = self.proven().await?;
        match converse(&mut lease, batch, limit, answers).await {
            Ok(()) => Ok(lease),
            Err(fault) => {
                lease.close();
                Err(Failure::Fault(fault))
            }
        }
    }

    async fn lease(&self) -> Result<Lease<'_>, Failure> {
        let lease = self.pool.acquire(&self.settings.redis).await.map_err(Failure::Acquire)?;
        self.tally.leased(lease.meta());
        Ok(lease)
    }

    /// A connection that has answered a ping just now: a new one, or one that is asked.
    async fn proven(&self) -> Result<Lease<'_>, Failure> {
        // Whoever dies in between is closed, so this comes to an end.
        loop {
            let mut lease = self.lease().await?;
            if lease.meta().connected || lease.answers_within(self.settings.ping_timeout).await {
                return Ok(lease);
            }
            lease.close_dead();
        }
    }

    /// Gives a connection back whose exchange is complete.
    fn finish(&self, lease: Lease<'_>) {
        if lease.has_rest() { lease.close() } else { lease.release() }
    }
}

/// One exchange on a connection, within a time.
async fn converse(
    lease: &mut Lease<'_>,
    batch: &Batch,
    limit: Option<Duration>,
    answers: &mut Answers,
) -> Result<(), Fault> {
    let exchange = lease.exchange(&batch.bytes, batch.count, answers);
    match limit {
        Some(limit) => timeout(limit, exchange).await.unwrap_or(Err(Fault::Slow(limit))),
        None => exchange.await,
    }
}

/// Why a command has no answer from the server.
#[derive(Debug)]
pub enum Failure {
    Acquire(AcquireError<ConnectError>),
    Fault(Fault),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}
