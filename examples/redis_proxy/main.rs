//! A proxy for Redis: many clients, few connections, in a `slabpool::managed::Pool`.
//!
//! A demonstration with a server and clients of its own; it needs `redis-server`, on
//! Debian by `apt-get install redis-server`:
//!
//! ```text
//! cargo run --release --example redis_proxy -- --demo
//! ```
//!
//! A proxy for a server that is there; Ctrl-C ends it, once the commands and transactions
//! that run are done:
//!
//! ```text
//! cargo run --release --example redis_proxy -- --listen 127.0.0.1:6380 \
//!     --redis 127.0.0.1:6379 --max-connections 8
//! ```
//!
//! For how the pool is used, and what clients may do, read `proxy/mod.rs`.

mod client;
mod demo;
mod proxy;
mod redis;

use std::error::Error;
use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;

use proxy::{Proxy, Settings};

/// A proxy for Redis with pooled connections.
#[derive(Debug, Parser)]
struct Arguments {
    /// Start a server, a proxy and clients, break connections, and check what comes of it.
    #[arg(long, exclusive = true)]
    demo: bool,
    /// Where to listen for clients.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6380")]
    listen: SocketAddr,
    /// The server.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
    /// The most connections to the server.
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_connections: usize,
    /// How long commands and transactions may take after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_timeout: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.demo { demo::run().await } else { serve(arguments).await }
}

async fn serve(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let max_connections = arguments.max_connections;
    let settings = Settings { max_connections, ..Settings::new(arguments.redis) };
    let proxy = Arc::new(Proxy::new(settings)?);
    let listener = TcpListener::bind(arguments.listen).await?;
    eprintln!("listening on {}, for {}", listener.local_addr()?, arguments.redis);
    let stop = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // No signals here: serve until killed.
            std::future::pending::<()>().await;
        }
        eprintln!("waiting for commands that run");
    };
    let drain = Duration::from_secs(arguments.drain_timeout);
    let end = proxy::serve(Arc::clone(&proxy), listener, stop, drain).await;
    if end.cut_off > 0 {
        eprintln!("cut off {} clients", end.cut_off);
    }
    if !end.drained.is_complete() {
        eprintln!("{}", end.drained);
    }
    print!("{}", summary(&proxy));
    Ok(ExitCode::SUCCESS)
}

/// What has happened, a line for each number.
fn summary(proxy: &Proxy) -> String {
    let tally = proxy.tally();
    let hits = format!("{:.1} % of {}", tally.hit_ratio() * 100.0, tally.leases.get());
    let lines: [(&str, String); 9] = [
        ("commands", tally.commands.get().to_string()),
        ("errors of the proxy", tally.errors.get().to_string()),
        ("connects", tally.connects.get().to_string()),
        ("connects that failed", (tally.connects.get() - tally.connected.get()).to_string()),
        ("a connection was there", hits),
        ("waited for somebody else's", tally.waits.get().to_string()),
        ("mean wait", format!("{:?}", tally.waited_mean())),
        ("repeated", tally.retries.get().to_string()),
        ("pings of idle connections", tally.checks.get().to_string()),
    ];
    let mut table = String::new();
    for (name, value) in lines {
        writeln!(table, "{name:28}{value}").expect("a string takes everything");
    }
    table
}
