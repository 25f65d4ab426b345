//! What is printed at the end.

use std::fmt::{Display, Write};
use std::time::Duration;

use slabpool::CloseReason;

use crate::proxy::{Proxy, Tally};

/// A line for each upstream of each proxy, those of the same place one below the
/// other; and one for each proxy that says why its pool had no connection.
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
                tally.dead(),
                milliseconds(tally.latency(0.5)),
                milliseconds(tally.latency(0.99)),
                closes(tally),
            );
            line.expect("a string takes everything");
        }
    }
    for (pooling, proxy) in proxies {
        let stats = proxy.pool().stats();
        let misses = list(stats.misses.iter());
        let ghosts = stats.ghosts;
        let line = writeln!(table, "pooling {pooling}: misses {misses}; by a rule: {ghosts}");
        line.expect("a string takes everything");
    }
    table
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn closes(tally: &Tally) -> String {
    list(CloseReason::ALL.into_iter().map(|reason| (reason, tally.closes(reason))))
}

/// Whatever there is any of, with its number.
fn list(counts: impl Iterator<Item = (impl Display, u64)>) -> String {
    let some = counts.filter(|&(_, count)| count > 0);
    let some: Vec<_> = some.map(|(what, count)| format!("{what} {count}")).collect();
    if some.is_empty() { "-".to_owned() } else { some.join(", ") }
}
