//! How long single operations take, in a pool of a million idle connections, while the
//! reaper runs, connections are evicted, and groups come and go.
//!
//! ```text
//! cargo bench --bench tails
//! cargo bench --bench tails -- --quick        # to try something out
//! ```
//!
//! Each operation is timed by itself, and so has two readings of the clock in it. A control
//! that does nothing else takes turns with it: what the scheduler does shows in both. Each
//! row is of 11 rounds, in which all rows have their turn, but for the last ones, whose pool
//! changes for good: those have one turn. Prints Markdown. Takes about a minute,
//! and 700 MB of memory; means little where two cores are not idle.
//!
//! * `pools`: the pools, and what is done to them.
//! * `sampler`: the times, and the control.

#[path = "../common/mod.rs"]
mod common;
mod pools;
mod sampler;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::table::{Table, quantile};
use common::turns::{is_quick, is_test};
use common::zipf::Spread;
use pools::{
    HOT, IDLE_PER_GROUP, PACE, Reaped, chosen_pairs, disturb_by_new_groups, disturb_by_pairs,
    disturb_by_puts, expiring, filled, handle_pairs, hot_pairs, new_groups, puts, reap,
};
use sampler::{Phase, Row};

/// Groups in the small pool: all of them are hot.
const FEW: usize = HOT;

/// How much of everything.
struct Effort {
    /// Groups in the large pool.
    many: usize,
    rounds: usize,
    /// Of each row in a round.
    span: Duration,
    /// Ticks of the reaper that are looked at; an idle timeout has 32.
    ticks: u32,
}

const FULL: Effort =
    Effort { many: 100_000, rounds: 11, span: Duration::from_millis(200), ticks: 29 };
const QUICK: Effort =
    Effort { many: 10_000, rounds: 3, span: Duration::from_millis(10), ticks: 10 };
const TEST: Effort = Effort { many: 200, rounds: 1, span: Duration::from_millis(1), ticks: 1 };

fn main() {
    let effort = match (is_test(), is_quick()) {
        (true, _) => TEST,
        (_, true) => QUICK,
        _ => FULL,
    };
    let Effort { many, rounds, span, .. } = effort;
    println!(
        "The large pool has {} connections in {many} groups, the small",
        many * IDLE_PER_GROUP
    );
    println!("one {}; {HOT} groups are hot. {rounds} rounds of {span:?}.", FEW * IDLE_PER_GROUP);
    let mut rows = in_use(&effort);
    let reaped = [Reaped::default(), Reaped::default()];
    rows.extend(expiry(&effort, &reaped));
    tails(&rows).publish();
    quantiles(&rows).publish();
    reaper_table(&reaped).publish();
}

/// Nothing expires.
fn in_use(&Effort { many, rounds, span, .. }: &Effort) -> Vec<Row> {
    let (small, large) = (filled(FEW, 1), filled(many, 2));
    let pairs = || hot_pairs(&large, many);
    let play = |mut phases: Vec<Phase<'_>>| -> Vec<Row> {
        (0..rounds).for_each(|_| phases.iter_mut().for_each(|phase| phase.run(span)));
        phases.into_iter().map(Phase::end).collect()
    };
    let mut rows = play(vec![
        Phase::new("1,000 idle, hot keys", hot_pairs(&small, FEW)),
        Phase::new("1,000,000 idle, hot keys", pairs()),
        Phase::new("... Zipf", chosen_pairs(&large, many, Spread::Zipf)),
        Phase::new("... uniform", chosen_pairs(&large, many, Spread::Uniform)),
        Phase::new("... hot, groups come and go", pairs()).disturbed(disturb_by_new_groups(&large)),
        Phase::new("insert + detach, new key", new_groups(&large)),
        Phase::new("one hot group, 2 threads", handle_pairs(&large))
            .disturbed(disturb_by_pairs(&large)),
    ]);
    // Fills the room that was left until now.
    let mut put = puts(&large);
    (0..2).for_each(&mut put);
    rows.extend(play(vec![
        Phase::new("... hot, connections are evicted", pairs()).disturbed(disturb_by_puts(&large)),
        Phase::new("put that evicts, new key", put),
    ]));
    rows
}

