//! Beside hyper-util's legacy client, on the same servers: the same answers, and no more
//! connections.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Method, Request, Response, Uri, body::Body};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower_service::Service;

use crate::origin::{BOTH, Origin, Speaks};
use crate::support::{Raw, ask, client, end, get, in_time};

/// Connects as that client wants it.
#[derive(Clone)]
struct Connector(Option<Arc<ClientConfig>>);

enum Wire {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.0.clone();
        Box::pin(async move {
            let host = uri.host().unwrap().to_owned();
            let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap())).await?;
            let Some(config) = config else { return Ok(Wire::Plain(TokioIo::new(stream))) };
            let name = ServerName::try_from(host).unwrap();
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Wire::Tls(Box::new(TokioIo::new(stream))))
        })
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        let Self::Tls(stream) = self else { return Connected::new() };
        let http2 = stream.inner().get_ref().1.alpn_protocol() == Some(b"h2");
        if http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// hyper-util's client for this server.
fn legacy(origin: &Origin, speaks: Speaks) -> Legacy<Connector, Full<Bytes>> {
    let config = match speaks {
        Speaks::Tls(_) => {
            let mut config = origin.identity.client();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Some(Arc::new(config))
        }
        Speaks::Http1 | Speaks::Http2 => None,
    };
    let mut builder = Legacy::builder(TokioExecutor::new());
    builder.http2_only(matches!(speaks, Speaks::Http2));
    builder.build(Connector(config))
}

/// All that a user sees of an answer; not the connection, nor the time of day.
async fn seen<B>(response: Response<B>) -> String
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (mut parts, body) = response.into_parts();
    parts.headers.remove("x-connection");
    parts.headers.remove("date");
    let body = body.collect().await.unwrap();
    let trailers = format!("{:?}", body.trailers());
    let (bytes, kind) = (body.to_bytes(), (parts.status, parts.version));
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    let begin = bytes.slice(..bytes.len().min(80));
    format!("{kind:?} {:?} {} {sum} {begin:?} {trailers}", parts.headers, bytes.len())
}

fn requests(origin: &Origin) -> Vec<Request<Full<Bytes>>> {
    vec![
        get(&origin.uri("/")),
        get(&origin.uri("/some?query=1")),
        get(&origin.uri("/asked?x=%20y")),
        get(&origin.uri("/empty")),
        get(&origin.uri("/large")),
        get(&origin.uri("/halves")),
        ask(Method::HEAD, &origin.uri("/large"), ""),
        ask(Method::POST, &origin.uri("/echo"), "a body"),
        ask(Method::PUT, &origin.uri("/echo"), ""),
        ask(Method::OPTIONS, &origin.uri("/asked"), ""),
        ask(Method::DELETE, &origin.uri("/asked"), "with a body"),
    ]
}

#[tokio::test]
async fn the_same_answers_on_no_more_connections() {
    for speaks in [Speaks::Http1, Speaks::Http2, BOTH, Speaks::Tls(&["http/1.1"])] {
        let origin = Origin::start(speaks).await;
        origin.open_gate(1_000);
        let theirs = legacy(&origin, speaks);
        let mut answers = Vec::new();
        for request in requests(&origin) {
            answers.push(seen(theirs.request(request).await.unwrap()).await);
        }
        let opened = origin.accepted();
        let http2 = matches!(speaks, Speaks::Http2);
        let ours = client(&origin, |it| if http2 { it.http2_only() } else { it });
        for (request, answer) in requests(&origin).into_iter().zip(answers) {
            let asked = format!("{} {}", request.method(), request.uri());
            let response = ours.request(request).await.unwrap();
            assert_eq!(seen(response).await, answer, "{speaks:?} {asked}");
        }
        assert!(origin.accepted() - opened <= opened, "{} {opened}", origin.accepted());
        assert_eq!(origin.accepted() - opened, 1);
        end(&ours).await;
    }
}

/// 64 tasks at a time, 20 requests each: how many connections does each client open?
#[tokio::test]
async fn no_more_connections_under_load() {
    for speaks in [Speaks::Http1, Speaks::Http2, BOTH] {
        let origin = Origin::start(speaks).await;
        let theirs = legacy(&origin, speaks);
        let mut tasks = JoinSet::new();
        for task in 0..64 {
            let (client, uri) = (theirs.clone(), origin.uri(&format!("/{task}")));
            tasks.spawn(async move {
                for _ in 0..20 {
                    seen(client.request(get(&uri)).await.unwrap()).await;
                }
            });
        }
        in_time(tasks.join_all()).await;
        let opened = origin.accepted();
        let http2 = matches!(speaks, Speaks::Http2);
        let ours = client(&origin, |it| if http2 { it.http2_only() } else { it });
        let mut tasks = JoinSet::new();
        for task in 0..64 {
            let (client, uri) = (ours.clone(), origin.uri(&format!("/{task}")));
            tasks.spawn(async move {
                for _ in 0..20 {
                    seen(client.request(get(&uri)).await.unwrap()).await;
                }
            });
        }
        in_time(tasks.join_all()).await;
        let more = origin.accepted() - opened;
        // Those who ask at the same moment have one each: 64 at most, whoever counts.
        let bound = if matches!(speaks, Speaks::Http1) { opened.max(64) } else { opened };
        assert!(more <= bound, "{speaks:?}: {more} here, {opened} there");
        end(&ours).await;
    }
}

/// A connection that dies under a request: both send what may be sent again, or say so.
#[tokio::test]
async fn where_connections_die() {
    let start = || {
        Raw::start(|mut wire| async move {
            if wire.request().await {
                wire.answer("").await;
            }
            // Read, and not answered.
            wire.request().await;
        })
    };
    let raw = start().await;
    let theirs = Legacy::builder(TokioExecutor::new()).build(Connector(None));
    let mut failures = 0;
    for _ in 0..4 {
        let outcome: Result<_, _> = theirs.request(get(&raw.uri())).await;
        match outcome {
            Ok(response) => drop(seen(response).await),
            Err(_) => failures += 1,
        }
    }
    // It sends nothing again that was written.
    assert_eq!(failures, 2);
    let raw = start().await;
    let ours = crate::support::Asks::new();
    for request in 0..4 {
        let response = ours.request(get(&raw.uri())).await.unwrap();
        assert_eq!(response.body().travel().repeated, request > 0);
        seen(response).await;
        crate::support::until(&ours, 1, 0).await;
    }
    end(&ours).await;
}
