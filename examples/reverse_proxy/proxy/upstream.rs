//! An upstream: its hosts, the pool of connections to them, and what has happened with it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::header::{HeaderValue, TE};
use hyper::{Request, Response, StatusCode, Version};
use slabpool::file::Span;
use slabpool::http::{Body, Builder, Client, Error as ClientError, FreshOnly, TlsName};
use slabpool::{GroupSettings, managed};

use super::config::{Error, Health, Service};
use super::failure::{Failure, is_of_client};
use super::host::{Counter, Host, Load, Lots, choose};
use super::{RequestBody, headers, tls};

/// Latencies above this count as this.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// How long a host may take until its answer begins, if the file does not say.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// So many connects to a host that fail in a row take it out of service, if the file does
/// not say.
const DOWN_AFTER: u32 = 3;

/// How long it is then out of service: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A host that nobody asks for keeps its `min_connections` for so long: a year.
const KEEP_WARM: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Hosts that serve the same.
pub struct Upstream {
    pub name: String,
    pub hosts: Vec<Arc<Host>>,
    pub tally: Tally,
    /// Has the pool, with a group for each host.
    pub client: Client<RequestBody>,
    pub service: Service,
    tls_name: Option<TlsName>,
    lots: Lots,
}

impl Upstream {
    /// # Errors
    ///
    /// If the hosts cannot be spoken to, or the pool cannot work, as it is set.
    pub fn new(name: &str, service: &Service) -> Result<Self, Error> {
        let mut hosts = Vec::new();
        for (index, host) in service.hosts.iter().enumerate() {
            let path = format!("hosts[{index}]");
            let key = service.key(host).map_err(|error| error.below(&path))?;
            let authority = host.parse().map_err(|error| Error::new(&path, error))?;
            hosts.push(Arc::new(Host::new(host, key, authority)));
        }
        let tls_name = service.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        Ok(Self {
            name: name.to_owned(),
            hosts,
            tally: Tally::new(),
            client: client(service)?,
            tls_name: tls_name.map(|name| TlsName(name.into())),
            service: service.clone(),
            lots: Lots::default(),
        })
    }

    /// The settings of the pool as it would be built from these.
    ///
    /// # Errors
    ///
    /// If it could not.
    pub fn settings_of(service: &Service) -> Result<managed::Settings, Error> {
        Ok(client(service)?.pool().settings())
    }

    /// The answer to a request of one of the hosts.
    ///
    /// A request that gets no connection goes to another host, and so does one that fails on
    /// a connection, if it may be repeated. Each host gets one try, and one of them a second
    /// one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that the request was on, or ends its stream.
    pub async fn exchange(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Body>, Load), Failure> {
        let repeatable = headers::is_repeatable(&request);
        let mut failed: Vec<&str> = Vec::new();
        loop {
            let Some(host) = self.pick(&failed) else {
                return Err(Failure::unavailable("no host is in service"));
            };
            let copy = headers::copy(&request);
            let load = Load::on(host);
            let error = match self.client.request(self.addressed(request, host)).await {
                Ok(response) => return self.answered(response, load),
                Err(error) => error,
            };
            failed.push(&host.address);
            self.count(host, &error);
            // The time of the request is over, or it may have reached the host.
            let lost = error.is_timeout() || error.was_sent() && !repeatable;
            if lost || !headers::is_whole(&copy) || failed.len() > self.hosts.len() {
                return Err(Failure::of(host, &error));
            }
            request = copy;
        }
    }

    fn count(&self, host: &Host, error: &ClientError) {
        // Nobody is to blame if all connections are in use, or it is known to be down.
        if error.as_acquire().is_some() && !error.is_connect() {
            return;
        }
        host.requests.add();
        self.tally.failed.add();
        if !is_of_client(error) {
            host.errors.add();
        }
    }

    fn answered(
        &self,
        response: Response<Body>,
        load: Load,
    ) -> Result<(Response<Body>, Load), Failure> {
        load.host().requests.add();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked: `Upgrade` is not passed on.
            load.host().errors.add();
            return Err(Failure::new(StatusCode::BAD_GATEWAY, "it has switched protocols"));
        }
        let travel = response.body().travel();
        // One that was opened for a client who did not wait for it was idle, but not used.
        let shared = response.version() == Version::HTTP_2 && travel.connection.reused;
        if shared || travel.connection.uses > 1 {
            self.tally.reused.add();
        }
        if travel.repeated {
            self.tally.repeated.add();
        }
        Ok((response, load))
    }

    /// A host for a request that has failed on these.
    fn pick(&self, failed: &[&str]) -> Option<&Arc<Host>> {
        let up = || self.hosts.iter().filter(|host| host.is_up());
        let untried = |host: &&Arc<Host>| !failed.contains(&host.address.as_str());
        let mut hosts: Vec<_> = up().filter(untried).collect();
        if hosts.is_empty() {
            hosts = up().collect();
        }
        choose(&hosts, self.lots.draw())
    }

    /// The request for this host.
    fn addressed(&self, request: Request<RequestBody>, host: &Host) -> Request<RequestBody> {
        let repeatable = headers::is_repeatable(&request);
        let (mut parts, body) = request.into_parts();
        parts.uri = host.target(headers::path_of(&parts));
        if self.service.http2 != Some(true) {
            // It would concern the connection of HTTP/1.
            parts.headers.remove(TE);
        }
        if let Some(name) = &self.tls_name {
            parts.extensions.insert(name.clone());
        }
        if self.service.careful && !repeatable {
            parts.extensions.insert(FreshOnly);
        }
        Request::from_parts(parts, body)
    }

    /// Opens so many connections to a host as are to be kept. Those that fail are opened when
    /// they are needed.
    pub async fn prewarm(&self, host: &Host) {
        let Ok(service) = self.service.upstream() else { return };
        let wanted = service.pool_of(&host.address).min_connections.unwrap_or_default();
        if wanted > 0 {
            _ = self.client.pool().prewarm(&host.key, wanted).await;
        }
    }
}