/// The reaper looks at all connections while they are in use, and closes them all when their
/// time is up: at the same moment, which is the worst.
fn expiry(&Effort { many, rounds, span, ticks }: &Effort, reaped: &[Reaped; 2]) -> Vec<Row> {
    /// Of the idle timeout, and some more.
    const ALL_TICKS: u32 = 40;
    let (pool, clock) = expiring(many);
    let new = |name| Phase::new(name, hot_pairs(&pool, many));
    let mut resting = new("... hot, another clock");
    (0..rounds).for_each(|_| resting.run(span));
    let reaper = reap(&pool, &clock, ticks, pool.tick() / PACE, &reaped[0]);
    let mut looked_at = new("... hot, the reaper runs, 10 times as fast").disturbed(reaper);
    looked_at.run_until_done();
    let reaper = reap(&pool, &clock, ALL_TICKS - ticks, Duration::ZERO, &reaped[1]);
    let mut expired = new("... hot, all others expire at once").disturbed(reaper);
    expired.run_until_done();
    assert_eq!(pool.status().idle, HOT * IDLE_PER_GROUP, "all others have expired");
    [resting, looked_at, expired].map(Phase::end).into()
}

/// What counts of each row.
fn tails(rows: &[Row]) -> Table {
    const COLUMNS: [&str; 12] = [
        "ns, p50",
        "min of rounds",
        "max of rounds",
        "p99",
        "p99.9",
        "p99.99",
        "max, us",
        "over 50 us, in a second",
        "control p50",
        "control p99.99",
        "control over 50 us, in a second",
        "p50 / 1,000 idle",
    ];
    let mut table = Table::new("tails", "Times of single operations", &COLUMNS);
    let middle = |row: &Row| quantile(row.times.medians(), 0.5).unwrap_or_default();
    for row in rows {
        let Row { name, times, control } = row;
        let round = |part| quantile(times.medians(), part).unwrap_or_default();
        let whole = |nanos: u64| nanos.to_string();
        table.row(
            *name,
            [
                format!("{:.0}", middle(row)),
                format!("{:.0}", round(0.0)),
                format!("{:.0}", round(1.0)),
                whole(times.quantile(0.99)),
                whole(times.quantile(0.999)),
                whole(times.quantile(0.9999)),
                format!("{:.0}", times.max() as f64 / 1e3),
                format!("{:.2}", times.long_per_second()),
                whole(control.quantile(0.5)),
                whole(control.quantile(0.9999)),
                format!("{:.2}", control.long_per_second()),
                format!("{:.2}", middle(row) / middle(&rows[0])),
            ],
        );
    }
    table
}

/// For the plot.
fn quantiles(rows: &[Row]) -> Table {
    const PARTS: [(&str, f64); 7] = [
        ("50 %", 0.5),
        ("90 %", 0.9),
        ("99 %", 0.99),
        ("99.9 %", 0.999),
        ("99.99 %", 0.9999),
        ("99.999 %", 0.99999),
        ("all", 1.0),
    ];
    let title = "Nanoseconds within which so many are done";
    let mut table = Table::new("tails-quantiles", title, &PARTS.map(|part| part.0));
    for row in rows {
        let of = |times: &sampler::Times| PARTS.map(|(_, part)| times.quantile(part).to_string());
        table.row(row.name, of(&row.times));
    }
    if let Some(row) = rows.last() {
        let control = PARTS.map(|(_, part)| row.control.quantile(part).to_string());
        table.row("no pool", control);
    }
    table
}

/// What the reaper takes of a core, if time passed as it does.
fn reaper_table(reaped: &[Reaped; 2]) -> Table {
    let columns = ["% of a core", "seconds of the clock", "ms busy", "closed"];
    let mut table = Table::new("reaper", "The reaper, with 1,000,000 idle connections", &columns);
    for (name, reaped) in ["in use", "all expire"].into_iter().zip(reaped) {
        let seconds = |nanos: &AtomicU64| nanos.load(Ordering::Relaxed) as f64 / 1e9;
        let (passed, busy) = (seconds(&reaped.passed), seconds(&reaped.busy));
        let cells = [
            format!("{:.3}", busy / passed * 100.0),
            format!("{passed:.1}"),
            format!("{:.1}", busy * 1e3),
            reaped.closed.load(Ordering::Relaxed).to_string(),
        ];
        table.row(name, cells);
    }
    table
}
