//! How slabpool compares, when nanoseconds cannot be trusted.
//!
//! On a shared or throttled machine the same loop takes twice as long a minute later,
//! so that numbers from two runs say little about each other. Here all contenders take
//! turns in one process, a slice of [`SLICE`] each, in [`ROUNDS`] rounds that start at
//! a different contender each, and what counts is the ratio of their medians. Prints
//! Markdown, and takes about 30 s:
//!
//! ```text
//! cargo bench --bench ratios
//! ```
//!
//! Each contender is described where it is made, in `common/`. Times are wall time: with
//! two threads, from the start of the first to the end of the last, over the operations
//! of one of them. A turn of two threads counts only if two cores were idle before and
//! after it. If that is seldom so, there are more of them, for a minute in all; a row
//! that still has too few stays empty.

mod common;

use std::time::{Duration, Instant};

use common::{Contender, Grouped, Work, bound, pairs, together};

/// Turns that each contender gets.
const ROUNDS: usize = 21;

/// How long a turn takes, about.
const SLICE: Duration = Duration::from_millis(30);

/// What the ratios refer to, by the start of its name. Each section has one of the
/// latter. Without one of the former, its pair on one thread is the measure.
const QUEUE: &str = "ArrayQueue";
const PEER: &str = "pingora-pool";

/// How long it may all take.
const PATIENCE: Duration = Duration::from_secs(55);

/// The fewest turns that count, for a row to be printed.
const TURNS_MIN: usize = 5;

/// A line of a table.
struct Row {
    name: &'static str,
    threads: usize,
    work: Work,
    /// Operations of each thread in a slice.
    count: u64,
    /// Nanoseconds for each operation, a sample for each turn that counts.
    samples: Vec<f64>,
}

impl Row {
    fn new(name: &'static str, threads: usize, work: Work) -> Self {
        Self { name, threads, work, count: 1, samples: Vec::new() }
    }

    /// Finds how many operations take a slice, and warms up by it.
    fn calibrate(&mut self, slice: Duration) {
        loop {
            let took = together(&self.work, self.threads, self.count);
            if took * 2 >= slice {
                let factor = slice.as_secs_f64() / took.as_secs_f64();
                self.count = ((self.count as f64 * factor) as u64).max(1);
                return;
            }
            self.count *= 2;
        }
    }

    fn sample(&mut self) {
        let fair = || self.threads == 1 || two_cores_idle();
        let fair_before = fair();
        let took = together(&self.work, self.threads, self.count);
        if fair_before && fair() {
            self.samples.push(took.as_nanos() as f64 / self.count as f64);
        }
    }

    /// The least, the median, and the most, once the samples are sorted.
    fn spread(&self) -> Option<[f64; 3]> {
        let turns = self.samples.len();
        (turns >= TURNS_MIN).then(|| [0, turns / 2, turns - 1].map(|n| self.samples[n]))
    }

    fn median(&self) -> Option<f64> {
        self.spread().map(|[_, median, _]| median)
    }
}

/// A table, and what it is about.
struct Section {
    title: &'static str,
    rows: Vec<Row>,
}

fn main() {
    // `cargo bench` passes `--bench`, and `cargo test` does not: see that it works, and be
    // done.
    let passed = |flag: &str| std::env::args().any(|argument| argument == flag);
    let test = !passed("--bench") || passed("--test");
    let (rounds, slice) = if test { (1, Duration::from_micros(10)) } else { (ROUNDS, SLICE) };

    let start = Instant::now();
    let mut sections = sections();
    let mut rows: Vec<&mut Row> = sections.iter_mut().flat_map(|s| &mut s.rows).collect();
    rows.iter_mut().for_each(|row| row.calibrate(slice));
    let turns = rows.len();
    for round in 0..rounds {
        for turn in 0..turns {
            rows[(turn + round) % turns].sample();
        }
    }
    // A busy machine: two threads go on for a while.
    let short = |row: &Row| row.samples.len() < ROUNDS;
    while !test && start.elapsed() < PATIENCE && rows.iter().any(|row| short(row)) {
        rows.iter_mut().filter(|row| row.threads > 1).for_each(|row| row.sample());
    }
    rows.iter_mut().for_each(|row| row.samples.sort_by(f64::total_cmp));

    println!("Medians of {rounds} rounds, {slice:?} of each contender in each, in turn.");
    let alone = &sections[0].rows;
    sections.iter().for_each(|section| print(section, alone));
}

/// All contenders.
fn sections() -> Vec<Section> {
    let grouped = |title, threads, groups| {
        let row = |(name, new): Grouped| Row::new(name, threads, new(groups));
        Section { title, rows: pairs::BY_GROUP.map(row).into() }
    };
    let single = |title, contenders: &[Contender]| {
        let row = |&(name, new): &Contender| Row::new(name, 1, new());
        Section { title, rows: contenders.iter().map(row).collect() }
    };
    let mut same = grouped("Get and release, 2 threads, same group", 2, 1);
    same.rows.insert(1, Row::new("slabpool, handle, 2 lanes", 2, pairs::slabpool_lanes(1, 2)));
    vec![
        grouped("Get and release, 1 thread, 1 group", 1, 1),
        single("Get and release, 1 thread, 1,000 groups, u64 keys", &pairs::BY_NUMBER),
        single("Get and release, 1 thread, 1,000 groups, 60-byte keys", &pairs::BY_PEER),
        same,
        grouped("Get and release, 2 threads, a group each", 2, 2),
        single("Put into a full pool of 1,024, new key each", &bound::PUT_NEW_KEY),
        single("Put into a full pool of 1,024, one key", &bound::PUT_ONE_KEY),
        single("A connection that comes and goes", &bound::COME_AND_GO),
    ]
}

/// Whether two threads do what shares nothing as fast as one does.
fn two_cores_idle() -> bool {
    /// Less than a millisecond of it.
    const COUNT: u64 = 400_000;
    const SLOWER_MAX: f64 = 1.25;
    let work = pairs::nothing_shared(1);
    let took = |threads| together(&work, threads, COUNT).as_secs_f64();
    // One thread may be interrupted too, but hardly three times in a row.
    let one = (0..3).map(|_| took(1)).fold(f64::INFINITY, f64::min);
    took(2) < one * SLOWER_MAX
}

/// Prints a section as a table. Throughput is compared with the contender's own in
/// `alone`.
fn print(section: &Section, alone: &[Row]) {
    println!("\n### {}\n", section.title);
    println!("| | ns, median | min-max | / {QUEUE} | / {PEER} | throughput / 1 thread | turns |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let median = |rows: &[Row], name: &str| {
        rows.iter().find(|row| row.name.starts_with(name)).and_then(Row::median)
    };
    for row in &section.rows {
        let (name, turns) = (row.name, row.samples.len());
        let Some([least, of, most]) = row.spread() else {
            println!("| {name} | | | | | | {turns} |");
            continue;
        };
        let ratio = |to: Option<f64>| to.map(|to| format!("{:.2}", of / to)).unwrap_or_default();
        let queue = median(&section.rows, QUEUE)
            .or_else(|| median(alone, QUEUE).filter(|_| row.threads == 1));
        let peer = median(&section.rows, PEER);
        let gain = median(alone, name)
            .filter(|_| row.threads > 1)
            .map(|one| format!("{:.2}", one * row.threads as f64 / of));
        println!(
            "| {name} | {of:.1} | {least:.1}-{most:.1} | {} | {} | {} | {turns} |",
            ratio(queue),
            ratio(peer),
            gain.unwrap_or_default(),
        );
    }
}
