//! The demonstration: the same load with and without pooling, and what must hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use slabpool::CloseReason;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::load::{Plan, Seen, client, deserter, fetch};
use crate::origin::{AnyError, Habits, Identity, Origin};
use crate::proxy::config::Config;
use crate::proxy::{End, Proxy, Upstream, serve};
use crate::report;

/// How long each of the two runs takes.
const LOAD_TIME: Duration = Duration::from_secs(4);

/// The progress bar moves this often.
const FRAME: Duration = Duration::from_millis(50);

/// What the slow upstream waits, twice for each answer.
const SLOW_DELAY: Duration = Duration::from_millis(10);

/// An upstream, what its hosts do, and what its clients do.
struct Case {
    hosts: usize,
    habits: Habits,
    plan: Plan,
}

const HABITS: Habits = Habits { tls: false, delay: Duration::ZERO, patience: None };

/// The load is the clients', not as much as the proxy can take: without a pool, each request
/// costs a port for a minute.
const CASES: [Case; 4] = [
    Case {
        hosts: 2,
        habits: HABITS,
        plan: Plan { host: "ordinary", clients: 6, burst: 1, pause: Duration::from_millis(3) },
    },
    Case {
        hosts: 1,
        habits: Habits { tls: true, ..HABITS },
        plan: Plan { host: "secure", clients: 6, burst: 1, pause: Duration::from_millis(9) },
    },
    Case {
        hosts: 1,
        habits: Habits { delay: SLOW_DELAY, ..HABITS },
        plan: Plan { host: "slow", clients: 8, burst: 1, pause: Duration::ZERO },
    },
    Case {
        // The pauses are longer than the upstream's patience: connections die in them.
        hosts: 1,
        habits: Habits { patience: Some(Duration::from_secs(1)), ..HABITS },
        plan: Plan { host: "closing", clients: 4, burst: 20, pause: Duration::from_millis(1_150) },
    },
];

