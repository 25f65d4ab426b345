//! Servers that are cut, hang, or are not who they should be.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use slabpool::managed::AcquireError;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::rustls::{self, CertificateError};

use crate::client::{Client, ConnectError, Failure, PATIENCE};
use crate::origin::{Identity, Origin, reserve};
use crate::setup;

/// The cause of a failed connect; else panics.
#[track_caller]
fn cause(failure: Failure) -> Arc<ConnectError> {
    match failure {
        Failure::Acquire(AcquireError::Connect(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

/// The server is cut under load, and starts anew: what was under way fails and says so,
/// nobody hangs, and then all is as it was.
#[tokio::test]
async fn a_server_that_is_cut_and_comes_back() {
    let identity = Identity::new("localhost");
    let mut origin = Origin::start(&identity);
    let address = origin.address;
    let client = Arc::new(Client::new(address, &identity, "localhost", |pool| {
        pool.max_connections_per_group(8)
    }));
    let load = client.load(64);
    for times in 1..=3 {
        load.until(load.answers() + 200).await;
        let port = origin.kill().await;
        // Each task has failed at least once, or waits for the server in a connect.
        load.until_failures(times * 64).await;
        origin = Origin::start_at(port, &identity, &["h2"]);
        load.until(load.answers() + 200).await;
    }
    for failure in load.stop().await {
        match failure {
            Failure::Request(error) => assert!(!error.is_user() && !error.is_parse(), "{error}"),
            other => match &*cause(other) {
                ConnectError::Tcp(_) | ConnectError::Tls(_) | ConnectError::Http(_) => {}
                other => panic!("{other}"),
            },
        }
    }
    assert!(client.connects() <= 4 * 8, "{} at most eight each time", client.connects());
    client.end(&origin).await;
}

/// What is held is told at once that the server was cut; who waits, that it is not there.
#[tokio::test]
async fn requests_under_way_when_the_server_is_cut() {
    let (origin, client) = setup(2).await;
    let held = [client.hold().await, client.hold().await];
    origin.until_holding(2).await;
    let waiting = client.hold().await;
    client.until(|status| status.waiting == 1).await;
    let _port = origin.kill().await;
    for task in held {
        // A new connection: the failure is its own.
        match task.await.unwrap() {
            Err(Failure::Request(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let cause = cause(waiting.await.unwrap().unwrap_err());
    assert!(matches!(&*cause, ConnectError::Tcp(_)), "{cause}");
    let status = client.pool.status();
    assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0), "{status:?}");
}

/// TLS that hangs in its handshake, with a hundred callers: all are told, and the socket is
/// closed.
#[tokio::test]
async fn a_handshake_that_hangs() {
    let limit = Duration::from_millis(50);
    let identity = Identity::new("localhost");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Arc::new(Client::new(address, &identity, "localhost", |pool| {
        pool.max_connecting_per_group(1).connect_timeout(limit)
    }));
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let client = Arc::clone(&client);
        tasks.spawn(async move { client.ask("/").await });
    }
    while let Some(outcome) = tasks.join_next().await {
        match outcome.unwrap() {
            Err(Failure::Acquire(AcquireError::ConnectTimeout { connect_timeout })) => {
                assert_eq!(connect_timeout, limit);
            }
            other => panic!("{other:?}"),
        }
    }
    let status = client.pool.status();
    let left = (status.idle, status.leased, status.connecting, status.waiting, status.groups);
    assert_eq!(left, (0, 0, 0, 0, 0), "{status:?}");
    assert_eq!(client.connects(), 0);
    // It has greeted us, and gone.
    let mut stream = listener.accept().await.unwrap().0;
    let mut heard = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is still open");
    assert!(end.is_err() || !heard.is_empty());
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts() {
    let (server, trusted) = (Identity::new("localhost"), Identity::new("localhost"));
    let origin = Origin::start(&server);
    let client = Client::new(origin.address, &trusted, "localhost", |pool| pool);
    let cause = cause(client.ask("/").await.unwrap_err());
    let error = tls_error(&cause);
    let rustls::Error::InvalidCertificate(reason) = error else { panic!("{error}") };
    assert!(
        matches!(reason, CertificateError::UnknownIssuer | CertificateError::BadSignature),
        "{reason:?}"
    );
    client.end(&origin).await;
}

#[tokio::test]
async fn a_certificate_for_somebody_else() {
    let identity = Identity::new("localhost");
    let origin = Origin::start(&identity);
    let client = Client::new(origin.address, &identity, "example.com", |pool| pool);
    let cause = cause(client.ask("/").await.unwrap_err());
    let error = tls_error(&cause);
    let rustls::Error::InvalidCertificate(reason) = error else { panic!("{error}") };
    assert!(matches!(reason, CertificateError::NotValidForNameContext { .. }), "{reason:?}");
    client.end(&origin).await;
}

/// A server that speaks TLS, and no HTTP/2.
#[tokio::test]
async fn no_http2() {
    let identity = Identity::new("localhost");
    for protocols in [["http/1.1"].as_slice(), &[]] {
        let origin = Origin::start_at(reserve(), &identity, protocols);
        let client = Client::new(origin.address, &identity, "localhost", |pool| pool);
        let cause = cause(client.ask("/").await.unwrap_err());
        if protocols.is_empty() {
            assert!(matches!(&*cause, ConnectError::Protocol(None)), "{cause}");
        } else {
            let says = rustls::AlertDescription::NoApplicationProtocol;
            let error = tls_error(&cause);
            assert!(
                matches!(error, rustls::Error::AlertReceived(what) if *what == says),
                "{error}"
            );
        }
        client.end(&origin).await;
    }
}

/// What is behind the error that a caller gets, as far as rustls.
#[track_caller]
fn tls_error(cause: &ConnectError) -> &rustls::Error {
    let io = cause.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    io.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap_or_else(|| panic!("{io}"))
}
