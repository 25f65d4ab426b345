//! Servers that fail, and requests that may be sent again, or not.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use slabpool::http::{Client, ConnectError, Repeat};
use slabpool::managed::AcquireError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::origin::{BOTH, Origin, Speaks};
use crate::support::{Asks, Raw, ask, both, client, end, fetch, get, patient, read, until};

/// A server that answers the first request on its first connection, reads one more there,
/// says this instead of an answer, and closes. So it is with all others: they say it at
/// once, unless `recovers`.
async fn dying(says: &'static str, recovers: bool) -> Raw {
    Raw::start(move |mut wire| async move {
        if wire.number == 0 && wire.request().await {
            wire.answer("").await;
        }
        while wire.request().await {
            if wire.number == 0 || !recovers {
                return wire.say(says).await;
            }
            wire.answer("").await;
        }
    })
    .await
}

/// A client with a connection of that server that is about to die.
async fn warmed(raw: &Raw, client: Asks) -> Asks {
    assert_eq!(fetch(&client, &raw.uri()).await.unwrap().text, "ok");
    until(&client, 1, 0).await;
    client
}

#[tokio::test]
async fn died_before_the_first_byte_once() {
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
        let raw = dying("", true).await;
        let client = warmed(&raw, Asks::new()).await;
        let response = client.request(ask(method, &raw.uri(), "")).await.unwrap();
        let answer = read(response).await.unwrap();
        assert!(answer.repeated && !answer.reused && answer.text == "ok", "{answer:?}");
        assert_eq!((raw.requests(), raw.accepted()), (3, 2));
        until(&client, 1, 0).await;
        end(&client).await;
    }
}

/// G.55: once, and not twice; a new connection that dies is not tried again.
#[tokio::test]
async fn died_before_the_first_byte_twice() {
    let raw = dying("", false).await;
    let client = warmed(&raw, Asks::new()).await;
    let error = fetch(&client, &raw.uri()).await.unwrap_err();
    assert!(error.was_sent() && !error.is_connect() && !error.is_timeout(), "{error}");
    assert_eq!((raw.requests(), raw.accepted()), (3, 2));
    let error = fetch(&client, &raw.uri()).await.unwrap_err();
    assert!(error.was_sent(), "{error}");
    assert_eq!((raw.requests(), raw.accepted()), (4, 3));
    until(&client, 0, 0).await;
    end(&client).await;
}

/// What has come of an answer may be the sign of what the request has done.
#[tokio::test]
async fn died_after_the_first_byte() {
    for says in ["H", "HTTP/1.1 2", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nA:"] {
        let raw = dying(says, true).await;
        let client = warmed(&raw, Asks::new()).await;
        let error = fetch(&client, &raw.uri()).await.unwrap_err();
        assert!(error.was_sent(), "{error}");
        assert_eq!((raw.requests(), raw.accepted()), (2, 1), "{says:?}");
        end(&client).await;
    }
}

#[tokio::test]
async fn what_may_not_be_sent_twice() {
    let never = |mut request: Request<_>| {
        request.extensions_mut().insert(Repeat::Never);
        request
    };
    let upgrade = |mut request: Request<_>| {
        request.headers_mut().insert("upgrade", "x".parse().unwrap());
        request
    };
    let raw = dying("", true).await;
    let uri = raw.uri();
    let bodies = || patient().repeat_bodies().build().unwrap();
    let cases: [(Request<_>, Asks); 6] = [
        (ask(Method::POST, &uri, ""), Asks::new()),
        (ask(Method::POST, &uri, "body"), bodies()),
        (ask(Method::PATCH, &uri, ""), bodies()),
        // It may be, but its body is gone.
        (ask(Method::PUT, &uri, "body"), Asks::new()),
        (never(get(&uri)), bodies()),
        (upgrade(get(&uri)), bodies()),
    ];
    for (mut request, client) in cases {
        let raw = dying("", true).await;
        *request.uri_mut() = raw.uri().parse().unwrap();
        let client = warmed(&raw, client).await;
        let error = client.request(request).await.unwrap_err();
        assert!(error.was_sent(), "{error}");
        assert_eq!((raw.requests(), raw.accepted()), (2, 1));
        until(&client, 0, 0).await;
        end(&client).await;
    }
}

