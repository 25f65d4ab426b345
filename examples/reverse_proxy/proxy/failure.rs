//! Why a request has no answer from an upstream, and what its client is told.

use std::error::Error as _;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use slabpool::http::Error;
use slabpool::managed::AcquireError;

use super::ResponseBody;
use super::host::Host;

/// An answer of the proxy's own.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    text: String,
}

/// Whether the client has broken off the request's body, so that the host is not to blame.
pub fn is_of_client(error: &Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    error.is_some_and(hyper::Error::is_user)
}

impl Failure {
    pub fn new(status: StatusCode, reason: impl ToString) -> Self {
        Self { status, text: reason.to_string() }
    }

    pub fn unavailable(reason: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    }

    /// What a host did with a request.
    pub fn of(host: &Host, error: &Error) -> Self {
        let status = match error.as_acquire() {
            // There is a host, and no way to it.
            Some(AcquireError::Connect(_) | AcquireError::ConnectAborted) => {
                StatusCode::BAD_GATEWAY
            }
            Some(AcquireError::ConnectTimeout { .. }) => StatusCode::GATEWAY_TIMEOUT,
            // All its connections are in use, or it is out of service.
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
            None if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            None if is_of_client(error) => StatusCode::BAD_REQUEST,
            None => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, format_args!("host {}: {error}", host.address))
    }

    /// The same, said of an upstream.
    pub fn at(self, upstream: &str) -> Self {
        Self { text: format!("upstream {upstream}: {}", self.text), ..self }
    }

    pub fn into_response(self) -> Response<ResponseBody> {
        let text = Bytes::from(format!("{}\n", self.text));
        let mut response = Response::new(Either::Right(Full::new(text)));
        *response.status_mut() = self.status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }
}
