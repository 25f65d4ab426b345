//! The proxy: takes a request, gets a connection from the pool, passes the answer on.
//!
//! The rules that keep a pooling proxy correct, and where they are kept:
//!
//! * A connection goes back to the pool only when the answer was read to its end
//!   ([`relay`]). A client that goes away drops the lease, which closes it.
//! * A connection that died while it was idle is noticed before it is used (by the pool,
//!   which watches [`Connection`]s; [`Proxy::checkout`]), or the request is repeated,
//!   once, on a new connection ([`Proxy::exchange`]).
//! * A connection stays idle no longer than its upstream lets it: as that says in its
//!   answers ([`headers::keep_alive`]), or as the pool learns from connections that it
//!   closed sooner.
//! * A request that must not reach an upstream twice is not repeated once it was
//!   written, and so is not put on a connection that was idle for long.

mod connection;
mod headers;
mod relay;
mod server;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use slabpool::{ConfigError, Meta, Pool};

use connection::{Carrier, Connection};
use relay::Relay;

pub use server::{End, serve};
pub use upstream::{Tally, Upstream};

/// What goes to an upstream: a body that can be repeated, or one that cannot.
pub type RequestBody = Either<Full<Bytes>, Incoming>;

/// What goes to a client: an upstream's answer, or a text of our own.
pub type ResponseBody = Either<Relay, Full<Bytes>>;

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections in the pool, idle and leased; `None` is the pool's own default,
    /// 0 turns pooling off.
    pub capacity: Option<usize>,
    pub idle_timeout: Duration,
    pub connect_timeout: Duration,
    /// A connection that was idle for longer may be about to be closed by the
    /// upstream: no risk for a request that may be repeated, but for the others.
    pub trusted_idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: None,
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            trusted_idle: Duration::from_millis(500),
        }
    }
}

/// A reverse proxy for some upstreams, with a pool of connections to all of them.
pub struct Proxy {
    pool: Pool<SocketAddr, Connection>,
    upstreams: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
    settings: Settings,
}

impl Proxy {
    /// # Panics
    ///
    /// If there are no upstreams.
    pub fn new(upstreams: Vec<Upstream>, settings: Settings) -> Result<Self, ConfigError> {
        assert!(!upstreams.is_empty(), "a proxy needs an upstream");
        let mut builder = Pool::builder()
            .idle_timeout(settings.idle_timeout)
            .watch()
            .learn_idle_timeout(true)
            .on_close(|_, connection: Connection, reason| connection.tally().closed(reason));
        if let Some(capacity) = settings.capacity {
            builder = builder.capacity(capacity);
        }
        Ok(Self {
            pool: builder.build()?,
            upstreams: upstreams.into_iter().map(Arc::new).collect(),
            turn: AtomicUsize::new(0),
            settings,
        })
    }

    pub fn pool(&self) -> &Pool<SocketAddr, Connection> {
        &self.pool
    }

    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Answers one request, with an upstream's answer or an error of our own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that the request was on.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Response<ResponseBody> {
        let upstream = self.pick(&request);
        upstream.tally.requests.add();
        let started = Instant::now();
        match self.exchange(upstream, request, client).await {
            Ok(response) => {
                upstream.tally.answered_after(started.elapsed());
                response
            }
            Err(failure) => {
                upstream.tally.errors.add();
                failure.into_response(upstream)
            }
        }
    }

    /// The upstream that the request's host names; else one after the other.
    fn pick(&self, request: &Request<Incoming>) -> &Arc<Upstream> {
        let header = || request.headers().get(HOST)?.to_str().ok();
        let host = request.uri().authority().map(|authority| authority.as_str()).or_else(header);
        let name = host.map(|host| host.split_once(':').map_or(host, |(name, _)| name));
        let named = self.upstreams.iter().find(|upstream| Some(upstream.name.as_str()) == name);
        named.unwrap_or_else(|| {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            &self.upstreams[turn % self.upstreams.len()]
        })
    }

    async fn exchange(
        &self,
        upstream: &Arc<Upstream>,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Response<ResponseBody>, Failure> {
        let request = headers::to_upstream(request, client, upstream.address).await?;
        let mut carrier = self.checkout(upstream, headers::is_repeatable(&request)).await?;
        // A new connection that fails is an upstream that fails: not repeated.
        let copy = if carrier.is_reused() { headers::copy(&request) } else { None };
        let response = match carrier.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let reused = carrier.is_reused();
                if reused && is_end(error.error()) {
                    carrier.close_dead();
                } else {
                    carrier.close();
                }
                // What was never written comes back whole, and may always be repeated.
                let Some(request) = error.take_message().or(copy).filter(|_| reused) else {
                    return Err(Failure::bad_gateway(error.error()));
                };
                upstream.tally.retries.add();
                carrier = self.open(upstream).await?;
                let repeated = carrier.try_send_request(request).await;
                repeated.map_err(|error| Failure::bad_gateway(error.error()))?
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked: `Upgrade` is not passed on.
            return Err(Failure::bad_gateway("switched protocols"));
        }
        if carrier.is_reused() {
            upstream.tally.reused.add();
        }
        let keep_alive = headers::keep_alive(&response);
        let response = headers::to_client(response);
        Ok(response.map(|body| Either::Left(Relay::new(body, carrier, keep_alive))))
    }

    /// A connection that is ready for a request: an idle one, or else a new one.
    async fn checkout(
        &self,
        upstream: &Arc<Upstream>,
        repeatable: bool,
    ) -> Result<Carrier, Failure> {
        let trusted = |meta: &Meta| repeatable || meta.idle_for < self.settings.trusted_idle;
        while let Some(mut lease) = self.pool.get_if_owned(&upstream.address, trusted) {
            if lease.is_usable().await {
                return Ok(Carrier::Pooled(lease));
            }
            if lease.is_closed() {
                lease.close_dead();
            } else {
                lease.close();
            }
        }
        self.open(upstream).await
    }

    /// A new connection, in the pool if the pool has room for it.
    async fn open(&self, upstream: &Arc<Upstream>) -> Result<Carrier, Failure> {
        let connecting = Connection::open(Arc::clone(upstream));
        let waited = self.settings.connect_timeout;
        let connection = match tokio::time::timeout(waited, connecting).await {
            Ok(connected) => connected.map_err(Failure::bad_gateway)?,
            Err(_) => {
                return Err(Failure::bad_gateway(format_args!("no connection in {waited:?}")));
            }
        };
        upstream.tally.opened.add();
        match self.pool.insert_owned(&upstream.address, connection) {
            Ok(lease) => Ok(Carrier::Pooled(lease)),
            Err(rejected) => Ok(Carrier::Unpooled(rejected.into_inner())),
        }
    }
}

/// Whether a request failed because the upstream has ended the connection: not if the
/// client's body broke off, or what came was no answer.
fn is_end(error: &hyper::Error) -> bool {
    !error.is_user() && !error.is_parse()
}

/// Why a request has no answer from an upstream.
struct Failure {
    status: StatusCode,
    text: String,
}

impl Failure {
    fn new(status: StatusCode, reason: impl ToString) -> Self {
        Self { status, text: reason.to_string() }
    }

    fn bad_gateway(reason: impl ToString) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, reason)
    }

    fn into_response(self, upstream: &Upstream) -> Response<ResponseBody> {
        let text = format!("upstream {upstream}: {}\n", self.text);
        let mut response = Response::new(Either::Right(Full::from(text)));
        *response.status_mut() = self.status;
        response
    }
}
