//! The line, by itself.

use super::*;

type Numbers = Line<u32, u32, u32>;

fn first(line: &Numbers) -> Option<u32> {
    line.first().map(|(_, &who)| who)
}

#[test]
fn first_come_first_served_whoever_leaves() {
    let mut line = Numbers::default();
    let ids: Vec<Id> = (0..5).map(|who| line.join(who, who % 2 == 0)).collect();
    assert_eq!((line.waiting(), line.demand()), (5, 3));
    line.leave(ids[0]);
    line.leave(ids[2]);
    assert_eq!(first(&line), Some(1));
    assert_eq!(line.next_wanting(|_| false), Some(ids[4]));
    assert!(line.resolve(ids[1], 7).1.is_none());
    assert_eq!(first(&line), Some(3));
    assert_eq!((line.waiting(), line.demand()), (2, 1));
    assert!(matches!(line.poll(ids[1], &mut None), Polled::Outcome(7)));
    assert!(line.leave(ids[1]).outcome.is_none());
    assert!(line.grant(ids[4], 9).is_none());
    assert_eq!(line.next_wanting(|_| false), None);
    assert_eq!(line.leave(ids[4]).grant, Some(9));
    assert_eq!((line.waiting(), line.demand()), (1, 0));
    line.leave(ids[3]);
    assert!(line.is_empty());
}

#[test]
fn who_lost_its_connect_to_another_is_the_next_to_have_one() {
    let mut line = Numbers::default();
    let ids: Vec<Id> = (0..3).map(|who| line.join(who, true)).collect();
    assert!(line.grant(ids[0], 0).is_none());
    assert!(line.grant(ids[1], 0).is_none());
    line.reopen(ids[1]);
    line.reopen(ids[1]);
    assert_eq!(line.next_wanting(|_| false), Some(ids[1]));
    assert!(line.grant(ids[1], 0).is_none());
    assert_eq!(line.next_wanting(|_| false), Some(ids[2]));
    assert_eq!(line.demand(), 3);
}

#[test]
fn a_place_is_not_mistaken_for_the_next_one_in_its_cell() {
    let mut line = Numbers::default();
    let old = line.join(0, false);
    line.leave(old);
    let new = line.join(1, false);
    assert!(!line.waits(old) && line.waits(new));
}

#[test]
fn who_comes_too_late_wants_no_more_but_stays() {
    let mut line = Numbers::default();
    let late = line.join(0, true);
    let id = line.join(1, true);
    assert_eq!(line.next_wanting(|&who| who == 0), Some(id));
    assert_eq!((line.waiting(), line.demand()), (2, 1));
    assert!(line.waits(late) && !line.wants(late));
}

#[test]
fn an_empty_line_keeps_little_memory() {
    let mut line = Numbers::default();
    let ids: Vec<Id> = (0..1_000).map(|who| line.join(who, true)).collect();
    ids.into_iter().for_each(|id| drop(line.leave(id)));
    assert!(line.shrink().is_some());
    assert_eq!(line.cells.capacity(), 0);
    let id = line.join(1, true);
    assert!(line.waits(id));
}
