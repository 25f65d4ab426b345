//! Fetches what is named on the command line, and says how: the status, the time, and
//! whether the connection was new.
//!
//! ```console
//! $ cargo run --example http_client --features http-client,rustls -- http://127.0.0.1:8080/ http://127.0.0.1:8080/
//! ```
//!
//! One after the other; with `--together` at the same time, and `--times 3` each so often.
//! `--trust FILE` names certificates (DER) that are trusted over TLS, without which there is
//! no `https`; `--http2` speaks HTTP/2 without being asked by TLS.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, Uri, Version};
use slabpool::http::{Client, Travel};
use tokio::task::JoinSet;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Fetches pages on pooled connections.
#[derive(Parser, Debug)]
pub(crate) struct Options {
    /// What to fetch: http:// or https://.
    #[arg(required = true)]
    uris: Vec<Uri>,
    /// How often to fetch each of them.
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// Fetch all of them at the same time.
    #[arg(long)]
    together: bool,
    /// Speak HTTP/2 to all servers.
    #[arg(long)]
    http2: bool,
    /// A file with a certificate (DER) to trust.
    #[arg(long)]
    trust: Vec<PathBuf>,
}

/// What has come of one request.
#[derive(Debug)]
pub(crate) struct Fetched {
    uri: Uri,
    status: StatusCode,
    version: Version,
    bytes: usize,
    /// Until the head of the answer was there, and until all of it was.
    head: Duration,
    whole: Duration,
    travel: Travel,
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, status, version, bytes, head, whole, travel } = self;
        let connection = match travel.connection {
            it if it.reused => format!("reused, use {}", it.uses),
            it => format!("new after {:.1?}", it.waited),
        };
        let again = if travel.repeated { ", sent twice" } else { "" };
        write!(f, "{} {version:?} {bytes:>8} bytes  ", status.as_u16())?;
        write!(f, "head {head:>8.1?}  whole {whole:>8.1?}  {connection}{again}  {uri}")
    }
}

/// The outcome of one request.
pub(crate) type Fetching = Result<Fetched, Box<dyn Error + Send + Sync>>;

async fn fetch(client: Client<Empty<Bytes>>, uri: Uri) -> Fetching {
    let start = Instant::now();
    let response = client.request(Request::get(uri.clone()).body(Empty::new())?).await?;
    let head = start.elapsed();
    let (status, version) = (response.status(), response.version());
    let travel = *response.body().travel();
    // To its end, or the connection is of no more use.
    let bytes = response.into_body().collect().await?.to_bytes().len();
    Ok(Fetched { uri, status, version, bytes, head, whole: start.elapsed(), travel })
}

fn client(options: &Options) -> Result<Client<Empty<Bytes>>, Box<dyn Error + Send + Sync>> {
    let mut builder = Client::builder()
        .pool(|pool| pool.max_connections_per_group(32))
        .response_timeout(Duration::from_secs(30));
    if options.http2 {
        builder = builder.http2_only();
    }
    if !options.trust.is_empty() {
        let mut roots = RootCertStore::empty();
        for path in &options.trust {
            roots.add(std::fs::read(path)?.into())?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        builder = builder.tls(Arc::new(config.with_no_client_auth()));
    }
    Ok(builder.build()?)
}

/// Fetches all, and hands what has come of each to `tell`. Returns how many connections
/// that took.
pub(crate) async fn act(
    options: Options,
    mut tell: impl FnMut(Fetching),
) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let client = client(&options)?;
    let mut tasks = JoinSet::new();
    for _ in 0..options.times {
        for uri in &options.uris {
            tasks.spawn(fetch(client.clone(), uri.clone()));
            if !options.together {
                tasks.join_next().await.into_iter().try_for_each(|it| it.map(&mut tell))?;
            }
        }
    }
    while let Some(fetched) = tasks.join_next().await {
        tell(fetched?);
    }
    Ok(client.pool().stats().connects.opened)
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut failures = 0;
    let tell = |fetched: Fetching| match fetched {
        Ok(fetched) => println!("{fetched}"),
        Err(error) => {
            failures += 1;
            eprintln!("{error}");
        }
    };
    match act(Options::parse(), tell).await {
        Ok(connections) => println!("{connections} connections"),
        Err(error) => {
            failures += 1;
            eprintln!("{error}");
        }
    }
    ExitCode::from(u8::from(failures > 0))
}
