//! The demonstration: the same load with and without pooling, and what must hold.

use std::error::Error;
use std::net::Ipv4Addr;
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

use crate::load::{Plan, Seen, client, deserter};
use crate::origin::{Habits, Origin};
use crate::proxy::{End, Proxy, Settings, Upstream, serve};
use crate::report;

/// How long each of the two runs takes.
const LOAD_TIME: Duration = Duration::from_secs(4);

/// The progress bar moves this often.
const FRAME: Duration = Duration::from_millis(50);

/// What the slow upstream waits, twice for each answer.
const SLOW_DELAY: Duration = Duration::from_millis(10);

const ORDINARY: usize = 0;
const SLOW: usize = 1;
const CLOSING: usize = 2;

/// The upstreams, and what their clients do. The load is the clients', not as much
/// as the proxy can take: without a pool, each request costs a port for a minute.
const CASES: [(Habits, Plan); 3] = [
    (
        Habits { delay: Duration::ZERO, patience: None },
        Plan { host: "ordinary", clients: 6, burst: 1, pause: Duration::from_millis(3) },
    ),
    (
        Habits { delay: SLOW_DELAY, patience: None },
        Plan { host: "slow", clients: 8, burst: 1, pause: Duration::ZERO },
    ),
    (
        // The pauses are longer than the upstream's patience: connections die in them.
        Habits { delay: Duration::ZERO, patience: Some(Duration::from_secs(1)) },
        Plan { host: "closing", clients: 4, burst: 20, pause: Duration::from_millis(1_150) },
    ),
];

pub async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let bar = ProgressBar::new(2 * LOAD_TIME.as_millis() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}")?);
    let with = |capacity| Settings { capacity: Some(capacity), ..Settings::default() };
    let pooled = drive(with(64), "pooling on", &bar).await?;
    let unpooled = drive(with(0), "pooling off", &bar).await?;
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

/// What is left of a run.
struct Outcome {
    proxy: Arc<Proxy>,
    origins: Vec<Origin>,
    seen: Arc<Seen>,
    end: End,
}

async fn drive(
    settings: Settings,
    name: &'static str,
    bar: &ProgressBar,
) -> Result<Outcome, Box<dyn Error>> {
    let mut origins = Vec::new();
    let mut upstreams = Vec::new();
    for (habits, plan) in CASES {
        let origin = Origin::start(habits).await?;
        upstreams.push(Upstream::new(plan.host, origin.address));
        origins.push(origin);
    }
    let proxy = Arc::new(Proxy::new(upstreams, settings)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let serving = tokio::spawn(serve(Arc::clone(&proxy), listener, stopped, SLOW_DELAY * 100));

    let seen = Arc::new(Seen::default());
    let end = Instant::now() + LOAD_TIME;
    let mut clients = JoinSet::new();
    for (_, plan) in CASES {
        for number in 0..plan.clients {
            let seen = Arc::clone(&seen);
            clients.spawn(async move { client(address, plan, number, end, &seen).await });
        }
    }
    let deserted = Arc::clone(&seen);
    clients.spawn(async move {
        let host = CASES[SLOW].1.host;
        if let Err(error) = deserter(address, host, SLOW_DELAY, end, &deserted).await {
            eprintln!("could not desert: {error}");
        }
    });
    show(bar, name, end, &seen).await;
    while clients.join_next().await.is_some() {}
    drop(stop);
    let end = serving.await?;
    settle(&origins).await;
    Ok(Outcome { proxy, origins, seen, end })
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
async fn settle(origins: &[Origin]) {
    let late = Instant::now() + Duration::from_secs(1);
    while origins.iter().any(|origin| origin.open() > 0) && Instant::now() < late {
        sleep(Duration::from_millis(5)).await;
    }
}

fn expectations(pooled: &Outcome, unpooled: &Outcome) -> Vec<(&'static str, bool)> {
    let both = |holds: fn(&Outcome) -> bool| holds(pooled) && holds(unpooled);
    let tally = |index: usize| &pooled.proxy.upstreams()[index].tally;
    vec![
        (
            "every request got its own answer, whatever became of the connection",
            both(|run| {
                run.seen.wrong.load(Ordering::Relaxed) == 0
                    && run.seen.right.load(Ordering::Relaxed) > 0
                    && run.proxy.upstreams().iter().all(|upstream| upstream.tally.errors.get() == 0)
            }),
        ),
        ("more than 99 % of the ordinary requests reused a connection", {
            tally(ORDINARY).reuse_ratio() > 0.99
        }),
        ("connections died while they were idle, and were found", {
            tally(CLOSING).dead() > tally(CLOSING).retries.get()
        }),
        ("others died unseen, and their requests were repeated", tally(CLOSING).retries.get() > 0),
        ("clients that went away took their connections with them", {
            pooled.seen.deserted.load(Ordering::Relaxed) > 0
                && tally(SLOW).closes(CloseReason::Dropped) > 0
        }),
        ("without pooling, nothing was reused", {
            unpooled.proxy.upstreams().iter().all(|upstream| upstream.tally.reused.get() == 0)
        }),
        (
            "the upstreams saw as many connections as the proxy opened",
            both(|run| {
                let opened =
                    run.proxy.upstreams().iter().map(|upstream| upstream.tally.opened.get());
                opened.eq(run.origins.iter().map(Origin::accepted))
            }),
        ),
        (
            "nobody was cut off, and nothing is left open",
            both(|run| {
                run.end.cut_off == 0
                    && run.end.drained.is_complete()
                    && run.origins.iter().all(|origin| origin.open() == 0)
            }),
        ),
    ]
}
