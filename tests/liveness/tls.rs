//! TLS by rustls: what may come on an idle connection, and what may not.

mod ends;

use std::sync::Arc;
use std::task::Poll;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use slabpool::{CloseMode, Connection, Liveness};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream, client, server};

use crate::sockets::{reset, tcp};
use crate::watcher::Watcher;

type Client = client::TlsStream<TcpStream>;
type Server = server::TlsStream<TcpStream>;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

const IDLE: Poll<Liveness> = Poll::Pending;
const CLOSED: Poll<Liveness> = Poll::Ready(Liveness::Closed);
const UNEXPECTED: Poll<Liveness> = Poll::Ready(Liveness::UnexpectedData);

fn configs(
    version: &'static SupportedProtocolVersion,
    tickets: usize,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()),
        )
        .unwrap();
    server.send_tls13_tickets = tickets;
    (Arc::new(client), Arc::new(server))
}

/// A connection after its handshake, which may have session tickets before it, and its
/// peer.
async fn fresh(version: &'static SupportedProtocolVersion) -> (Client, Server) {
    fresh_with(version, 2).await
}

async fn fresh_with(
    version: &'static SupportedProtocolVersion,
    tickets: usize,
) -> (Client, Server) {
    let (client_config, server_config) = configs(version, tickets);
    let (client, server) = tcp().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(client_config).connect(name, client),
        TlsAcceptor::from(server_config).accept(server)
    );
    (client.unwrap(), server.unwrap())
}

/// A connection that has carried a request and its answer, and its peer.
async fn pair(version: &'static SupportedProtocolVersion) -> (Client, Server) {
    let (mut client, mut server) = fresh(version).await;
    exchange(&mut client, &mut server).await;
    (client, server)
}

/// Each says something to the other.
async fn exchange(client: &mut Client, server: &mut Server) {
    let mut word = [0; 4];
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    send(server, b"pong").await;
    client.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"pong");
}

async fn send(server: &mut Server, bytes: &[u8]) {
    server.write_all(bytes).await.unwrap();
    server.flush().await.unwrap();
}

/// Waits for the runtime to hear of something on the socket.
async fn heard(client: &Client) {
    client.get_ref().0.ready(Interest::READABLE).await.unwrap();
}

fn flagged(client: &Client) -> bool {
    client.get_ref().0.try_io(Interest::READABLE, || Ok(())).is_ok()
}

#[tokio::test]
async fn idle() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        let watcher = Watcher::new();
        for _ in 0..3 {
            assert_eq!(client.liveness(), Liveness::Alive);
            assert_eq!(watcher.poll(&mut client), IDLE);
            tokio::task::yield_now().await;
            assert_eq!((watcher.clones(), watcher.wakes()), (1, 0));
        }
        exchange(&mut client, &mut server).await;
        assert_eq!(watcher.poll(&mut client), IDLE);
        assert_eq!(watcher.clones(), 1);
    }
}

/// The server sends its tickets when it has the client's last word, and the client has no
/// reason to read before it has asked something.
#[tokio::test]
async fn session_tickets_are_no_data() {
    for look_first in [true, false] {
        let (mut client, mut server) = fresh(&TLS13).await;
        heard(&client).await;
        if look_first {
            assert_eq!(client.liveness(), Liveness::Alive);
            assert!(!flagged(&client), "they were taken in");
        }
        let watcher = Watcher::new();
        for _ in 0..5 {
            assert_eq!(watcher.poll(&mut client), IDLE);
            assert!(!flagged(&client));
            tokio::task::yield_now().await;
        }
        assert_eq!((watcher.clones(), watcher.wakes()), (1, 0));
        exchange(&mut client, &mut server).await;
    }
}

/// More than one look takes in.
#[tokio::test]
async fn many_tickets_are_no_data() {
    let (mut client, mut server) = fresh_with(&TLS13, 300).await;
    // Behind the tickets, so that whoever gets this far has taken in all of them.
    send(&mut server, b"!").await;
    let watcher = Watcher::new();
    heard(&client).await;
    assert_eq!(client.liveness(), Liveness::Alive, "tickets still");
    loop {
        match watcher.poll(&mut client) {
            Poll::Pending => {
                assert_eq!(watcher.clones(), 1);
                watcher.woken().await;
            }
            Poll::Ready(Liveness::Alive) => {}
            verdict => break assert_eq!(verdict, UNEXPECTED),
        }
    }
}

/// rustls has a limit, and it is an end.
#[tokio::test]
async fn new_keys_without_end_are_an_end() {
    let (mut client, mut server) = pair(&TLS13).await;
    for _ in 0..100 {
        server.get_mut().1.refresh_traffic_keys().unwrap();
        server.flush().await.unwrap();
    }
    heard(&client).await;
    assert_eq!(client.liveness(), Liveness::Closed);
    assert_eq!(Watcher::new().poll(&mut client), CLOSED);
}

