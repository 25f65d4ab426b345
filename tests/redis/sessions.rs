//! What belongs to a connection: transactions, blocking, and what is refused.

use std::time::Duration;

use redis_protocol::resp2::types::OwnedFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, simple, text};
use crate::proxy::Settings;
use crate::support::{Setup, eventually, patient, real, refusal, until_info};

fn queued() -> OwnedFrame {
    simple("QUEUED")
}

fn is_error(answer: &OwnedFrame, code: &str) -> bool {
    matches!(answer, OwnedFrame::Error(text) if text.starts_with(code))
}

#[tokio::test]
async fn a_transaction_has_its_connection_for_itself() {
    let (_server, setup) = real(1).await;
    let (mut one, mut other) = (setup.client().await, setup.client().await);
    assert_eq!(one.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    assert_eq!(one.ask(&["SET", "key", "1"]).await.unwrap(), queued());
    other.send(&[&["GET", "key"]]).await.unwrap();
    eventually(|| setup.group() == (0, 1, 0, 1)).await;
    assert!(is_error(&one.ask(&["MULTI"]).await.unwrap(), "ERR"), "one in another");
    assert_eq!(one.ask(&["BLPOP", "none", "0"]).await.unwrap(), queued());
    assert_eq!(one.ask(&["UNWATCH"]).await.unwrap(), queued());
    let OwnedFrame::Array(answers) = one.ask(&["EXEC"]).await.unwrap() else { panic!() };
    assert_eq!(answers, [simple("OK"), OwnedFrame::Null, simple("OK")]);
    assert_eq!(other.answer().await.unwrap(), text("1"));
    // Given up, and it is somebody else's again.
    assert_eq!(one.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    assert_eq!(one.ask(&["SET", "key", "2"]).await.unwrap(), queued());
    assert_eq!(one.ask(&["DISCARD"]).await.unwrap(), simple("OK"));
    assert_eq!(other.ask(&["GET", "key"]).await.unwrap(), text("1"));
    assert!(is_error(&one.ask(&["EXEC"]).await.unwrap(), "ERR EXEC without MULTI"));
    assert_eq!((setup.connects(), setup.group()), (1, (1, 0, 0, 0)));
    // All of it in one go.
    one.send(&[&["MULTI"], &["INCR", "n"], &["EXEC"], &["GET", "n"]]).await.unwrap();
    assert_eq!(one.answer().await.unwrap(), simple("OK"));
    assert_eq!(one.answer().await.unwrap(), queued());
    assert_eq!(one.answer().await.unwrap(), OwnedFrame::Array(vec![OwnedFrame::Integer(1)]));
    assert_eq!(one.answer().await.unwrap(), text("1"));
    setup.end().await;
}

#[tokio::test]
async fn what_is_watched_is_watched() {
    let (_server, setup) = real(2).await;
    let (mut one, mut other) = (setup.client().await, setup.client().await);
    assert_eq!(one.ask(&["WATCH", "key"]).await.unwrap(), simple("OK"));
    assert_eq!(other.ask(&["SET", "key", "other"]).await.unwrap(), simple("OK"));
    assert_eq!(one.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    assert_eq!(one.ask(&["SET", "key", "one"]).await.unwrap(), queued());
    assert_eq!(one.ask(&["EXEC"]).await.unwrap(), OwnedFrame::Null);
    assert_eq!(setup.group(), (2, 0, 0, 0));
    // `UNWATCH` gives the connection back as well.
    assert_eq!(one.ask(&["WATCH", "key"]).await.unwrap(), simple("OK"));
    assert!(is_error(&one.ask(&["EXEC"]).await.unwrap(), "ERR EXEC without MULTI"));
    assert_eq!(setup.group(), (1, 1, 0, 0));
    assert_eq!(one.ask(&["UNWATCH"]).await.unwrap(), simple("OK"));
    assert_eq!(setup.group(), (2, 0, 0, 0));
    assert_eq!(one.ask(&["UNWATCH"]).await.unwrap(), simple("OK"));
    // `EXEC` fails, and its connection is of no more use.
    assert_eq!(one.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    assert!(is_error(&one.ask(&["NO_SUCH_COMMAND"]).await.unwrap(), "ERR"));
    assert!(is_error(&one.ask(&["EXEC"]).await.unwrap(), "EXECABORT"));
    assert_eq!(setup.group(), (1, 0, 0, 0));
    assert_eq!(one.ask(&["GET", "key"]).await.unwrap(), text("other"));
    setup.end().await;
}

/// The server never heard of the refused command, and must not execute the others.
#[tokio::test]
async fn a_refused_command_spoils_its_transaction() {
    let (_server, setup) = real(1).await;
    let mut client = setup.client().await;
    assert_eq!(client.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    assert_eq!(client.ask(&["SET", "key", "1"]).await.unwrap(), queued());
    refusal(&client.ask(&["SELECT", "1"]).await.unwrap());
    assert!(is_error(&client.ask(&["EXEC"]).await.unwrap(), "EXECABORT"));
    assert_eq!(client.ask(&["GET", "key"]).await.unwrap(), OwnedFrame::Null);
    // Outside of one it spoils nothing.
    assert_eq!(client.ask(&["WATCH", "key"]).await.unwrap(), simple("OK"));
    refusal(&client.ask(&["SELECT", "1"]).await.unwrap());
    assert_eq!(client.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    assert_eq!(client.ask(&["SET", "key", "2"]).await.unwrap(), queued());
    let answer = client.ask(&["EXEC"]).await.unwrap();
    assert_eq!(answer, OwnedFrame::Array(vec![simple("OK")]));
    setup.end().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_transaction_with_it() {
    let (server, setup) = real(1).await;
    let mut direct = Client::connect(server.address).await.unwrap();
    for goes in ["drop", "quit", "half"] {
        let mut client = setup.client().await;
        assert_eq!(client.ask(&["MULTI"]).await.unwrap(), simple("OK"));
        assert_eq!(client.ask(&["SET", "key", "1"]).await.unwrap(), queued());
        match goes {
            "quit" => assert_eq!(client.ask(&["QUIT"]).await.unwrap(), simple("OK")),
            "half" => client.stream.write_all(b"*1\r\n$4\r\nEX").await.unwrap(),
            _ => {}
        }
        drop(client);
        until_info(&mut direct, "clients", "connected_clients", 1).await;
        eventually(|| setup.group() == (0, 0, 0, 0)).await;
    }
    assert_eq!(setup.client().await.ask(&["GET", "key"]).await.unwrap(), OwnedFrame::Null);
    setup.end().await;
}

#[tokio::test]
async fn a_connection_is_not_held_for_ever() {
    let (server, first) = real(1).await;
    first.end().await;
    let hold_timeout = Duration::from_millis(50);
    let settings = Settings { hold_timeout, max_connections: 1, ..patient(server.address) };
    let setup = Setup::start(settings).await;
    let mut client = setup.client().await;
    assert_eq!(client.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    let answer = client.answer().await.unwrap();
    assert!(refusal(&answer).contains("nothing came for 50ms"), "{answer:?}");
    client.answer().await.unwrap_err();
    assert_eq!(setup.client().await.ask(&["PING"]).await.unwrap(), simple("PONG"));
    setup.end().await;
}

#[tokio::test]
async fn who_blocks_has_a_connection_and_not_all_of_them() {
    let (server, setup) = real(4).await;
    let mut direct = Client::connect(server.address).await.unwrap();
    let mut blocked = Vec::new();
    let commands: [&[&str]; 2] =
        [&["BLPOP", "list", "0"], &["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]];
    for (index, command) in commands.iter().enumerate() {
        let mut client = setup.client().await;
        client.send(&[command, &["ECHO", "next"]]).await.unwrap();
        until_info(&mut direct, "clients", "blocked_clients", index as u64 + 1).await;
        blocked.push(client);
    }
    let mut client = setup.client().await;
    let answer = client.ask(&["BRPOP", "other", "0"]).await.unwrap();
    assert!(refusal(&answer).contains("2 clients block already"), "{answer:?}");
    // Not by way of a transaction either.
    assert_eq!(client.ask(&["WATCH", "key"]).await.unwrap(), simple("OK"));
    refusal(&client.ask(&["BRPOP", "other", "0"]).await.unwrap());
    assert_eq!(client.ask(&["UNWATCH"]).await.unwrap(), simple("OK"));
    assert_eq!(client.ask(&["RPUSH", "list", "it"]).await.unwrap(), OwnedFrame::Integer(1));
    let answer = blocked[0].answer().await.unwrap();
    assert_eq!(answer, OwnedFrame::Array(vec![text("list"), text("it")]));
    assert_eq!(blocked[0].answer().await.unwrap(), text("next"));
    // One that goes away while it blocks frees the connection; the server knows of it.
    drop(blocked);
    until_info(&mut direct, "clients", "blocked_clients", 0).await;
    eventually(|| setup.group().1 == 0).await;
    assert_eq!(client.ask(&["WATCH", "key"]).await.unwrap(), simple("OK"));
    client.send(&[&["BRPOP", "other", "0"]]).await.unwrap();
    until_info(&mut direct, "clients", "blocked_clients", 1).await;
    drop(client);
    until_info(&mut direct, "clients", "blocked_clients", 0).await;
    setup.end().await;
}

#[tokio::test]
async fn what_others_would_notice_is_refused() {
    let (_server, setup) = real(1).await;
    let mut client = setup.client().await;
    let commands: [&[&str]; 12] = [
        &["SUBSCRIBE", "channel"],
        &["psubscribe", "*"],
        &["MONITOR"],
        &["SELECT", "1"],
        &["AUTH", "secret"],
        &["HELLO", "3"],
        &["CLIENT", "REPLY", "OFF"],
        &["RESET"],
        &["PSYNC", "?", "-1"],
        &["WAIT", "1", "0"],
        &["SCRIPT", "debug", "YES"],
        &["Readonly"],
    ];
    for command in commands {
        let answer = client.ask(command).await.unwrap();
        assert!(refusal(&answer).contains("others use"), "{command:?}: {answer:?}");
        assert_eq!(client.ask(&["PING"]).await.unwrap(), simple("PONG"));
    }
    assert!(is_error(&client.ask(&["SCRIPT", "EXISTS"]).await.unwrap(), "ERR wrong number"));
    assert_eq!(client.ask(&["QUIT"]).await.unwrap(), simple("OK"));
    client.answer().await.unwrap_err();
    setup.end().await;
}

#[tokio::test]
async fn what_is_no_command_ends_the_client() {
    let (_server, setup) = real(1).await;
    let nested = b"*1\r\n".repeat(100_000);
    let wrong: [(&[u8], &str); 7] = [
        (b"PING\r\n", "inline"),
        (b"*1\r\n:5\r\n", "strings"),
        (b"*x\r\n", "no number"),
        (b"*1\r\n$x\r\n", "protocol error"),
        (b"*1\r\n$-1\r\n", "null"),
        (b"*9999999999\r\n", "elements"),
        (&nested, "strings"),
    ];
    for (bytes, says) in wrong {
        let mut client = setup.client().await;
        // What came before it is answered.
        client.send(&[&["ECHO", "before"]]).await.unwrap();
        assert_eq!(client.answer().await.unwrap(), text("before"));
        _ = client.stream.write_all(bytes).await;
        // If its socket was reset for what it had not read, the client hears nothing.
        if let Ok(answer) = client.answer().await {
            assert!(refusal(&answer).contains(says), "{answer:?} for {says}");
            client.answer().await.unwrap_err();
        } else {
            assert_eq!(says, "strings");
        }
    }
    // A line without an end.
    let mut stream = TcpStream::connect(setup.address).await.unwrap();
    _ = stream.write_all(&[b"*".as_slice(), &b"1".repeat(100_000)].concat()).await;
    let mut rest = Vec::new();
    _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty() || rest.starts_with(b"-PROXY protocol error: a line"), "{rest:?}");
    assert_eq!(setup.client().await.ask(&["PING"]).await.unwrap(), simple("PONG"));
    setup.end().await;
}

#[tokio::test]
async fn the_end_waits_for_transactions_and_not_for_those_who_block() {
    let (server, setup) = real(4).await;
    let mut direct = Client::connect(server.address).await.unwrap();
    let (mut idle, mut blocked, mut busy) =
        (setup.client().await, setup.client().await, setup.client().await);
    assert_eq!(idle.ask(&["PING"]).await.unwrap(), simple("PONG"));
    blocked.send(&[&["BLPOP", "list", "0"]]).await.unwrap();
    until_info(&mut direct, "clients", "blocked_clients", 1).await;
    assert_eq!(busy.ask(&["MULTI"]).await.unwrap(), simple("OK"));
    let ending = setup.begin_to_end();
    idle.answer().await.unwrap_err();
    assert!(refusal(&blocked.answer().await.unwrap()).contains("the proxy ends"));
    assert_eq!(busy.ask(&["SET", "key", "1"]).await.unwrap(), queued());
    let answer = busy.ask(&["EXEC"]).await.unwrap();
    assert_eq!(answer, OwnedFrame::Array(vec![simple("OK")]));
    busy.answer().await.unwrap_err();
    let (end, proxy) = ending.await.unwrap();
    assert_eq!(end.cut_off, 0);
    assert!(end.drained.is_complete() && proxy.pool().is_closed());
    assert_eq!(direct.ask(&["GET", "key"]).await.unwrap(), text("1"));
    until_info(&mut direct, "clients", "connected_clients", 1).await;
}
