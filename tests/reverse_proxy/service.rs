//! Hosts that go out of service and come back, and settings that change meanwhile.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use slabpool::http::Client;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::proxy::config::Config;
use crate::support::{Running, eventually, get};

/// A server that says of itself what it is told to. Dropped, it cuts its connections.
struct TestHost {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

struct State {
    fit: AtomicBool,
    requests: AtomicUsize,
    questions: AtomicUsize,
    holding: AtomicUsize,
    gate: Semaphore,
}

impl TestHost {
    async fn start() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            fit: AtomicBool::new(true),
            requests: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&state);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                connections.spawn(async move {
                    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, state, _serving: serving }
    }

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    fn set_fit(&self, fit: bool) {
        self.state.fit.store(fit, Ordering::SeqCst);
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from("an answer"));
    if request.uri().path() == "/how" {
        state.questions.fetch_add(1, Ordering::SeqCst);
        if !state.fit.load(Ordering::SeqCst) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        return Ok(response);
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    if request.uri().path() == "/hold" {
        state.holding.fetch_add(1, Ordering::SeqCst);
        state.gate.acquire().await.expect("it is never closed").forget();
    }
    Ok(response)
}

/// Checks so often that a test need not wait, and forgives slow answers.
const HEALTH: &str =
    "health: { path: /how, interval: 10ms, timeout: 20, down_after: 2, up_after: 2 }";

async fn before(hosts: &[&TestHost], more: &str) -> Running {
    let hosts: Vec<_> = hosts.iter().map(|host| host.address.to_string()).collect();
    Running::start(&format!("upstreams:\n  a:\n    hosts: {hosts:?}\n    {more}\n")).await
}

fn is_up(running: &Running, host: usize) -> bool {
    running.upstream(0).hosts[host].is_up()
}

async fn ask(running: &Running) -> StatusCode {
    get(&Client::new(), &running.uri("/it")).await.0
}

#[tokio::test]
async fn a_host_that_is_killed_is_left_out_and_comes_back() {
    let (one, two) = (TestHost::start().await, TestHost::start().await);
    let running = before(&[&one, &two], HEALTH).await;
    while one.requests() == 0 || two.requests() == 0 {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
    let address = one.address;
    drop(one);
    // Whoever comes before it is noticed goes to the other one.
    for _ in 0..20 {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
    eventually(|| !is_up(&running, 0)).await;
    let (errors, requests) = {
        let host = &running.upstream(0).hosts[0];
        (host.errors.get(), host.requests.get())
    };
    for _ in 0..20 {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
    let host = &running.upstream(0).hosts[0];
    assert_eq!((host.errors.get(), host.requests.get()), (errors, requests), "nobody tries it");
    assert!(is_up(&running, 1));

    let one = TestHost::at(address).await;
    eventually(|| is_up(&running, 0)).await;
    while one.requests() == 0 {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
    assert_eq!(running.upstream(0).tally.errors.get(), 0, "no client has noticed");
}

#[tokio::test]
async fn a_host_without_checks_is_left_out_by_the_pool() {
    let (one, two) = (TestHost::start().await, TestHost::start().await);
    let running = before(&[&one, &two], "").await;
    drop(one);
    let pool = running.upstream(0).client.pool();
    let key = &running.upstream(0).hosts[0].key;
    while pool.group_status(key).health == slabpool::managed::Health::Up {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
    assert!(pool.stats().connects.errors >= 3);
    for _ in 0..10 {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_host_that_is_not_fit_is_drained() {
    let (one, two) = (TestHost::start().await, TestHost::start().await);
    let running = before(&[&one, &two], HEALTH).await;
    // Some are held, on either host, and some connections are idle.
    let mut asking = JoinSet::new();
    while one.state.holding.load(Ordering::SeqCst) == 0 {
        let uri = running.uri("/hold");
        let held =
            || one.state.holding.load(Ordering::SeqCst) + two.state.holding.load(Ordering::SeqCst);
        let before = held();
        asking.spawn(async move { get(&Client::new(), &uri).await.0 });
        eventually(|| held() > before).await;
    }
    one.set_fit(false);
    eventually(|| !is_up(&running, 0)).await;
    let health = |page: &str| {
        let page: serde_json::Value = serde_json::from_str(page).unwrap();
        page["upstreams"][0]["hosts"][0]["health"].as_str().unwrap().to_owned()
    };
    assert_eq!(health(&running.page("/pool.json").await.1), "draining");
    let requests = one.requests();
    for _ in 0..20 {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
    assert_eq!(one.requests(), requests);
    for host in [&one, &two] {
        host.state.gate.add_permits(asking.len());
    }
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK, "what it had begun it could finish");
    }
    let pool = running.upstream(0).client.pool();
    let key = running.upstream(0).hosts[0].key.clone();
    eventually(|| pool.group_status(&key).leased == 0).await;
    assert_eq!(pool.group_status(&key).idle, 0);
    assert_eq!(health(&running.page("/pool.json").await.1), "down");

    one.set_fit(true);
    eventually(|| is_up(&running, 0)).await;
    assert_eq!(health(&running.page("/pool.json").await.1), "up");
    while one.requests() == requests {
        assert_eq!(ask(&running).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn with_no_host_left_clients_are_told() {
    let one = TestHost::start().await;
    one.set_fit(false);
    let running = before(&[&one], HEALTH).await;
    eventually(|| !is_up(&running, 0)).await;
    let (status, text) = get(&Client::new(), &running.uri("/it")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "upstream a: no host is in service\n");
    let questions = one.state.questions.load(Ordering::SeqCst);
    eventually(|| one.state.questions.load(Ordering::SeqCst) > questions + 2).await;
    assert_eq!(running.upstream(0).client.pool().status().leased, 0, "it is asked beside the pool");
}

#[tokio::test]
async fn as_many_connections_as_are_to_be_kept_are_opened_at_the_start() {
    let (one, two) = (TestHost::start().await, TestHost::start().await);
    let pool = "connection_pool: { min_connections: 3 }";
    let own = format!("overrides: {{ '{}': {{ min_connections: 1 }} }}", two.address);
    let running = before(&[&one, &two], &format!("{pool}\n    {own}")).await;
    let idle = || {
        let upstream = running.upstream(0);
        upstream.hosts.iter().map(|host| upstream.client.pool().group_status(&host.key).idle)
    };
    eventually(|| idle().eq([3, 1])).await;
    assert_eq!((one.requests(), two.requests()), (0, 0));
}

#[tokio::test]
async fn settings_of_pools_change_while_it_runs() {
    let one = TestHost::start().await;
    let file = |address: SocketAddr, pool: &str| {
        let text =
            format!("upstreams: {{ a: {{ hosts: ['{address}'], connection_pool: {pool} }} }}");
        Config::parse(&text, "yaml").unwrap()
    };
    let running =
        before(&[&one], "connection_pool: { max_connections: 7, min_connections: 2 }").await;
    let pool = running.upstream(0).client.pool();
    eventually(|| pool.status().idle == 2).await;
    let lines = running.proxy.reload(&file(one.address, "{ max_connections: 1 }"));
    assert_eq!(lines, ["upstreams.a: the settings of its pool are in force"]);
    let settings = pool.settings();
    assert_eq!((settings.max_connections_per_group, settings.pool.min_idle_per_group), (1, 0));
    assert_eq!(pool.status().idle, 1, "one of them was one too many");

    let lines = running.proxy.reload(&file(one.address, "{}"));
    assert_eq!(lines.len(), 1);
    assert!(pool.settings().max_connections_per_group > 1_000_000, "as by default");

    let mut other = file("127.0.0.1:9".parse().unwrap(), "{ max_connections: 5 }");
    other.max_in_flight = 3;
    let service = other.upstreams["a"].clone();
    other.upstreams.insert("b".to_owned(), service);
    let lines = running.proxy.reload(&other).join("\n");
    for part in [
        "upstreams.a: the settings of its pool are in force, what else differs needs a new start",
        "upstreams.b: it is new, which needs a new start",
        "max_in_flight: to change it needs a new start",
    ] {
        assert!(lines.contains(part), "{lines}");
    }
    assert_eq!(pool.settings().max_connections_per_group, 5);
    assert_eq!(ask(&running).await, StatusCode::OK);
}
