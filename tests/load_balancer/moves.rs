//! Which requests go to another host, and which must not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use slabpool::managed::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::balancer::Settings;
use crate::support::{
    GET, Gate, OK, PATIENCE, POST, Setup, eventually, listen, patient, read_message,
    try_read_message,
};

/// Hosts that together break off `failures` requests, with this, before they answer one.
async fn breaking<const N: usize>(failures: usize, with: &'static str) -> [SocketAddr; N] {
    let received = Arc::new(AtomicUsize::new(0));
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        let (listener, at) = listen().await;
        *address = at;
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                tokio::spawn(async move {
                    while try_read_message(&mut stream).await.is_some() {
                        let fails = received.fetch_add(1, Ordering::Relaxed) < failures;
                        let answer = if fails { with } else { OK };
                        if stream.write_all(answer.as_bytes()).await.is_err() || fails {
                            break;
                        }
                    }
                });
            }
        });
    }
    addresses
}

/// An address where nobody listens.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn requests(setup: &Setup) -> Vec<u64> {
    setup.balancer.hosts().iter().map(|host| host.tally.requests.get()).collect()
}

#[tokio::test]
async fn what_may_be_repeated_goes_to_another_host() {
    let hosts = breaking::<2>(1, "").await;
    let setup = Setup::start(&hosts, patient()).await;
    let put = POST.replace("POST", "PUT");
    assert!(setup.ask(&put).await.ends_with("\r\n\r\nok"));
    assert_eq!(requests(&setup), [1, 1], "not the same host twice");
    assert_eq!((setup.sum(|host| host.tally.moved.get()), setup.balancer.unanswered()), (1, 0));
    assert_eq!(setup.sum(|host| host.tally.errors.get()), 0);
    setup.end().await;
}

#[tokio::test]
async fn what_must_not_happen_twice_does_not() {
    let hosts = breaking::<2>(1, "").await;
    let setup = Setup::start(&hosts, patient()).await;
    assert!(setup.ask(POST).await.starts_with("HTTP/1.1 502 "));
    assert_eq!(requests(&setup).iter().sum::<u64>(), 1);
    assert_eq!(setup.sum(|host| host.tally.errors.get()), 1);
    // Nor does a long body, which is not kept in memory.
    let hosts = breaking::<2>(1, "").await;
    let long = Setup::start(&hosts, patient()).await;
    let body = "x".repeat(100_000);
    let put = format!("PUT /it HTTP/1.1\r\nhost: any\r\ncontent-length: 100000\r\n\r\n{body}");
    assert!(long.ask(&put).await.starts_with("HTTP/1.1 502 "));
    assert_eq!(requests(&long).iter().sum::<u64>(), 1);
    setup.end().await;
    long.end().await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_not_asked_for_again() {
    let hosts = breaking::<2>(1, "no HTTP at all\r\n\r\n").await;
    let setup = Setup::start(&hosts, patient()).await;
    let answer = setup.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("host 127.0.0.1:"), "{answer}");
    assert_eq!(requests(&setup).iter().sum::<u64>(), 1);
    setup.end().await;
}

/// Each host gets one try, and one of them a second one.
#[tokio::test]
async fn a_request_that_always_fails_comes_to_an_end() {
    let hosts = breaking::<3>(usize::MAX, "").await;
    let setup = Setup::start(&hosts, patient()).await;
    assert!(setup.ask(GET).await.starts_with("HTTP/1.1 502 "));
    assert_eq!(requests(&setup).iter().sum::<u64>(), 4);
    assert!(requests(&setup).iter().all(|&requests| requests > 0));
    assert_eq!((setup.sum(|host| host.tally.moved.get()), setup.balancer.unanswered()), (4, 1));
    setup.end().await;
}

/// Where there is no other host, the one that has failed is tried again.
#[tokio::test]
async fn a_host_alone_gets_a_second_try() {
    let hosts = breaking::<1>(1, "").await;
    let setup = Setup::start(&hosts, patient()).await;
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    assert_eq!(requests(&setup), [2]);
    setup.end().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_of_its_host() {
    let hosts = breaking::<1>(1, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let setup = Setup::start(&hosts, patient()).await;
    let mut client = setup.send(GET).await;
    let mut seen = Vec::new();
    _ = timeout(PATIENCE, client.read_to_end(&mut seen)).await.expect("it does not end");
    let seen = String::from_utf8(seen).unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && body.len() < 9, "{seen}");
    eventually(|| setup.host(0).tally.errors.get() == 1).await;
    eventually(|| setup.group(0) == (0, 0, 0) && setup.loads() == [0]).await;
    assert!(setup.ask(GET).await.ends_with("\r\n\r\nok"));
    setup.end().await;
}

/// No connect reaches a host that is known to be down, and no request is lost by it.
#[tokio::test]
async fn a_host_that_refuses_is_left_alone() {
    let (_port, refusing) = nobody();
    let gate = Gate::start().await;
    gate.permits.add_permits(100);
    let hour = Duration::from_secs(3_600);
    let settings = Settings { down_after: 1, backoff: (hour, hour), ..patient() };
    let setup = Setup::start(&[refusing, gate.address], settings).await;
    let one_is_down = || {
        let health = setup.balancer.pool().group_status(&refusing).health;
        matches!(health, Health::Down { failures: 1, .. })
    };
    for _ in 0..100 {
        assert!(setup.ask(POST).await.ends_with("\r\n\r\nok"));
    }
    assert!(one_is_down());
    let refused = setup.host(0).tally.refused.get();
    assert!(refused > 1, "{refused}");
    let stats = setup.balancer.pool().stats();
    assert_eq!((stats.connects.errors, stats.refused), (1, refused - 1));
    assert_eq!(requests(&setup), [0, 100]);
    assert_eq!((gate.received(), setup.balancer.unanswered()), (100, 0));
    setup.end().await;
}

#[tokio::test]
async fn if_all_refuse_the_client_is_told() {
    let (nobodies, hosts): (Vec<_>, Vec<_>) = (0..3).map(|_| nobody()).unzip();
    let setup = Setup::start(&hosts, patient()).await;
    let answer = setup.ask(POST).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(hosts.iter().any(|host| answer.contains(&host.to_string())), "{answer}");
    assert_eq!((setup.sum(|host| host.tally.refused.get()), setup.balancer.unanswered()), (4, 1));
    drop(nobodies);
    setup.end().await;
}

/// A connection that dies while it is idle costs no request, not even one that must not be
/// repeated.
#[tokio::test]
async fn a_connection_that_has_died_is_not_used() {
    let (listener, address) = listen().await;
    let setup = Setup::start(&[address], patient()).await;
    let serve_one = async || {
        let mut stream: TcpStream = listener.accept().await.unwrap().0;
        read_message(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        stream
    };
    let (answer, stream) = tokio::join!(setup.ask(POST), serve_one());
    assert!(answer.ends_with("\r\n\r\nok"));
    eventually(|| setup.group(0) == (1, 0, 0)).await;
    drop(stream);
    // It is watched: the pool closes it without being asked for one.
    eventually(|| setup.group(0) == (0, 0, 0)).await;
    let (answer, _stream) = tokio::join!(setup.ask(POST), serve_one());
    assert!(answer.ends_with("\r\n\r\nok"));
    assert_eq!((setup.host(0).tally.connects.get(), setup.host(0).tally.moved.get()), (2, 0));
    setup.end().await;
}
