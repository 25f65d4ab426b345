//! The directory's table of items: nobody misses what is there, nothing is there twice, and
//! nothing is given up that somebody uses.
//!
//! Items are numbers behind cells: loom sees to it that nobody reads one that is written.

mod common;

use common::check;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use slabpool::model::{Index, Sought};

/// An item: its key, written anew whenever it is used again.
type Item = UnsafeCell<u32>;

struct Table {
    index: Index,
    items: Vec<Item>,
}

/// Keys below 40. Their order is that of their tens, so that 10 and 11 stand beside each
/// other, and are told apart by a look. All begin at one door; the tens from 20 on have one of
/// their own on the next level, which comes with the fourth key.
fn order(key: u32) -> u32 {
    Index::order_of(u64::from(key / 10) << 62)
}

impl Table {
    fn new(items: usize) -> Arc<Self> {
        Self::of(Index::seen(), items)
    }

    /// Without the steps that show loom every crossing: for three threads, who exchange.
    fn large(items: usize) -> Arc<Self> {
        Self::of(Index::new(), items)
    }

    fn of(index: Index, items: usize) -> Arc<Self> {
        let items = (0..items).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { index, items })
    }

    /// An item as a pointer; null is none.
    fn pointer(number: usize) -> *mut () {
        std::ptr::without_provenance_mut(number + 1)
    }

    fn key_of(&self, item: *mut ()) -> u32 {
        // SAFETY: whoever has the pointer holds the item. Loom looks whether that is so.
        self.items[item.addr() - 1].with(|key| unsafe { *key })
    }

    /// Puts a key in, by an item that is the caller's. False if the key is there.
    fn put(&self, key: u32, item: usize) -> bool {
        // SAFETY: the item is the caller's. Loom looks whether that is so.
        self.items[item].with_mut(|own| unsafe { *own = key });
        let hold = self.index.holds.begin();
        let place = self.index.take(&hold).unwrap();
        self.index.fill(place, Self::pointer(item), order(key));
        loop {
            match self.index.seek(order(key), &hold, |item| self.key_of(item) == key) {
                Sought::Found(_) => return false,
                Sought::Gap(gap) if self.index.link(&hold, gap, place) => return true,
                Sought::Gap(_) => {}
            }
        }
    }

    fn has(&self, key: u32) -> bool {
        let hold = self.index.holds.begin();
        match self.index.seek(order(key), &hold, |item| self.key_of(item) == key) {
            Sought::Found(found) => {
                assert_eq!(self.key_of(found.item), key, "it is held");
                true
            }
            Sought::Gap(_) => false,
        }
    }

    /// Takes a key out. Its item is the caller's if nobody holds it: then it is written.
    fn remove(&self, key: u32, item: usize) -> Option<u32> {
        let hold = self.index.holds.begin();
        while let Sought::Found(found) = self.index.seek_item(order(key), Self::pointer(item)) {
            if let Some(place) = self.index.take_out(order(key), &hold, &found) {
                self.index.leave(&hold, place);
                let mut free = None;
                self.index.reclaim(&hold, |place| {
                    // SAFETY: nobody holds it. Loom looks whether that is so.
                    self.items[item].with_mut(|key| unsafe { *key = u32::MAX });
                    free = Some(place);
                });
                return free;
            }
        }
        None
    }

    /// Lets a place be taken again by this thread.
    fn reuse(&self, place: Option<u32>) {
        if let Some(place) = place {
            self.index.give(&self.index.holds.begin(), place);
        }
    }

    fn keys(&self) -> Vec<u32> {
        let mut keys = Vec::new();
        self.index.for_each(|item| keys.push(self.key_of(item)));
        keys.sort_unstable();
        keys
    }
}

/// Two threads put the same key in, beside one that is there: one of them does.
#[test]
fn a_key_is_there_once() {
    check(3, || {
        let table = Table::new(3);
        assert!(table.put(10, 0));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || table.put(11, 1)
        });
        let first = table.put(11, 2);
        assert!(first ^ other.join().unwrap());
        assert_eq!(table.keys(), [10, 11]);
        assert_eq!(table.index.holds.balance(), 2);
    });
}

/// An item is taken out and written while another thread looks for it.
#[test]
fn what_is_held_is_not_given_up() {
    check(4, || {
        let table = Table::new(1);
        assert!(table.put(10, 0));
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || table.has(10)
        });
        table.remove(10, 0);
        reader.join().unwrap();
        assert!(!table.has(10));
    });
}

