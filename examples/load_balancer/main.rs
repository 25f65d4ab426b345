//! A small HTTP/1.1 load balancer: many clients, several hosts, one
//! `slabpool::managed::Pool`.
//!
//! A demonstration that needs nothing else, with hosts and clients of its own; one of the
//! hosts is killed under load, and comes back:
//!
//! ```text
//! cargo run --release --example load_balancer -- --demo
//! ```
//!
//! A balancer for two servers that answer `/health`; Ctrl-C ends it, once the running
//! requests are done:
//!
//! ```text
//! cargo run --release --example load_balancer -- --listen 127.0.0.1:8080 \
//!     --host 127.0.0.1:9001 --host 127.0.0.1:9002
//! ```
//!
//! For how the pool is used, read `balancer/mod.rs`.

mod balancer;
mod client;
mod demo;
mod origin;
mod report;
mod scenario;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;

use balancer::{Balancer, Settings};

/// A load balancer with pooled connections.
#[derive(Debug, Parser)]
struct Arguments {
    /// Start hosts, a balancer and clients, kill a host, and check what comes of it.
    #[arg(long, exclusive = true)]
    demo: bool,
    /// Where to listen for clients.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A server that gets its part of the requests. Once for each.
    #[arg(long, value_name = "ADDR", required_unless_present = "demo")]
    host: Vec<SocketAddr>,
    /// The most connections to each host.
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_connections: usize,
    /// What to ask a host for, to see whether it is fit.
    #[arg(long, value_name = "PATH", default_value = "/health")]
    health_path: String,
    /// How often.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    check_interval: u64,
    /// How long running requests may take after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_timeout: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.demo { demo::run().await } else { serve(arguments).await }
}

async fn serve(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let settings = Settings {
        max_connections: arguments.max_connections,
        health_path: arguments.health_path,
        check_interval: Duration::from_secs(arguments.check_interval),
        on_turn: |host, up| {
            eprintln!("{host} is {}", if up { "in service again" } else { "out of service" });
        },
        ..Settings::default()
    };
    let balancer = Balancer::new(&arguments.host, settings).map_err(|error| error.to_string())?;
    let balancer = Arc::new(balancer);
    let listener = TcpListener::bind(arguments.listen).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    let stop = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // No signals here: serve until killed.
            std::future::pending::<()>().await;
        }
        eprintln!("waiting for running requests");
    };
    let drain = Duration::from_secs(arguments.drain_timeout);
    let end = balancer::serve(Arc::clone(&balancer), listener, stop, drain).await;
    if end.cut_off > 0 {
        eprintln!("cut off {} clients", end.cut_off);
    }
    if !end.drained.is_complete() {
        eprintln!("{}", end.drained);
    }
    print!("{}", report::table(&balancer));
    Ok(ExitCode::SUCCESS)
}
