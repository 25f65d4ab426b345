//! How the managed pool compares with other pools whose callers wait.
//!
//! As in `ratios`, all contenders take turns in one process, a slice of 30 ms each, in
//! 21 rounds that start at a different contender each, and what counts is the ratio
//! of their medians. Prints Markdown, and takes two minutes:
//!
//! ```text
//! cargo bench --bench managed
//! cargo bench --bench managed -- Acquire      # what has this in its title
//! ```
//!
//! Each contender is described where it is made, in `common/managed.rs`; the long lines in
//! `common/queue.rs`. What runs on one thread is measured in processor time, in which other
//! programs show less; the rest in wall time, which means nothing unless two cores are idle.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::managed::{
    Bb8, Deadpool, OnRuntime, Permits, Slabpool, TASKS_64, TASKS_64_YIELDING, UNCONTENDED, runtimes,
};
use common::queue::{HOLD, Wait, evenness, line};
use common::table::Table;
use common::turns::{Effort, is_quick, is_test};
use common::{Work, together};
use tokio::runtime::Runtime;

/// What the ratios refer to, by name.
const OWN: &str = "slabpool, released";

/// The long line: tasks in it, connections for them, and how often the caller comes.
const LINE: (usize, usize, usize) = (5_000, 50, 5);
const LINE_ROUNDS: usize = 3;

/// The even one: tasks, connections, and waits of each task that count.
const EVEN: (usize, usize, usize) = (1_000, 8, 3);

/// On one thread, and on two.
const COLUMNS: [&str; 8] = [
    "1 thread, ns",
    "min",
    "max",
    "/ ours",
    "2 threads, ns",
    "min of 2",
    "max of 2",
    "/ ours, 2 threads",
];

struct Row {
    name: &'static str,
    work: Work,
    /// Operations in a slice.
    count: u64,
    /// Nanoseconds for each operation, a sample for each turn.
    samples: Vec<f64>,
    /// Whether processor time counts.
    alone: bool,
}

impl Row {
    fn new((name, new): OnRuntime, on: &Arc<Runtime>, alone: bool, slice: Duration) -> Self {
        let mut row = Self { name, work: new(on), count: 1, samples: Vec::new(), alone };
        row.calibrate(slice);
        row
    }

    /// Finds how many operations take a slice, and warms up by it.
    fn calibrate(&mut self, slice: Duration) {
        loop {
            let took = together(&self.work, 1, self.count);
            if took * 2 >= slice {
                let factor = slice.as_secs_f64() / took.as_secs_f64();
                self.count = ((self.count as f64 * factor) as u64).max(1);
                return;
            }
            self.count *= 2;
        }
    }

    fn sample(&mut self) {
        let before = processor_time();
        let wall = together(&self.work, 1, self.count);
        let took = match before.zip(processor_time()).filter(|_| self.alone) {
            Some((before, after)) => after - before,
            None => wall,
        };
        self.samples.push(took.as_nanos() as f64 / self.count as f64);
    }
}

/// What the process has had so far.
#[cfg(unix)]
fn processor_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Not known there.
#[cfg(not(unix))]
fn processor_time() -> Option<Duration> {
    None
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |title: &str| filter.as_deref().is_none_or(|part| title.contains(part));
    let Effort { rounds, slice, .. } = Effort::chosen();
    let titles = [
        ("acquire", "Acquire and give back", UNCONTENDED),
        ("tasks", "64 tasks on 16 connections, ten times each", TASKS_64),
        ("yielding", "... each of which yields while it has one", TASKS_64_YIELDING),
    ];
    println!("Medians of {rounds} rounds, {slice:?} of each contender in each, in turn.");
    for (name, title, contenders) in titles.into_iter().filter(|(_, title, _)| wanted(title)) {
        let mut table = Table::new(format!("managed-{name}"), title, &COLUMNS);
        contenders.iter().for_each(|(name, _)| table.row(*name, []));
        for (place, (_, runtime)) in runtimes().into_iter().enumerate() {
            let alone = runtime.metrics().num_workers() == 1;
            let mut rows = contenders.map(|contender| Row::new(contender, &runtime, alone, slice));
            for round in 0..rounds {
                for turn in 0..rows.len() {
                    rows[(turn + round) % contenders.len()].sample();
                }
            }
            enter(&mut table, place, &mut rows);
        }
        table.publish();
    }
    let factor = if is_test() || is_quick() { 100 } else { 1 };
    if wanted("A caller among") {
        lines(factor);
    }
    if wanted("Jain's index") {
        evennesses(factor);
    }
}

