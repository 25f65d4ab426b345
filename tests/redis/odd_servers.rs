//! Servers that the tests play themselves, byte by byte: connections that die at every
//! point of an exchange.

use std::net::Ipv4Addr;
use std::time::Duration;

use slabpool::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::{encoded, simple, text};
use crate::proxy::Settings;
use crate::support::{PATIENCE, Setup, eventually, patient, refusal};

/// A server that is played.
struct Server(TcpListener);

impl Server {
    async fn with_proxy(change: impl FnOnce(&mut Settings)) -> (Self, Setup) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut settings = patient(listener.local_addr().unwrap());
        change(&mut settings);
        (Self(listener), Setup::start(settings).await)
    }

    /// The next connection, whose ping is answered.
    async fn accept(&self) -> TcpStream {
        let accepted = timeout(PATIENCE, self.0.accept()).await.expect("nobody connects");
        let mut stream = accepted.unwrap().0;
        hear(&mut stream, &["PING"]).await;
        stream.write_all(b"+PONG\r\n").await.unwrap();
        stream
    }

    fn nobody_connects(&self) -> bool {
        use std::future::Future;
        use std::task::{Context, Waker};
        std::pin::pin!(self.0.accept()).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

/// Reads this command.
async fn hear(stream: &mut TcpStream, command: &[&str]) {
    let mut heard = vec![0; encoded(command).unwrap().len()];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.expect("nothing comes").unwrap();
    assert_eq!(heard, encoded(command).unwrap(), "{}", String::from_utf8_lossy(&heard));
}

/// The proxy closes it.
async fn hear_end(stream: &mut TcpStream) {
    let heard = timeout(PATIENCE, stream.read(&mut [0])).await.expect("nothing comes");
    assert_eq!(heard.unwrap_or(0), 0);
}

const GET: &[&str] = &["GET", "key"];
const INCR: &[&str] = &["INCR", "key"];

#[tokio::test]
async fn what_reads_is_repeated_once_if_its_connection_was_dead() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    for (command, answer) in [(GET, "$1\r\na\r\n"), (&["MULTI"], "+OK\r\n")] {
        let playing = async {
            let mut stream = server.accept().await;
            hear(&mut stream, GET).await;
            stream.write_all(b"$1\r\na\r\n").await.unwrap();
            hear(&mut stream, command).await;
            drop(stream);
            let mut stream = server.accept().await;
            hear(&mut stream, command).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let asking = async {
            let mut client = setup.client().await;
            assert_eq!(client.ask(GET).await.unwrap(), text("a"));
            let right = if command == GET { text("a") } else { simple("OK") };
            assert_eq!(client.ask(command).await.unwrap(), right);
            client
        };
        let (stream, client) = tokio::join!(playing, asking);
        drop((stream, client));
        setup.proxy.pool().clear();
        eventually(|| setup.group() == (0, 0, 0, 0)).await;
    }
    assert_eq!((setup.proxy.tally().retries.get(), setup.proxy.tally().errors.get()), (2, 0));
    assert_eq!(setup.proxy.pool().stats().pool.closes[CloseReason::Dead], 2);
    setup.end().await;
}

/// Others that were idle as long are dead as well: they are asked before the repetition.
#[tokio::test]
async fn it_is_repeated_on_a_connection_that_is_there() {
    let (server, setup) = Server::with_proxy(|settings| settings.max_connections = 2).await;
    let (mut one, mut other) = (setup.client().await, setup.client().await);
    let (mut first, mut second) = {
        one.send(&[GET]).await.unwrap();
        let mut first = server.accept().await;
        hear(&mut first, GET).await;
        other.send(&[GET]).await.unwrap();
        let mut second = server.accept().await;
        hear(&mut second, GET).await;
        (first, second)
    };
    first.write_all(b"$1\r\na\r\n").await.unwrap();
    assert_eq!(one.answer().await.unwrap(), text("a"));
    second.write_all(b"$1\r\na\r\n").await.unwrap();
    assert_eq!(other.answer().await.unwrap(), text("a"));
    assert_eq!(setup.group(), (2, 0, 0, 0));
    // The one that was released last is asked first. It is dead when something is written
    // to it, and not sooner; so is the other one.
    one.send(&[GET]).await.unwrap();
    let (mut asked, mut pinged) = (second, first);
    hear(&mut asked, GET).await;
    drop(asked);
    hear(&mut pinged, &["PING"]).await;
    drop(pinged);
    let mut third = server.accept().await;
    hear(&mut third, GET).await;
    third.write_all(b"$1\r\nb\r\n").await.unwrap();
    assert_eq!(one.answer().await.unwrap(), text("b"));
    assert_eq!((setup.connects(), setup.proxy.tally().retries.get()), (3, 1));
    setup.end().await;
}

#[tokio::test]
async fn what_writes_is_not_repeated() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    let mut client = setup.client().await;
    client.send(&[GET]).await.unwrap();
    let mut stream = server.accept().await;
    hear(&mut stream, GET).await;
    stream.write_all(b"$1\r\na\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap(), text("a"));
    client.send(&[INCR]).await.unwrap();
    hear(&mut stream, INCR).await;
    drop(stream);
    assert!(refusal(&client.answer().await.unwrap()).contains("closed"));
    assert!(server.nobody_connects());
    assert_eq!((setup.proxy.tally().retries.get(), setup.group()), (0, (0, 0, 0, 0)));
    setup.end().await;
}

/// Whoever comes after the end is known does not notice it, whatever it does.
#[tokio::test]
async fn a_connection_that_is_known_to_be_dead_is_not_used() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    let mut client = setup.client().await;
    for _ in 0..3 {
        client.send(&[INCR]).await.unwrap();
        let mut stream = server.accept().await;
        hear(&mut stream, INCR).await;
        stream.write_all(b":1\r\n").await.unwrap();
        client.answer().await.unwrap();
        drop(stream);
        let address = server.0.local_addr().unwrap();
        eventually(|| match setup.proxy.pool().try_acquire(&address) {
            Some(lease) => {
                lease.release();
                false
            }
            None => true,
        })
        .await;
    }
    assert_eq!((setup.proxy.tally().retries.get(), setup.connects()), (0, 3));
    setup.end().await;
}

