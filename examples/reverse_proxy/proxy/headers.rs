//! What changes in a message on its way through the proxy.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::timeout;

use super::RequestBody;
use super::failure::Failure;
use super::lent::Lent;

/// The longest body that is kept in memory, to be repeated if need be.
const REPEATABLE_BYTES_MAX: u64 = 64 * 1024;

/// How long a client may take to send it.
const SHORT_BODY_WAIT: Duration = Duration::from_secs(30);

/// What concerns one connection only, and not the next one. So does whatever
/// `Connection` names.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whom a request is for, without the port. Empty, if it does not say.
pub fn host(request: &Request<Incoming>) -> &str {
    let written = || request.headers().get(header::HOST)?.to_str().ok();
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority.or_else(written).unwrap_or_default();
    match host.rsplit_once(':') {
        // Of an IPv6 address, not what is in the brackets.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// The request as an upstream gets it, but for whose host it goes to. Its body can be
/// repeated if it is short.
pub async fn to_upstream(
    request: Request<Incoming>,
    client: IpAddr,
) -> Result<Request<RequestBody>, Failure> {
    refuse_others(&request)?;
    if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        // Somebody behind us might go by the other one.
        return Err(Failure::new(StatusCode::BAD_REQUEST, "there is more than one Host"));
    }
    let (mut parts, body) = request.into_parts();
    let via = via(parts.version);
    // What the target says goes before what the header says.
    if let Some(authority) = parts.uri.authority() {
        let bare = authority.as_str().rsplit('@').next().unwrap_or_default();
        parts.headers.insert(header::HOST, value(bare)?);
    }
    let te = parts.headers.get(header::TE);
    let takes_trailers = te.is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip(&mut parts.headers);
    if takes_trailers {
        // HTTP/2 has them in any case, but there are servers that insist on it.
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // hyper writes it again, from the body itself, and has asked for the body.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::EXPECT);
    parts.headers.append(&FORWARDED_FOR, value(&client.to_string())?);
    parts.headers.append(header::VIA, via);
    parts.version = Version::HTTP_11;
    // What hyper has left there is about the client's connection.
    parts.extensions = Extensions::new();
    let short = body.size_hint().upper().is_some_and(|bytes| bytes <= REPEATABLE_BYTES_MAX);
    let body = if short {
        let collected = timeout(SHORT_BODY_WAIT, body.collect()).await;
        let collected = collected.map_err(|_elapsed| late_body())?;
        let collected = collected.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))?;
        Either::Left(Full::new(collected.to_bytes()))
    } else {
        Either::Right(Lent::new(body))
    };
    Ok(Request::from_parts(parts, body))
}

fn late_body() -> Failure {
    let text = format!("the request's body did not come within {SHORT_BODY_WAIT:?}");
    Failure::new(StatusCode::REQUEST_TIMEOUT, text)
}

/// What would make something else of a connection than HTTP.
fn refuse_others(request: &Request<Incoming>) -> Result<(), Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not passed on"));
    }
    // Who offers HTTP/2 is as well served without.
    let upgrade = request.headers().get(header::UPGRADE);
    if upgrade.is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "upgrades are not passed on"));
    }
    Ok(())
}

/// Whether to send the request twice does no more than to send it once.
pub fn is_repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && matches!(request.body(), Either::Left(_))
}

/// The same request again. Its body is the same one, if it is not in memory: whether it still
/// can be sent is for [`is_whole`] to say.
pub fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether nothing is missing of the body.
pub fn is_whole(request: &Request<RequestBody>) -> bool {
    match request.body() {
        Either::Left(_) => true,
        Either::Right(lent) => lent.is_whole(),
    }
}

/// The same body again, if it is in memory.
pub fn copy_body(body: &RequestBody) -> Option<RequestBody> {
    matches!(body, Either::Left(_)).then(|| body.clone())
}

/// The answer as the client gets it.
pub fn to_client<B>(response: Response<B>) -> Response<B> {
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    parts.headers.append(header::VIA, via(parts.version));
    parts.version = Version::HTTP_11;
    parts.extensions = Extensions::new();
    Response::from_parts(parts, body)
}

/// The path and query that a request asks for.
pub fn path_of(parts: &Parts) -> PathAndQuery {
    parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"))
}

fn strip(headers: &mut HeaderMap) {
    // With both, the encoding counts, and a length would mislead the next one.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    // Without `Host` it would be a request for somebody else.
    let named: Vec<String> = tokens(headers).filter(|name| name != "host").collect();
    for name in named {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What `Connection` lists, in lower case.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|token| token.trim().to_ascii_lowercase())
}

/// That a message has come this way, in this version.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 slabpool",
        Version::HTTP_2 => "2 slabpool",
        _ => "1.1 slabpool",
    })
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))
}
