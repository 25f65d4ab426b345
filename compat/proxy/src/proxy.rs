//! A proxy made of Pingora as it is published. What is under it is told in `Cargo.toml`.
//!
//! The path of a request says where it goes: `/h1/2/..` to the third of `UPSTREAMS_H1`,
//! `/h2/0/..` to the first of `UPSTREAMS_H2`, which speak HTTP/2 without TLS.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::Server;
use pingora_core::server::configuration::Opt;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Gateway {
    h1: Vec<SocketAddr>,
    h2: Vec<SocketAddr>,
    idle_timeout: Option<Duration>,
    streams: usize,
}

impl Gateway {
    fn peer(&self, path: &str) -> Option<HttpPeer> {
        let mut parts = path.split('/').skip(1);
        let version = parts.next()?;
        let index: usize = parts.next()?.parse().ok()?;
        let upstreams = if version == "h2" { &self.h2 } else { &self.h1 };
        let mut peer = HttpPeer::new(upstreams.get(index)?, false, String::new());
        peer.options.idle_timeout = self.idle_timeout;
        if version == "h2" {
            peer.options.set_http_version(2, 2);
            peer.options.max_h2_streams = self.streams;
        }
        Some(peer)
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let peer = self.peer(session.req_header().uri.path());
        peer.map(Box::new).ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn addresses(name: &str) -> Vec<SocketAddr> {
    let parse = |address: &str| address.parse().expect("an address and a port");
    variable(name).split(',').filter(|part| !part.is_empty()).map(parse).collect()
}

fn main() {
    let gateway = Gateway {
        h1: addresses("UPSTREAMS_H1"),
        h2: addresses("UPSTREAMS_H2"),
        idle_timeout: variable("IDLE_TIMEOUT_MS").parse().ok().map(Duration::from_millis),
        streams: variable("STREAMS").parse().unwrap_or(100),
    };
    let mut server = Server::new(Some(Opt::parse_args())).expect("a configuration");
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, gateway);
    service.add_tcp(&variable("LISTEN"));
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    service.app_logic_mut().expect("it was just made").server_options = Some(options);
    server.add_service(service);
    server.run_forever();
}
