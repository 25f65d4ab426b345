//! Everything that a pool can do, at random, for as long as you like, with an account of
//! every connection.
//!
//! ```text
//! cargo run --release --example soak -- --ops 1e9
//! cargo run --release --example soak -- --seconds 60 --threads 8 --seed 7
//! cargo run --release --example soak -- --sockets --seconds 1800
//! ```
//!
//! Threads share pools under a clock that leaps, with keys of which some are used far more
//! often than others, some collide, and some are used once. Connections die, are evicted,
//! held, passed on; hooks, probes, predicates and destructors panic now and then; groups
//! are drained, settings changed, pools closed. All the time it is checked that
//!
//! * each connection that was born is in one place, and is dropped once,
//! * each has one user, and came for the key that was asked for,
//! * no get misses a connection that was not closed,
//! * there are never more connections than the capacity says,
//! * memory and descriptors do not grow.
//!
//! With `--sockets` connections are sockets, and the servers break them in all ways.
//!
//! A run goes in rounds. What each thread does in a round follows from the seed, the
//! number of the round and that of the thread; how threads meet does not. So a run that
//! failed says at which operation to go on (`--from`): at the pool of the round that failed.

mod dice;
mod ledger;
mod machine;
mod sockets;
mod worker;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use dice::Dice;
use ledger::Ledger;
use machine::Limits;
use worker::Worker;
use world::World;

/// Rounds that a pool lives for.
const ROUNDS_PER_ERA: u64 = 4;
/// Operations of all threads in a round.
const OPS_PER_ROUND: u64 = 1_000_000;

/// Works on pools at random, and keeps the books.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many operations; `1e9` is possible. Default: 1e8, unless there is a time.
    #[arg(long, value_name = "N", value_parser = number)]
    ops: Option<u64>,
    /// For how long, in seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// What the numbers begin with. Default: another one in each run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on at this operation.
    #[arg(long, value_name = "N", value_parser = number, default_value = "0")]
    from: u64,
    /// Threads that use the pool.
    #[arg(long, value_name = "N", default_value_t = 4)]
    threads: usize,
    /// How long memory may grow, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10)]
    warm_up: u64,
    /// By how much memory may grow after the warm-up, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    slack: u64,
    /// Real sockets on this machine.
    #[arg(long)]
    sockets: bool,
}

/// A number, also with an exponent.
fn number(text: &str) -> Result<u64, String> {
    let most = 1e15;
    match text.parse::<f64>() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number as u64),
        _ => Err(format!("`{text}` is not a number from 0 to {most:e}")),
    }
}

/// What to do, worked out.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    from: u64,
    ops: Option<u64>,
    time: Option<Duration>,
    threads: usize,
    limits: Limits,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !(1..=256).contains(&arguments.threads) {
        eprintln!("--threads is {}, it must lie between 1 and 256", arguments.threads);
        return ExitCode::from(2);
    }
    let time = arguments.seconds.map(Duration::from_secs);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let plan = Plan {
        seed: arguments.seed.unwrap_or_else(|| clock.map_or(1, |time| time.as_nanos() as u64)),
        from: arguments.from,
        ops: arguments.ops.or_else(|| time.is_none().then_some(100_000_000)),
        time,
        threads: arguments.threads,
        limits: Limits {
            warm_up: Duration::from_secs(arguments.warm_up),
            slack_mib: arguments.slack,
            descriptors_slack: 0,
        },
    };
    println!("seed {}, {} threads", plan.seed, plan.threads);
    if arguments.sockets { sockets::soak(plan) } else { soak(plan) }
}

fn soak(plan: Plan) -> ExitCode {
    let ledger = Ledger::new(plan.threads);
    let first = plan.from / OPS_PER_ROUND / ROUNDS_PER_ERA * ROUNDS_PER_ERA;
    let (done, stop) = (AtomicU64::new(first * OPS_PER_ROUND), AtomicBool::new(false));
    let total = plan.ops.map(|ops| ops + plan.from);
    let (round, excused, seen) = thread::scope(|scope| {
        let watching = scope.spawn(|| machine::watch(&ledger, plan.limits, total, &done, &stop));
        let (round, excused) = work(plan, &ledger, first, &done);
        stop.store(true, Relaxed);
        watching.thread().unpark();
        (round, excused, watching.join().expect("it only looks"))
    });
    let worked = done.into_inner() - first * OPS_PER_ROUND;
    println!("{worked} operations, {} connections, {} panics", ledger.born(), {
        ledger.panics.load(Relaxed)
    });
    println!("{excused} misses while a connection was looked at");
    println!("{}", seen.line());
    report(&ledger, plan.seed, round * OPS_PER_ROUND)
}

/// Rounds, until there is enough. The one it ended with, and the misses that were excused.
fn work(plan: Plan, ledger: &std::sync::Arc<Ledger>, first: u64, done: &AtomicU64) -> (u64, u64) {
    let (start, mut round, mut excused) = (Instant::now(), first, 0);
    let deeds = OPS_PER_ROUND / plan.threads as u64;
    let over = || {
        plan.ops.is_some_and(|ops| done.load(Relaxed) >= plan.from + ops)
            || plan.time.is_some_and(|time| start.elapsed() >= time)
            || ledger.has_failed()
    };
    while !over() {
        let era = round / ROUNDS_PER_ERA;
        let world = World::new(ledger, plan.seed, era);
        let end = (era + 1) * ROUNDS_PER_ERA;
        while round < end && !over() {
            let last = round + 1 == end;
            let workers: Vec<_> = (0..plan.threads)
                .map(|thread| Worker::new(&world, plan.seed, round, thread))
                .collect();
            thread::scope(|scope| {
                let threads: Vec<_> = workers
                    .into_iter()
                    .map(|worker| scope.spawn(move || worker.run(deeds, last)))
                    .collect();
                for thread in threads {
                    let ended = thread.join();
                    ledger.check(ended.is_ok(), || format!("round {round}: a thread panicked"));
                }
            });
            // In most rounds only here, so that the bound is known exactly in those.
            world.resize(&mut Dice::new(plan.seed, round, u64::MAX));
            world.settle(round);
            if ledger.has_failed() {
                return (round, excused);
            }
            done.fetch_add(deeds * plan.threads as u64, Relaxed);
            round += 1;
        }
        excused += world.excused.load(Relaxed);
        world.end(round);
    }
    (round, excused)
}

/// Says how it went, and where to go on.
fn report(ledger: &Ledger, seed: u64, at: u64) -> ExitCode {
    let failures = ledger.failures();
    if failures.is_empty() {
        println!("all is well; to go on: --seed {seed} --from {at}");
        return ExitCode::SUCCESS;
    }
    failures.iter().for_each(|failure| eprintln!("FAILED: {failure}"));
    eprintln!("to see it again, perhaps: --seed {seed} --from {at}");
    ExitCode::FAILURE
}
