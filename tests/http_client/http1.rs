//! HTTP/1: one request at a time on a connection, which is idle again when it is clean.

use std::num::NonZeroU32;

use bytes::Bytes;
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use hyper::body::Frame;
use hyper::{Method, Request};
use slabpool::http::{Client, FreshOnly, TlsName};
use tokio::task::JoinSet;

use crate::origin::{BOTH, Origin, PATIENCE, Speaks};
use crate::support::{Raw, ask, both, client, end, fetch, get, in_time, read, until};

const TLS: Speaks = Speaks::Tls(&["http/1.1"]);

#[tokio::test]
async fn one_connection_for_one_after_the_other() {
    for speaks in [Speaks::Http1, TLS, Speaks::Tls(&[])] {
        let (origin, client) = both(speaks).await;
        for request in 0..10 {
            let path = format!("/{request}");
            let answer = fetch(&client, &origin.uri(&path)).await.unwrap();
            assert_eq!((answer.text, answer.connection), (path, 0));
            assert!(answer.reused == (request > 0) && !answer.repeated);
            until(&client, 1, 0).await;
        }
        assert_eq!(origin.accepted(), 1, "{speaks:?}");
        end(&client).await;
        origin.until_open(0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_a_time_on_few_connections() {
    for speaks in [Speaks::Http1, TLS] {
        let origin = Origin::start(speaks).await;
        let limited = |it: slabpool::http::Builder<Full<Bytes>>| {
            it.pool(|pool| pool.max_connections_per_group(8))
        };
        let client = client(&origin, limited);
        let mut tasks = JoinSet::new();
        for task in 0..64 {
            let (client, uri) = (client.clone(), origin.uri("/echo"));
            tasks.spawn(async move {
                for request in 0..20 {
                    let text = format!("{task} {request}");
                    let body = Full::from(text.clone());
                    let request = Request::post(&uri).body(body).unwrap();
                    let response = client.request(request).await.unwrap();
                    assert_eq!(read(response).await.unwrap().text, text);
                }
            });
        }
        in_time(async {
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap()
            }
        })
        .await;
        assert!((1..=8).contains(&origin.accepted()), "{}", origin.accepted());
        assert_eq!(origin.requests(), 64 * 20);
        until(&client, origin.accepted(), 0).await;
        end(&client).await;
    }
}

/// 64 that are under way at the same time have 64 connections, and no more.
#[tokio::test]
async fn as_many_connections_as_requests_under_way() {
    for speaks in [Speaks::Http1, TLS] {
        let (origin, client) = both(speaks).await;
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let (client, uri) = (client.clone(), origin.uri("/hold"));
            tasks.spawn(async move { fetch(&client, &uri).await.unwrap().connection });
        }
        origin.until_holding(64).await;
        assert_eq!(origin.accepted(), 64);
        origin.open_gate(64);
        let mut connections = tasks.join_all().await;
        connections.sort_unstable();
        assert_eq!(connections, (0..64).collect::<Vec<_>>());
        until(&client, 64, 0).await;
        end(&client).await;
    }
}

/// G.51: not before the last of it was read.
#[tokio::test]
async fn the_connection_returns_when_the_body_ends() {
    let (origin, client) = both(Speaks::Http1).await;
    let mut request = get(&origin.uri("/halves"));
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let mut body = client.request(request).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "one");
    until(&client, 0, 1).await;
    let other = fetch(&client, &origin.uri("/")).await.unwrap();
    assert_eq!(other.connection, 1);
    until(&client, 1, 1).await;
    origin.open_gate(1);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    assert!(!body.is_returned(), "trailers are still to come");
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert!(body.frame().await.is_none() && body.is_returned());
    until(&client, 2, 0).await;
    assert_eq!(fetch(&client, &origin.uri("/")).await.unwrap().connection, 0);
    end(&client).await;
}

/// Whoever knows the length does not ask whether there is more.
#[tokio::test]
async fn the_last_byte_is_the_end() {
    let (origin, client) = both(Speaks::Http1).await;
    let mut body = client.request(get(&origin.uri("/some"))).await.unwrap().into_body();
    assert!(!body.is_returned());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "/some");
    assert!(body.is_returned());
    until(&client, 1, 0).await;
    // Nothing to read at all: the body is not even looked at.
    let uri = origin.uri("/empty");
    for request in [get(&uri), ask(Method::HEAD, &origin.uri("/large"), "")] {
        let response = client.request(request).await.unwrap();
        assert!(response.body().is_returned());
        until(&client, 1, 0).await;
    }
    drop(body);
    assert_eq!(origin.accepted(), 1);
    end(&client).await;
}

/// F.52: the rest of an answer is not the next one's.
#[tokio::test]
async fn a_body_dropped_half_read_closes_its_connection() {
    for speaks in [Speaks::Http1, TLS] {
        let origin = Origin::start(speaks).await;
        // Whatever the pool was told of leases that are dropped.
        let client =
            client(&origin, |it| it.pool(|pool| pool.settings(|pool| pool.release_on_drop(true))));
        for round in 0..3 {
            let mut body = client.request(get(&origin.uri("/large"))).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            drop(body);
            until(&client, 0, 0).await;
            origin.until_open(0).await;
            // One that nobody has begun to read.
            drop(client.request(get(&origin.uri("/halves"))).await.unwrap());
            origin.until_open(0).await;
            assert_eq!(origin.accepted(), 2 * (round + 1));
        }
        end(&client).await;
    }
}