#[tokio::test]
async fn half_an_answer_is_none_and_ends_the_connection() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    let mut client = setup.client().await;
    client.send(&[GET]).await.unwrap();
    let mut stream = server.accept().await;
    hear(&mut stream, GET).await;
    stream.write_all(b"$1\r\na\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap(), text("a"));
    client.send(&[GET, GET, GET]).await.unwrap();
    for _ in 0..3 {
        hear(&mut stream, GET).await;
    }
    stream.write_all(b"$1\r\nb\r\n$5\r\nhal").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.unwrap(), text("b"));
    for _ in 0..2 {
        assert!(refusal(&client.answer().await.unwrap()).contains("closed the connection"));
    }
    hear_end(&mut stream).await;
    assert!(server.nobody_connects());
    assert_eq!((setup.proxy.tally().errors.get(), setup.proxy.tally().retries.get()), (2, 0));
    setup.end().await;
}

/// Not even what only reads is repeated then: the server was there, and has failed.
#[tokio::test]
async fn half_of_the_first_answer() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    let mut client = setup.client().await;
    client.send(&[GET]).await.unwrap();
    let mut stream = server.accept().await;
    hear(&mut stream, GET).await;
    stream.write_all(b"$1\r\na\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap(), text("a"));
    client.send(&[GET]).await.unwrap();
    hear(&mut stream, GET).await;
    stream.write_all(b"$5\r\nhal").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(refusal(&client.answer().await.unwrap()).contains("closed the connection"));
    assert!(server.nobody_connects());
    assert_eq!(setup.proxy.tally().retries.get(), 0);
    setup.end().await;
}

/// A server that answers before it has heard all: the rest of the command is still to be
/// sent, so nobody else may have the connection.
#[tokio::test]
async fn an_answer_to_half_a_command() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    // More than all the buffers on the way hold.
    let large = "x".repeat(32 * 1024 * 1024);
    let playing = async {
        let mut stream = server.accept().await;
        stream.write_all(b"-ERR too large\r\n").await.unwrap();
        let mut next = server.accept().await;
        hear(&mut next, INCR).await;
        next.write_all(b":1\r\n").await.unwrap();
        (stream, next)
    };
    let asking = async {
        let mut client = setup.client().await;
        let answer = client.ask(&["SET", "key", &large]).await.unwrap();
        assert!(refusal(&answer).contains("\"-ERR too large\""), "{answer:?}");
        client.ask(INCR).await.unwrap()
    };
    let (_streams, answer) = tokio::join!(playing, asking);
    assert_eq!(answer, redis_protocol::resp2::types::OwnedFrame::Integer(1));
    setup.end().await;
}

