//! What the pool should come to, and what it has come to.

use crate::Tables;
use crate::table::Table;

/// What must hold.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

/// A row of the table: what it is about, what must hold, and what was measured, if it was.
struct Target(&'static str, Bound, Option<f64>);

/// All rows.
pub fn table(tables: &Tables) -> Table {
    let mut table = Table::new("targets", "Targets", &["target", "measured", "met"]);
    let targets = pairs(tables).into_iter().chain(others(tables)).chain(large(tables));
    for Target(what, bound, measured) in targets {
        let (bound, met) = match bound {
            AtMost(most) => (format!("at most {most}"), measured.map(|value| value <= most)),
            AtLeast(least) => (format!("at least {least}"), measured.map(|value| value >= least)),
        };
        let met = met.map_or("", |met| if met { "yes" } else { "no" });
        let measured = measured.map(|value| format!("{value:.2}")).unwrap_or_default();
        table.row(what, [bound, measured, met.to_owned()]);
    }
    table
}

const MEDIAN: &str = "ns, median";
const HANDLE: &str = "slabpool, handle";
const LOOKUP: &str = "ArcSwap and ahash lookup";
const PEER: &str = "pingora-pool";
const GAIN: &str = "total / 1 thread";

impl Tables {
    /// What the peer takes, of what this one does.
    fn times_as_fast(&self, table: &str, of: &str) -> Option<f64> {
        Some(self.number(table, PEER, MEDIAN)? / self.number(table, of, MEDIAN)?)
    }
}

/// Get and release.
fn pairs(tables: &Tables) -> Vec<Target> {
    let number = |table: &str, of: &str, column: &str| tables.number(table, of, column);
    let faster = |table: &str, of: &str| tables.times_as_fast(table, of);
    let floor = |table: &str| {
        let floor = number("pair", HANDLE, MEDIAN)? + number(table, LOOKUP, MEDIAN)?;
        Some(number(table, "slabpool", MEDIAN)? / floor)
    };
    let cycle = |table: &str| number(table, "10000 TCP", "pingora-pool / watched");
    vec![
        Target("handle, pairs of ArrayQueue", AtMost(1.5), number("pair", HANDLE, "/ ArrayQueue")),
        Target(
            "handle, instructions",
            AtMost(150.0),
            number("instructions", "slabpool get + release, handle", "instructions"),
        ),
        Target(
            "u64 keys, times as fast as pingora-pool",
            AtLeast(8.0),
            faster("pair-u64", "slabpool"),
        ),
        Target("u64 keys, of handle and lookup", AtMost(1.5), floor("pair-u64")),
        Target(
            "60-byte keys, times as fast as pingora-pool",
            AtLeast(8.0),
            faster("pair-60-byte", "slabpool"),
        ),
        Target("60-byte keys, of handle and lookup", AtMost(1.5), floor("pair-60-byte")),
        Target(
            "release, watch armed, get: Pingora's way, of ours",
            AtLeast(40.0),
            cycle("idle-cycles"),
        ),
        Target("... the user has read in between", AtLeast(40.0), cycle("idle-reads")),
        Target(
            "2 threads, one group, of 1 thread",
            AtLeast(1.6),
            number("threads-same", HANDLE, GAIN),
        ),
        Target(
            "2 threads, a group each, of 1 thread",
            AtLeast(1.9),
            number("threads-own", HANDLE, GAIN),
        ),
    ]
}

/// Insertion, memory, allocations, acquire.
fn others(tables: &Tables) -> Vec<Target> {
    let number = |table: &str, of: &str, column: &str| tables.number(table, of, column);
    let faster = |table: &str, of: &str| tables.times_as_fast(table, of);
    let core = number("managed-acquire", "slabpool's core, get and release", "/ ours");
    let churn = "slabpool insert + detach, handle";
    let calls = |of: &str| number("allocations", of, "allocations");
    vec![
        Target(
            "put that evicts, new key, times as fast as pingora-pool",
            AtLeast(3.0),
            faster("put-new-key", "slabpool"),
        ),
        Target(
            "... 2 threads, of 1 thread",
            AtLeast(1.0),
            number("put-new-key-threads", "slabpool", GAIN),
        ),
        Target("insert and detach, ns", AtMost(150.0), number("come-and-go", churn, MEDIAN)),
        Target(
            "bytes for each idle connection, large groups",
            AtMost(192.0),
            number("memory", "slabpool", "100,000, 100 keys"),
        ),
        Target(
            "bytes for each idle connection, a key each",
            AtMost(640.0),
            number("memory", "slabpool", "100,000, a key each"),
        ),
        Target(
            "allocations of a get and a release",
            AtMost(0.0),
            calls("get and release, u64 keys: slabpool"),
        ),
        Target(
            "allocations of an insertion and its end",
            AtMost(1.0),
            calls("comes and goes: slabpool insert + detach, handle"),
        ),
        Target("acquire, of a get by key", AtMost(1.3), core.map(|core| 1.0 / core)),
    ]
}

/// A million idle connections in 100,000 groups.
fn large(tables: &Tables) -> Vec<Target> {
    let tail = |of: &str, column: &str| tables.number("tails", of, column);
    let base = "p50 / 1,000 idle";
    let (resting, reaped) =
        ("... hot, another clock", "... hot, the reaper runs, 10 times as fast");
    let p9999 = tail(reaped, "p99.99").zip(tail(resting, "p99.99"));
    let micros = tail("insert + detach, new key", "p99").map(|nanos| nanos / 1e3);
    // What the control has of it is the scheduler's.
    let long = |of: &str| {
        let pool = tail(of, "over 50 us, in a second")?;
        Some((pool - tail(of, "control over 50 us, in a second")?).max(0.0))
    };
    vec![
        Target(
            "p50 at 1,000,000 idle, of that at 1,000",
            AtMost(1.5),
            tail("1,000,000 idle, hot keys", base),
        ),
        Target(
            "the reaper, % of a core",
            AtMost(1.0),
            tables.number("reaper", "in use", "% of a core"),
        ),
        Target("p99.99 while it runs, of that without it", AtMost(1.1), p9999.map(|(a, b)| a / b)),
        Target("new key, us, p99", AtMost(50.0), micros),
        Target(
            "gets over 50 us, in a second, while groups come and go",
            AtMost(1.0),
            long("... hot, groups come and go"),
        ),
        Target(
            "... while connections are evicted",
            AtMost(1.0),
            long("... hot, connections are evicted"),
        ),
        Target("... while the reaper runs", AtMost(1.0), long(reaped)),
        Target(
            "... while all others expire",
            AtMost(1.0),
            long("... hot, all others expire at once"),
        ),
    ]
}
