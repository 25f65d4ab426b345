//! How slabpool compares, when nanoseconds cannot be trusted.
//!
//! On a shared or throttled machine the same loop takes twice as long a minute later,
//! so that numbers from two runs say little about each other. Here all contenders of a
//! batch take turns in one process, a slice of 30 ms each, in 21 rounds that start at a
//! different contender each, and what counts is the ratio of their medians. Prints
//! Markdown, and takes about three minutes:
//!
//! ```text
//! cargo bench --bench ratios
//! cargo bench --bench ratios -- --quick        # to try something out
//! cargo bench --bench ratios -- --csv=DIRECTORY
//! ```
//!
//! Each contender is described where it is made, in `common/`. Times are wall time: with
//! two threads, from the start of the first to the end of the last, over the operations
//! of one of them. A turn of two threads counts only if two cores were idle before and
//! after it. If that is seldom so, there are more of them, for a while; a row that still
//! has too few stays empty.

mod common;

use common::shapes::{BY_CHOICE, HANDED_OVER, HOLDING, Order};
use common::turns::{Effort, Row, Section, is_test, measure};
use common::zipf::Spread;
use common::{Grouped, bound, pairs};

fn main() {
    let Effort { rounds, slice, .. } = Effort::chosen();
    println!("Medians of {rounds} rounds, {slice:?} of each contender in each, in turn.");
    measure(get_and_release());
    measure(come_and_go());
    measure(many_keys());
    measure(held());
}

/// One pair at a time.
fn get_and_release() -> Vec<Section> {
    let grouped = |name, title, threads, groups| {
        let row = |(name, new): Grouped| Row::new(name, threads, new(groups));
        Section::new(name, title, pairs::BY_GROUP.map(row).into())
    };
    let mut same = grouped("threads-same", "Get and release, 2 threads, same group", 2, 1);
    for (place, name, lanes) in
        [(1, "slabpool, handle, 1 lane", 1), (2, "slabpool, handle, 2 lanes", 2)]
    {
        same.rows.insert(place, Row::new(name, 2, pairs::slabpool_handle(1, Some(lanes))));
    }
    vec![
        grouped("pair", "Get and release, 1 thread, 1 group", 1, 1),
        Section::of(
            "pair-u64",
            "Get and release, 1 thread, 1,000 groups, u64 keys",
            1,
            &pairs::BY_NUMBER,
        ),
        Section::of(
            "pair-60-byte",
            "Get and release, 1 thread, 1,000 groups, 60-byte keys",
            1,
            &pairs::BY_PEER,
        ),
        same.alone(0),
        grouped("threads-own", "Get and release, 2 threads, a group each", 2, 2).alone(0),
    ]
}

/// Insertion and removal.
fn come_and_go() -> Vec<Section> {
    let title = "Put into a full pool of 1,024, new key each";
    let two = format!("{title}, 2 threads");
    vec![
        Section::of("put-new-key", title, 1, &bound::PUT_NEW_KEY),
        Section::of("put-new-key-threads", &two, 2, &bound::PUT_NEW_KEY).alone(0),
        Section::of(
            "put-one-key",
            "Put into a full pool of 1,024, one key",
            1,
            &bound::PUT_ONE_KEY,
        ),
        Section::of("come-and-go", "A connection that comes and goes", 1, &bound::COME_AND_GO),
    ]
}

/// Keys chosen at random: all alike, or some far more often than others.
fn many_keys() -> Vec<Section> {
    let section = |name: &str, title: String, keys, spread, threads| {
        let row = |(name, new): (_, fn(_, _, _) -> _)| {
            Row::new(name, threads, new(keys, spread, threads))
        };
        Section::new(name, title, BY_CHOICE.map(row).into())
    };
    let (few, many) = (1_000, if is_test() { 2_000 } else { 100_000 });
    let of = |keys: usize, spread: &str, threads: &str| {
        let keys = if keys == few { "1,000" } else { "100,000" };
        format!("Get and release, {keys} keys, {spread}, {threads}")
    };
    vec![
        section("zipf-few", of(few, "Zipf", "1 thread"), few, Spread::Zipf, 1),
        section("zipf-few-threads", of(few, "Zipf", "2 threads"), few, Spread::Zipf, 2).alone(0),
        section("zipf-many", of(many, "Zipf", "1 thread"), many, Spread::Zipf, 1),
        section("zipf-many-threads", of(many, "Zipf", "2 threads"), many, Spread::Zipf, 2).alone(2),
        section("uniform-many", of(many, "uniform", "1 thread"), many, Spread::Uniform, 1),
    ]
}

/// Several leases at a time, and leases that end on another thread.
fn held() -> Vec<Section> {
    let section = |name: &str, at_once, order, which| {
        let title = format!("{at_once} leases at a time, released {which} first; for each");
        let row = |(name, new): (_, fn(_, _) -> _)| Row::new(name, 1, new(at_once, order));
        Section::new(name, title, HOLDING.map(row).into())
    };
    vec![
        section("held-2-lifo", 2, Order::Lifo, "the last one"),
        section("held-16-lifo", 16, Order::Lifo, "the last one"),
        section("held-16-fifo", 16, Order::Fifo, "the first one"),
        Section::of("handed-over", "Leased on one thread, released on another", 2, &HANDED_OVER),
    ]
}
