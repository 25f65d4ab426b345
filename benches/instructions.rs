//! How many instructions an operation takes: numbers that do not depend on what else
//! the machine does, and change only when the code or the compiler does.
//!
//! Each benchmark does 1,000 operations after as many to warm up, so that **a 1,000th of
//! what is reported is one operation**. What surrounds them, the call and the loop,
//! comes to less than one instruction in each. Keyed pools have random hash keys, and
//! with them a few instructions more or less from run to run. A reading of the clock is
//! a system call under Valgrind, and counts as fewer instructions than the 20 or so that
//! it takes otherwise.
//!
//! Needs Valgrind, and the runner of exactly the version of the library:
//!
//! ```text
//! cargo install iai-callgrind-runner --version 0.16.1
//! cargo bench --bench instructions
//! ```
//!
//! Whether there are more of them than before is what `.ci/instructions` says, which needs no
//! runner: see `limits.rs`.
//!
//! The target is not run by a plain `cargo bench`, which is to work without either.

#![allow(missing_docs, reason = "the macros make public items")]

mod common;

use common::{Work, bound, pairs, variants};
use iai_callgrind::{library_benchmark, library_benchmark_group, main};

const OPERATIONS: u64 = 1_000;

/// The contender, after its first use of everything.
fn warm(work: Work) -> Work {
    work(0, OPERATIONS);
    work
}

#[library_benchmark]
#[bench::slabpool_handle(warm(pairs::slabpool_handle(1, None)))]
#[bench::slabpool_u64_keys(warm(pairs::slabpool_by_number()))]
#[bench::slabpool_60_byte_keys(warm(pairs::slabpool_by_peer()))]
#[bench::pingora_u64_keys(warm(pairs::pingora_by_number()))]
#[bench::array_queue(warm(pairs::array_queue(1)))]
fn get_and_release(work: Work) -> Work {
    work(0, OPERATIONS);
    work
}

#[library_benchmark]
#[bench::replaced(warm(variants::replaced()))]
#[bench::probed(warm(variants::probed()))]
#[bench::watched(warm(variants::watched()))]
#[bench::watched_displaced(warm(variants::displaced()))]
fn handle(work: Work) -> Work {
    work(0, OPERATIONS);
    work
}

#[library_benchmark]
#[bench::slabpool_insert_detach(warm(bound::slabpool_churn_handle()))]
#[bench::slabpool_put_new_key(warm(bound::slabpool_put_new_key()))]
#[bench::slabpool_put_one_key(warm(bound::slabpool_put_one_key()))]
#[bench::pingora_put_new_key(warm(bound::pingora_put_new_key()))]
#[bench::pingora_put_one_key(warm(bound::pingora_put_one_key()))]
fn insert(work: Work) -> Work {
    work(0, OPERATIONS);
    work
}

library_benchmark_group!(name = operations; benchmarks = get_and_release, handle, insert);
main!(library_benchmark_groups = operations);
