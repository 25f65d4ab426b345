//! What the process has of the machine, looked at every second.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ledger::Ledger;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4_096;

/// What must stay flat once the process has warmed up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long memory may grow.
    pub warm_up: Duration,
    /// By how much memory may grow after that, in MiB.
    pub slack_mib: u64,
    /// How many descriptors may come to those that are open after the warm-up.
    pub descriptors_slack: u64,
}

/// Descriptors that are open, the one for looking included.
pub fn descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64)
}

/// Memory that is in use, in bytes.
pub fn memory() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|pages| pages.split(' ').nth(1)?.parse().ok());
    resident.map_or(0, |resident: u64| resident * PAGE)
}

/// The most of what was seen before and after the warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub memory_warm: u64,
    pub memory_most: u64,
    pub descriptors_warm: u64,
    pub descriptors_most: u64,
    pub looks: u64,
}

impl Seen {
    /// Looks. Complains of what has grown after the warm-up.
    pub fn look(&mut self, warm: bool, limits: Limits, ledger: &Ledger) {
        let (memory, descriptors) = (memory(), descriptors());
        self.looks += 1;
        self.memory_most = self.memory_most.max(memory);
        self.descriptors_most = self.descriptors_most.max(descriptors);
        if !warm {
            self.memory_warm = self.memory_warm.max(memory);
            self.descriptors_warm = self.descriptors_warm.max(descriptors);
            return;
        }
        let memory_max = self.memory_warm + limits.slack_mib * MIB;
        ledger.check(memory <= memory_max, || {
            format!(
                "{} MiB of memory, {} at most after the warm-up",
                memory / MIB,
                memory_max / MIB
            )
        });
        let descriptors_max = self.descriptors_warm + limits.descriptors_slack;
        ledger.check(descriptors <= descriptors_max, || {
            format!("{descriptors} descriptors, {descriptors_max} at most after the warm-up")
        });
    }

    /// As a line of the summary.
    pub fn line(&self) -> String {
        format!(
            "memory {} MiB after the warm-up, {} at most; descriptors {} and {}; {} looks",
            self.memory_warm / MIB,
            self.memory_most / MIB,
            self.descriptors_warm,
            self.descriptors_most,
            self.looks
        )
    }
}

/// Looks every second, and shows how far things are, until told to stop.
pub fn watch(
    ledger: &Ledger,
    limits: Limits,
    total: Option<u64>,
    done: &AtomicU64,
    stop: &AtomicBool,
) -> Seen {
    let bar = bar(total);
    let (mut seen, start) = (Seen::default(), Instant::now());
    let mut spoken = 0;
    while !stop.load(Relaxed) {
        thread::park_timeout(Duration::from_secs(1));
        let elapsed = start.elapsed();
        seen.look(elapsed > limits.warm_up, limits, ledger);
        let now = done.load(Relaxed);
        bar.set_position(now);
        bar.set_message(format!("{} MiB", memory() / MIB));
        // Where there is no terminal, a line now and then.
        if bar.is_hidden() && elapsed.as_secs() / 30 > spoken {
            spoken = elapsed.as_secs() / 30;
            println!("{now} after {} s, {} MiB", elapsed.as_secs(), memory() / MIB);
        }
    }
    bar.finish_and_clear();
    seen
}

fn bar(total: Option<u64>) -> ProgressBar {
    let style = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {msg}";
    match total {
        Some(total) => ProgressBar::new(total)
            .with_style(ProgressStyle::with_template(style).expect("the template is right")),
        None => ProgressBar::new_spinner(),
    }
}
