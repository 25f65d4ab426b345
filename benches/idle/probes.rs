//! Clocks, limits, and the count of closed connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// How long nothing may be closed until something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nanoseconds on a clock that all processes share.
pub fn now() -> u64 {
    nanos(ClockId::Monotonic)
}

/// Nanoseconds of processor time that this process has used.
pub fn cpu() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Raises this process's limit of file descriptors as far as possible, and returns it.
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // What cannot be raised stays.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}

/// The connections that were closed since somebody began to wait.
pub static CLOSES: Closes = Closes {
    wanted: AtomicUsize::new(usize::MAX),
    seen: AtomicUsize::new(0),
    turn: AtomicUsize::new(0),
    last: AtomicU64::new(0),
    reached: Notify::const_new(),
};

pub struct Closes {
    wanted: AtomicUsize,
    seen: AtomicUsize,
    /// How often somebody has waited.
    turn: AtomicUsize,
    last: AtomicU64,
    reached: Notify,
}

impl Closes {
    /// From now on, `wanted` connections are waited for. All is Relaxed: it happens on
    /// one thread.
    pub fn expect(&self, wanted: usize) {
        self.seen.store(0, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Waits until they were closed. Returns when the last one was.
    pub async fn reached(&self) -> u64 {
        self.reached.notified().await;
        let wanted = self.wanted.swap(usize::MAX, Ordering::Relaxed);
        assert_eq!(self.seen.load(Ordering::Relaxed), wanted, "no other connections are closed");
        self.last.load(Ordering::Relaxed)
    }

    /// Ends this process when the same connections are waited for too long. In a thread of
    /// its own: a timer would make the runtime busy at the wrong time.
    pub fn guard(&'static self) {
        let state = || (self.turn.load(Ordering::Relaxed), self.seen.load(Ordering::Relaxed));
        std::thread::spawn(move || {
            loop {
                let before = state();
                std::thread::sleep(PATIENCE);
                let wanted = self.wanted.load(Ordering::Relaxed);
                if wanted != usize::MAX && before == state() {
                    eprintln!("{} of {wanted} connections were closed, and no more", before.1);
                    std::process::exit(1);
                }
            }
        });
    }
}

/// The last thing in a connection: counts it when it is closed. Has no size.
pub struct Knell;

impl Drop for Knell {
    fn drop(&mut self) {
        let seen = CLOSES.seen.fetch_add(1, Ordering::Relaxed) + 1;
        CLOSES.last.store(now(), Ordering::Relaxed);
        if seen == CLOSES.wanted.load(Ordering::Relaxed) {
            CLOSES.reached.notify_one();
        }
    }
}
