//! Why a request has no answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use http::{Method, Uri};

use crate::managed::AcquireError;

/// Why a request has no answer, or its answer no end. From [`Client`](super::Client) and
/// [`Body`](super::Body).
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    sent: bool,
}

#[derive(Debug)]
enum Kind {
    Refused(Refusal),
    Acquire(AcquireError<ConnectError>),
    Exchange(hyper::Error),
    Late { response_timeout: Duration },
    Body(hyper::Error),
}

/// Why a request is not one for this client.
#[derive(Debug)]
pub(super) enum Refusal {
    Target(Uri),
    Method(Method),
}

impl Error {
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { kind: Kind::Refused(refusal), sent: false }
    }

    pub(super) fn acquire(error: AcquireError<ConnectError>) -> Self {
        Self { kind: Kind::Acquire(error), sent: false }
    }

    pub(super) fn exchange(error: hyper::Error, sent: bool) -> Self {
        Self { kind: Kind::Exchange(error), sent }
    }

    pub(super) fn late(response_timeout: Duration) -> Self {
        Self { kind: Kind::Late { response_timeout }, sent: true }
    }

    pub(super) fn body(error: hyper::Error) -> Self {
        Self { kind: Kind::Body(error), sent: true }
    }

    /// Whether no connection could be opened.
    pub fn is_connect(&self) -> bool {
        use AcquireError::{Connect, ConnectAborted, ConnectTimeout};
        let Kind::Acquire(error) = &self.kind else { return false };
        matches!(error, Connect(_) | ConnectTimeout { .. } | ConnectAborted)
    }

    /// Whether something took longer than it may: to get a connection, to connect, or to get
    /// an answer.
    pub fn is_timeout(&self) -> bool {
        match &self.kind {
            Kind::Acquire(error) => {
                matches!(error, AcquireError::Timeout { .. } | AcquireError::ConnectTimeout { .. })
            }
            Kind::Late { .. } => true,
            _ => false,
        }
    }

    /// Whether the request is none that can be sent: its target, or its method.
    pub fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Refused(_))
    }

    /// Whether the answer has begun, and did not come to its end.
    pub fn is_body(&self) -> bool {
        matches!(self.kind, Kind::Body(_))
    }

    /// Whether any of the request may have reached the server. If not, it may be sent again,
    /// whatever it asks for.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// Why there is no connection, if that is it.
    pub fn as_acquire(&self) -> Option<&AcquireError<ConnectError>> {
        if let Kind::Acquire(error) = &self.kind { Some(error) } else { None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Refused(Refusal::Target(uri)) => write!(
                f,
                "{uri} is no target of a request: it must begin with http:// or https:// and a \
                 host"
            ),
            Kind::Refused(Refusal::Method(method)) => {
                write!(f, "{method} is not a method that this client can send")
            }
            Kind::Acquire(error) => write!(f, "no connection for the request: {error}"),
            Kind::Exchange(error) if self.sent => write!(f, "no answer to the request: {error}"),
            Kind::Exchange(error) => write!(f, "the request was not sent: {error}"),
            Kind::Late { response_timeout } => {
                write!(f, "no answer to the request within {response_timeout:?}")
            }
            Kind::Body(error) => write!(f, "the answer was cut off: {error}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.kind {
            Kind::Acquire(error) => Some(error),
            Kind::Exchange(error) | Kind::Body(error) => Some(error),
            Kind::Refused(_) | Kind::Late { .. } => None,
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host was not found, or did not answer.
    Tcp(io::Error),
    /// TLS could not agree: on a version, on who the server is.
    Tls(io::Error),
    /// The target is `https`, and the client was not told how to speak TLS.
    NoTls,
    /// The name is none that a certificate can be for.
    ServerName(String),
    /// HTTP/2 was insisted on, and the server has agreed to this, or to nothing.
    NoHttp2(Option<Vec<u8>>),
    /// HTTP could not begin.
    Http(hyper::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(error) => write!(f, "TCP: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::NoTls => f.write_str("the target is https, and the client has no TLS"),
            Self::ServerName(name) => write!(f, "{name:?} is no name of a server"),
            Self::NoHttp2(None) => f.write_str("the server speaks no HTTP/2 over TLS"),
            Self::NoHttp2(Some(agreed)) => {
                write!(f, "the server speaks no HTTP/2, but {}", agreed.escape_ascii())
            }
            Self::Http(error) => write!(f, "HTTP: {error}"),
        }
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Tcp(error) | Self::Tls(error) => Some(error),
            Self::Http(error) => Some(error),
            Self::NoTls | Self::ServerName(_) | Self::NoHttp2(_) => None,
        }
    }
}
