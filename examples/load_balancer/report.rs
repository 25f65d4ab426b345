//! What is printed at the end.

use std::fmt::Write;

use crate::balancer::Balancer;

/// A line for each host, and what the pool says of the waiting.
pub fn table(balancer: &Balancer) -> String {
    let mut table = format!(
        "{:21}  {:>8}  {:>8}  {:>8}  {:>7}  {:>7}  {:>6}  {:>7}\n",
        "host", "requests", "answers", "connects", "refused", "moved", "errors", "outages",
    );
    for host in balancer.hosts() {
        let tally = &host.tally;
        let line = writeln!(
            table,
            "{:21}  {:>8}  {:>8}  {:>8}  {:>7}  {:>7}  {:>6}  {:>7}",
            host.address,
            tally.requests.get(),
            tally.answers.get(),
            tally.connects.get(),
            tally.refused.get(),
            tally.moved.get(),
            tally.errors.get(),
            tally.outages.get(),
        );
        line.expect("a string takes everything");
    }
    let stats = balancer.pool().stats();
    let line = writeln!(
        table,
        "of {} gets {} found a connection idle; {} waited, {:?} at the median",
        stats.gets(),
        stats.hits,
        stats.served,
        stats.wait_time.quantile(0.5),
    );
    line.expect("a string takes everything");
    table
}