/// A client for these hosts.
fn client(service: &Service) -> Result<Client<RequestBody>, Error> {
    let upstream = service.upstream()?;
    let keyed = |host: &String| Ok((service.key(host)?, upstream.pool_of(host).group_settings()));
    let own: Result<Vec<_>, Error> = upstream.overrides.keys().map(keyed).collect();
    let own = own?;
    let down_after = service.health.as_ref().map_or(DOWN_AFTER, |health| health.down_after);
    let pool = upstream.connection_pool;
    let mut builder = speaking(service)?
        .pool(move |it| pool.apply_managed(it.down_after(down_after).keep_warm(KEEP_WARM)))
        .pool(|it| it.backoff(BACKOFF.0, BACKOFF.1))
        .repeat_bodies_with(headers::copy_body);
    if !own.is_empty() {
        let settings = move |key: &_| {
            let found = own.iter().find(|(host, _)| host == key);
            found.map_or_else(GroupSettings::new, |(_, settings)| *settings)
        };
        builder = builder.pool(|it| it.settings(|core| core.group_settings(settings)));
    }
    let response_timeout = service.response_timeout.unwrap_or(RESPONSE_TIMEOUT.into());
    if let Span::Of(time) = response_timeout {
        builder = builder.response_timeout(time);
    }
    builder.build().map_err(|error| Error::new("connection_pool", error))
}

/// A client that keeps no connection, to ask hosts how they are: whether a new client would
/// be served.
pub fn inquirer(service: &Service, health: &Health) -> Result<Client<RequestBody>, Error> {
    let mut builder = speaking(service)?
        .pool(|it| it.settings(|core| core.max_idle_per_group(0).learn_idle_timeout(false)));
    if let Span::Of(time) = health.timeout {
        builder = builder.response_timeout(time);
    }
    builder.build().map_err(|error| Error::new("health", error))
}

fn speaking(service: &Service) -> Result<Builder<RequestBody>, Error> {
    let mut builder = Client::builder();
    if let Some(tls) = &service.tls {
        builder = builder.tls(tls::client(tls).map_err(|error| error.below("tls"))?);
    }
    Ok(match service.http2 {
        Some(true) => builder.http2_only(),
        Some(false) => builder.http1_only(),
        None => builder,
    })
}

/// A question after a host's health.
pub fn question(host: &Host, health: &Health, name: Option<&str>) -> Option<Request<RequestBody>> {
    let body = http_body_util::Either::Left(http_body_util::Full::default());
    let mut request = Request::new(body);
    *request.uri_mut() = host.target(health.path.parse().ok()?);
    let agent = HeaderValue::from_static("slabpool-health");
    request.headers_mut().insert(hyper::header::USER_AGENT, agent);
    if let Some(name) = name {
        request.extensions_mut().insert(TlsName(name.into()));
    }
    Some(request)
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Counts of one upstream.
#[derive(Debug)]
pub struct Tally {
    pub requests: Counter,
    /// Requests answered with an error of ours.
    pub errors: Counter,
    /// Answers that came over a connection that had been used before.
    pub reused: Counter,
    /// Requests sent once more, because a connection had died under them.
    pub repeated: Counter,
    /// Attempts that have failed. Most requests have gone to another host after that.
    pub failed: Counter,
    /// Microseconds from a request's head to its answer's.
    latency: Mutex<Histogram<u64>>,
}

impl Tally {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3);
        Self {
            requests: Counter::default(),
            errors: Counter::default(),
            reused: Counter::default(),
            repeated: Counter::default(),
            failed: Counter::default(),
            latency: Mutex::new(latency.expect("the bounds are possible")),
        }
    }

    pub fn answered_after(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// The latency that this part of the requests, from 0 to 1, did not exceed.
    pub fn latency(&self, part: f64) -> Duration {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(latency.value_at_quantile(part))
    }

    /// The part of the requests, from 0 to 1, answered over a connection used before.
    pub fn reuse_ratio(&self) -> f64 {
        let requests = self.requests.get();
        if requests == 0 { 0.0 } else { self.reused.get() as f64 / requests as f64 }
    }
}
