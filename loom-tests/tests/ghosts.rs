//! What is remembered of closed connections is found once, whoever leaves and takes
//! meanwhile. A bucket has two slots here.

mod common;

use std::sync::Arc;

use common::check_all;
use loom::thread;
use slabpool::model::{GhostTable, STEP};

const KEY: u64 = 1 << 63;
const OTHER: u64 = 1 << 62;
const THIRD: u64 = 1 << 61;
const NOW: u64 = 10 * STEP;

fn table() -> Arc<GhostTable> {
    Arc::new(GhostTable::new(1))
}

/// Spawns a thread that shares the table with this one.
fn with_table<R: 'static>(
    table: &Arc<GhostTable>,
    body: impl FnOnce(&GhostTable) -> R + 'static,
) -> thread::JoinHandle<R> {
    let table = Arc::clone(table);
    thread::spawn(move || body(&table))
}

/// How many ghosts of a key are left. Takes them.
fn left(table: &GhostTable, key: u64) -> usize {
    std::iter::from_fn(|| table.take(key, NOW)).count()
}

/// Two misses, one ghost: it is one of theirs.
#[test]
fn a_ghost_is_taken_once() {
    check_all(|| {
        let table = table();
        table.leave(KEY, 3, NOW);
        let other = with_table(&table, |table| table.take(KEY, NOW));
        let taken = [table.take(KEY, NOW), other.join().unwrap()];
        assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&(3, 0)]);
        assert_eq!(left(&table, KEY), 0);
    });
}

/// Two misses, two ghosts in one word: each has one.
#[test]
fn two_ghosts_of_a_word_are_two() {
    check_all(|| {
        let table = table();
        table.leave(KEY, 3, NOW);
        table.leave(KEY, 3, NOW);
        let other = with_table(&table, |table| table.take(KEY, NOW));
        assert_eq!(table.take(KEY, NOW), Some((3, 0)));
        assert_eq!(other.join().unwrap(), Some((3, 0)));
        assert_eq!(left(&table, KEY), 0);
    });
}

/// Where there is room, two closes at once leave two ghosts: of one kind in one word or
/// two, of different ones in different words.
#[test]
fn what_fits_is_not_lost() {
    for rules in [[3, 3], [3, 4]] {
        check_all(move || {
            let table = table();
            let other = with_table(&table, move |table| table.leave(KEY, rules[0], NOW));
            table.leave(KEY, rules[1], NOW);
            other.join().unwrap();
            let mut taken: Vec<_> = std::iter::from_fn(|| table.take(KEY, NOW)).collect();
            taken.sort_unstable();
            assert_eq!(taken, rules.map(|rule| (rule, 0)));
        });
    }
}

/// A ghost is left while another one of its word is taken.
#[test]
fn leaving_and_taking_add_up() {
    check_all(|| {
        let table = table();
        table.leave(KEY, 3, NOW);
        let other = with_table(&table, |table| table.take(KEY, NOW).is_some());
        table.leave(KEY, 3, NOW);
        assert!(other.join().unwrap(), "one was there before");
        assert_eq!(left(&table, KEY), 1);
    });
}

/// In a full bucket the oldest ghost gives way, or is taken before. Whatever comes
/// first, it is found at most once, and the others are found.
#[test]
fn a_ghost_that_gives_way_takes_none_with_it() {
    check_all(|| {
        let table = table();
        table.leave(OTHER, 1, NOW - 2 * STEP);
        table.leave(THIRD, 2, NOW - STEP);
        let other = with_table(&table, |table| table.take(OTHER, NOW));
        table.leave(KEY, 3, NOW);
        let taken = other.join().unwrap();
        assert!(taken.is_none_or(|found| found == (1, 2)));
        assert_eq!(left(&table, OTHER), 0);
        assert_eq!(table.take(THIRD, NOW), Some((2, 1)));
        assert_eq!(table.take(KEY, NOW), Some((3, 0)));
    });
}
