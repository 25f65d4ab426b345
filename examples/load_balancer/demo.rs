//! The demonstration, with a progress bar, and what must hold.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report;
use crate::scenario::{Plan, SLOW, drive};

const PLAN: Plan = Plan {
    clients: 64,
    requests: 40_000,
    max_connections: 16,
    check_interval: Duration::from_millis(100),
};

pub async fn run() -> Result<ExitCode, Box<dyn Error>> {
    // Between the phases there are more requests than these: it may stand at its end.
    let bar = ProgressBar::new(PLAN.requests);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos:>6} requests  {msg}")?);
    let outcome = drive(PLAN, |what, requests| {
        bar.set_position(requests.min(PLAN.requests));
        bar.set_message(what.to_owned());
    });
    let outcome = outcome.await.map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    print!("{}", report::table(&outcome.balancer));
    println!();
    let sent = &outcome.events.before;
    let mut expectations = outcome.expectations();
    // Unless the machine is slower than the host.
    expectations.push(("the slow host got less than half of its equal part", {
        sent[SLOW] * 6 < sent.iter().sum::<u64>()
    }));
    let mut held = true;
    for (expectation, holds) in expectations {
        println!("{}  {expectation}", if holds { "ok    " } else { "FAILED" });
        held &= holds;
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
