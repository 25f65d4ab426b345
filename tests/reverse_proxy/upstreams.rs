//! Upstreams of all kinds, with counts of connections.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::Frame;
use hyper::header::{HOST, UPGRADE};
use hyper::{Request, StatusCode};
use slabpool::http::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::origin::{BOTH, Origin, Speaks};
use crate::proxy::config::Config;
use crate::support::{PATIENCE, Running, ask, eventually, get, read_message};

type Asks = Client<Full<Bytes>>;

/// A proxy for this origin, with these lines about it.
async fn before(origin: &Origin, lines: &str) -> Running {
    let hosts = format!("hosts: ['localhost:{}']", origin.address.port());
    Running::start(&format!("upstreams:\n  a:\n    {hosts}\n    {lines}\n")).await
}

/// Sends this many requests that are held, and returns when the origin has them.
async fn held(
    origin: &Origin,
    running: &Running,
    count: usize,
) -> tokio::task::JoinSet<StatusCode> {
    let client = Asks::new();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (client, uri) = (client.clone(), running.uri("/hold"));
        asking.spawn(async move { get(&client, &uri).await.0 });
    }
    origin.until_holding(count).await;
    asking
}

async fn at_rest(running: &Running) {
    let pool = running.upstream(0).client.pool();
    eventually(|| pool.status().leased == 0).await;
}

#[tokio::test]
async fn requests_of_http1_follow_each_other_on_one_connection() {
    let origin = Origin::start(Speaks::Http1).await;
    let running = before(&origin, "").await;
    let client = Asks::new();
    for _ in 0..5 {
        let (status, text) = get(&client, &running.uri("/asked?x=1")).await;
        let expected = format!("HTTP/1.1 /asked?x=1 Some(\"{}\")", running.address);
        assert_eq!((status, text), (StatusCode::OK, expected));
        at_rest(&running).await;
    }
    let stats = running.upstream(0).client.pool().stats();
    assert_eq!((origin.accepted(), stats.connects.opened, stats.hits), (1, 1, 4));
    assert_eq!(running.upstream(0).tally.reused.get(), 4);
}

#[tokio::test]
async fn requests_of_http1_have_a_connection_each() {
    let origin = Origin::start(Speaks::Http1).await;
    let running =
        before(&origin, "connection_pool: { max_connections: 3, acquire_timeout: 20 }").await;
    let mut asking = held(&origin, &running, 3).await;
    let client = Asks::new();
    let waiting = tokio::spawn({
        let uri = running.uri("/next");
        async move { get(&client, &uri).await.0 }
    });
    eventually(|| running.upstream(0).client.pool().status().waiting == 1).await;
    origin.open_gate(3);
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
    assert_eq!(origin.accepted(), 3);
}

/// A file with the origin's certificate.
struct Trusted(PathBuf);

impl Trusted {
    fn of(origin: &Origin) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("slabpool-proxy-test-{}-{number}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, origin.identity.0.cert.pem()).unwrap();
        Self(path)
    }