/// What stays is found, whatever comes and goes before it and after it.
#[test]
fn what_stays_is_found() {
    for stays in [10, 11, 20] {
        check(3, move || {
            let table = Table::new(3);
            assert!(table.put(10, 0));
            assert!(table.put(11, 1));
            assert!(table.put(20, 2));
            let (goes, item) = if stays == 10 { (11, 1) } else { (10, 0) };
            let reader = thread::spawn({
                let table = Arc::clone(&table);
                move || assert!(table.has(stays), "{stays} is there all the time")
            });
            table.remove(goes, item);
            reader.join().unwrap();
        });
    }
}

/// A place is taken out before the one that is looked for, and put in after it: who stands
/// on it is not led away.
#[test]
fn a_place_that_is_used_again_leads_nobody_away() {
    check(2, || {
        let table = Table::new(3);
        assert!(table.put(10, 0));
        assert!(table.put(20, 1));
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.has(20), "it is there all the time");
                assert!(!table.has(11), "it is there at no time");
            }
        });
        table.reuse(table.remove(10, 0));
        assert!(table.put(30, 2));
        reader.join().unwrap();
        assert_eq!(table.keys(), [20, 30]);
    });
}

/// Two neighbours are taken out at once, and what is after them stays.
#[test]
fn neighbours_go_at_once() {
    check(3, || {
        let table = Table::new(4);
        assert!(table.put(10, 0));
        assert!(table.put(11, 1));
        assert!(table.put(20, 2));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || table.remove(10, 0)
        });
        // Its place is used again, at once.
        table.reuse(table.remove(11, 1));
        assert!(table.put(1, 3));
        other.join().unwrap();
        assert!(table.has(20) && table.has(1), "they are there");
        assert_eq!(table.keys(), [1, 20]);
        assert_eq!(table.index.holds.balance(), 2);
    });
}

/// A place is used again for a neighbour of what it was for, while someone looks at it.
#[test]
fn a_place_that_is_used_again_is_looked_at_again() {
    check(3, || {
        let table = Table::new(2);
        assert!(table.put(10, 0));
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(!table.has(12), "it is there at no time")
        });
        table.reuse(table.remove(10, 0));
        assert!(table.put(11, 1));
        reader.join().unwrap();
        assert_eq!(table.keys(), [11]);
    });
}

/// Something is put in after what is taken out.
#[test]
fn what_is_put_in_beside_what_goes_is_there() {
    check(3, || {
        let table = Table::new(2);
        assert!(table.put(10, 0));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.put(11, 1))
        });
        table.remove(10, 0);
        other.join().unwrap();
        assert_eq!(table.keys(), [11]);
    });
}

/// A thread holds more than its row has places for, and another one gives that up.
#[test]
fn who_holds_much_has_rows_enough() {
    check(3, || {
        let table = Table::new(2);
        assert!(table.put(10, 0));
        assert!(table.put(20, 1));
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let first = table.index.holds.begin();
                let kept = table.index.seek(order(10), &first, |_| true);
                table.has(20);
                if let Sought::Found(found) = kept {
                    assert_eq!(table.key_of(found.item), 10);
                }
            }
        });
        table.remove(10, 0);
        table.remove(20, 1);
        reader.join().unwrap();
    });
}

/// Doors are put in while something is put in, and while it is looked for.
#[test]
fn what_is_there_is_found_through_every_door() {
    check(1, || {
        let table = Table::new(5);
        assert!(table.put(10, 0));
        assert!(table.put(20, 1));
        // With the next one there are more doors.
        assert!(table.put(1, 4));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.put(31, 2));
                assert!(table.has(31), "it was put in");
            }
        });
        assert!(table.put(30, 3));
        assert!(table.has(30) && table.has(20) && table.has(10), "they are there");
        other.join().unwrap();
        assert_eq!(table.keys(), [1, 10, 20, 30, 31]);
    });
}

/// A door is put in by who looks for something behind it, beside what another thread puts in
/// there, and a third one begins at it.
#[test]
fn a_door_is_begun_at_when_it_is_in() {
    check(1, || {
        let table = Table::large(4);
        for item in 0..4 {
            assert!(table.put(item as u32, item));
        }
        for item in 0..4 {
            table.remove(item as u32, item);
        }
        let writer = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.put(30, 1))
        });
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || _ = table.has(30)
        });
        assert!(table.put(20, 0));
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(table.keys(), [20, 30]);
    });
}

/// Whoever changes something for all items either finds an item, or is seen by who has put
/// it in.
#[test]
fn who_changes_something_meets_who_puts_in() {
    use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
    check(4, || {
        let table = Table::new(1);
        let changed = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (table, changed) = (Arc::clone(&table), Arc::clone(&changed));
            move || {
                assert!(table.put(10, 0));
                table.index.holds.begin().meet();
                changed.load(Relaxed)
            }
        });
        changed.store(true, Relaxed);
        table.index.holds.meet();
        let found = table.keys() == [10];
        assert!(other.join().unwrap() || found, "one of the two sees the other");
    });
}