#[tokio::test]
async fn plaintext_is_unexpected() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        send(&mut server, b"!").await;
        watcher.woken().await;
        assert_eq!(watcher.poll(&mut client), UNEXPECTED);
        assert_eq!(client.liveness(), Liveness::UnexpectedData, "it is still there");

        let (mut client, mut server) = pair(version).await;
        send(&mut server, b"!").await;
        heard(&client).await;
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
    }
}

/// The socket knows nothing of it.
#[tokio::test]
async fn plaintext_that_was_not_read_is_unexpected() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        send(&mut server, b"one more").await;
        client.read_exact(&mut [0; 3]).await.unwrap();
        // Nothing new on the socket; and this takes the flag, if there is one.
        assert!(client.get_ref().0.try_read(&mut [0]).is_err());
        assert!(!flagged(&client));
        let watcher = Watcher::new();
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
        assert_eq!(watcher.poll(&mut client), UNEXPECTED);
        client.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(client.liveness(), Liveness::Alive);
        assert_eq!(watcher.poll(&mut client), IDLE);
    }
}

#[tokio::test]
async fn plaintext_then_an_end_is_unexpected() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        send(&mut server, b"HTTP/1.1 408 Request Timeout\r\n\r\n").await;
        server.shutdown().await.unwrap();
        drop(server);
        heard(&client).await;
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
        assert_eq!(Watcher::new().poll(&mut client), UNEXPECTED);
    }
}

/// The socket stays open.
#[tokio::test]
async fn a_goodbye_is_an_end() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        server.get_mut().1.send_close_notify();
        server.flush().await.unwrap();
        watcher.woken().await;
        assert_eq!(watcher.poll(&mut client), CLOSED);
        assert_eq!(client.liveness(), Liveness::Closed);
        // Found again, by who has not seen it come.
        assert_eq!(Watcher::new().poll(&mut client), CLOSED);
    }
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_an_end() {
    for version in VERSIONS {
        for crash in [false, true] {
            let (mut client, server) = pair(version).await;
            let watcher = Watcher::new();
            assert_eq!(watcher.poll(&mut client), IDLE);
            let (socket, _) = server.into_inner();
            if crash {
                reset(socket)
            } else {
                drop(socket)
            }
            watcher.woken().await;
            assert_eq!(watcher.poll(&mut client), CLOSED);
            assert_eq!(client.liveness(), Liveness::Closed);
        }
    }
}

#[tokio::test]
async fn a_fatal_alert_is_an_end() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        // The server cannot decrypt this, and says so.
        let forged = [23, 3, 3, 0, 32];
        let socket = client.get_mut().0;
        socket.write_all(&forged).await.unwrap();
        socket.write_all(&[0; 32]).await.unwrap();
        server.read(&mut [0]).await.unwrap_err();
        watcher.woken().await;
        assert_eq!(watcher.poll(&mut client), CLOSED);
        assert_eq!(client.liveness(), Liveness::Closed);
    }
}

#[tokio::test]
async fn what_is_not_tls_is_an_end() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        server.get_mut().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        heard(&client).await;
        assert_eq!(client.liveness(), Liveness::Closed);
        assert_eq!(Watcher::new().poll(&mut client), CLOSED);
        // The peer is told.
        client.prepare_close(CloseMode::Graceful);
        drop(client);
        server.read(&mut [0]).await.unwrap_err();
    }
}

/// What is to be made of it is known when the rest is there.
#[tokio::test]
async fn half_a_record_is_no_verdict() {
    let (mut client, mut server) = pair(&TLS13).await;
    let mut record = Vec::new();
    std::io::Write::write_all(&mut server.get_mut().1.writer(), b"unasked").unwrap();
    server.get_mut().1.write_tls(&mut record).unwrap();
    let (head, tail) = record.split_at(record.len() / 2);
    let watcher = Watcher::new();
    assert_eq!(watcher.poll(&mut client), IDLE);
    server.get_mut().0.write_all(head).await.unwrap();
    watcher.woken().await;
    assert_eq!(watcher.poll(&mut client), IDLE);
    assert_eq!(client.liveness(), Liveness::Alive);
    assert_eq!(watcher.clones(), 1);
    server.get_mut().0.write_all(tail).await.unwrap();
    watcher.woken().await;
    assert_eq!(watcher.poll(&mut client), UNEXPECTED);
}

#[tokio::test]
async fn new_keys_are_no_data() {
    let (mut client, mut server) = pair(&TLS13).await;
    let watcher = Watcher::new();
    for round in 1..=3 {
        assert_eq!(watcher.poll(&mut client), IDLE);
        server.get_mut().1.refresh_traffic_keys().unwrap();
        server.flush().await.unwrap();
        watcher.woken().await;
        assert_eq!(client.liveness(), Liveness::Alive);
        assert_eq!(watcher.poll(&mut client), IDLE);
        assert_eq!((watcher.clones(), watcher.wakes()), (1, round));
        exchange(&mut client, &mut server).await;
    }
}
