//! TLS: what may come on an idle connection, and what ends it.

use std::sync::Arc;

use slabpool::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::world::{self, Journal, Marker};

type Client = client::TlsStream<TcpStream>;
type Server = server::TlsStream<TcpStream>;

async fn tls() -> (Client, Server) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (near, far) = world::tcp().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::new(trusting)).connect(name, near),
        TlsAcceptor::from(Arc::new(config)).accept(far),
    );
    (client.unwrap(), server.unwrap())
}

#[test]
fn session_tickets_poison_nothing() {
    world::run(|| async {
        let (pool, mut journal) = Journal::pool(|builder| builder);
        let mut marker = Marker::new().await;
        // The tickets of TLS 1.3 follow the handshake: nobody has read them yet.
        let (client, mut server) = tls().await;
        pool.put(&1, client).unwrap();
        marker.settle().await;
        for _ in 0..3 {
            assert_eq!(pool.maintain(), 0);
            let mut lease = pool.get(&1).unwrap();
            lease.write_all(b"?").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'?');
            server.write_all(b"!").await.unwrap();
            assert_eq!(lease.read_u8().await.unwrap(), b'!');
            lease.release();
            marker.settle().await;
        }
        assert_eq!(journal.rest(), []);
        assert_eq!(pool.stats().hits, 3);
    });
}

#[test]
fn close_notify_ends_it() {
    world::run(|| async {
        let (pool, mut journal) = Journal::pool(|builder| builder);
        let mut marker = Marker::new().await;
        let (client, mut server) = tls().await;
        pool.put(&1, client).unwrap();
        marker.settle().await;
        assert_eq!(pool.maintain(), 0);
        // The socket stays open on the peer's side.
        server.get_mut().1.send_close_notify();
        server.flush().await.unwrap();
        marker.settle().await;
        assert_eq!(pool.maintain(), 1);
        assert_eq!(journal.rest(), [CloseReason::Dead]);
    });
}

#[test]
fn rubbish_and_answers_to_nothing_end_it() {
    world::run(|| async {
        let (pool, mut journal) = Journal::pool(|builder| builder);
        let mut marker = Marker::new().await;
        let (client, mut server) = tls().await;
        pool.put(&1, client).unwrap();
        server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        marker.settle().await;
        assert_eq!(pool.maintain(), 1);
        assert_eq!(journal.rest(), [CloseReason::UnexpectedData]);
        // Past rustls: not a record at all.
        let (client, mut server) = tls().await;
        pool.put(&1, client).unwrap();
        server.get_mut().0.write_all(b"not a record of TLS").await.unwrap();
        marker.settle().await;
        assert_eq!(pool.maintain(), 1);
        assert_eq!(journal.rest(), [CloseReason::Dead]);
        // The socket closed without a word.
        let (client, server) = tls().await;
        pool.put(&1, client).unwrap();
        drop(server.into_inner().0);
        marker.settle().await;
        assert_eq!(pool.maintain(), 1);
        assert_eq!(journal.rest(), [CloseReason::Dead]);
    });
}
