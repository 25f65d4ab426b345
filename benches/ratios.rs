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
//! of one of them. A machine with less than two idle cores says nothing there.

mod common;

use std::time::Duration;

use common::{Contender, Grouped, Work, bound, pairs, together};

/// Turns that each contender gets.
const ROUNDS: usize = 21;

/// How long a turn takes, about.
const SLICE: Duration = Duration::from_millis(30);

/// What the ratios refer to, by the start of its name. Each section has one of the
/// latter. Without one of the former, its pair on one thread is the measure.
const QUEUE: &str = "ArrayQueue";
const PEER: &str = "pingora-pool";

/// A line of a table.
struct Row {
    name: &'static str,
    threads: usize,
    work: Work,
    /// Operations of each thread in a slice.
    count: u64,
    /// Nanoseconds for each operation, a sample for each round.
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
        let took = together(&self.work, self.threads, self.count);
        self.samples.push(took.as_nanos() as f64 / self.count as f64);
    }

    fn median(&self) -> f64 {
        self.samples[self.samples.len() / 2]
    }
}

/// A table, and what it is about.
struct Section {
    title: &'static str,
    rows: Vec<Row>,
}

fn main() {
    // What `cargo test --benches` passes: see that it works, and be done.
    let test = std::env::args().any(|argument| argument == "--test");
    let (rounds, slice) = if test { (1, Duration::from_micros(10)) } else { (ROUNDS, SLICE) };

    let mut sections = sections();
    let mut rows: Vec<&mut Row> = sections.iter_mut().flat_map(|s| &mut s.rows).collect();
    rows.iter_mut().for_each(|row| row.calibrate(slice));
    let turns = rows.len();
    for round in 0..rounds {
        for turn in 0..turns {
            rows[(turn + round) % turns].sample();
        }
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

/// Prints a section as a table. Throughput is compared with the contender's own in
/// `alone`.
fn print(section: &Section, alone: &[Row]) {
    println!("\n### {}\n", section.title);
    println!("| | ns, median | min-max | / {QUEUE} | / {PEER} | throughput / 1 thread |");
    println!("|---|---:|---:|---:|---:|---:|");
    let ratio = |to: Option<f64>, of: f64| to.map_or("".into(), |to| format!("{:.2}", of / to));
    let median = |rows: &[Row], name: &str| {
        rows.iter().find(|row| row.name.starts_with(name)).map(Row::median)
    };
    for row in &section.rows {
        let of = row.median();
        let queue = median(&section.rows, QUEUE)
            .or_else(|| median(alone, QUEUE).filter(|_| row.threads == 1));
        let peer = median(&section.rows, PEER);
        let gain = median(alone, row.name)
            .filter(|_| row.threads > 1)
            .map(|one| format!("{:.2}", one * row.threads as f64 / of));
        println!(
            "| {} | {of:.1} | {:.1}-{:.1} | {} | {} | {} |",
            row.name,
            row.samples[0],
            row.samples[row.samples.len() - 1],
            ratio(queue, of),
            ratio(peer, of),
            gain.unwrap_or_default(),
        );
    }
}