#[tokio::test]
async fn what_may_after_all() {
    let allowed = |mut request: Request<_>| {
        request.extensions_mut().insert(Repeat::Allowed);
        request
    };
    let bodies = || patient().repeat_bodies().build().unwrap();
    for (mut request, client) in [
        (ask(Method::PUT, "/", "body"), bodies()),
        (allowed(ask(Method::POST, "/", "body")), bodies()),
        (allowed(ask(Method::POST, "/", "")), Asks::new()),
    ] {
        let raw = dying("", true).await;
        *request.uri_mut() = raw.uri().parse().unwrap();
        let client = warmed(&raw, client).await;
        assert!(read(client.request(request).await.unwrap()).await.unwrap().repeated);
        end(&client).await;
    }
}

/// G.48: whoever is idle is watched, and a request does not meet the end.
#[tokio::test]
async fn a_server_that_closes_what_is_idle() {
    let late = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for says in ["", late, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let raw = Raw::start(move |mut wire| async move {
            if wire.request().await {
                wire.answer("").await;
                wire.say(says).await;
            }
        })
        .await;
        let client = Asks::new();
        for request in 1..=3 {
            // Not even one that must not be sent twice.
            let response = client.request(ask(Method::POST, &raw.uri(), "")).await.unwrap();
            let answer = read(response).await.unwrap();
            assert!(answer.text == "ok" && !answer.reused && !answer.repeated, "{answer:?}");
            until(&client, 0, 0).await;
            assert_eq!((raw.requests(), raw.accepted()), (request, request));
        }
        end(&client).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let raw = Raw::start(move |mut wire| async move {
            wire.request().await;
            wire.say(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\n")).await;
        })
        .await;
        let client = Asks::new();
        let error = fetch(&client, &raw.uri()).await.unwrap_err();
        assert!(error.is_body() && error.was_sent(), "{error}");
        until(&client, 0, 0).await;
        end(&client).await;
    }
}

/// An answer that ends with its connection.
#[tokio::test]
async fn an_answer_without_a_length() {
    let raw = Raw::start(|mut wire| async move {
        wire.request().await;
        wire.say("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    })
    .await;
    let client = Asks::new();
    for connections in 1..=2 {
        assert_eq!(fetch(&client, &raw.uri()).await.unwrap().text, "all of it");
        until(&client, 0, 0).await;
        assert_eq!(raw.accepted(), connections);
    }
    end(&client).await;
}

#[tokio::test]
async fn no_answer_in_time() {
    for speaks in [Speaks::Http1, BOTH] {
        let origin = Origin::start(speaks).await;
        let client = client(&origin, |it| it.response_timeout(Duration::from_millis(50)));
        let error = fetch(&client, &origin.uri("/hold")).await.unwrap_err();
        assert!(error.is_timeout() && error.was_sent() && !error.is_connect(), "{error}");
        assert_eq!(error.to_string(), "no answer to the request within 50ms");
        // Of HTTP/2 it is a stream that ends.
        until(&client, usize::from(matches!(speaks, Speaks::Tls(_))), 0).await;
        end(&client).await;
    }
    let zero = Asks::builder().response_timeout(Duration::ZERO).build();
    assert_eq!(
        zero.unwrap_err().to_string(),
        "response_timeout is zero, which leaves no time at all"
    );
}

#[tokio::test]
async fn no_connection() {
    let cause = |error: slabpool::http::Error| {
        assert!(error.is_connect() && !error.was_sent(), "{error}");
        let Some(AcquireError::Connect(cause)) = error.as_acquire() else { panic!("{error}") };
        std::sync::Arc::clone(cause)
    };
    let origin = Origin::start(Speaks::Tls(&["http/1.1"])).await;
    // Nobody is there.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let uri = format!("http://{}/", reserved.local_addr().unwrap());
    let error = cause(fetch(&Asks::new(), &uri).await.unwrap_err());
    assert!(matches!(&*error, ConnectError::Tcp(_)), "{error}");
    let error = cause(fetch(&Asks::new(), &origin.uri("/")).await.unwrap_err());
    assert!(matches!(&*error, ConnectError::NoTls), "{error}");
    let other = Origin::start(BOTH).await;
    let error = cause(fetch(&client(&other, |it| it), &origin.uri("/")).await.unwrap_err());
    assert!(matches!(&*error, ConnectError::Tls(_)), "{error}");
    for (protocols, refused) in [(&["http/1.1"][..], false), (&[], true)] {
        let origin = Origin::start(Speaks::Tls(protocols)).await;
        let client = client(&origin, |it| it.http2_only());
        let error = cause(fetch(&client, &origin.uri("/")).await.unwrap_err());
        match &*error {
            ConnectError::NoHttp2(None) => assert!(refused),
            ConnectError::Tls(_) => assert!(!refused),
            _ => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn no_request() {
    let client = Asks::new();
    for uri in ["/", "ftp://localhost/", "*", "localhost:80"] {
        let error = client.request(get(uri)).await.unwrap_err();
        assert!(error.is_request() && !error.was_sent(), "{error}");
        assert!(error.to_string().contains(uri), "{error}");
    }
    let error = client.request(ask(Method::CONNECT, "http://localhost", "")).await.unwrap_err();
    assert!(error.is_request(), "{error}");
    assert_eq!(client.pool().status().groups, 0);
}

/// The client as others see it.
#[tokio::test]
async fn a_service() {
    use tower_service::Service;
    let (origin, mut client) = both(BOTH).await;
    std::future::poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let response = client.call(get(&origin.uri("/a"))).await.unwrap();
    assert_eq!(read(response).await.unwrap().text, "/a");
    let task = tokio::spawn((&client).call(get(&origin.uri("/b"))));
    assert_eq!(read(task.await.unwrap().unwrap()).await.unwrap().text, "/b");
    end(&client).await;
    let error = client.call(get(&origin.uri("/"))).await.unwrap_err();
    assert!(matches!(error.as_acquire(), Some(AcquireError::Closed)), "{error}");
}

/// The connection is the user's then, and the pool knows nothing of it.
#[tokio::test]
async fn an_upgrade() {
    let raw = Raw::start(|mut wire| async move {
        wire.request().await;
        wire.say(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        )
        .await;
        let mut buffer = [0; 4];
        while wire.stream.read_exact(&mut buffer).await.is_ok() {
            wire.stream.write_all(&buffer).await.unwrap();
        }
    })
    .await;
    let client = Client::<Full<bytes::Bytes>>::new();
    let request = Request::get(raw.uri()).header("connection", "upgrade");
    let request = request.header("upgrade", "echo").body(Full::default()).unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    until(&client, 0, 0).await;
    end(&client).await;
    for _ in 0..3 {
        stream.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
    }
}

/// All connections die at once, under load: nobody gets the answer of another, and what may
/// be sent again is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_under_load() {
    let raw = Raw::start(|mut wire| async move {
        // Each serves three, and dies under the fourth.
        for _ in 0..3 {
            if !wire.request().await {
                return;
            }
            wire.answer("").await;
        }
        wire.request().await;
    })
    .await;
    let client = patient().pool(|pool| pool.max_connections_per_group(8)).build().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (client, uri): (Asks, _) = (client.clone(), raw.uri());
        tasks.spawn(async move {
            for _ in 0..30 {
                let response = client.request(get(&uri)).await.unwrap();
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
            }
        });
    }
    crate::support::in_time(async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    })
    .await;
    end(&client).await;
}
