//! Pages for those who look after the proxy. Not for its clients: they tell everything.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::server::accept;
use super::{Proxy, view};

/// The page that shows `/pool.json`, and asks for it each second.
const POOL_PAGE: &str = include_str!("../pool.html");

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the pages until it is dropped.
pub async fn serve(proxy: Arc<Proxy>, listener: TcpListener) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = visitors.join_next() => {}
            (stream, _) = accept(&listener) => {
                let proxy = Arc::clone(&proxy);
                let service = service_fn(move |request: Request<_>| {
                    let response = answer(&proxy, request.method(), request.uri().path());
                    async move { Ok::<_, Infallible>(response) }
                });
                visitors.spawn(async move {
                    let mut builder = http1::Builder::new();
                    builder.timer(TokioTimer::new());
                    // What breaks a visitor's connection is the visitor's business.
                    _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

/// The page at this path.
pub fn answer(proxy: &Proxy, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET and HEAD only\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => page(StatusCode::OK, PROMETHEUS, proxy.exposition.render(proxy)),
        "/pool" => page(StatusCode::OK, HTML, POOL_PAGE),
        "/pool.json" => match serde_json::to_vec(&view::overview(proxy)) {
            Ok(text) => page(StatusCode::OK, JSON, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        },
        "/healthz" if proxy.is_ending() => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "ending\n"),
        "/healthz" => page(StatusCode::OK, PLAIN, "ok\n"),
        _ => {
            let pages = "there are /metrics, /pool, /pool.json and /healthz\n";
            page(StatusCode::NOT_FOUND, PLAIN, pages)
        }
    }
}

fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
