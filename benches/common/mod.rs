//! What the benchmarks share: the contenders, and how their work is run.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod bound;
#[cfg(feature = "tokio")]
pub mod fast;
#[cfg(feature = "tokio")]
pub mod managed;
pub mod pairs;
pub mod peers;
pub mod plain;
#[cfg(feature = "tokio")]
pub mod queue;
pub mod shapes;
pub mod table;
pub mod turns;
pub mod variants;
pub mod zipf;

use std::hash::Hash;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use slabpool::Pool;

/// What is pooled, the same for all. It is also its own number, which pingora-pool
/// asks for.
pub type Connection = u64;

/// `work(thread, count)` does one operation `count` times, as that thread. One
/// indirect call for all of them: the loop is inside.
pub type Work = Box<dyn Fn(usize, u64) + Send + Sync>;

/// The name of a contender, and how to make it.
pub type Contender = (&'static str, fn() -> Work);

/// The same, for one that is given the number of its groups.
pub type Grouped = (&'static str, fn(usize) -> Work);

/// Why a contender may expect what it gets.
pub const IDLE: &str = "there are more idle connections than threads";

/// A pool with default settings, but for its capacity.
pub fn pool<K>(capacity: usize) -> Pool<K, Connection>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    Pool::builder().capacity(capacity).build().expect("the capacity is possible")
}

/// Runs `count` operations on each of `threads` threads, all at the same time: from
/// when the first begins to when the last is done.
pub fn together(work: &Work, threads: usize, count: u64) -> Duration {
    if threads == 1 {
        let start = Instant::now();
        work(0, count);
        return start.elapsed();
    }
    let steps = &AtomicUsize::new(0);
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let spawn = |thread| {
            scope.spawn(move || {
                side_by_side(steps, thread, threads);
                let start = Instant::now();
                work(thread, count);
                (start, Instant::now())
            })
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        running.into_iter().map(|thread| thread.join().expect("no contender panics")).collect()
    });
    let start = spans.iter().map(|span| span.0).min().expect("there are threads");
    let end = spans.iter().map(|span| span.1).max().expect("there are threads");
    end - start
}

/// Returns when all threads run at the same time. They hand on a number in turn, some times:
/// while two of them share a core, that takes so long that the system moves one of them. (A
/// thread that was asleep is often woken where the one runs that wakes it.)
fn side_by_side(steps: &AtomicUsize, thread: usize, threads: usize) {
    const ROUNDS: usize = 50;
    for round in 0..ROUNDS {
        while steps.load(Ordering::Acquire) != round * threads + thread {
            spin_loop();
        }
        steps.fetch_add(1, Ordering::Release);
    }
    while steps.load(Ordering::Acquire) < ROUNDS * threads {
        spin_loop();
    }
}

/// Settings that let a suite end within two minutes, before those of the command line.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args()
}

/// Measures a contender. It is made when its turn comes, for what it holds would expire
/// until then, and only if no filter leaves it out.
pub fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    threads: usize,
    new: impl Fn() -> Work,
) {
    group.throughput(Throughput::Elements(threads as u64));
    let mut made = None;
    group.bench_function(name, |bencher| {
        let work = made.get_or_insert_with(&new);
        bencher.iter_custom(|count| together(work, threads, count));
    });
}