#[tokio::test]
async fn an_answer_too_many_ends_the_connection() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    let mut client = setup.client().await;
    for extra in ["+MORE\r\n", "+", "rubbish"] {
        client.send(&[GET]).await.unwrap();
        let mut stream = server.accept().await;
        hear(&mut stream, GET).await;
        stream.write_all(format!("$1\r\na\r\n{extra}").as_bytes()).await.unwrap();
        assert_eq!(client.answer().await.unwrap(), text("a"));
        hear_end(&mut stream).await;
    }
    client.send(&[GET]).await.unwrap();
    let mut stream = server.accept().await;
    hear(&mut stream, GET).await;
    stream.write_all(b"rubbish\r\n").await.unwrap();
    assert!(refusal(&client.answer().await.unwrap()).contains("protocol error"));
    hear_end(&mut stream).await;
    // Not by the pool's own probe: it never got them back.
    assert_eq!(
        (setup.connects(), setup.proxy.pool().stats().pool.closes[CloseReason::Unhealthy]),
        (4, 4)
    );
    setup.end().await;
}

/// A server that takes its time: the connection goes, since the answer may still come.
#[tokio::test]
async fn no_answer_in_time() {
    let limit = Duration::from_millis(30);
    let (server, setup) = Server::with_proxy(|settings| settings.answer_timeout = limit).await;
    let mut client = setup.client().await;
    client.send(&[GET, INCR]).await.unwrap();
    let mut first = server.accept().await;
    hear(&mut first, GET).await;
    assert!(refusal(&client.answer().await.unwrap()).contains("no answer within 30ms"));
    hear_end(&mut first).await;
    let mut second = server.accept().await;
    hear(&mut second, INCR).await;
    hear_end(&mut second).await;
    refusal(&client.answer().await.unwrap());
    setup.end().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing() {
    let limit = Duration::from_millis(30);
    let (_server, setup) = Server::with_proxy(|settings| settings.connect_timeout = limit).await;
    let mut client = setup.client().await;
    for _ in 0..2 {
        let answer = client.ask(GET).await.unwrap();
        assert!(refusal(&answer).contains("could not connect within 30ms"), "{answer:?}");
    }
    assert_eq!(setup.group(), (0, 0, 0, 0));
    setup.end().await;
}

/// One that was idle for long is asked first.
#[tokio::test]
async fn a_connection_is_checked() {
    let (server, setup) =
        Server::with_proxy(|settings| settings.check_after = Duration::ZERO).await;
    let mut client = setup.client().await;
    client.send(&[INCR]).await.unwrap();
    let mut stream = server.accept().await;
    hear(&mut stream, INCR).await;
    stream.write_all(b":1\r\n").await.unwrap();
    client.answer().await.unwrap();
    client.send(&[INCR]).await.unwrap();
    hear(&mut stream, &["PING"]).await;
    stream.write_all(b"+PONG\r\n").await.unwrap();
    hear(&mut stream, INCR).await;
    stream.write_all(b":2\r\n").await.unwrap();
    client.answer().await.unwrap();
    assert_eq!((setup.proxy.tally().checks.get(), setup.connects()), (1, 1));
    setup.end().await;
}

/// If it does not answer, another one is opened, and nothing was sent on the first.
#[tokio::test]
async fn a_connection_that_hangs_fails_its_check() {
    let (server, setup) = Server::with_proxy(|settings| {
        settings.check_after = Duration::ZERO;
        settings.ping_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = setup.client().await;
    client.send(&[INCR]).await.unwrap();
    let mut stream = server.accept().await;
    hear(&mut stream, INCR).await;
    stream.write_all(b":1\r\n").await.unwrap();
    client.answer().await.unwrap();
    client.send(&[INCR]).await.unwrap();
    hear(&mut stream, &["PING"]).await;
    let mut other = server.accept().await;
    hear_end(&mut stream).await;
    hear(&mut other, INCR).await;
    other.write_all(b":2\r\n").await.unwrap();
    client.answer().await.unwrap();
    assert_eq!((setup.proxy.tally().checks.get(), setup.proxy.tally().retries.get()), (1, 0));
    setup.end().await;
}

/// What a server says before it was asked is quoted, not taken for an answer.
#[tokio::test]
async fn a_server_that_speaks_first() {
    let (server, setup) = Server::with_proxy(|_| {}).await;
    let mut client = setup.client().await;
    let playing = async {
        let (mut stream, _) = server.0.accept().await.unwrap();
        stream.write_all(b"-ERR no room\r\n").await.unwrap();
        drop(stream);
    };
    let (answer, ()) = tokio::join!(client.ask(INCR), playing);
    assert!(refusal(&answer.unwrap()).contains("\"-ERR no room\""));
    assert_eq!(setup.group(), (0, 0, 0, 0));
    setup.end().await;
}
