//! Hosts that are taken out of service and back, and requests that wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slabpool::managed::Health;
use tokio::task::JoinSet;

use crate::balancer::Settings;
use crate::client::{Seen, client};
use crate::origin::Origin;
use crate::support::{GET, Gate, PATIENCE, POST, Setup, eventually, patient, read_message};

fn checked(max_connections: usize) -> Settings {
    let check_interval = Duration::from_millis(5);
    Settings { max_connections, check_interval, ..patient() }
}

async fn origins() -> (Vec<Origin>, Vec<SocketAddr>) {
    let mut origins = Vec::new();
    for _ in 0..2 {
        origins.push(Origin::start(Duration::ZERO).await.unwrap());
    }
    let addresses = origins.iter().map(|origin| origin.address).collect();
    (origins, addresses)
}

/// A host that takes connections, and serves, but says that it is not fit.
#[tokio::test]
async fn an_unfit_host_is_out_of_service_until_it_is_fit() {
    let (origins, addresses) = origins().await;
    let setup = Setup::start(&addresses, checked(4)).await;
    for _ in 0..20 {
        assert!(setup.ask(GET).await.starts_with("HTTP/1.1 200 "));
    }
    origins[0].set_fit(false);
    eventually(|| !setup.host(0).is_up()).await;
    eventually(|| setup.group(0) == (0, 0, 0)).await;
    let pool = setup.balancer.pool();
    eventually(|| pool.group_status(&addresses[0]).health == Health::Drained).await;
    let before = setup.host(0).tally.requests.get();
    for _ in 0..20 {
        assert!(setup.ask(POST).await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(setup.host(0).tally.requests.get(), before);
    assert_eq!((setup.host(0).tally.outages.get(), setup.host(1).tally.outages.get()), (1, 0));

    origins[1].set_fit(false);
    eventually(|| !setup.host(1).is_up()).await;
    let answer = setup.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("no host is in service\n"), "{answer}");

    origins[0].set_fit(true);
    eventually(|| setup.host(0).is_up()).await;
    assert!(setup.ask(POST).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(setup.host(0).tally.requests.get(), before + 1);
    assert_eq!(setup.balancer.unanswered(), 1);
    setup.end().await;
}

/// One that has died is noticed though nobody asks for it, and is back when it is back.
#[tokio::test]
async fn a_dead_host_is_noticed_without_requests() {
    let (mut origins, addresses) = origins().await;
    let setup = Setup::start(&addresses, checked(4)).await;
    for _ in 0..2 {
        origins[0].kill().await;
        eventually(|| !setup.host(0).is_up()).await;
        origins[0].start_again().await.unwrap();
        eventually(|| setup.host(0).is_up()).await;
    }
    assert_eq!((setup.host(0).tally.outages.get(), setup.host(1).tally.outages.get()), (2, 0));
    assert_eq!(setup.sum(|host| host.tally.requests.get()), 0);
    setup.end().await;
}

/// What the balancer counts as the load of a host is what the pool has of it.
#[tokio::test]
async fn the_load_of_a_host_is_what_waits_and_what_is_leased() {
    let gate = Gate::start().await;
    let settings = Settings { max_connections: 2, ..patient() };
    let setup = Setup::start(&[gate.address], settings).await;
    let mut clients = Vec::new();
    for number in 1..=5 {
        clients.push(setup.send(GET).await);
        eventually(|| setup.loads() == [number]).await;
    }
    eventually(|| gate.received() == 2 && setup.group(0) == (0, 2, 3)).await;
    // Who goes away while it waits is forgotten, and costs no connection.
    drop(clients.pop());
    eventually(|| setup.loads() == [4] && setup.group(0) == (0, 2, 2)).await;
    gate.permits.add_permits(4);
    for client in &mut clients {
        assert!(read_message(client).await.ends_with("\r\n\r\nok"));
    }
    eventually(|| setup.loads() == [0] && setup.group(0) == (2, 0, 0)).await;
    assert_eq!((gate.received(), setup.host(0).tally.connects.get()), (4, 2));
    setup.end().await;
}

/// A client that goes away while its request is on a connection takes that along.
#[tokio::test]
async fn a_client_that_goes_away_gives_its_share_back() {
    let gate = Gate::start().await;
    let setup = Setup::start(&[gate.address], Settings { max_connections: 1, ..patient() }).await;
    let client = setup.send(GET).await;
    eventually(|| gate.received() == 1).await;
    let mut waiting = setup.send(GET).await;
    eventually(|| setup.group(0) == (0, 1, 1)).await;
    drop(client);
    // Its permit would have been for that one: it finds that nobody reads the answer.
    gate.permits.add_permits(2);
    assert!(read_message(&mut waiting).await.ends_with("\r\n\r\nok"));
    eventually(|| setup.loads() == [0] && setup.group(0) == (1, 0, 0)).await;
    assert_eq!(setup.host(0).tally.connects.get(), 2);
    setup.end().await;
}

/// Draining a host: who waits for it goes to another one at once, who is served there is
/// served to the end.
#[tokio::test]
async fn requests_that_wait_for_a_host_that_is_drained_move() {
    let (first, second) = (Gate::start().await, Gate::start().await);
    let addresses = [first.address, second.address];
    let setup = Setup::start(&addresses, Settings { max_connections: 1, ..patient() }).await;
    let mut clients = Vec::new();
    for number in 1..=4 {
        clients.push(setup.send(POST).await);
        eventually(|| setup.loads().iter().sum::<usize>() == number).await;
    }
    assert_eq!(setup.loads(), [2, 2], "each goes where there are fewer");
    eventually(|| setup.group(0) == (0, 1, 1) && setup.group(1) == (0, 1, 1)).await;
    setup.balancer.pool().drain_group(&addresses[0]);
    eventually(|| setup.loads() == [1, 3] && setup.group(1) == (0, 1, 2)).await;
    assert_eq!(setup.group(0), (0, 1, 0));
    first.permits.add_permits(4);
    second.permits.add_permits(4);
    for client in &mut clients {
        assert!(read_message(client).await.ends_with("\r\n\r\nok"));
    }
    eventually(|| setup.group(0) == (0, 0, 0) && setup.group(1) == (1, 0, 0)).await;
    assert_eq!((first.received(), second.received()), (1, 3));
    assert_eq!((setup.host(0).tally.refused.get(), setup.balancer.unanswered()), (1, 0));
    setup.end().await;
}

/// Of a host that answers nothing, requests get out of the way: it never has more of them
/// than the less loaded one of any two may have. If hosts were chosen without a look at their
/// load, all clients would be stuck there.
#[tokio::test]
async fn a_host_that_hangs_does_not_get_all_the_load() {
    const CLIENTS: usize = 16;
    let hour = Duration::from_secs(3_600);
    let mut origins = Vec::new();
    for delay in [Duration::ZERO, Duration::ZERO, hour] {
        origins.push(Origin::start(delay).await.unwrap());
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let setup = Setup::start(&addresses, patient()).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (seen, address) = (Arc::clone(&seen), setup.address);
        clients.spawn(async move { client(address, number, &seen).await });
    }
    eventually(|| seen.total() >= 2_000).await;
    assert_eq!(seen.right.load(Ordering::Relaxed), seen.total());
    // One more would have to find as many at another host.
    let stuck = setup.host(2).load();
    assert!((1..=CLIENTS / 2).contains(&stuck), "{stuck}");
    clients.shutdown().await;
    eventually(|| setup.loads() == [0, 0, 0]).await;
    setup.end().await;
}

/// A request whose time is over is answered, not sent around.
#[tokio::test]
async fn a_request_waits_for_as_long_as_it_may() {
    let (first, second) = (Gate::start().await, Gate::start().await);
    let addresses = [first.address, second.address];
    let setup = Setup::start(&addresses, Settings { max_connections: 1, ..patient() }).await;
    let mut clients = Vec::new();
    for number in 1..=2 {
        clients.push(setup.send(GET).await);
        eventually(|| first.received() + second.received() == number).await;
    }
    let brief = Duration::from_millis(10);
    let pool = setup.balancer.pool();
    pool.reconfigure(|settings| {
        (settings.acquire_timeout, settings.connect_timeout) = (brief, brief);
    })
    .unwrap();
    let answer = setup.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("within"), "{answer}");
    assert_eq!((setup.sum(|host| host.tally.refused.get()), setup.balancer.unanswered()), (0, 1));
    assert_eq!(pool.stats().timeouts, 1);
    first.permits.add_permits(1);
    second.permits.add_permits(1);
    for client in &mut clients {
        assert!(read_message(client).await.ends_with("\r\n\r\nok"));
    }
    setup.end().await;
}

#[tokio::test]
async fn the_end_waits_for_running_requests() {
    let gate = Gate::start().await;
    let setup = Setup::start(&[gate.address], Settings { max_connections: 1, ..patient() }).await;
    let mut clients = [setup.send(GET).await, setup.send(GET).await];
    eventually(|| gate.received() == 1 && setup.group(0) == (0, 1, 1)).await;
    let address = setup.address;
    let release = async {
        let gone = async || tokio::net::TcpStream::connect(address).await.is_err();
        let refused = async { while !gone().await {} };
        tokio::time::timeout(PATIENCE, refused).await.expect("it accepts clients");
        gate.permits.add_permits(2);
        for client in &mut clients {
            assert!(read_message(client).await.ends_with("\r\n\r\nok"));
        }
    };
    tokio::join!(setup.end(), release);
}
