//! The balancer: takes a request, chooses a host, gets a connection to it from the pool,
//! passes the answer on.
//!
//! One `slabpool::managed::Pool` has the connections to all hosts, and a group for each:
//!
//! * A request goes to the less loaded of two hosts that are drawn by lot
//!   ([`host::choose`]). If it has no connection left, the request waits for one there.
//! * A host that does not answer its health checks is out of service: its group is drained
//!   until it answers again ([`health`]).
//! * A host that takes no connections is noticed by the pool as well, which turns callers
//!   away until a trial succeeds.
//! * A request that gets no connection goes to another host ([`Balancer::exchange`]). One that
//!   fails on a connection does so if it may be repeated, or was not sent at all. Each host
//!   gets one try, and one of them a second one.
//! * A connection goes back to the pool only when the answer was read to its end ([`relay`]).

mod connection;
mod headers;
mod health;
mod host;
mod relay;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode};
use slabpool::managed::{AcquireError, Pool};

use connection::{AnyError, Carrier, Hosts, Refusal};
use relay::Relay;

pub use host::{Counter, Host, Load, choose};
pub use server::{End, serve};

/// What goes to a host: a body that can be repeated, or one that cannot.
pub type RequestBody = Either<Full<Bytes>, Incoming>;

/// What goes to a client: a host's answer, or a text of our own.
pub type ResponseBody = Either<Relay, Full<Bytes>>;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most connections to a host.
    pub max_connections: usize,
    pub connect_timeout: Duration,
    /// How long a request may wait for a connection to a host.
    pub acquire_timeout: Duration,
    /// So many connects to a host that fail in a row take it out of service.
    pub down_after: u32,
    /// How long it is then out of service: at first, and at most.
    pub backoff: (Duration, Duration),
    /// Between two health checks of a host.
    pub check_interval: Duration,
    pub check_timeout: Duration,
    /// What a health check asks for. Status 200 says that the host is fit.
    pub health_path: String,
    /// So many health checks that fail in a row take a host out of service.
    pub fall: u32,
    /// So many that succeed in a row take it into service again.
    pub rise: u32,
    /// Told when health checks have taken a host into service, or out of it.
    pub on_turn: fn(SocketAddr, bool),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 16,
            connect_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(5),
            down_after: 3,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            check_interval: Duration::from_secs(2),
            check_timeout: Duration::from_secs(1),
            health_path: "/health".to_owned(),
            fall: 3,
            rise: 2,
            on_turn: |_, _| {},
        }
    }
}

/// A load balancer for some hosts, with a pool of connections to all of them.
pub struct Balancer {
    pool: Pool<SocketAddr, Hosts>,
    hosts: Arc<[Arc<Host>]>,
    settings: Settings,
    unanswered: Counter,
    /// Numbers drawn by lot so far.
    draws: AtomicU64,
}

impl Balancer {
    /// # Errors
    ///
    /// If there is no host, or one is there twice; if the health checks or the pool cannot
    /// work like that.
    pub fn new(addresses: &[SocketAddr], settings: Settings) -> Result<Self, AnyError> {
        validate(addresses, &settings)?;
        let hosts: Arc<[_]> = addresses.iter().map(|&at| Arc::new(Host::new(at))).collect();
        let (min, max) = settings.backoff;
        let pool = Pool::builder(Hosts(Arc::clone(&hosts)))
            .max_connections_per_group(settings.max_connections)
            .connect_timeout(settings.connect_timeout)
            .acquire_timeout(settings.acquire_timeout)
            .down_after(settings.down_after)
            .backoff(min, max)
            .settings(|pool| pool.watch())
            .build()?;
        let (unanswered, draws) = (Counter::default(), AtomicU64::new(0));
        Ok(Self { pool, hosts, settings, unanswered, draws })
    }