    fn line(&self) -> String {
        format!("tls: {{ ca_file: {:?} }}", self.0)
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn requests_of_http2_share_a_connection() {
    let origin = Origin::start(BOTH).await;
    let trusted = Trusted::of(&origin);
    let running = before(&origin, &trusted.line()).await;
    let mut asking = held(&origin, &running, 20).await;
    let pool = running.upstream(0).client.pool();
    assert_eq!((pool.status().leased, pool.status().streams), (1, 20));
    origin.open_gate(20);
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    let (status, text) = get(&Asks::new(), &running.uri("/asked")).await;
    // The authority is whom the client has asked for, and there is no `Host` beside it.
    let expected = format!("HTTP/2.0 https://{}/asked None", running.address);
    assert_eq!((status, text, origin.accepted()), (StatusCode::OK, expected, 1));
}

#[tokio::test]
async fn http2_without_tls_and_http1_with_it() {
    let origin = Origin::start(Speaks::Http2).await;
    let running = before(&origin, "http2: true").await;
    let text = get(&Asks::new(), &running.uri("/asked")).await.1;
    assert!(text.starts_with("HTTP/2.0 http://"), "{text}");

    let origin = Origin::start(BOTH).await;
    let trusted = Trusted::of(&origin);
    let running = before(&origin, &format!("{}\n    http2: false", trusted.line())).await;
    let text = get(&Asks::new(), &running.uri("/asked")).await.1;
    assert_eq!(text, format!("HTTP/1.1 /asked Some(\"{}\")", running.address));
}

#[tokio::test]
async fn who_is_not_trusted_gets_no_request() {
    let origin = Origin::start(BOTH).await;
    let other = Origin::start(BOTH).await;
    let trusted = Trusted::of(&other);
    let running = before(&origin, &trusted.line()).await;
    let (status, text) = get(&Asks::new(), &running.uri("/it")).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.contains("TLS: "), "{text}");
    assert_eq!(origin.requests(), 0);

    let trusted = Trusted::of(&origin);
    let named = trusted.line().replace(" }", ", server_name: elsewhere }");
    let running = before(&origin, &named).await;
    assert_eq!(get(&Asks::new(), &running.uri("/it")).await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(origin.requests(), 0);

    let running = before(&origin, "tls: { insecure: true, server_name: elsewhere }").await;
    assert_eq!(get(&Asks::new(), &running.uri("/it")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn clients_may_speak_http2() {
    let origin = Origin::start(Speaks::Http1).await;
    let running = before(&origin, "").await;
    let client = Asks::builder().http2_only().http2_max_streams(NonZeroU32::new(10).unwrap());
    let client = client.build().unwrap();
    let request = Request::post(running.uri("/echo")).body(Full::from("a body")).unwrap();
    assert_eq!(ask(&client, request).await, (StatusCode::OK, "a body".to_owned()));
    let text = get(&client, &running.uri("/asked")).await.1;
    assert_eq!(text, format!("HTTP/1.1 /asked Some(\"{}\")", running.address));
    assert_eq!(client.pool().stats().connects.opened, 1);
}

#[tokio::test]
async fn bodies_are_passed_on_as_they_come() {
    for (speaks, lines) in [(Speaks::Http1, ""), (Speaks::Http2, "http2: true")] {
        let origin = Origin::start(speaks).await;
        let running = before(&origin, lines).await;
        let client = Client::<Channel<Bytes>>::new();
        let (mut sender, body) = Channel::new(1);
        let request = Request::post(running.uri("/echo")).body(body).unwrap();
        let piece = Bytes::from(vec![b'x'; 32 * 1024]);
        let sending = async {
            for _ in 0..10 {
                sender.send(Frame::data(piece.clone())).await.unwrap();
            }
            drop(sender);
        };
        let (response, ()) = tokio::join!(client.request(request), sending);
        let body = response.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 10 * piece.len());

        let client = Asks::new();
        let request = Request::get(running.uri("/halves")).body(Full::default()).unwrap();
        let mut body = client.request(request).await.unwrap().into_body();
        let first = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one", "the other half is still held");
        origin.open_gate(1);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "two");
        eventually(|| running.proxy.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn trailers_are_passed_on_in_http2() {
    let origin = Origin::start(Speaks::Http2).await;
    let running = before(&origin, "http2: true").await;
    let client = Asks::builder().http2_only().build().unwrap();
    let request = Request::get(running.uri("/halves")).header("te", "trailers");
    origin.open_gate(1);
    let response = client.request(request.body(Full::default()).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-last"], "words");
    assert_eq!(body.to_bytes(), "onetwo");
}

#[tokio::test]
async fn an_upload_goes_to_the_host_that_there_is() {
    let (gone, origin) = (Origin::start(Speaks::Http1).await, Origin::start(Speaks::Http1).await);
    let hosts = format!("hosts: ['{}', '{}']", gone.address, origin.address);
    drop(gone);
    let running = Running::start(&format!("upstreams: {{ a: {{ {hosts} }} }}")).await;
    let client = Asks::new();
    let sent = "x".repeat(200 * 1024);
    let hosts = &running.upstream(0).hosts;
    while hosts[0].errors.get() == 0 || hosts[1].requests.get() < 10 {
        let request = Request::post(running.uri("/echo")).body(Full::from(sent.clone())).unwrap();
        let (status, text) = ask(&client, request).await;
        assert_eq!((status, text.len()), (StatusCode::OK, sent.len()));
    }
    assert_eq!(origin.requests() as u64, hosts[1].requests.get());
    assert_eq!(running.upstream(0).tally.errors.get(), 0);
}

#[tokio::test]
async fn an_upload_that_is_broken_off_is_not_the_hosts_fault() {
    let origin = Origin::start(Speaks::Http1).await;
    let running = before(&origin, "").await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = b"POST /echo HTTP/1.1\r\nhost: any\r\ncontent-length: 100000\r\n\r\nhalf";
    stream.write_all(head).await.unwrap();
    eventually(|| origin.requests() == 1).await;
    drop(stream);
    eventually(|| running.proxy.in_flight() == 0).await;
    let host = &running.upstream(0).hosts[0];
    assert_eq!(host.errors.get(), 0);
    origin.until_open(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_leaves_the_others() {
    let origin = Origin::start(Speaks::Http2).await;
    let running = before(&origin, "http2: true").await;
    let mut asking = held(&origin, &running, 2).await;
    asking.abort_all();
    while asking.join_next().await.is_some() {}
    let pool = running.upstream(0).client.pool();
    eventually(|| pool.status().streams == 0 && running.proxy.in_flight() == 0).await;
    assert_eq!(get(&Asks::new(), &running.uri("/it")).await.0, StatusCode::OK);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let origin = Origin::start(Speaks::Http1).await;
    let running = before(&origin, "response_timeout: 20ms").await;
    let (status, text) = get(&Asks::new(), &running.uri("/hold")).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(text.contains("within 20ms"), "{text}");
    assert!(origin.requests() <= 1, "not sent again");
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_is_told() {
    let origin = Origin::start(Speaks::Http1).await;
    let pool = "connection_pool: { max_connections: 1, acquire_timeout: 20 }";
    let running = before(&origin, pool).await;
    let mut asking = held(&origin, &running, 1).await;
    let hosts = format!("hosts: ['localhost:{}']", origin.address.port());
    let pool = "{ max_connections: 1, acquire_timeout: 20ms, connect_timeout: 20ms }";
    let text = format!("upstreams: {{ a: {{ {hosts}, connection_pool: {pool} }} }}");
    running.proxy.reload(&Config::parse(&text, "yaml").unwrap());
    let (status, text) = get(&Asks::new(), &running.uri("/it")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("no connection within"), "{text}");
    let host = &running.upstream(0).hosts[0];
    assert_eq!(host.errors.get(), 0, "it is not to blame");
    origin.open_gate(1);
    assert_eq!(asking.join_next().await.unwrap().unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn no_more_requests_than_may_be_under_way() {
    let origin = Origin::start(Speaks::Http1).await;
    let hosts = format!("hosts: ['{}']", origin.address);
    let config = format!("max_in_flight: 2\nupstreams: {{ a: {{ {hosts} }} }}");
    let running = Running::start(&config).await;
    let mut asking = held(&origin, &running, 2).await;
    let (status, text) = get(&Asks::new(), &running.uri("/it")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "2 requests are under way, as many as may\n");
    origin.open_gate(2);
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    eventually(|| running.proxy.in_flight() == 0).await;
    assert_eq!(get(&Asks::new(), &running.uri("/it")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn careful_requests_get_a_connection_of_their_own() {
    let origin = Origin::start(Speaks::Http1).await;
    let running = before(&origin, "careful: true").await;
    let client = Asks::new();
    for (method, accepted) in [("GET", 1), ("PUT", 1), ("POST", 2), ("GET", 2), ("PATCH", 3)] {
        let request = Request::builder().method(method).uri(running.uri("/it"));
        let answer = ask(&client, request.body(Full::from("x")).unwrap()).await;
        assert_eq!((answer.0, origin.accepted()), (StatusCode::OK, accepted), "{method}");
        at_rest(&running).await;
    }
}

#[tokio::test]
async fn requests_go_where_their_route_leads() {
    let (one, two) = (Origin::start(Speaks::Http1).await, Origin::start(Speaks::Http1).await);
    let running = Running::start(&format!(
        "upstreams:\n  one: {{ hosts: ['{}'] }}\n  two: {{ hosts: ['{}'] }}\n\
         routes:\n  - {{ host: two.example, upstream: two }}\n  - {{ path_prefix: /one, upstream: one }}\n",
        one.address, two.address
    ))
    .await;
    let client = Asks::new();
    let mut counts = Vec::new();
    for (host, path) in [("x", "/one/1"), ("two.example:80", "/one/2"), ("x", "/other")] {
        let request = Request::get(running.uri(path)).header(HOST, host);
        let (status, _) = ask(&client, request.body(Full::default()).unwrap()).await;
        counts.push((status.as_u16(), one.requests(), two.requests()));
    }
    assert_eq!(counts, [(200, 1, 0), (200, 1, 1), (404, 1, 1)]);
}

#[tokio::test]
async fn what_is_no_longer_http_is_refused() {
    let origin = Origin::start(Speaks::Http1).await;
    let running = before(&origin, "").await;
    let client = Asks::new();
    let mut request = Request::get(running.uri("/it")).body(Full::default()).unwrap();
    request.headers_mut().insert(UPGRADE, "websocket".parse().unwrap());
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    let (status, text) = ask(&client, request).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert!(text.contains("upgrades are not passed on"), "{text}");
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"CONNECT any:80 HTTP/1.1\r\nhost: any:80\r\n\r\n").await.unwrap();
    assert!(read_message(&mut stream).await.starts_with("HTTP/1.1 501 "));
    assert_eq!(origin.requests(), 0);
}