#[tokio::test]
async fn whoever_goes_away_closes_its_connection() {
    let (origin, client) = both(Speaks::Http1).await;
    let (asks, uri) = (client.clone(), origin.uri("/hold"));
    let task = tokio::spawn(async move { fetch(&asks, &uri).await });
    origin.until_holding(1).await;
    task.abort();
    until(&client, 0, 0).await;
    origin.until_open(0).await;
    assert_eq!(fetch(&client, &origin.uri("/")).await.unwrap().connection, 1);
    end(&client).await;
}

/// An answer that comes before the request was sent: the connection is not clean.
#[tokio::test]
async fn an_answer_that_is_early() {
    let origin = Origin::start(Speaks::Http1).await;
    let client = Client::<BoxBody<Bytes, std::convert::Infallible>>::new();
    let (mut sender, body) = Channel::<Bytes>::new(1);
    sender.send(Frame::data(Bytes::from_static(b"begun"))).await.unwrap();
    let request = Request::post(origin.uri("/early")).body(body.boxed()).unwrap();
    let response = client.request(request).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "/early");
    // It is for nobody else until all is sent, and then for the next one, or closed.
    assert_eq!(client.pool().status().idle, 0);
    drop(sender);
    assert!(client.pool().drain(PATIENCE).await.is_complete());
}

#[tokio::test]
async fn fresh_only() {
    for speaks in [Speaks::Http1, TLS, BOTH] {
        let (origin, client) = both(speaks).await;
        assert_eq!(fetch(&client, &origin.uri("/")).await.unwrap().connection, 0);
        for number in 1..=3 {
            let mut request = get(&origin.uri("/"));
            request.extensions_mut().insert(FreshOnly);
            let answer = read(client.request(request).await.unwrap()).await.unwrap();
            assert!(answer.connection == number && !answer.reused, "{answer:?}");
        }
        until(&client, 4, 0).await;
        assert!(fetch(&client, &origin.uri("/")).await.unwrap().reused);
        assert_eq!(origin.accepted(), 4);
        end(&client).await;
    }
}

#[tokio::test]
async fn what_the_server_is_asked() {
    let (origin, client) = both(Speaks::Http1).await;
    let port = origin.address.port();
    let uri = format!("http://user:secret@LOCALHOST:{port}/asked?x=1#part");
    let answer = fetch(&client, &uri).await.unwrap();
    assert_eq!(answer.text, format!("HTTP/1.1 /asked?x=1 Some(\"LOCALHOST:{port}\")"));
    let mut request = get(&origin.uri("/asked"));
    request.headers_mut().insert("host", "other".parse().unwrap());
    let answer = read(client.request(request).await.unwrap()).await.unwrap();
    assert_eq!(answer.text, "HTTP/1.1 /asked Some(\"other\")");
    // The same peer, whatever the target says besides.
    assert_eq!(origin.accepted(), 1);
    end(&client).await;
    let (origin, client) = both(BOTH).await;
    let answer = fetch(&client, &origin.uri("/asked?x=1")).await.unwrap();
    assert_eq!(answer.text, format!("HTTP/2.0 {} None", origin.uri("/asked?x=1")));
    let port = origin.address.port();
    let uri = format!("https://user:secret@localhost:{port}/asked");
    let answer = fetch(&client, &uri).await.unwrap();
    assert_eq!(answer.text, format!("HTTP/2.0 {} None", origin.uri("/asked")));
    end(&client).await;
}

/// A name for TLS that is not the target's host is another key.
#[tokio::test]
async fn another_name_for_tls() {
    let (origin, client) = both(BOTH).await;
    let uri = format!("https://127.0.0.1:{}/", origin.address.port());
    let error = fetch(&client, &uri).await.unwrap_err();
    assert!(error.is_connect() && !error.was_sent(), "{error}");
    let mut request = get(&uri);
    request.extensions_mut().insert(TlsName("localhost".into()));
    let response = client.request(request).await.unwrap();
    read(response).await.unwrap();
    let error = fetch(&client, &uri).await.unwrap_err();
    assert!(error.is_connect(), "{error}");
    end(&client).await;
}

/// `Keep-Alive` says how long, and how often.
#[tokio::test]
async fn keep_alive_is_honoured() {
    let clock = slabpool::Clock::manual();
    for (says, reused_at_once, reused_later) in [
        ("", true, true),
        ("Keep-Alive: timeout=5\r\n", true, false),
        ("Keep-Alive: timeout=1\r\n", false, false),
        // Each answer says it anew.
        ("Keep-Alive: timeout=60, max=1\r\n", true, true),
        ("Keep-Alive: timeout=60\r\nKeep-Alive: timeout=3\r\n", true, false),
        ("Keep-Alive: max=0\r\n", false, false),
        ("Connection: close\r\n", false, false),
    ] {
        let raw = Raw::start(move |mut wire| async move {
            while wire.request().await {
                wire.answer(says).await;
            }
        })
        .await;
        let of_pool = clock.clone();
        let client = crate::support::patient()
            .http2_max_streams(NonZeroU32::MIN)
            .pool(|pool| pool.settings(|pool| pool.clock(of_pool).spawn_reaper(false)))
            .build()
            .unwrap();
        assert!(!fetch(&client, &raw.uri()).await.unwrap().reused);
        eventually_unleased(&client).await;
        let reused = fetch(&client, &raw.uri()).await.unwrap().reused;
        assert_eq!(reused, reused_at_once, "{says}");
        eventually_unleased(&client).await;
        clock.advance(std::time::Duration::from_secs(4));
        let reused = fetch(&client, &raw.uri()).await.unwrap().reused;
        assert_eq!(reused, reused_later, "{says}");
        assert_eq!(raw.requests(), 3);
        end(&client).await;
    }
}

async fn eventually_unleased(client: &crate::support::Asks) {
    crate::origin::eventually(|| client.pool().status().leased == 0).await;
}
