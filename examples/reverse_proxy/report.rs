//! What is printed at the end.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::proxy::Proxy;

/// A line for each upstream of each proxy, those of the same place one below the
/// other; and one for each that says why its pool had no connection.
pub fn table(proxies: &[(&str, &Proxy)]) -> String {
    let rows = proxies.iter().map(|(_, proxy)| proxy.upstreams().len()).max().unwrap_or(0);
    let names = proxies.iter().flat_map(|(_, proxy)| proxy.upstreams());
    let width = names.map(|upstream| upstream.name.len()).max().unwrap_or(0).max(8);
    let mut table = format!(
        "{:width$}  {:7}  {:>8}  {:>6}  {:>6}  {:>7}  {:>8}  {:>8}  {:>8}  {}\n",
        "upstream",
        "pooling",
        "requests",
        "errors",
        "opened",
        "reused",
        "repeated",
        "p50 ms",
        "p99 ms",
        "closed by the pool",
    );
    let mut misses = String::new();
    for row in 0..rows {
        for (pooling, proxy) in proxies {
            let Some(upstream) = proxy.upstreams().get(row) else { continue };
            let tally = &upstream.tally;
            let stats = upstream.client.pool().stats();
            let line = writeln!(
                table,
                "{:width$}  {pooling:7}  {:>8}  {:>6}  {:>6}  {:>5.1} %  {:>8}  {:>8.2}  {:>8.2}  {}",
                upstream.name,
                tally.requests.get(),
                tally.errors.get(),
                stats.connects.opened,
                tally.reuse_ratio() * 100.0,
                tally.repeated.get(),
                milliseconds(tally.latency(0.5)),
                milliseconds(tally.latency(0.99)),
                list(stats.pool.closes.iter()),
            );
            line.expect("a string takes everything");
            let line = writeln!(
                misses,
                "{:width$}  pooling {pooling}: misses {}; by a rule: {}",
                upstream.name,
                list(stats.pool.misses.iter()),
                stats.pool.ghosts,
            );
            line.expect("a string takes everything");
        }
    }
    table + &misses
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Whatever there is any of, with its number.
fn list(counts: impl Iterator<Item = (impl Display, u64)>) -> String {
    let some = counts.filter(|&(_, count)| count > 0);
    let some: Vec<_> = some.map(|(what, count)| format!("{what} {count}")).collect();
    if some.is_empty() { "-".to_owned() } else { some.join(", ") }
}
