//! What is printed at the end.

use std::fmt::Write;
use std::time::Duration;

use crate::proxy::{Proxy, Tally};

/// A line for each upstream of each proxy, those of the same place one below the
/// other.
pub fn table(proxies: &[(&str, &Proxy)]) -> String {
    let rows = proxies.iter().map(|(_, proxy)| proxy.upstreams().len()).max().unwrap_or(0);
    let names = proxies.iter().flat_map(|(_, proxy)| proxy.upstreams());
    let width = names.map(|upstream| upstream.name.len()).max().unwrap_or(0).max(8);
    let mut table = format!(
        "{:width$}  {:7}  {:>8}  {:>6}  {:>6}  {:>7}  {:>7}  {:>9}  {:>8}  {:>8}  {}\n",
        "upstream",
        "pooling",
        "requests",
        "errors",
        "opened",
        "reused",
        "retried",
        "dead idle",
        "p50 ms",
        "p99 ms",
        "closed by the pool",
    );
    for row in 0..rows {
        for (pooling, proxy) in proxies {
            let Some(upstream) = proxy.upstreams().get(row) else { continue };
            let tally = &upstream.tally;
            let line = writeln!(
                table,
                "{:width$}  {pooling:7}  {:>8}  {:>6}  {:>6}  {:>5.1} %  {:>7}  {:>9}  \
                 {:>8.2}  {:>8.2}  {}",
                upstream.name,
                tally.requests.get(),
                tally.errors.get(),
                tally.opened.get(),
                tally.reuse_ratio() * 100.0,
                tally.retries.get(),
                tally.dead.get(),
                milliseconds(tally.latency(0.5)),
                milliseconds(tally.latency(0.99)),
                closes(tally),
            );
            line.expect("a string takes everything");
        }
    }
    table
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn closes(tally: &Tally) -> String {
    let closes = tally.closes().filter(|&(_, count)| count > 0);
    let closes: Vec<_> = closes.map(|(reason, count)| format!("{reason} {count}")).collect();
    if closes.is_empty() { "-".to_owned() } else { closes.join(", ") }
}
