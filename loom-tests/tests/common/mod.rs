//! What all models share: how they are run, and connections that keep account of
//! themselves.

#![allow(dead_code, reason = "no test file uses everything")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::cell::UnsafeCell;
use slabpool::{Builder, Group, Pool};

/// Runs a model with at most so many preemptions (`LOOM_MAX_PREEMPTIONS` overrides).
pub fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    run(model, body);
}

/// Runs a model with all its interleavings.
pub fn check_all(body: impl Fn() + Send + Sync + 'static) {
    run(loom::model::Builder::new(), body);
}

fn run(mut model: loom::model::Builder, body: impl Fn() + Send + Sync + 'static) {
    model.max_branches = model.max_branches.max(10_000);
    let count = Arc::new(AtomicUsize::new(0));
    let start = std::time::Instant::now();
    let counted = Arc::clone(&count);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let count = count.load(Ordering::Relaxed);
    eprintln!("{count} executions, {:.2} s", start.elapsed().as_secs_f64());
}

const CONNECTIONS_MAX: usize = 4;

/// How often each connection was dropped.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<[AtomicUsize; CONNECTIONS_MAX]>);

impl Ledger {
    /// A connection with this number.
    pub fn connection(&self, number: usize) -> Conn {
        Conn { number, uses: UnsafeCell::new(0), ledger: self.clone() }
    }

    /// How often the connection with this number was dropped.
    pub fn dropped(&self, number: usize) -> usize {
        self.0[number].load(Ordering::Relaxed)
    }

    /// How many connections were dropped.
    pub fn dropped_in_all(&self) -> usize {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Drops the pool. Then each of the first `made` connections was dropped once.
    pub fn settle<K, C>(&self, pool: Pool<K, C>, made: usize) {
        drop(pool);
        for (number, count) in self.0.iter().enumerate() {
            let expected = usize::from(number < made);
            assert_eq!(count.load(Ordering::Relaxed), expected, "drops of connection {number}");
        }
    }
}

/// A connection. Loom sees to it that it has one user at a time.
#[derive(Debug)]
pub struct Conn {
    pub number: usize,
    uses: UnsafeCell<usize>,
    ledger: Ledger,
}

impl Conn {
    /// Uses the connection: nobody else may do so now, and whoever did so before must
    /// have said so. Returns how often it was used before.
    pub fn touch(&self) -> usize {
        self.uses.with_mut(|uses| {
            // SAFETY: loom has checked that nobody else has it.
            let uses = unsafe { &mut *uses };
            *uses += 1;
            *uses - 1
        })
    }
}

// SAFETY: loom sees to it that whoever changes it has it alone.
unsafe impl Sync for Conn {}

impl Conn {
    /// Uses the connection beside others who do so: nobody may have it alone now.
    pub fn look(&self) -> usize {
        // SAFETY: loom has checked that nobody changes it.
        self.uses.with(|uses| unsafe { *uses })
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The pool catches panics of this. A connection that somebody else uses then
        // is missed in the account.
        self.touch();
        self.ledger.0[self.number].fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool for models, without idle timeout.
pub fn builder() -> Builder<u8, Conn> {
    Pool::builder().capacity(4).idle_timeout(None).lanes(1)
}

/// A handle that threads can share, so that none of them gives one up.
pub type Handle = Arc<Group<u8, Conn>>;

/// A handle to the group of a key.
pub fn handle(pool: &Pool<u8, Conn>, key: u8) -> Handle {
    Arc::new(pool.group(&key))
}

/// A pool with connections 0 to `count`, idle in group 1, the last one on top.
pub fn pool_of(count: usize, ledger: &Ledger) -> (Pool<u8, Conn>, Handle) {
    let pool = builder().build().unwrap();
    let group = handle(&pool, 1);
    for number in 0..count {
        group.put(ledger.connection(number)).unwrap();
    }
    (pool, group)
}

/// Spawns a thread that shares a handle with this one.
pub fn with_group<R: 'static>(
    group: &Handle,
    body: impl FnOnce(Handle) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let group = Arc::clone(group);
    loom::thread::spawn(move || body(group))
}
