//! A small HTTP/1.1 reverse proxy that keeps its upstream connections in a
//! `slabpool`.
//!
//! A demonstration that needs nothing else, with upstreams and clients of its own:
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --demo
//! ```
//!
//! A proxy for two servers, one request to each in turn; Ctrl-C ends it, once the
//! running requests are done:
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --listen 127.0.0.1:8080 \
//!     --upstream 127.0.0.1:9001 --upstream 127.0.0.1:9002
//! ```
//!
//! `--upstream shop=127.0.0.1:9003` gets what is for the host `shop`, besides its
//! turn. For how the pool is used, read `proxy/mod.rs`.

mod demo;
mod load;
mod origin;
mod proxy;
mod report;

use std::error::Error;
use std::net::{AddrParseError, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;

use proxy::{Proxy, Settings, Upstream};

/// A reverse proxy with pooled upstream connections.
#[derive(Debug, Parser)]
struct Arguments {
    /// Start upstreams, a proxy and clients, show what pooling does, and check it.
    #[arg(long, exclusive = true)]
    demo: bool,
    /// Where to listen for clients.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where requests go, in turn; with a name, also those for that host.
    #[arg(long, value_name = "[NAME=]ADDR", value_parser = upstream)]
    #[arg(required_unless_present = "demo")]
    upstream: Vec<(String, SocketAddr)>,
    /// How long an upstream connection may stay idle.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    idle_timeout: u64,
    /// The most upstream connections in the pool; 0 turns pooling off. Default: a
    /// fifth of the limit on file descriptors.
    #[arg(long, value_name = "N")]
    capacity: Option<usize>,
    /// How long to wait for a connection to an upstream.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    connect_timeout: u64,
    /// How long running requests may take after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_timeout: u64,
}

fn upstream(text: &str) -> Result<(String, SocketAddr), AddrParseError> {
    let (name, address) = text.split_once('=').unwrap_or((text, text));
    Ok((name.to_owned(), address.parse()?))
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.demo { demo::run().await } else { serve(arguments).await }
}

async fn serve(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let settings = Settings {
        capacity: arguments.capacity,
        idle_timeout: Duration::from_secs(arguments.idle_timeout),
        connect_timeout: Duration::from_secs(arguments.connect_timeout),
        ..Settings::default()
    };
    let upstreams = arguments.upstream.into_iter().map(|(name, at)| Upstream::new(name, at));
    let proxy = Arc::new(Proxy::new(upstreams.collect(), settings)?);
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
    let end = proxy::serve(Arc::clone(&proxy), listener, stop, drain).await;
    if end.cut_off > 0 {
        eprintln!("cut off {} clients", end.cut_off);
    }
    if !end.drained.is_complete() {
        eprintln!("{}", end.drained);
    }
    let pooling = if arguments.capacity == Some(0) { "off" } else { "on" };
    print!("{}", report::table(&[(pooling, &proxy)]));
    Ok(ExitCode::SUCCESS)
}
