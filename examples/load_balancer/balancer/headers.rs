//! What changes in a message on its way through the proxy.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use slabpool::KeepAlive;

use super::{Failure, RequestBody};

/// The longest body that is kept in memory, to be repeated if need be.
const REPEATABLE_BYTES_MAX: u64 = 64 * 1024;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

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

/// The request as the upstream gets it, with a body that can be repeated if it is
/// short.
pub async fn to_upstream(
    request: Request<Incoming>,
    client: IpAddr,
    upstream: SocketAddr,
) -> Result<Request<RequestBody>, Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
    }
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_11;
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    strip(&mut parts.headers);
    // hyper writes it again, from the body itself, and has asked for the body.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::EXPECT);
    if !parts.headers.contains_key(header::HOST) {
        parts.headers.insert(header::HOST, value(upstream));
    }
    parts.headers.append(&FORWARDED_FOR, value(client));
    let short = body.size_hint().upper().is_some_and(|bytes| bytes <= REPEATABLE_BYTES_MAX);
    let body = if short {
        let collected = body.collect().await;
        let collected = collected.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))?;
        Either::Left(Full::new(collected.to_bytes()))
    } else {
        Either::Right(body)
    };
    Ok(Request::from_parts(parts, body))
}

/// Whether to send the request twice does no more than to send it once.
pub fn is_repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && matches!(request.body(), Either::Left(_))
}

/// The same request again, if it may be repeated.
pub fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let Either::Left(body) = request.body() else { return None };
    if !is_repeatable(request) {
        return None;
    }
    let mut copy = Request::new(Either::<Full<Bytes>, Incoming>::Left(body.clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// How long the upstream keeps its connection open after this answer, as far as it says;
/// `None` if it closes it.
pub fn keep_alive<B>(response: &Response<B>) -> Option<KeepAlive> {
    let says = |word: &str| tokens(response.headers()).any(|token| token == word);
    let keeps = match response.version() {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive"),
    };
    let lines = response.headers().get_all(&KEEP_ALIVE).iter();
    keeps.then(|| lines.map(KeepAlive::parse).fold(KeepAlive::default(), KeepAlive::and))
}

/// The answer as the client gets it.
pub fn to_client<B>(mut response: Response<B>) -> Response<B> {
    strip(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response
}

fn strip(headers: &mut HeaderMap) {
    // With both, the encoding counts, and a length would mislead the next one.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let named: Vec<String> = tokens(headers).collect();
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

fn value(text: impl ToString) -> HeaderValue {
    HeaderValue::from_str(&text.to_string()).expect("an address is a valid header value")
}
