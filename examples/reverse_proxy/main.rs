//! A reverse proxy that keeps its upstream connections in a `slabpool`.
//!
//! It speaks HTTP/1.1 and HTTP/2 to its clients, and either of them, over TCP and TLS, to
//! several upstreams of several hosts each; it balances the load over hosts, checks how they
//! are, and shows what its pools do. What it can be told is in `proxy.yaml`.
//!
//! ```text
//! cargo run --release --all-features --example reverse_proxy -- --config proxy.yaml
//! ```
//!
//! `--check` reads the file, says what cannot be, and ends. Ctrl-C or SIGTERM end the proxy,
//! once the running requests are done; SIGHUP reads the file again, for the settings of the
//! pools.
//!
//! Without a file, for two hosts and one more for what asks for the host `shop`:
//!
//! ```text
//! cargo run --release --all-features --example reverse_proxy -- --listen 127.0.0.1:8080 \
//!     --upstream 127.0.0.1:9001 --upstream 127.0.0.1:9002 --upstream shop=127.0.0.1:9003
//! ```
//!
//! A demonstration that needs nothing else, with upstreams and clients of its own:
//!
//! ```text
//! cargo run --release --all-features --example reverse_proxy -- --demo
//! ```
//!
//! For how the pool is used, read `proxy/mod.rs`.

mod demo;
mod load;
mod origin;
mod proxy;
mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use origin::AnyError;
use proxy::config::{Config, Route, Service};
use proxy::{Proxy, serve};

/// A reverse proxy with pooled upstream connections.
#[derive(Debug, Parser)]
struct Arguments {
    /// Start upstreams, a proxy and clients, show what pooling does, and check it.
    #[arg(long, exclusive = true)]
    demo: bool,
    /// What to do, in YAML, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    #[arg(required_unless_present_any = ["demo", "upstream"], conflicts_with = "upstream")]
    config: Option<PathBuf>,
    /// Read the file, say what cannot be, and end.
    #[arg(long, requires = "config")]
    check: bool,
    /// Where to listen for clients. Goes before what the file says.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where to show /metrics and /pool. Goes before what the file says.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Where requests go, if there is no file; with a name, those for that host.
    #[arg(long, value_name = "[NAME=]HOST:PORT")]
    upstream: Vec<String>,
}

impl Arguments {
    fn config(&self) -> Result<Config, proxy::config::Error> {
        let mut config = match &self.config {
            Some(path) => Config::open(path)?,
            None => of_hosts(&self.upstream),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.admin = self.admin.or(config.admin);
        config.check()?;
        Ok(config)
    }
}

/// Those with a name are upstreams of their own; the others are one together.
fn of_hosts(hosts: &[String]) -> Config {
    let mut config = Config::default();
    for host in hosts {
        let (name, host) = host.split_once('=').unwrap_or(("default", host));
        let service: &mut Service = config.upstreams.entry(name.to_owned()).or_default();
        service.hosts.push(host.to_owned());
    }
    // The default is what is left: it comes last.
    let mut names: Vec<_> = config.upstreams.keys().cloned().collect();
    names.sort_by_key(|name| name == "default");
    for name in names {
        let host = Some(name.clone()).filter(|name| name != "default");
        config.routes.push(Route { host, path_prefix: None, upstream: name });
    }
    config
}

#[tokio::main]
async fn main() -> Result<ExitCode, AnyError> {
    let arguments = Arguments::parse();
    if arguments.demo {
        return demo::run().await;
    }
    let proxy = arguments.config().and_then(|config| Ok((Proxy::new(&config)?, config)));
    let (proxy, config) = match proxy {
        Ok(built) => built,
        Err(error) => {
            let file = arguments.config.as_deref().unwrap_or(Path::new("arguments"));
            eprintln!("{}: {error}", file.display());
            return Ok(ExitCode::FAILURE);
        }
    };
    if arguments.check {
        println!("{} upstreams, {} routes", config.upstreams.len(), config.routes.len());
        return Ok(ExitCode::SUCCESS);
    }
    run(arguments, config, Arc::new(proxy)).await
}

async fn run(
    arguments: Arguments,
    config: Config,
    proxy: Arc<Proxy>,
) -> Result<ExitCode, AnyError> {
    let listener = TcpListener::bind(config.listen).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    let admin = match config.admin {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    if let Some(admin) = &admin {
        eprintln!("see http://{}/pool", admin.local_addr()?);
    }
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let reloading = Arc::clone(&proxy);
    let stop = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => match arguments.config() {
                    Ok(config) => reloading.reload(&config).iter().for_each(|it| eprintln!("{it}")),
                    Err(error) => eprintln!("nothing is changed: {error}"),
                },
            }
        }
        eprintln!("waiting for running requests");
    };
    let end = serve(Arc::clone(&proxy), listener, admin, stop).await;
    if end.cut_off > 0 {
        eprintln!("cut off {} clients", end.cut_off);
    }
    for drained in end.drained.iter().filter(|drained| !drained.is_complete()) {
        eprintln!("{drained}");
    }
    print!("{}", report::table(&[("on", &proxy)]));
    Ok(ExitCode::SUCCESS)
}
