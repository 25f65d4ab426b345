//! Whether an operation takes more instructions than it did: a check, which fails when one
//! takes 2 % more than `benches/instructions.limits` says.
//!
//! ```text
//! .ci/instructions                       # installs Valgrind if it is missing
//! .ci/instructions --write               # writes the limits anew
//! ```
//!
//! Each operation has three runs of this program under Callgrind, which counts 10,000 of it
//! after some to warm up, and nothing else; the median counts. Counts do not depend on what
//! the machine does, but on the compiler: by another one than that of the limits, 10 % more
//! are let pass. The peers are for comparison, and have no limit. `--bench instructions` has the same operations for
//! iai-callgrind, which shows where the instructions are.

mod common;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};

use common::table::Table;
use common::{Work, bound, pairs, variants};

const OPERATIONS: u64 = 10_000;
const WARM_UP: u64 = 1_000;

/// Of which function the instructions are counted, and of all that it calls.
const COUNTED: &str = "--toggle-collect=limits::counted*";

/// What more is let pass: by the compiler of the limits, and by another one.
const GROWTH_MAX: f64 = 0.02;
const GROWTH_MAX_ELSEWHERE: f64 = 0.10;

const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.limits");

/// Says to this program that it is counted.
const COUNT: &str = "--count=";

type New = fn() -> Work;

const OPERATIONS_OF: [(&str, New); 11] = [
    ("slabpool get + release, handle", || pairs::slabpool_handle(1, None)),
    ("... of a connection that has replaced another one", variants::replaced),
    ("... with a probe", variants::probed),
    ("... watched", variants::watched),
    ("... watched, and the user has read", variants::displaced),
    ("slabpool get + release, 1,000 u64 keys", pairs::slabpool_by_number),
    ("slabpool get + release, 1,000 keys of 60 bytes", pairs::slabpool_by_peer),
    ("slabpool insert + detach, handle", bound::slabpool_churn_handle),
    ("slabpool put at the bound, new key", bound::slabpool_put_new_key),
    ("slabpool put at the bound, one key", bound::slabpool_put_one_key),
    ("slabpool acquire + release", acquire),
];

const PEERS: [(&str, New); 4] = [
    ("pingora-pool get + put, 1,000 u64 keys", pairs::pingora_by_number),
    ("pingora-pool put at the bound, new key", bound::pingora_put_new_key),
    ("pingora-pool put at the bound, one key", bound::pingora_put_one_key),
    ("ArrayQueue pop + push", || pairs::array_queue(1)),
];

/// The managed pool's, by key, under tokio.
#[cfg(feature = "tokio")]
fn acquire() -> Work {
    let [(_, new), ..] = common::managed::UNCONTENDED;
    new(&common::managed::runtime(1))
}

/// There is none.
#[cfg(not(feature = "tokio"))]
fn acquire() -> Work {
    panic!("the limits are those of the feature tokio")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let all = OPERATIONS_OF.iter().chain(&PEERS);
    if let Some(name) = arguments.iter().find_map(|argument| argument.strip_prefix(COUNT)) {
        let (_, new) = all.clone().find(|(known, _)| *known == name).expect("it is known");
        let work = new();
        work(0, WARM_UP);
        counted(&work);
        return ExitCode::SUCCESS;
    }
    let counts: Vec<(&str, u64)> = all.map(|(name, _)| (*name, count(name))).collect();
    if arguments.iter().any(|argument| argument == "--write") {
        write(&counts[..OPERATIONS_OF.len()]);
    }
    compare(&counts)
}

/// Not inlined: Callgrind knows it by its name.
#[inline(never)]
fn counted(work: &Work) {
    work(0, OPERATIONS);
}

/// Instructions of one operation: the median of some runs, since the hash keys are random.
fn count(name: &str) -> u64 {
    const RUNS: usize = 3;
    let mut counts = [(); RUNS].map(|()| count_once(name));
    counts.sort_unstable();
    counts[RUNS / 2]
}

fn count_once(name: &str) -> u64 {
    let program = env::current_exe().expect("this program has a path");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", COUNTED])
        .arg(program)
        .arg(format!("{COUNT}{name}"))
        .output()
        .expect("Valgrind is installed");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let sum: u64 = collected.and_then(|(_, sum)| sum.trim().parse().ok()).unwrap_or_default();
    assert!(sum > 0, "{name}: Callgrind has not seen its function");
    (sum + OPERATIONS / 2) / OPERATIONS
}

/// The compiler's own words.
fn compiler() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let said = Command::new(rustc).arg("--version").output().expect("there is a compiler");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// The compiler that they are of, in the first line, and then a limit in each.
fn write(counts: &[(&str, u64)]) {
    let mut text = compiler() + "\n";
    for (name, count) in counts {
        writeln!(text, "{count:6} {name}").expect("memory suffices");
    }
    fs::write(LIMITS, text).expect("the file can be written");
}

fn compare(counts: &[(&str, u64)]) -> ExitCode {
    let text = fs::read_to_string(LIMITS).expect("there are limits");
    let (theirs, limits) = text.split_once('\n').expect("it has lines");
    let ours = compiler();
    let growth_max = if ours == theirs {
        GROWTH_MAX
    } else {
        println!("The limits are those of {theirs}, and this is {ours}:");
        println!("{} % more are let pass.", GROWTH_MAX_ELSEWHERE * 100.0);
        GROWTH_MAX_ELSEWHERE
    };
    let limits: Vec<(u64, &str)> = limits.lines().map(limit).collect();
    let mut table =
        Table::new("instructions", "Instructions of an operation", &["instructions", "limit"]);
    let (mut grown, mut shrunk) = (Vec::new(), Vec::new());
    for &(name, count) in counts {
        let limit = limits.iter().find(|(_, known)| *known == name).map(|(limit, _)| *limit);
        table.row(name, [Some(count), limit].map(|n| n.map(|n| n.to_string()).unwrap_or_default()));
        let Some(limit) = limit else { continue };
        let growth = count as f64 / limit as f64 - 1.0;
        let list = match growth {
            _ if growth > growth_max => &mut grown,
            _ if growth < -GROWTH_MAX => &mut shrunk,
            _ => continue,
        };
        list.push(format!("{name}: {count}, and the limit is {limit} ({:+.1} %)", growth * 100.0));
    }
    table.publish();
    let unlimited =
        OPERATIONS_OF.iter().filter(|(name, _)| !limits.iter().any(|(_, known)| known == name));
    grown.extend(unlimited.map(|(name, _)| format!("{name}: has no limit")));
    if !shrunk.is_empty() {
        println!("Fewer than before; `.ci/instructions --write` lowers the limits:");
        shrunk.iter().for_each(|line| println!("  {line}"));
    }
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("More instructions than before:");
    grown.iter().for_each(|line| eprintln!("  {line}"));
    ExitCode::FAILURE
}

fn limit(line: &str) -> (u64, &str) {
    let (count, name) = line.trim().split_once(' ').expect("a number and a name");
    (count.parse().expect("a number"), name.trim())
}
