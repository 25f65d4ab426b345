//! Runs targets without a fuzzer, with any toolchain: the inputs that are checked in, then
//! changed ones, in an order that is always the same, for as long as it may.
//!
//! ```console
//! $ fuzz/smoke                       # 5 s of each target
//! $ FUZZ_SECONDS=60 fuzz/smoke pool  # 60 s of one
//! $ fuzz/smoke pool FILE             # one input
//! ```

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use arbitrary::{Arbitrary, Unstructured};

use crate::numbers::Numbers;
use crate::{capacity, file, keep_alive, lane, managed_line, pool, upstream, wheel, words};

struct Target {
    name: &'static str,
    /// False if the bytes are no input.
    run: fn(&[u8]) -> bool,
    show: fn(&[u8]) -> String,
}

/// As `fuzz_target!` does it.
fn read<'a, I: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<I> {
    let enough = bytes.len() >= I::size_hint(0).0;
    enough.then(|| I::arbitrary_take_rest(Unstructured::new(bytes)).ok())?
}

fn show<'a, I: Arbitrary<'a> + Debug>(bytes: &'a [u8]) -> String {
    format!("{:#?}", read::<I>(bytes))
}

macro_rules! targets {
    ($($name:ident: $input:ty),* $(,)?) => {
        &[$(Target {
            name: stringify!($name),
            run: |bytes| read::<$input>(bytes).map($name::run).is_some(),
            show: |bytes| show::<$input>(bytes),
        }),*]
    };
}

const TARGETS: &[Target] = targets! {
    capacity: capacity::Input,
    file: file::Input<'_>,
    keep_alive: keep_alive::Input<'_>,
    lane: lane::Input,
    managed_line: managed_line::Input,
    pool: pool::Input,
    upstream: upstream::Input,
    wheel: wheel::Input,
    words: words::Input,
};

fn folder(of: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(of).join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder("corpus", target)).into_iter().flatten().flatten();
    let mut inputs: Vec<Vec<u8>> = files.map(|file| fs::read(file.path()).unwrap()).collect();
    inputs.sort();
    inputs
}

/// False if the input fails. It is kept.
fn try_one(target: &Target, input: &[u8]) -> bool {
    let fine = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok();
    if !fine {
        let folder = folder("artifacts", target.name);
        let sum = input
            .iter()
            .fold(0, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let place = folder.join(format!("smoke-{sum:016x}"));
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&place, input));
        println!(
            "{}\n{}: failed: {} ({kept:?})",
            (target.show)(input),
            target.name,
            place.display()
        );
    }
    fine
}

fn smoke(target: &Target, time: Duration) -> bool {
    let (begin, corpus) = (Instant::now(), corpus(target.name));
    let mut count = corpus.len();
    if !corpus.iter().all(|input| try_one(target, input)) {
        return false;
    }
    let mut numbers = Numbers::new();
    while begin.elapsed() < time {
        if !try_one(target, &numbers.input(&corpus)) {
            return false;
        }
        count += 1;
    }
    println!("{:<14} {count:>9} inputs in {:.0?}", target.name, begin.elapsed());
    true
}

pub fn main() -> ExitCode {
    capacity::the_limit_is_the_pools();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let named = |name: &str| TARGETS.iter().find(|target| target.name == name);
    if let [name, file] = &arguments[..]
        && let (Some(target), Ok(input)) = (named(name), fs::read(file))
    {
        println!("{}", (target.show)(&input));
        return if try_one(target, &input) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let Some(targets) = arguments.iter().map(|name| named(name)).collect::<Option<Vec<_>>>() else {
        println!(
            "targets: {}",
            TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
        );
        return ExitCode::FAILURE;
    };
    let targets = if targets.is_empty() { TARGETS.iter().collect() } else { targets };
    let seconds = env::var("FUZZ_SECONDS").map_or(5, |it| it.parse().expect("FUZZ_SECONDS"));
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads.min(targets.len()) {
            scope.spawn(|| {
                // Relaxed: counts, which the end of the threads orders.
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !smoke(target, Duration::from_secs(seconds)) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
