//! What is set, in a file of YAML, TOML or JSON. See `proxy.yaml` for one with all of it.
//!
//! A file is checked as a whole before anything is done with it; an [`Error`] has the path
//! of the field that cannot be.

mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use slabpool::file::{self, Span};

pub use service::{Health, Service, Tls};

/// The most requests under way that may be set: what a semaphore of tokio's can count.
const IN_FLIGHT_MAX: usize = tokio::sync::Semaphore::MAX_PERMITS;

/// All that is set.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// Where those connect to who look after the proxy. Nowhere, if it is not said.
    pub admin: Option<SocketAddr>,
    /// The most requests under way. Others are answered with 503.
    pub max_in_flight: usize,
    /// How long running requests may take when the proxy ends.
    pub drain_timeout: Span,
    pub upstreams: BTreeMap<String, Service>,
    /// One more upstream, of this name.
    pub upstream_service: Option<Service>,
    /// The first one that fits. With none, everything goes to the only upstream.
    pub routes: Vec<Route>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            admin: None,
            max_in_flight: 10_000,
            drain_timeout: Duration::from_secs(10).into(),
            upstreams: BTreeMap::new(),
            upstream_service: None,
            routes: Vec::new(),
        }
    }
}

/// Which requests go to which upstream.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Requests for this host, without a port. For any, if it is not said.
    pub host: Option<String>,
    /// Requests for this path, and those below it.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// The name of the upstream.
    pub upstream: String,
}

impl Config {
    /// Reads a file; its name says what language it is in.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or something in it cannot be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new("", format!("{}: {error}", path.display())))?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        Self::parse(&text, extension.unwrap_or_default())
    }

    /// Reads a text in the language of files with this extension.
    ///
    /// # Errors
    ///
    /// If it is unknown, or something in the text cannot be.
    pub fn parse(text: &str, extension: &str) -> Result<Self, Error> {
        let read: Result<Self, file::Error> = match extension {
            "yaml" | "yml" => file::read(serde_norway::Deserializer::from_str(text)),
            "toml" => match toml::Deserializer::parse(text) {
                Ok(from) => file::read(from),
                Err(error) => return Err(Error::new("", error)),
            },
            "json" => {
                let mut from = serde_json::Deserializer::from_str(text);
                let read = file::read(&mut from);
                from.end().map_err(|error| Error::new("", error))?;
                read
            }
            _ => {
                let problem = format!("it is {extension:?}, it must be yaml, yml, toml or json");
                return Err(Error::new("the file's extension", problem));
            }
        };
        let mut config = read?;
        if let Some(service) = config.upstream_service.take() {
            let name = "upstream_service";
            if config.upstreams.insert(name.to_owned(), service).is_some() {
                return Err(Error::new(name, "an upstream has this name already"));
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Whether all of it is possible, and goes together.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        if self.upstreams.is_empty() {
            return Err(Error::new("upstreams", "there is none, at least 1 is needed"));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.max_in_flight) {
            let value = self.max_in_flight;
            let problem = format!("it is {value}, it must lie between 1 and {IN_FLIGHT_MAX}");
            return Err(Error::new("max_in_flight", problem));
        }
        if self.admin == Some(self.listen) && self.listen.port() != 0 {
            let problem = format!("it is {}, where clients connect to", self.listen);
            return Err(Error::new("admin", problem));
        }
        for (name, service) in &self.upstreams {
            service.check().map_err(|error| error.below(&format!("upstreams.{name}")))?;
        }
        for (index, route) in self.routes.iter().enumerate() {
            self.check_route(route).map_err(|error| error.below(&format!("routes[{index}]")))?;
        }
        if self.routes.is_empty() && self.upstreams.len() > 1 {
            let problem = format!("there is none, and {} upstreams", self.upstreams.len());
            return Err(Error::new("routes", problem));
        }
        Ok(())
    }

    fn check_route(&self, route: &Route) -> Result<(), Error> {
        if !self.upstreams.contains_key(&route.upstream) {
            return Err(Error::new("upstream", format!("there is no {:?}", route.upstream)));
        }
        let unfit = |host: &&str| host.is_empty() || host.contains([':', '/', ' ']);
        if let Some(host) = route.host.as_deref().filter(unfit) {
            let problem = format!("it is {host:?}, it must be a name without a port");
            return Err(Error::new("host", problem));
        }
        let path = route.path_prefix.as_deref();
        if let Some(path) = path.filter(|path| !path.starts_with('/')) {
            return Err(Error::new("path_prefix", format!("it is {path:?}, it must begin with /")));
        }
        Ok(())
    }
}

impl Route {
    /// Whether a request for this host and path goes by it.
    pub fn fits(&self, host: &str, path: &str) -> bool {
        let fits_path = |prefix: &String| {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
            })
        };
        self.host.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            && self.path_prefix.as_ref().is_none_or(fits_path)
    }
}

/// Something that cannot be as it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where it is: `upstreams.api.hosts[0]`. Empty, if it is the whole.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Error {
    pub fn new(path: &str, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }

    /// The same, of a part of this.
    pub fn below(self, parent: &str) -> Self {
        let path = match self.path.as_str() {
            "" | "." => parent.to_owned(),
            path => format!("{parent}.{path}"),
        };
        Self { path, ..self }
    }
}

impl From<file::Error> for Error {
    fn from(error: file::Error) -> Self {
        let path = if error.path == "." { String::new() } else { error.path };
        Self { path, problem: error.problem }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "{path}: {}", self.problem),
        }
    }
}

impl std::error::Error for Error {}
