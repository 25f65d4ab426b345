//! Connections that tell when they are born, used by two at a time, or dropped twice, and
//! the books that are kept of them.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use slabpool::Liveness;

/// What connections are looked up by. Of those below [`Key::PRIVATE`], one in sixteen has a
/// hash in common with all its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u64);

impl Key {
    /// From here on each thread has a key that nobody else uses.
    pub const PRIVATE: u64 = 1 << 40;
    /// From here on keys are used once.
    pub const ONCE: u64 = 1 << 41;

    /// The thread whose key this is.
    pub fn owner(self) -> Option<usize> {
        (Self::PRIVATE..Self::ONCE).contains(&self.0).then(|| (self.0 - Self::PRIVATE) as usize)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let collides = self.0 < Self::PRIVATE && self.0 % 16 == 3;
        hasher.write_u64(if collides { 3 } else { self.0 });
    }
}

/// The books, of all pools of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    born: AtomicU64,
    dropped: AtomicU64,
    /// Panics of hooks, probes and destructors that the pool has to catch.
    pub panics: AtomicU64,
    /// Connections in the pool, as far as known: never more than there are.
    pub inside: AtomicI64,
    /// What `inside` may be.
    pub ceiling: AtomicI64,
    /// Of the private connection of each thread, the one closed last.
    pub closed: Vec<AtomicU64>,
    failed: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Ledger {
    pub fn new(threads: usize) -> Arc<Self> {
        let closed = (0..threads).map(|_| AtomicU64::default()).collect();
        Arc::new(Self { closed, ..Self::default() })
    }

    pub fn connect(self: &Arc<Self>, key: Key, temper: u64) -> Connection {
        let id = self.born.fetch_add(1, Relaxed) + 1;
        Connection {
            id,
            key,
            // One in 512 panics when the pool drops it, others die after some looks.
            panics: AtomicBool::new(temper % 512 == 1 && key.owner().is_none()),
            dies_after: if key.owner().is_none() && temper % 32 == 2 { 1 + temper % 7 } else { !0 },
            chatty: temper % 64 == 2,
            used: AtomicBool::new(false),
            dropped: false,
            canary: Box::new(id),
            ledger: Arc::clone(self),
        }
    }

    pub fn born(&self) -> u64 {
        self.born.load(Relaxed)
    }

    /// Connections that were born and not dropped. Exact only when nobody is at it.
    pub fn live(&self) -> u64 {
        self.born() - self.dropped.load(Relaxed)
    }

    /// A connection has entered the pool: after it did.
    pub fn entered(&self) {
        let inside = self.inside.fetch_add(1, Relaxed) + 1;
        let ceiling = self.ceiling.load(Relaxed);
        self.check(inside <= ceiling, || format!("{inside} connections where {ceiling} may be"));
    }

    /// A connection leaves the pool: before it does.
    pub fn left(&self) {
        self.inside.fetch_sub(1, Relaxed);
    }

    /// It did not leave, after all.
    pub fn stayed(&self) {
        self.inside.fetch_add(1, Relaxed);
    }

    pub fn check(&self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.failed.store(true, Relaxed);
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.len() < 20 {
                failures.push(complaint());
            }
        }
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A panic that the pool has to catch.
    pub fn panic(&self) -> ! {
        self.panics.fetch_add(1, Relaxed);
        interrupt()
    }
}

/// What panics on purpose carry.
struct Injected;

/// A panic that says nothing about itself.
pub fn interrupt() -> ! {
    panic::resume_unwind(Box::new(Injected))
}

/// Whether a panic was meant.
pub fn was_meant(panic: &(dyn Any + Send)) -> bool {
    panic.is::<Injected>()
}

#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    pub key: Key,
    /// Whether it panics when it is dropped.
    panics: AtomicBool,
    /// Looks until the peer closes it.
    dies_after: u64,
    chatty: bool,
    used: AtomicBool,
    dropped: bool,
    /// So that the allocator has a word in it when this is dropped twice.
    canary: Box<u64>,
    ledger: Arc<Ledger>,
}

impl Connection {
    /// A lease begins.
    pub fn begin(&self, key: Key) {
        let Self { id, used, .. } = self;
        let ledger = &self.ledger;
        ledger.check(!used.swap(true, Relaxed), || format!("{id} has two users"));
        ledger.check(self.key == key, || format!("{id} of {:?} came for {key:?}", self.key));
        ledger.check(*self.canary == *id, || format!("{id} is {}", self.canary));
        ledger.check(self.dies_after > 0, || format!("{id} was known to be dead"));
    }

    /// A lease ends.
    pub fn end(&self) {
        let used = self.used.swap(false, Relaxed);
        self.ledger.check(used, || format!("{} was released twice", self.id));
    }

    /// It is nobody's concern any more but the caller's.
    pub fn calm(&self) {
        self.panics.store(false, Relaxed);
    }

    /// What a probe finds. Once it is dead it stays so.
    pub fn look(&mut self) -> Liveness {
        self.ledger.check(!self.used.load(Relaxed), || format!("{} is looked at in use", self.id));
        if self.dies_after < u64::MAX {
            self.dies_after = self.dies_after.saturating_sub(1);
        }
        match (self.dies_after, self.chatty) {
            (0, true) => Liveness::UnexpectedData,
            (0, false) => Liveness::Closed,
            _ => Liveness::Alive,
        }
    }

    /// Its user finds out that the peer has closed it.
    pub fn die(&mut self) {
        self.dies_after = 1;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Self { id, ledger, .. } = self;
        ledger.check(!self.dropped, || format!("{id} was dropped twice"));
        ledger.check(*self.canary == *id, || format!("{id} is {}", self.canary));
        self.dropped = true;
        ledger.dropped.fetch_add(1, Relaxed);
        if *self.panics.get_mut() && !std::thread::panicking() {
            ledger.panic();
        }
    }
}
