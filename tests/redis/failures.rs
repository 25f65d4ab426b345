//! A server that cuts connections, ends, starts anew, or turns us away.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis_protocol::resp2::types::OwnedFrame;
use slabpool::managed::AcquireError;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, simple, text};
use crate::redis::reserve;
use crate::support::{Setup, eventually, patient, real, refusal, until_info};

const CLIENTS: usize = 64;
const CONNECTIONS: usize = 8;

/// What clients under load see.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    right: AtomicU64,
    errors: AtomicU64,
    /// How many clients have seen what they are waited for.
    seen: AtomicU64,
    /// Whether the server is known to be there.
    up: AtomicBool,
    errors_when_up: AtomicU64,
}

impl Load {
    fn start(setup: &Setup, load: &Arc<Self>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (load, address) = (Arc::clone(load), setup.address);
            clients.spawn(async move { load.client(address, number).await });
        }
        clients
    }

    /// Counts, and asks how far it got. Knows its own number, but for what has failed.
    async fn client(&self, address: SocketAddr, number: usize) {
        let mut client = Client::connect(address).await.unwrap();
        let key = format!("count:{number}");
        let (mut at_least, mut at_most) = (0, 0);
        let (mut failed, mut recovered) = (false, false);
        while !self.stop.load(Ordering::SeqCst) {
            let was_up = self.up.load(Ordering::SeqCst);
            let incremented = client.ask(&["INCR", &key]).await.unwrap();
            let asked = client.ask(&["GET", &key]).await.unwrap();
            // The server forgets all when it starts anew.
            at_most += 1;
            match &incremented {
                OwnedFrame::Integer(count) if was_up => {
                    assert!(*count > at_least && *count <= at_most, "{at_least} {count} {at_most}");
                    (at_least, at_most) = (*count, *count);
                }
                OwnedFrame::Integer(_) => {}
                other => self.failed(other, address, was_up),
            }
            match &asked {
                OwnedFrame::BulkString(digits) if was_up => {
                    let count: i64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
                    assert!(count >= at_least && count <= at_most, "{at_least} {count} {at_most}");
                    self.right.fetch_add(1, Ordering::SeqCst);
                }
                OwnedFrame::BulkString(_) | OwnedFrame::Null => {}
                other => self.failed(other, address, was_up),
            }
            let fails = matches!(incremented, OwnedFrame::Error(_));
            if fails && !failed || failed && !fails && was_up && !recovered {
                self.seen.fetch_add(1, Ordering::SeqCst);
            }
            recovered |= failed && !fails && was_up;
            failed |= fails;
            if fails {
                // Not to turn round and round while nothing is there.
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    fn failed(&self, answer: &OwnedFrame, _: SocketAddr, was_up: bool) {
        let text = refusal(answer);
        let known = [
            "could not connect: 127.0.0.1:",
            "closed the connection",
            "onnection reset",
            "roken pipe",
        ];
        assert!(known.iter().any(|known| text.contains(known)), "{text}");
        self.errors.fetch_add(1, Ordering::SeqCst);
        self.errors_when_up.fetch_add(u64::from(was_up), Ordering::SeqCst);
    }

    async fn until(&self, counter: &AtomicU64, count: u64) {
        eventually(|| counter.load(Ordering::SeqCst) >= count).await;
    }

    async fn stop(&self, mut clients: JoinSet<()>) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test]
async fn connections_are_cut_under_load() {
    const CUTS: u64 = 10;
    let (server, setup) = real(CONNECTIONS).await;
    let mut direct = Client::connect(server.address).await.unwrap();
    let load = Arc::new(Load::default());
    load.up.store(true, Ordering::SeqCst);
    let clients = Load::start(&setup, &load);
    for cut in 1..=CUTS {
        load.until(&load.right, cut * 300).await;
        let killed = direct.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        assert!(matches!(killed, OwnedFrame::Integer(1..=8)), "{killed:?}");
    }
    load.until(&load.right, (CUTS + 1) * 300).await;
    load.stop(clients).await;
    let tally = setup.proxy.tally();
    // One command is under way on a connection. It fails, or is repeated.
    let cut = CUTS * CONNECTIONS as u64;
    assert!(load.errors.load(Ordering::SeqCst) <= cut, "{tally:?}");
    assert!(tally.retries.get() <= cut && tally.connects.get() <= cut + 8, "{tally:?}");
    assert_eq!(setup.client().await.ask(&["PING"]).await.unwrap(), simple("PONG"));
    setup.end().await;
    until_info(&mut direct, "clients", "connected_clients", 1).await;
}

#[tokio::test]
async fn the_server_starts_anew_under_load() {
    let (mut server, setup) = real(CONNECTIONS).await;
    let load = Arc::new(Load::default());
    let clients = Load::start(&setup, &load);
    server.stop();
    // Everybody has had an error, and nobody hangs.
    load.until(&load.seen, CLIENTS as u64).await;
    server.start_again().await.unwrap();
    load.up.store(true, Ordering::SeqCst);
    // And everybody has had an answer.
    load.until(&load.seen, 2 * CLIENTS as u64).await;
    load.stop(clients).await;
    // Connects that began before the server was there may each fail all who waited then.
    let late = load.errors_when_up.load(Ordering::SeqCst);
    assert!(late <= (CLIENTS * CONNECTIONS) as u64, "{late}");
    eventually(|| setup.group().2 == 0).await;
    let (idle, leased, connecting, waiting) = setup.group();
    assert!((1..=CONNECTIONS).contains(&idle), "{idle}");
    assert_eq!((leased, connecting, waiting), (0, 0, 0));
    setup.end().await;
    let mut direct = Client::connect(server.address).await.unwrap();
    until_info(&mut direct, "clients", "connected_clients", 1).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = reserve().unwrap();
    let address = port.local_addr().unwrap();
    let setup = Setup::start(patient(address)).await;
    match setup.proxy.pool().acquire(&address).await {
        Err(error @ AcquireError::Connect(_)) => {
            let cause = error.source().unwrap();
            assert!(cause.to_string().starts_with(&format!("{address}: ")), "{cause}");
            let cause = cause.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
            assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = setup.client().await;
        clients.spawn(async move { client.ask(&["GET", "key"]).await.unwrap() });
    }
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert!(
            refusal(&answer).contains(&format!("could not connect: {address}: ")),
            "{answer:?}"
        );
    }
    // Who could not begin a transaction does not go on without.
    let mut client = setup.client().await;
    client.send(&[&["MULTI"], &["INCR", "key"], &["EXEC"]]).await.unwrap();
    refusal(&client.answer().await.unwrap());
    client.answer().await.unwrap_err();
    assert_eq!(setup.group(), (0, 0, 0, 0));
    setup.end().await;
}

#[tokio::test]
async fn a_server_that_turns_us_away_is_quoted() {
    let (server, setup) = real(2).await;
    let mut direct = Client::connect(server.address).await.unwrap();
    let mut client = setup.client().await;
    assert_eq!(client.ask(&["PING"]).await.unwrap(), simple("PONG"));
    let clients: &[&str] = &["CONFIG", "SET", "maxclients", "1"];
    let password: &[&str] = &["CONFIG", "SET", "requirepass", "secret"];
    for (order, undo, says) in [
        (clients, ["CONFIG", "SET", "maxclients", "100"], "max number of clients"),
        (password, ["CONFIG", "SET", "requirepass", ""], "NOAUTH"),
    ] {
        assert_eq!(direct.ask(order).await.unwrap(), simple("OK"));
        direct.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        let answer = client.ask(&["GET", "key"]).await.unwrap();
        assert!(refusal(&answer).contains(says), "{answer:?}");
        assert_eq!(direct.ask(&undo).await.unwrap(), simple("OK"));
        assert_eq!(client.ask(&["ECHO", "again"]).await.unwrap(), text("again"));
    }
    setup.end().await;
}

/// A transaction whose connection is cut ends its client, lest the rest of it be executed
/// by itself.
#[tokio::test]
async fn a_transaction_that_is_cut_ends_its_client() {
    let (server, setup) = real(1).await;
    let mut direct = Client::connect(server.address).await.unwrap();
    let mut client = setup.client().await;
    assert_eq!(client.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    direct.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    client.send(&[&["INCR", "key"], &["INCR", "key"], &["EXEC"]]).await.unwrap();
    assert!(refusal(&client.answer().await.unwrap()).contains("the transaction is lost"));
    client.answer().await.unwrap_err();
    assert_eq!(direct.ask(&["GET", "key"]).await.unwrap(), OwnedFrame::Null);
    setup.end().await;
}