    pub fn pool(&self) -> &Pool<SocketAddr, Hosts> {
        &self.pool
    }

    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Requests that no host has answered, and that could not go to another one.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.get()
    }

    /// Answers one request, with a host's answer or an error of our own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that the request was on.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Response<ResponseBody> {
        let outcome = self.exchange(request, client).await;
        outcome.unwrap_or_else(Failure::into_response)
    }

    async fn exchange(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Response<ResponseBody>, Failure> {
        // For a request that names no host any one will do.
        let mut request = headers::to_upstream(request, client, self.hosts[0].address).await?;
        let mut failed: Vec<SocketAddr> = Vec::new();
        let mut last = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no host is in service");
        while failed.len() <= self.hosts.len() {
            let Some(host) = self.pick(&failed) else { break };
            failed.push(host.address);
            let mut carrier = match self.checkout(host).await {
                Ok(carrier) => carrier,
                Err(error) => {
                    last = Failure::no_connection(host, &error);
                    match error {
                        // The time of the request is over.
                        AcquireError::Timeout { .. } | AcquireError::Closed => break,
                        _ => host.tally.refused.add(),
                    }
                    continue;
                }
            };
            let copy = headers::copy(&request);
            host.tally.requests.add();
            let mut error = match carrier.try_send_request(request).await {
                Ok(response) => return answer(response, carrier),
                Err(error) => error,
            };
            let ended = is_end(error.error());
            if ended && carrier.lease.meta().reused {
                carrier.lease.close_dead();
            } else {
                carrier.close();
            }
            last = Failure::bad_gateway(host, error.error());
            // What was never written comes back whole, and may always be sent once more.
            match error.take_message().or(copy.filter(|_| ended)) {
                Some(again) => request = again,
                None => {
                    host.tally.errors.add();
                    return Err(last);
                }
            }
            host.tally.moved.add();
        }
        self.unanswered.add();
        Err(last)
    }

    /// A host for a request that has failed on these.
    fn pick(&self, failed: &[SocketAddr]) -> Option<&Arc<Host>> {
        let up = || self.hosts.iter().filter(|host| host.is_up());
        let mut hosts: Vec<_> = up().filter(|host| !failed.contains(&host.address)).collect();
        if hosts.is_empty() {
            hosts = up().collect();
        }
        choose(&hosts, self.draw())
    }

    /// A connection to this host that is ready for a request.
    async fn checkout(&self, host: &Arc<Host>) -> Result<Carrier, Refusal> {
        let load = Load::on(host);
        loop {
            let mut lease = self.pool.acquire_owned(&host.address).await?;
            if lease.is_usable().await {
                return Ok(Carrier { lease, load });
            }
            if lease.is_closed() {
                lease.close_dead();
            } else {
                lease.close();
            }
        }
    }

    /// A number drawn by lot: the next one of the generator SplitMix64.
    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        // Relaxed: any two numbers are as good.
        let state = self.draws.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn validate(addresses: &[SocketAddr], settings: &Settings) -> Result<(), AnyError> {
    if addresses.is_empty() {
        return Err("there is no host to balance the load over".into());
    }
    let mut others = addresses.iter();
    while let Some(address) = others.next() {
        if others.as_slice().contains(address) {
            return Err(format!("the host {address} is there twice").into());
        }
    }
    let path = &settings.health_path;
    if !path.starts_with('/') {
        return Err(format!("the health path is {path:?}, it must begin with a slash").into());
    }
    let parsed = path.parse::<PathAndQuery>();
    parsed.map_err(|error| format!("the health path is {path:?}: {error}"))?;
    let Settings { check_interval, check_timeout, fall, rise, .. } = settings;
    for (name, is_zero) in [
        ("check_interval", check_interval.is_zero()),
        ("check_timeout", check_timeout.is_zero()),
        ("fall", *fall == 0),
        ("rise", *rise == 0),
    ] {
        if is_zero {
            return Err(format!("{name} is zero, it must be more").into());
        }
    }
    Ok(())
}

/// The answer as the client gets it. It holds the connection until it was read to its end.
fn answer(
    response: Response<Incoming>,
    carrier: Carrier,
) -> Result<Response<ResponseBody>, Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked: `Upgrade` is not passed on.
        carrier.tally().errors.add();
        return Err(Failure::bad_gateway(carrier.load.host(), "switched protocols"));
    }
    carrier.tally().answers.add();
    let keep_alive = headers::keep_alive(&response);
    let response = headers::to_client(response);
    Ok(response.map(|body| Either::Left(Relay::new(body, carrier, keep_alive))))
}

/// Whether a request failed because the host has ended the connection: not if the client's
/// body broke off, or what came was no answer.
fn is_end(error: &hyper::Error) -> bool {
    !error.is_user() && !error.is_parse()
}

/// Why a request has no answer from a host.
struct Failure {
    status: StatusCode,
    text: String,
}

impl Failure {
    fn new(status: StatusCode, reason: impl ToString) -> Self {
        Self { status, text: reason.to_string() }
    }

    fn bad_gateway(host: &Host, reason: impl ToString) -> Self {
        let text = format!("host {}: {}", host.address, reason.to_string());
        Self::new(StatusCode::BAD_GATEWAY, text)
    }

    fn no_connection(host: &Host, error: &Refusal) -> Self {
        let text = format!("host {}: {error}", host.address);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    fn into_response(self) -> Response<ResponseBody> {
        let mut response = Response::new(Either::Right(Full::from(format!("{}\n", self.text))));
        *response.status_mut() = self.status;
        response
    }
}
