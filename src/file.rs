//! Settings from a file: YAML, TOML, JSON, whatever serde reads. Feature `serde`.
//!
//! ```
//! # use slabpool::file::{self, Upstream};
//! let text = r#"{
//!     "hosts": ["backend-server-1:8080", "backend-server-2:8080"],
//!     "connection_pool": {
//!         "max_connections": 100,
//!         "min_connections": 10,
//!         "idle_timeout_seconds": 60,
//!         "max_lifetime": "5m"
//!     },
//!     "overrides": { "backend-server-2:8080": { "max_connections": 20 } }
//! }"#;
//! let upstream: Upstream = file::read(&mut serde_json::Deserializer::from_str(text))?;
//! assert_eq!(upstream.pool_of("backend-server-1:8080").max_connections, Some(100));
//! assert_eq!(upstream.pool_of("backend-server-2:8080").max_connections, Some(20));
//! assert_eq!(upstream.pool_of("backend-server-2:8080").min_connections, Some(10));
//!
//! let pool = slabpool::Pool::<String, std::net::TcpStream>::builder();
//! let narrow = upstream.pool_of("backend-server-2:8080");
//! let error = narrow.apply(pool).unwrap_err();
//! assert_eq!(error.to_string(), "max_connections: only a managed pool has it");
//!
//! let text = r#"{ "hosts": ["a:1"], "connection_pool": { "max_connections": "many" } }"#;
//! let error = file::read::<Upstream, _>(&mut serde_json::Deserializer::from_str(text));
//! assert!(error.unwrap_err().to_string().starts_with("connection_pool.max_connections: "));
//! # Ok::<(), file::Error>(())
//! ```

mod pool;
mod ranges;
mod span;
mod upstream;

use std::fmt;

use serde::Deserializer;
use serde::de::DeserializeOwned;

pub use pool::ConnectionPool;
pub use span::Span;
pub use upstream::Upstream;

/// Reads a value, of this module or with values of this module in it. If that fails, the
/// error says where.
///
/// Whether the text goes on after the value is not looked at. Where a format lets it, as JSON
/// does, the deserializer can tell: `serde_json::Deserializer::end`.
///
/// # Errors
///
/// [`Error`] has the path of the field that is unknown, of the wrong type, or impossible.
pub fn read<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, Error> {
    serde_path_to_error::deserialize(from).map_err(|error| {
        let (path, problem) = (error.path().to_string(), error.inner().to_string());
        // Some formats begin with where it is, or whose field it is.
        let bare = problem.split_once(": ").filter(|(head, _)| is_at(&path, head));
        Error { problem: bare.map_or(problem.as_str(), |(_, bare)| bare).to_owned(), path }
    })
}

/// Whether a path leads through another one.
fn is_at(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A field that cannot be as the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// Where it is: `connection_pool.max_connections`; `.` for the whole.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Error {
    fn new(path: &str, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            // Of a field without a name, the problem says so.
            "" | "." => f.write_str(&self.problem),
            path => write!(f, "{path}: {}", self.problem),
        }
    }
}

impl std::error::Error for Error {}
