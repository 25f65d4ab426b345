//! Times of single operations, and what the machine did meanwhile.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Operations in a row, before the control's turn, which takes as long.
const SLICE: usize = 1_024;

/// An operation may take no longer than this because of maintenance.
const LONG: Duration = Duration::from_micros(50);

/// What is done `n`-th.
pub type Operation<'a> = Box<dyn FnMut(usize) + Send + 'a>;

/// What another thread does meanwhile, until it is told to stop, or is done.
pub type Disturber<'a> = Box<dyn FnMut(&AtomicBool) + Send + 'a>;

/// Times in nanoseconds.
pub struct Times {
    histogram: Histogram<u32>,
    long: u64,
    /// All of them together.
    spent: Duration,
    /// The median of each round.
    medians: Vec<f64>,
}

impl Times {
    fn new() -> Self {
        Self { histogram: histogram(), long: 0, spent: Duration::ZERO, medians: Vec::new() }
    }

    fn add(&mut self, time: Duration) {
        self.histogram.saturating_record(time.as_nanos() as u64);
        self.long += u64::from(time > LONG);
        self.spent += time;
    }

    pub fn quantile(&self, part: f64) -> u64 {
        self.histogram.value_at_quantile(part)
    }

    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    pub fn medians(&self) -> &[f64] {
        &self.medians
    }

    /// How many took longer than [`LONG`], in a second of them: by time, since the scheduler
    /// takes the core away by time, and short operations are hit less often than long ones.
    pub fn long_per_second(&self) -> f64 {
        self.long as f64 / self.spent.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// From a nanosecond to some seconds, exact to a thousandth.
fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("the bounds are possible")
}

/// Something that is timed again and again, and a control beside it: the same loop, of
/// which each operation is to read the clock and no more. Both take turns, so that what the
/// scheduler does, both see.
pub struct Phase<'a> {
    operation: Operation<'a>,
    disturber: Option<Disturber<'a>>,
    row: Row,
    done: usize,
}

/// What came of a phase.
pub struct Row {
    pub name: &'static str,
    pub times: Times,
    pub control: Times,
}

impl<'a> Phase<'a> {
    pub fn new(name: &'static str, operation: Operation<'a>) -> Self {
        let row = Row { name, times: Times::new(), control: Times::new() };
        Self { operation, disturber: None, row, done: 0 }
    }

    /// While another thread does this.
    pub fn disturbed(mut self, by: Disturber<'a>) -> Self {
        self.disturber = Some(by);
        self
    }

    /// No more rounds.
    pub fn end(self) -> Row {
        self.row
    }

    /// For so long.
    pub fn run(&mut self, span: Duration) {
        let start = Instant::now();
        self.sample(|_| start.elapsed() >= span);
    }

    /// Until the other thread is done.
    pub fn run_until_done(&mut self) {
        self.sample(|done| done.load(Ordering::Relaxed));
    }

    fn sample(&mut self, is_over: impl Fn(&AtomicBool) -> bool) {
        let Self { operation, disturber, row: Row { times, control, .. }, done } = self;
        let (stop, stopped) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut round = [histogram(), histogram()];
        thread::scope(|scope| {
            if let Some(disturb) = disturber {
                let (stop, stopped) = (&stop, &stopped);
                scope.spawn(move || {
                    disturb(stop);
                    // Relaxed, as the other: they are looked at again and again.
                    stopped.store(true, Ordering::Relaxed);
                });
            }
            // What was evicted from the caches comes back first.
            (0..SLICE).for_each(|n| operation(*done + n));
            loop {
                let before = times.spent;
                for n in 0..SLICE {
                    let start = Instant::now();
                    operation(*done + n);
                    let took = start.elapsed();
                    times.add(took);
                    round[0].saturating_record(took.as_nanos() as u64);
                }
                *done += SLICE;
                // For as long, so that as much can happen.
                let until = control.spent + (times.spent - before);
                while control.spent < until {
                    let start = Instant::now();
                    black_box(&start);
                    let took = start.elapsed();
                    control.add(took);
                    round[1].saturating_record(took.as_nanos() as u64);
                }
                if is_over(&stopped) {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        for (times, round) in [times, control].into_iter().zip(&round) {
            times.medians.push(round.value_at_quantile(0.5) as f64);
        }
    }
}