/// Enters what each costs, also in terms of slabpool's, on one thread or on two.
fn enter(table: &mut Table, place: usize, rows: &mut [Row]) {
    rows.iter_mut().for_each(|row| row.samples.sort_by(f64::total_cmp));
    let of = rows.iter().find(|row| row.name == OWN).map(|row| middle(&row.samples));
    let of = of.expect("it is one of them");
    for (Row { samples, .. }, cells) in rows.iter().zip(&mut table.rows) {
        let (least, median, most) = (samples[0], middle(samples), samples[samples.len() - 1]);
        let nanos = [median, least, most].map(|nanos| format!("{nanos:.1}"));
        let cells = &mut cells[1 + place * COLUMNS.len() / 2..];
        cells.iter_mut().zip(nanos).for_each(|(cell, nanos)| *cell = nanos);
        cells[3] = format!("{:.2}", median / of);
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// On one thread, and on two. The ratio is what a caller waited to its fair share.
const LINE_COLUMNS: [&str; 12] = [
    "1 thread, ratio",
    "min",
    "max",
    "waited, ms",
    "ahead",
    "served before it",
    "2 threads, ratio",
    "min of 2",
    "max of 2",
    "waited, ms, 2 threads",
    "ahead, 2 threads",
    "served before it, 2 threads",
];

/// The line of a contender: tasks, connections, callers.
type LineOf = fn(&Arc<Runtime>, usize, usize, usize) -> Vec<Wait>;

/// What a caller waits in a long line, beside its fair share.
fn lines(factor: usize) {
    let rounds = if factor == 1 { LINE_ROUNDS } else { 1 };
    let contenders: [(&str, LineOf); 4] = [
        ("slabpool", line::<Slabpool<false>>),
        ("deadpool", line::<Deadpool<false>>),
        ("bb8", line::<Bb8>),
        ("tokio's Semaphore", line::<Permits>),
    ];
    let (tasks, connections, probes) = LINE;
    let tasks = tasks / factor;
    let connections = connections.min(tasks / 2);
    let title = format!("A caller among {tasks} tasks that hold for {HOLD:?}");
    let mut table = Table::new("managed-line", title, &LINE_COLUMNS);
    contenders.iter().for_each(|(name, _)| table.row(*name, []));
    for (place, (_, runtime)) in runtimes().into_iter().enumerate() {
        let mut waits = contenders.map(|_| Vec::new());
        for round in 0..rounds {
            for (waits, (name, run)) in waits.iter_mut().zip(contenders) {
                // It lets its callers wait until their time is up, five seconds each.
                let (rounds, probes) = if name == "bb8" { (1, 1) } else { (rounds, probes) };
                if round >= rounds {
                    continue;
                }
                waits.extend(run(&runtime, connections, tasks, probes));
            }
        }
        for (waits, row) in waits.iter().zip(&mut table.rows) {
            let cells = &mut row[1 + place * LINE_COLUMNS.len() / 2..];
            cells.iter_mut().zip(met(waits, connections)).for_each(|(cell, met)| *cell = met);
        }
    }
    table.publish();
}

/// What the callers of a contender met.
fn met(waits: &[Wait], connections: usize) -> [String; LINE_COLUMNS.len() / 2] {
    let column = |of: &dyn Fn(&Wait) -> f64| {
        let mut sorted: Vec<f64> = waits.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let share = |wait: &Wait| milliseconds(wait.fair(connections));
    let ratios = column(&|wait| milliseconds(wait.took) / share(wait));
    [
        format!("{:.3}", middle(&ratios)),
        format!("{:.3}", ratios[0]),
        format!("{:.3}", ratios[ratios.len() - 1]),
        format!("{:.1}", middle(&column(&|wait| milliseconds(wait.took)))),
        format!("{:.0}", middle(&column(&|wait| wait.ahead as f64))),
        format!("{:.0}", middle(&column(&|wait| wait.served as f64))),
    ]
}

/// How even the waits of many tasks are.
fn evennesses(factor: usize) {
    type Evenness = fn(&Arc<Runtime>, usize, usize, usize) -> f64;
    let contenders: [(&str, Evenness); 4] = [
        ("slabpool", evenness::<Slabpool<false>>),
        ("deadpool", evenness::<Deadpool<false>>),
        ("bb8", evenness::<Bb8>),
        ("tokio's Semaphore", evenness::<Permits>),
    ];
    let (tasks, connections, turns) = EVEN;
    let tasks = tasks / factor;
    let title = format!("Jain's index of the waits of {tasks} tasks on {connections} connections");
    let mut table = Table::new("managed-evenness", title, &["1 thread", "2 threads"]);
    let runtimes = runtimes();
    for (name, run) in contenders {
        let indexes = runtimes
            .each_ref()
            .map(|(_, runtime)| format!("{:.4}", run(runtime, connections, tasks, turns)));
        table.row(name, indexes);
    }
    table.publish();
}
