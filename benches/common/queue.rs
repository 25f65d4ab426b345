//! What it is like to stand in a long line: many tasks that come back again and again, and
//! one caller among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::managed::{Subject, filled};

/// How long each task means to keep its connection. tokio's timers make more of it.
pub const HOLD: Duration = Duration::from_micros(500);

/// What the tasks count together.
#[derive(Debug, Default)]
struct Books {
    joined: AtomicU64,
    served: AtomicU64,
    ended: AtomicU64,
    /// All holds, in nanoseconds.
    held: AtomicU64,
    over: AtomicBool,
}

/// What one caller met.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Who stood before it when it came.
    pub ahead: u64,
    /// Who was served until it was.
    pub served: u64,
    pub took: Duration,
    /// How long a connection was really kept meanwhile, on average.
    pub hold: Duration,
}

impl Wait {
    /// How long those ahead of it would keep the connections, if no time was lost in between.
    pub fn fair(&self, connections: usize) -> Duration {
        self.hold.mul_f64(self.ahead as f64 / connections as f64)
    }
}

/// `tasks` tasks that acquire and hold without an end, and a caller that comes `probes` times.
pub fn line<S: Subject>(
    runtime: &Arc<Runtime>,
    connections: usize,
    tasks: usize,
    probes: usize,
) -> Vec<Wait> {
    runtime.block_on(async {
        let (subject, books) = (filled::<S>(connections).await, Arc::new(Books::default()));
        let spawn = |_| {
            let (subject, books) = (subject.clone(), Arc::clone(&books));
            tokio::spawn(async move {
                while !books.over.load(Ordering::Relaxed) {
                    books.turn(&subject, HOLD).await;
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn).collect();
        // Until all stand in line.
        while books.joined.load(Ordering::Relaxed) < tasks as u64 {
            sleep(HOLD).await;
        }
        let mut waits = Vec::new();
        for _ in 0..probes {
            let books = Arc::clone(&books);
            let subject = subject.clone();
            let caller = tokio::spawn(async move { books.probe(&subject).await });
            waits.push(caller.await.expect("no contender panics"));
        }
        books.over.store(true, Ordering::Relaxed);
        for handle in handles {
            handle.await.expect("no contender panics");
        }
        waits
    })
}

/// How even the waits of `tasks` tasks are, of which each acquires and holds `turns` times:
/// Jain's index, 1 if all wait as long. Their first waits do not count: all come at once.
pub fn evenness<S: Subject>(
    runtime: &Arc<Runtime>,
    connections: usize,
    tasks: usize,
    turns: usize,
) -> f64 {
    runtime.block_on(async {
        let (subject, books) = (filled::<S>(connections).await, Arc::new(Books::default()));
        let spawn = |_| {
            let (subject, books) = (subject.clone(), Arc::clone(&books));
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(turns);
                books.turn(&subject, HOLD).await;
                for _ in 0..turns {
                    waits.push(books.turn(&subject, HOLD).await.as_secs_f64());
                }
                waits
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn).collect();
        let mut waits = Vec::new();
        for handle in handles {
            waits.extend(handle.await.expect("no contender panics"));
        }
        let (sum, squares) = waits
            .iter()
            .fold((0.0, 0.0), |(sum, squares), wait| (sum + wait, squares + wait * wait));
        sum * sum / (waits.len() as f64 * squares)
    })
}

impl Books {
    /// Acquires, holds, and gives back. How long it had to wait.
    async fn turn<S: Subject>(&self, subject: &S, hold: Duration) -> Duration {
        // Relaxed, all of them: they are read when nobody minds one more or less.
        self.joined.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let lease = subject.acquire().await;
        let waited = start.elapsed();
        self.served.fetch_add(1, Ordering::Relaxed);
        let Ok(mut lease) = lease else { return waited };
        *lease += 1;
        let start = Instant::now();
        if !hold.is_zero() {
            sleep(hold).await;
        }
        S::end(lease);
        self.held.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
        waited
    }

    async fn probe<S: Subject>(&self, subject: &S) -> Wait {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let before = [read(&self.served), read(&self.held), read(&self.ended)];
        let ahead = read(&self.joined).saturating_sub(before[0]);
        let start = Instant::now();
        let lease = subject.acquire().await;
        let took = start.elapsed();
        lease.into_iter().for_each(S::end);
        let after = [read(&self.served), read(&self.held), read(&self.ended)];
        let [served, held, ended] = [0, 1, 2].map(|n| after[n] - before[n]);
        Wait { ahead, served, took, hold: Duration::from_nanos(held / ended.max(1)) }
    }
}
