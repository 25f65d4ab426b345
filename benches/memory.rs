//! What idle connections take on the heap, and what operations allocate.
//!
//! ```text
//! cargo bench --bench memory
//! ```
//!
//! Bytes are what was asked of the allocator and not given back, for each idle connection,
//! beyond the connection itself, which is a `u64`; the slack of what grows, and the empty
//! pool, are included. These are counts: they do not depend on what else the machine does.
//! Prints Markdown. Takes ten seconds, and 700 MB of memory.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};

use common::peers::{LegacyPool, MapOfStacks};
use common::plain::MutexMap;
use common::shapes::Subject;
use common::table::Table;
use common::turns::is_test;
use common::{Connection, Contender, bound, pairs};
use pingora_pool::ConnectionPool;
use slabpool::Pool;

#[global_allocator]
static HEAP: Heap = Heap;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Heap;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: by the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Relaxed: sums, read by the thread that asked for what they count.
fn count(bytes: isize, calls: u64) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
    CALLS.fetch_add(calls, Ordering::Relaxed);
}

/// Bytes for each connection, of so many keys with so many connections each.
type BytesOf = fn(usize, u64) -> f64;

const CONTENDERS: [(&str, BytesOf); 5] = [
    ("slabpool", bytes::<Pool<u64, Connection>>),
    ("pingora-pool", bytes::<ConnectionPool<Connection>>),
    ("hyper-util, legacy", bytes::<LegacyPool<u64>>),
    ("DashMap<u64, Mutex<Vec>>", bytes::<MapOfStacks<u64>>),
    ("Mutex<HashMap<u64, Vec>>", bytes::<MutexMap>),
];

/// Keys, and connections of each.
const SIZES: [(&str, usize, u64); 5] = [
    ("10,000, 100 keys", 100, 100),
    ("100,000, 100 keys", 100, 1_000),
    ("1,000,000, 100 keys", 100, 10_000),
    ("100,000, a key each", 100_000, 1),
    ("1,000,000, 100,000 keys", 100_000, 10),
];

/// Operations that are counted, after as many that are not.
const OPERATIONS: u64 = 10_000;

fn main() {
    let factor = if is_test() { 100 } else { 1 };
    let columns = SIZES.map(|(name, ..)| name);
    let title = "Bytes on the heap for each idle connection";
    let mut table = Table::new("memory", title, &columns);
    for (name, bytes) in CONTENDERS {
        let cell = |(_, keys, idle)| format!("{:.0}", bytes(keys / factor.min(keys), idle));
        table.row(name, SIZES.map(cell));
    }
    table.publish();
    allocations().publish();
}

fn bytes<S: Subject>(keys: usize, idle: u64) -> f64 {
    let all: Vec<u64> = (1..=keys as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    // What the first one in a process makes for all.
    drop(S::new(&all[..1], 1));
    let before = LIVE.load(Ordering::Relaxed);
    let subject = S::new(&all, idle);
    let after = LIVE.load(Ordering::Relaxed);
    drop(subject);
    let connections = keys as f64 * idle as f64;
    (after - before) as f64 / connections - size_of::<Connection>() as f64
}

/// Calls to the allocator for each operation.
fn allocations() -> Table {
    let mut table = Table::new("allocations", "Allocations for an operation", &["allocations"]);
    let kinds: [(&str, &[Contender]); 4] = [
        ("get and release, u64 keys", &pairs::BY_NUMBER),
        ("put into a full pool, new key", &bound::PUT_NEW_KEY),
        ("put into a full pool, one key", &bound::PUT_ONE_KEY),
        ("comes and goes", &bound::COME_AND_GO),
    ];
    for (kind, contenders) in kinds {
        for (name, new) in contenders {
            let work = new();
            work(0, OPERATIONS);
            let before = CALLS.load(Ordering::Relaxed);
            work(0, OPERATIONS);
            let calls = CALLS.load(Ordering::Relaxed) - before;
            table.row(
                format!("{kind}: {name}"),
                [format!("{:.3}", calls as f64 / OPERATIONS as f64)],
            );
        }
    }
    table
}