pub async fn run() -> Result<ExitCode, AnyError> {
    let bar = ProgressBar::new(2 * LOAD_TIME.as_millis() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}")?);
    let identity = Identity::new()?;
    let trusted = Trusted::write(&identity)?;
    let pooled = drive(true, &identity, &trusted, &bar).await?;
    let unpooled = drive(false, &identity, &trusted, &bar).await?;
    bar.finish_and_clear();
    print!("{}", report::table(&[("on", &pooled.proxy), ("off", &unpooled.proxy)]));
    println!();
    let mut held = true;
    for (expectation, holds) in expectations(&pooled, &unpooled) {
        println!("{}  {expectation}", if holds { "ok    " } else { "FAILED" });
        held &= holds;
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file with the certificate that the proxy trusts, as long as this is there.
struct Trusted(PathBuf);

impl Trusted {
    fn write(identity: &Identity) -> Result<Self, AnyError> {
        let name = format!("slabpool-reverse-proxy-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, identity.pem())?;
        Ok(Self(path))
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// The same as in a file: an upstream for each of the cases, and a route by its name.
fn config(cases: &[(&Case, Vec<Origin>)], trusted: &Trusted, pooling: bool) -> String {
    let (mut upstreams, mut routes) = ("upstreams:\n".to_owned(), "routes:\n".to_owned());
    for (Case { habits, plan, .. }, origins) in cases {
        let name = plan.host;
        let hosts: Vec<_> = origins.iter().map(|origin| origin.address.to_string()).collect();
        upstreams.push_str(&format!("  {name}:\n"));
        let mut add = |line: &str| upstreams.push_str(&format!("    {line}\n"));
        add(&format!("hosts: {hosts:?}"));
        if pooling {
            add("connection_pool: { max_connections: 32, idle_timeout_seconds: 30 }");
        } else {
            add("connection_pool: { max_connections: 32, max_uses: 1 }");
        }
        if habits.tls {
            add(&format!("tls: {{ server_name: localhost, ca_file: {:?} }}", trusted.0));
            add(&format!("http2: {pooling}"));
        }
        // It closes without a word what is idle for too long.
        add(&format!("careful: {}", habits.patience.is_some()));
        routes.push_str(&format!("  - {{ host: {name}, upstream: {name} }}\n"));
    }
    upstreams + &routes
}

/// What is left of a run.
struct Outcome {
    proxy: Arc<Proxy>,
    /// By the names of their upstreams.
    origins: Vec<(&'static str, Vec<Origin>)>,
    seen: Arc<Seen>,
    pages: bool,
    end: End,
}

impl Outcome {
    fn upstream(&self, name: &str) -> &Upstream {
        let found = self.proxy.upstreams().iter().find(|upstream| upstream.name == name);
        found.expect("each case has one")
    }

    fn closes(&self, name: &str, reason: CloseReason) -> u64 {
        self.upstream(name).client.pool().stats().pool.closes[reason]
    }

    /// Connections that were opened to this upstream.
    fn opened(&self, name: &str) -> u64 {
        self.upstream(name).client.pool().stats().connects.opened
    }
}

async fn drive(
    pooling: bool,
    identity: &Identity,
    trusted: &Trusted,
    bar: &ProgressBar,
) -> Result<Outcome, AnyError> {
    let mut cases = Vec::new();
    for case in &CASES {
        let mut origins = Vec::new();
        for _ in 0..case.hosts {
            origins.push(Origin::start(case.habits, identity).await?);
        }
        cases.push((case, origins));
    }
    let config = Config::parse(&config(&cases, trusted, pooling), "yaml")?;
    let proxy = Arc::new(Proxy::new(&config)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (address, pages) = (listener.local_addr()?, admin.local_addr()?);
    bar.println(format!("see http://{pages}/pool while it runs"));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let serving = tokio::spawn(serve(Arc::clone(&proxy), listener, Some(admin), stopped));

    let seen = Arc::new(Seen::default());
    let mut clients = put_under_load(address, &seen);
    let name = if pooling { "pooling on" } else { "pooling off" };
    show(bar, name, Instant::now() + LOAD_TIME, &seen).await;
    let pages = check_pages(pages).await.is_ok_and(|fit| fit);
    while clients.join_next().await.is_some() {}
    drop(stop);
    let end = serving.await?;
    let origins: Vec<_> = cases.into_iter().map(|(case, it)| (case.plan.host, it)).collect();
    settle(&origins).await;
    Ok(Outcome { proxy, origins, seen, pages, end })
}

fn put_under_load(proxy: SocketAddr, seen: &Arc<Seen>) -> JoinSet<()> {
    let end = Instant::now() + LOAD_TIME;
    let mut clients = JoinSet::new();
    for Case { habits, plan, .. } in CASES {
        for number in 0..plan.clients {
            let seen = Arc::clone(seen);
            clients.spawn(async move { client(proxy, plan, number, end, &seen).await });
        }
        if !habits.delay.is_zero() {
            let seen = Arc::clone(seen);
            clients.spawn(async move {
                if let Err(error) = deserter(proxy, plan.host, SLOW_DELAY, end, &seen).await {
                    eprintln!("could not desert: {error}");
                }
            });
        }
    }
    clients
}

/// Whether the pages for those who look after the proxy tell of all the upstreams.
async fn check_pages(admin: SocketAddr) -> Result<bool, AnyError> {
    let metrics = fetch(admin, "/metrics").await?;
    let pool: serde_json::Value = serde_json::from_str(&fetch(admin, "/pool.json").await?)?;
    let told = |case: &Case| {
        let name = case.plan.host;
        let line = format!("slabpool_capacity{{pool=\"{name}\"}}");
        let upstreams = pool["upstreams"].as_array();
        let found = upstreams.and_then(|all| all.iter().find(|it| it["name"] == name));
        metrics.contains(&line)
            && found.is_some_and(|it| it["hosts"].as_array().map(Vec::len) == Some(case.hosts))
    };
    Ok(CASES.iter().all(told))
}

async fn show(bar: &ProgressBar, name: &'static str, end: Instant, seen: &Seen) {
    let start = bar.position();
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        bar.set_position(start + LOAD_TIME.saturating_sub(left).as_millis() as u64);
        let (right, wrong) = (&seen.right, &seen.wrong);
        bar.set_message(format!(
            "{name}: {} answers, {} failures",
            right.load(Ordering::Relaxed),
            wrong.load(Ordering::Relaxed),
        ));
        sleep_until(end.min(Instant::now() + FRAME)).await;
    }
    bar.set_position(start + LOAD_TIME.as_millis() as u64);
}

/// Waits until the upstreams have noticed that their connections were closed.
async fn settle(origins: &[(&str, Vec<Origin>)]) {
    let late = Instant::now() + Duration::from_secs(1);
    let open = || origins.iter().flat_map(|(_, hosts)| hosts).any(|origin| origin.open() > 0);
    while open() && Instant::now() < late {
        sleep(Duration::from_millis(5)).await;
    }
}

fn expectations(pooled: &Outcome, unpooled: &Outcome) -> Vec<(&'static str, bool)> {
    let both = |holds: fn(&Outcome) -> bool| holds(pooled) && holds(unpooled);
    let tally = |name: &str| &pooled.upstream(name).tally;
    let clients = |name: &str| -> u64 {
        let plans = CASES.iter().map(|case| case.plan);
        plans.filter(|plan| plan.host == name).map(|plan| plan.clients as u64).sum()
    };
    vec![
        (
            "every request got its own answer, whatever became of the connection",
            both(|run| {
                run.seen.wrong.load(Ordering::Relaxed) == 0
                    && run.seen.right.load(Ordering::Relaxed) > 0
                    && run.proxy.upstreams().iter().all(|upstream| upstream.tally.errors.get() == 0)
            }),
        ),
        ("ordinary requests took no more connections than there are clients, at each host", {
            let hosts = pooled.upstream("ordinary").hosts.len() as u64;
            tally("ordinary").reused.get() > 0
                && pooled.opened("ordinary") <= clients("ordinary") * hosts
        }),
        ("their load was spread over both hosts", {
            pooled.upstream("ordinary").hosts.iter().all(|host| host.requests.get() > 0)
        }),
        ("fewer connections of TLS and HTTP/2 than clients were enough", {
            pooled.opened("secure") < clients("secure")
        }),
        ("connections died while they were idle, and were found", {
            pooled.closes("closing", CloseReason::Dead) > tally("closing").repeated.get()
        }),
        ("others died unseen, and their requests were repeated", {
            tally("closing").repeated.get() > 0
        }),
        ("clients that went away took their connections with them", {
            pooled.seen.deserted.load(Ordering::Relaxed) > 0
                && pooled.closes("slow", CloseReason::Unhealthy) > 0
        }),
        ("without pooling, nothing was reused", {
            unpooled.proxy.upstreams().iter().all(|upstream| upstream.tally.reused.get() == 0)
        }),
        (
            "the upstreams saw as many connections as the proxy opened",
            both(|run| {
                run.origins.iter().all(|(name, hosts)| {
                    run.opened(name) == hosts.iter().map(Origin::accepted).sum::<u64>()
                })
            }),
        ),
        ("/metrics and /pool.json told of all upstreams", both(|run| run.pages)),
        (
            "nobody was cut off, and nothing is left open",
            both(|run| {
                run.end.is_complete()
                    && run.origins.iter().flat_map(|(_, hosts)| hosts).all(|it| it.open() == 0)
            }),
        ),
    ]
}
