//! Contenders that take turns in one process, a slice each, in rounds that start at a
//! different one each.

use std::time::{Duration, Instant};

use super::table::{Table, quantile};
use super::{Contender, Work, pairs, together};

/// What the ratios refer to, by the start of its name. Without one of the former in a
/// section, its pair on one thread, in the first section, is the measure.
const QUEUE: &str = "ArrayQueue";
const PEER: &str = "pingora-pool";

/// The fewest turns that count, for a row to have numbers.
const TURNS_MIN: usize = 5;

const COLUMNS: [&str; 7] =
    ["ns, median", "min", "max", "/ ArrayQueue", "/ pingora-pool", "total / 1 thread", "turns"];

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Turns that each contender gets.
    pub rounds: usize,
    /// How long a turn takes, about.
    pub slice: Duration,
    /// How long rows may go on that were disturbed.
    pub patience: Duration,
}

/// What counts.
const FULL: Effort =
    Effort { rounds: 21, slice: Duration::from_millis(30), patience: Duration::from_secs(25) };

/// To try something out: `--quick`.
const QUICK: Effort =
    Effort { rounds: TURNS_MIN, slice: Duration::from_millis(2), patience: Duration::from_secs(1) };

/// To see that it works, which is all that `cargo test` wants: it does not pass `--bench`.
const TEST: Effort =
    Effort { rounds: 1, slice: Duration::from_micros(10), patience: Duration::ZERO };

/// Whether this argument was passed.
pub fn passed(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}

/// Whether this is `cargo test`.
pub fn is_test() -> bool {
    !passed("--bench") || passed("--test")
}

/// Whether this is a trial, in which a disturbed turn counts too.
pub fn is_quick() -> bool {
    passed("--quick")
}

impl Effort {
    /// As the command line says.
    pub fn chosen() -> Self {
        match (is_test(), is_quick()) {
            (true, _) => TEST,
            (_, true) => QUICK,
            _ => FULL,
        }
    }
}

/// A line of a table.
pub struct Row {
    name: String,
    threads: usize,
    work: Work,
    /// Operations of each thread in a slice.
    count: u64,
    /// Nanoseconds for each operation, a sample for each turn that counts.
    samples: Vec<f64>,
}

impl Row {
    pub fn new(name: impl Into<String>, threads: usize, work: Work) -> Self {
        Self { name: name.into(), threads, work, count: 1, samples: Vec::new() }
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
        let fair = || self.threads == 1 || is_quick() || two_cores_idle();
        let fair_before = fair();
        let took = together(&self.work, self.threads, self.count);
        if fair_before && fair() {
            self.samples.push(took.as_nanos() as f64 / self.count as f64);
        }
    }

    /// The least, the median, and the most.
    fn spread(&self) -> Option<[f64; 3]> {
        let of = |part| quantile(&self.samples, part).expect("there are samples");
        (self.samples.len() >= TURNS_MIN).then(|| [0.0, 0.5, 1.0].map(of))
    }

    fn median(&self) -> Option<f64> {
        self.spread().map(|[_, median, _]| median)
    }
}

/// A table, and what it is about.
pub struct Section {
    pub name: String,
    pub title: String,
    pub rows: Vec<Row>,
    /// Where in the batch the same contenders run alone.
    pub alone: Option<usize>,
}

impl Section {
    pub fn new(name: impl Into<String>, title: impl Into<String>, rows: Vec<Row>) -> Self {
        Self { name: name.into(), title: title.into(), rows, alone: None }
    }

    /// On so many threads.
    pub fn of(name: &str, title: &str, threads: usize, contenders: &[Contender]) -> Self {
        let row = |&(name, new): &Contender| Row::new(name, threads, new());
        Self::new(name, title, contenders.iter().map(row).collect())
    }

    /// Compares with what its contenders do alone.
    #[must_use]
    pub fn alone(mut self, section: usize) -> Self {
        self.alone = Some(section);
        self
    }

    fn median(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name.starts_with(name)).and_then(Row::median)
    }
}

/// Measures all rows of all sections in turn, and publishes a table of each section.
///
/// A turn of two threads counts only if two cores were idle before and after it. If that is
/// seldom so, there are more of them; a row that still has too few stays empty.
pub fn measure(mut batch: Vec<Section>) {
    let effort = Effort::chosen();
    let mut rows: Vec<&mut Row> = batch.iter_mut().flat_map(|section| &mut section.rows).collect();
    rows.iter_mut().for_each(|row| row.calibrate(effort.slice));
    let turns = rows.len();
    for round in 0..effort.rounds {
        for turn in 0..turns {
            rows[(turn + round) % turns].sample();
        }
    }
    let start = Instant::now();
    let short = |row: &Row| row.samples.len() < effort.rounds;
    while start.elapsed() < effort.patience && rows.iter().any(|row| short(row)) {
        rows.iter_mut().filter(|row| short(row)).for_each(|row| row.sample());
    }
    batch.iter().for_each(|section| table(section, &batch).publish());
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

/// Throughput is compared with the contender's own where it is alone.
fn table(section: &Section, batch: &[Section]) -> Table {
    let mut table = Table::new(&section.name, &section.title, &COLUMNS);
    let alone = section.alone.map(|place| &batch[place]);
    let queue_alone = || batch.first().and_then(|first| first.median(QUEUE));
    for row in &section.rows {
        let turns = row.samples.len().to_string();
        let Some([least, of, most]) = row.spread() else {
            let empty = (1..COLUMNS.len()).map(|_| String::new());
            table.row(&row.name, empty.chain([turns]));
            continue;
        };
        let ratio = |to: Option<f64>| to.map(|to| format!("{:.2}", of / to)).unwrap_or_default();
        let queue = section.median(QUEUE).or_else(|| queue_alone().filter(|_| row.threads == 1));
        let one = alone.and_then(|alone| alone.rows.iter().find(|one| one.name == row.name));
        let gain = one.and_then(Row::median).map(|one| one * row.threads as f64 / of);
        let nanos = [of, least, most].map(|nanos| format!("{nanos:.1}"));
        let [queue, peer] = [queue, section.median(PEER)].map(ratio);
        let gain = gain.map(|gain| format!("{gain:.2}")).unwrap_or_default();
        table.row(&row.name, nanos.into_iter().chain([queue, peer, gain, turns]));
    }
    table
}
