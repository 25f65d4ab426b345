//! What the benchmarks share: the contenders, and how their work is run.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod bound;
pub mod pairs;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use slabpool::Pool;

/// What is pooled, the same for all. It is also its own number, which pingora-pool
/// asks for.
pub type Connection = u64;

/// `work(thread, count)` does one operation `count` times, as that thread. One
/// indirect call for all of them: the loop is inside.
pub type Work = Box<dyn Fn(usize, u64) + Send + Sync>;

/// Why a contender may expect what it gets.
pub const IDLE: &str = "there are more idle connections than threads";

/// A pool with default settings, but for its capacity.
pub fn pool<K>(capacity: usize) -> Pool<K, Connection>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
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
    let barrier = &Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let spawn = |thread| {
            scope.spawn(move || {
                barrier.wait();
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
