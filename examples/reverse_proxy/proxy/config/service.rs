//! What is set of one upstream.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;
use slabpool::file::{self, ConnectionPool, Span};
use slabpool::http::Key;

use super::Error;

/// What each field of the overrides must not be: it is of the pool, and not of one host.
const OF_ALL_HOSTS: [&str; 8] = [
    "max_connections",
    "keepalive_pool_size",
    "lifetime_jitter",
    "max_connecting",
    "max_waiters",
    "connect_timeout",
    "acquire_timeout",
    "check_after",
];

/// An upstream: what [`slabpool::file::Upstream`] has, and how to speak to its hosts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// With a port, unless it is 80, or 443 of TLS.
    pub hosts: Vec<String>,
    /// For each of the hosts.
    #[serde(default)]
    pub connection_pool: ConnectionPool,
    /// What is different for some of them, by host.
    #[serde(default)]
    pub overrides: BTreeMap<String, ConnectionPool>,
    /// Without it, connections are not encrypted.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Whether HTTP/2 is spoken, and nothing else, or HTTP/1.1 and nothing else. If it is not
    /// said, the hosts choose if there is TLS, and it is HTTP/1.1 if there is none.
    #[serde(default)]
    pub http2: Option<bool>,
    /// Without it, the hosts are not asked how they are.
    #[serde(default)]
    pub health: Option<Health>,
    /// How long a host may take until its answer begins. Default: 60 s.
    #[serde(default)]
    pub response_timeout: Option<Span>,
    /// Requests that may not be sent twice get a new connection, and have it alone. It costs a
    /// connect each, for hosts that close idle connections without a word.
    #[serde(default)]
    pub careful: bool,
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whom the certificate must be for. That of each host, if it is not said.
    pub server_name: Option<String>,
    /// Whom to trust: certificates in PEM. Those of the system, if it is not said.
    pub ca_file: Option<PathBuf>,
    /// Trusts anyone. For tests.
    pub insecure: bool,
}

/// How hosts are asked how they are.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// What is asked for. An answer of status 200 to 299 says that the host is fit.
    pub path: String,
    /// Between two questions.
    pub interval: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// So many that fail in a row take a host out of service; so many connects too.
    pub down_after: u32,
    /// So many that succeed in a row take it into service again.
    pub up_after: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: Duration::from_secs(2).into(),
            timeout: Duration::from_secs(1).into(),
            down_after: 3,
            up_after: 2,
        }
    }
}

impl Service {
    /// As a file has it that is for the library alone.
    ///
    /// # Errors
    ///
    /// As [`file::read`].
    pub fn upstream(&self) -> Result<file::Upstream, Error> {
        let value = serde_json::json!({
            "hosts": self.hosts,
            "connection_pool": self.connection_pool,
            "overrides": self.overrides,
        });
        Ok(file::read(value)?)
    }

    /// Where connections to this host go.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn key(&self, host: &str) -> Result<Key, Error> {
        let target = format!("{}://{host}/", self.scheme());
        let key = target.parse::<Uri>().ok().filter(|uri| {
            // Not more than a host and a port.
            uri.path() == "/"
                && uri.query().is_none()
                && uri.authority().is_some_and(|it| it == host)
        });
        let key = key.filter(|_| !host.contains('@')).and_then(|uri| Key::of(&uri).ok());
        let named = self.tls.as_ref().and_then(|tls| tls.server_name.clone());
        match (key, named) {
            (Some(key), Some(name)) => Ok(key.with_server_name(name)),
            (Some(key), None) => Ok(key),
            (None, _) => Err(Error::new("", format!("{host:?} is no host with a port"))),
        }
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.upstream()?;
        for (index, host) in self.hosts.iter().enumerate() {
            self.key(host).map_err(|error| error.below(&format!("hosts[{index}]")))?;
        }
        for (host, own) in &self.overrides {
            let set = serde_json::to_value(own).unwrap_or_default();
            if let Some(field) = OF_ALL_HOSTS.into_iter().find(|field| set.get(field).is_some()) {
                let path = format!("overrides.{host}.{field}");
                return Err(Error::new(&path, "it is of all hosts together, not of one of them"));
            }
        }
        self.tls.as_ref().map_or(Ok(()), |tls| tls.check().map_err(|it| it.below("tls")))?;
        self.health.as_ref().map_or(Ok(()), |it| it.check().map_err(|it| it.below("health")))?;
        some_time("response_timeout", self.response_timeout)
    }
}

impl Tls {
    fn check(&self) -> Result<(), Error> {
        if self.insecure && self.ca_file.is_some() {
            return Err(Error::new("insecure", "it is on, which leaves no use for the ca_file"));
        }
        Ok(())
    }
}

impl Health {
    fn check(&self) -> Result<(), Error> {
        let path = &self.path;
        if !path.starts_with('/') {
            return Err(Error::new("path", format!("it is {path:?}, it must begin with /")));
        }
        let parsed = path.parse::<PathAndQuery>();
        parsed.map_err(|error| Error::new("path", format!("it is {path:?}: {error}")))?;
        for (name, count) in [("down_after", self.down_after), ("up_after", self.up_after)] {
            if count == 0 {
                return Err(Error::new(name, "it is 0, it must be at least 1"));
            }
        }
        some_time("interval", Some(self.interval))?;
        some_time("timeout", Some(self.timeout))
    }
}

fn some_time(name: &str, span: Option<Span>) -> Result<(), Error> {
    match span {
        Some(Span::Of(Duration::ZERO)) => {
            Err(Error::new(name, "it is zero, which leaves no time at all"))
        }
        _ => Ok(()),
    }
}
