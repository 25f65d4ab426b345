//! The demonstration: a server, a proxy, many clients, and somebody who cuts connections.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use redis_protocol::resp2::types::OwnedFrame;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Client, simple, text};
use crate::proxy::{End, Proxy, Settings, serve};
use crate::redis::Server;
use crate::summary;

const LOAD_TIME: Duration = Duration::from_secs(4);

/// The progress bar moves this often.
const FRAME: Duration = Duration::from_millis(50);

/// Between two cuts of all connections to the server.
const CUT_PAUSE: Duration = Duration::from_secs(1);

const CLIENTS: usize = 64;
const CONNECTIONS: usize = 8;

/// What clients do between two commands, for as many times this as their number modulo eight.
const THINK: Duration = Duration::from_millis(2);

/// What the clients have seen.
#[derive(Debug, Default)]
struct Seen {
    right: AtomicU64,
    wrong: AtomicU64,
    /// Errors that say that a connection was cut under a command.
    cut: AtomicU64,
}

pub async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut server = Server::start().await?;
    let settings = Settings { max_connections: CONNECTIONS, ..Settings::new(server.address) };
    let proxy = Arc::new(Proxy::new(settings)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let serving = tokio::spawn(serve(Arc::clone(&proxy), listener, stopped, LOAD_TIME));

    let seen = Arc::new(Seen::default());
    let end = Instant::now() + LOAD_TIME;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let seen = Arc::clone(&seen);
        clients.spawn(async move { load(address, number, end, &seen).await });
    }
    let bar = ProgressBar::new(LOAD_TIME.as_millis() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}")?);
    let cuts = show(&bar, &server, end, &seen).await?;
    while clients.join_next().await.is_some() {}
    bar.finish_and_clear();
    drop(stop);
    let ended = serving.await?;
    server.stop();

    print!("{}", summary(&proxy));
    println!();
    let mut held = true;
    for (expectation, holds) in expectations(&proxy, &seen, &ended, cuts) {
        println!("{}  {expectation}", if holds { "ok    " } else { "FAILED" });
        held &= holds;
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Moves the bar, and cuts all connections to the server from time to time.
async fn show(
    bar: &ProgressBar,
    server: &Server,
    end: Instant,
    seen: &Seen,
) -> Result<u64, Box<dyn Error>> {
    let mut saboteur = Client::connect(server.address).await?;
    let mut next_cut = Instant::now() + CUT_PAUSE;
    let mut cuts = 0;
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        bar.set_position(LOAD_TIME.saturating_sub(left).as_millis() as u64);
        bar.set_message(format!("{} answers", seen.right.load(Ordering::Relaxed)));
        if Instant::now() >= next_cut {
            saboteur.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await?;
            next_cut += CUT_PAUSE;
            cuts += 1;
        }
        sleep_until(end.min(Instant::now() + FRAME)).await;
    }
    Ok(cuts)
}

/// One client, until the time is over: writes and reads what nobody else does.
async fn load(proxy: SocketAddr, number: usize, end: Instant, seen: &Seen) {
    let key = format!("demo:{number}");
    let Ok(mut client) = Client::connect(proxy).await else {
        seen.wrong.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut round = 0_u64;
    while Instant::now() < end {
        round += 1;
        let value = round.to_string();
        let commands: [&[&str]; 3] = [&["SET", &key, &value], &["GET", &key], &["ECHO", &value]];
        let rights = [simple("OK"), text(value.as_str()), text(value.as_str())];
        if client.send(&commands).await.is_err() {
            break;
        }
        let mut is_set = false;
        for (index, right) in rights.iter().enumerate() {
            match client.answer().await {
                Ok(answer) if answer == *right => {
                    is_set |= index == 0;
                    seen.right.fetch_add(1, Ordering::Relaxed);
                }
                Ok(OwnedFrame::Error(text)) if text.starts_with("PROXY ") => {
                    seen.cut.fetch_add(1, Ordering::Relaxed);
                }
                // What was not set is not there.
                Ok(_) if index == 1 && !is_set => {}
                other => {
                    if seen.wrong.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("the first wrong answer: {other:?} instead of {right:?}");
                    }
                }
            }
        }
        sleep(THINK * (number as u32 % 8)).await;
    }
}

fn expectations(proxy: &Proxy, seen: &Seen, end: &End, cuts: u64) -> Vec<(&'static str, bool)> {
    let tally = proxy.tally();
    let status = proxy.pool().status();
    vec![
        ("every command got its own answer, or an error that says why not", {
            seen.wrong.load(Ordering::Relaxed) == 0 && seen.right.load(Ordering::Relaxed) > 0
        }),
        ("each cut cost at most what was under way on the connections", {
            // Three commands are under way for a client at most.
            seen.cut.load(Ordering::Relaxed) <= cuts * 3 * CONNECTIONS as u64
        }),
        ("no more connections were opened than were cut", {
            tally.connects.get() <= (cuts + 1) * CONNECTIONS as u64
        }),
        ("nobody was cut off, and nothing is left in the pool", {
            end.cut_off == 0
                && end.drained.is_complete()
                && (status.idle, status.leased, status.waiting) == (0, 0, 0)
        }),
    ]
}
