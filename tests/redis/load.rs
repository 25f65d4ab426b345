//! Many clients on few connections: everybody gets their own answers.

use redis_protocol::resp2::types::OwnedFrame;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::client::{Client, encoded, simple, text};
use crate::support::{eventually, info, real, refusal, until_info};

#[tokio::test]
async fn sixty_four_clients_on_eight_connections() {
    const ROUNDS: i64 = 30;
    let (server, setup) = real(8).await;
    let mut clients = JoinSet::new();
    for number in 0..64 {
        let mut client = setup.client().await;
        clients.spawn(async move {
            let (own, value) = (format!("own:{number}"), format!("value of {number}"));
            for round in 1..=ROUNDS {
                let count = format!("count:{number}");
                let commands: [&[&str]; 4] =
                    [&["SET", &own, &value], &["GET", &own], &["INCR", &count], &["INCR", "all"]];
                client.send(&commands).await.unwrap();
                assert_eq!(client.answer().await.unwrap(), simple("OK"));
                assert_eq!(client.answer().await.unwrap(), text(value.as_str()));
                assert_eq!(client.answer().await.unwrap(), OwnedFrame::Integer(round));
                assert!(matches!(client.answer().await.unwrap(), OwnedFrame::Integer(_)));
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let all = (64 * ROUNDS).to_string();
    assert_eq!(setup.client().await.ask(&["GET", "all"]).await.unwrap(), text(all));
    // None was closed and none failed, so no more were ever opened than may be.
    let tally = setup.proxy.tally();
    assert!((1..=8).contains(&tally.connects.get()), "{tally:?}");
    assert_eq!(
        (tally.connected.get(), tally.errors.get(), tally.retries.get()),
        (tally.connects.get(), 0, 0)
    );
    assert_eq!(tally.leases.get(), tally.hits.get() + tally.waits.get() + tally.opened.get());
    eventually(|| setup.group().2 == 0).await;
    let (idle, leased, connecting, waiting) = setup.group();
    assert_eq!((leased, connecting, waiting), (0, 0, 0));
    assert_eq!(idle as u64, tally.connects.get());
    let mut direct = Client::connect(server.address).await.unwrap();
    assert_eq!(info(&mut direct, "clients", "connected_clients").await, idle as u64 + 1);
    setup.end().await;
    until_info(&mut direct, "clients", "connected_clients", 1).await;
}

/// Far more than goes into one exchange, with all kinds of commands in between.
#[tokio::test]
async fn a_long_pipeline_is_answered_in_its_order() {
    let (_server, setup) = real(2).await;
    let mut client = setup.client().await;
    let numbers: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    let mut answers = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        match index % 5 {
            0 => commands.push(vec!["SET", "key", number]),
            1 => commands.push(vec!["GET", "key"]),
            2 => commands.push(vec!["ECHO", number]),
            3 => commands.push(vec!["SELECT", number]),
            _ => commands.push(vec!["LPUSH", "key", number]),
        }
        answers.push(match index % 5 {
            0 => simple("OK"),
            1 => text(numbers[index - 1].as_str()),
            2 => text(number.as_str()),
            _ => OwnedFrame::Null,
        });
    }
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    client.send(&commands).await.unwrap();
    for (index, right) in answers.iter().enumerate() {
        let answer = client.answer().await.unwrap();
        match index % 5 {
            3 => _ = refusal(&answer),
            4 => assert!(matches!(&answer, OwnedFrame::Error(text) if text.starts_with("WRONG"))),
            _ => assert_eq!(answer, *right, "{index}"),
        }
    }
    assert_eq!(setup.connects(), 1);
    // Commands that go together cost one lease for all of them; a fifth cost none at all.
    assert!(setup.proxy.tally().leases.get() < 800, "{:?}", setup.proxy.tally());
    client.send(&vec![["ECHO", "x"].as_slice(); 300]).await.unwrap();
    for _ in 0..300 {
        assert_eq!(client.answer().await.unwrap(), text("x"));
    }
    setup.end().await;
}

#[tokio::test]
async fn messages_come_in_pieces_and_in_lumps() {
    let (_server, setup) = real(2).await;
    let mut client = setup.client().await;
    for byte in encoded(&["SET", "key", "a\r\nb"]).unwrap() {
        client.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.unwrap(), simple("OK"));
    assert_eq!(client.ask(&["GET", "key"]).await.unwrap(), text("a\r\nb"));
    // Commands that have no answer, and an empty string.
    client.stream.write_all(b"*0\r\n\r\n*-1\r\n\r").await.unwrap();
    client.stream.write_all(b"\n").await.unwrap();
    assert_eq!(client.ask(&["ECHO", ""]).await.unwrap(), text(""));
    let large = "x".repeat(8 * 1024 * 1024);
    let commands: [&[&str]; 3] = [&["SET", "large", &large], &["GET", "large"], &["GET", "none"]];
    client.send(&commands).await.unwrap();
    assert_eq!(client.answer().await.unwrap(), simple("OK"));
    assert_eq!(client.answer().await.unwrap(), text(large.as_str()));
    assert_eq!(client.answer().await.unwrap(), OwnedFrame::Null);
    // Answers within answers.
    let script = "return {1, {2, {3, {}}}, 'four', {err='five'}}";
    let answer = client.ask(&["EVAL", script, "0"]).await.unwrap();
    assert!(matches!(answer, OwnedFrame::Array(parts) if parts.len() == 4));
    assert_eq!(setup.proxy.tally().errors.get(), 0);
    setup.end().await;
}
