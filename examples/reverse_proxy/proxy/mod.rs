//! The proxy: takes a request, finds its upstream, passes the answer on.
//!
//! | | |
//! |---|---|
//! | [`config`] | what is set, and whether it is possible |
//! | [`server`] | the side that clients connect to, and the end |
//! | [`headers`], [`lent`] | what changes in a message on its way; bodies that can be sent again |
//! | [`upstream`], [`tls`] | hosts that serve the same, and the pool of connections to them |
//! | [`host`] | which of them gets a request |
//! | [`health`] | who is in service |
//! | [`relay`], [`failure`] | the answer on its way to the client, or one of our own |
//! | [`admin`] | pages for those who look after it: [`view`], [`exposition`] |
//! | [`reload`] | settings that change while it runs |
//!
//! The rules that keep a pooling proxy correct, and where they are kept:
//!
//! * A connection goes back to the pool only when the answer was read to its end
//!   ([`slabpool::http::Body`]). A client that goes away closes it.
//! * A connection that died while it was idle is not used, or the request is sent once
//!   more, on another one, if it may be sent twice ([`slabpool::http::Client`]).
//! * A host that takes no connections is noticed by the pool, which turns callers away until
//!   a trial succeeds. One that accepts them and cannot serve is noticed by its health
//!   checks. Its connections are drained, and requests go to the others
//!   ([`Upstream::exchange`]).
//! * Whatever is counted, a request under way or the load of a host, is held by what it
//!   counts, and ends with it.

pub mod admin;
pub mod config;
mod exposition;
mod failure;
mod headers;
mod health;
mod host;
mod lent;
mod relay;
mod reload;
mod server;
mod tls;
mod upstream;
pub mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use slabpool::file::Span;
use slabpool::managed::Drained;
use tokio::sync::Semaphore;

use config::{Config, Error, Route};
use exposition::Exposition;
use failure::Failure;
use host::Counter;
use lent::Lent;
use relay::Relay;

pub use host::Host;
pub use server::{End, serve};
pub use upstream::Upstream;

/// What goes to an upstream: a body that can be repeated, or one that is passed on as it comes.
pub type RequestBody = Either<Full<Bytes>, Lent>;

/// What goes to a client: an upstream's answer, or a text of our own.
pub type ResponseBody = Either<Relay, Full<Bytes>>;

/// A reverse proxy for some upstreams.
pub struct Proxy {
    upstreams: Vec<Arc<Upstream>>,
    routes: Vec<(Route, Arc<Upstream>)>,
    /// Room for requests.
    places: Arc<Semaphore>,
    places_max: usize,
    /// Requests for which there was no room, or no upstream.
    turned_away: Counter,
    exposition: Exposition,
    started: Instant,
    ending: AtomicBool,
    config: Config,
}

impl Proxy {
    /// # Errors
    ///
    /// The first thing that cannot be as it is set.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.check()?;
        let mut upstreams = Vec::new();
        for (name, service) in &config.upstreams {
            let upstream = Upstream::new(name, service);
            let upstream = upstream.map_err(|it| it.below(&format!("upstreams.{name}")))?;
            upstreams.push(Arc::new(upstream));
        }
        let named = |name: &str| upstreams.iter().find(|it| it.name == name).map(Arc::clone);
        let everything = || Route { upstream: upstreams[0].name.clone(), ..Route::default() };
        let routes = match config.routes.as_slice() {
            [] => vec![everything()],
            routes => routes.to_vec(),
        };
        let routes = routes.into_iter().filter_map(|it| Some((it.clone(), named(&it.upstream)?)));
        Ok(Self {
            routes: routes.collect(),
            places: Arc::new(Semaphore::new(config.max_in_flight)),
            places_max: config.max_in_flight,
            turned_away: Counter::default(),
            exposition: Exposition::new(&upstreams),
            started: Instant::now(),
            ending: AtomicBool::new(false),
            config: config.clone(),
            upstreams,
        })
    }

    /// In the order of their names.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.places_max - self.places.available_permits()
    }

    /// How long running requests may take at the end; `None` is for ever.
    pub fn drain_timeout(&self) -> Option<Duration> {
        match self.config.drain_timeout {
            Span::Of(time) => Some(time),
            Span::Never => None,
        }
    }

    /// Answers one request, with an upstream's answer or an error of our own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that the request was on, or ends its stream.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Response<ResponseBody> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.turned_away.add();
            let text = format!("{} requests are under way, as many as may", self.places_max);
            return Failure::unavailable(text).into_response();
        };
        let Some(upstream) = self.route(&request) else {
            self.turned_away.add();
            return Failure::new(StatusCode::NOT_FOUND, "no route fits").into_response();
        };
        upstream.tally.requests.add();
        let started = Instant::now();
        let outcome = match headers::to_upstream(request, client).await {
            Ok(request) => upstream.exchange(request).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok((response, load)) => {
                upstream.tally.answered_after(started.elapsed());
                let response = headers::to_client(response);
                response.map(|body| Either::Left(Relay::new(body, load, place)))
            }
            Err(failure) => {
                upstream.tally.errors.add();
                failure.at(&upstream.name).into_response()
            }
        }
    }

    fn route(&self, request: &Request<Incoming>) -> Option<&Upstream> {
        let (host, path) = (headers::host(request), request.uri().path());
        let route = self.routes.iter().find(|(route, _)| route.fits(host, path));
        route.map(|(_, upstream)| &**upstream)
    }

    /// Takes no more connections back, and waits until those in use have ended.
    async fn drain(&self, deadline: Duration) -> Vec<Drained> {
        // All at the same time: each has the whole of it.
        let draining = self.upstreams.iter().map(|it| it.client.pool().drain(deadline));
        let draining: Vec<_> = draining.map(tokio::spawn).collect();
        let mut drained = Vec::new();
        for one in draining {
            drained.extend(one.await.ok());
        }
        drained
    }

    /// Whether it takes no new clients any more.
    pub fn is_ending(&self) -> bool {
        // Relaxed: whoever reads the old value asks a moment too soon.
        self.ending.load(Ordering::Relaxed)
    }
}
