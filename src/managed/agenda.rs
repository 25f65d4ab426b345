//! What the pool has to look after by itself, and when: peers that are kept at a minimum of
//! connections, and peers to which connects have failed. A plain table behind a lock.
//!
//! Who looks after a peer takes it from the agenda, and puts it back with the time for the
//! next look. Whoever wants an earlier one meanwhile gets it: the earliest time holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Never, as a time.
pub(crate) const NEVER: u64 = u64::MAX;

/// See the module. `W` keeps what there is of a peer, and is dropped without the lock.
pub(crate) struct Agenda<W> {
    book: Mutex<Book<W>>,
    /// How many peers there are, for a look without the lock.
    peers: AtomicUsize,
    /// The earliest time, for the same.
    next: AtomicU64,
}

struct Book<W> {
    entries: HashMap<u32, Entry<W>>,
    order: BTreeSet<(u64, u32)>,
}

struct Entry<W> {
    ward: Arc<W>,
    due: u64,
    asked: u64,
    opened: Option<u64>,
}

/// One look at a peer, which is due.
pub(crate) struct Errand<W> {
    pub desk: u32,
    pub ward: Arc<W>,
    /// When somebody has asked for the peer last.
    pub asked: u64,
    /// When connections were last opened that nobody had asked for.
    pub opened: Option<u64>,
}

/// What comes after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one, no later than at this time.
    At(u64),
    /// None, unless somebody has asked for the peer meanwhile.
    LetGo,
}

impl<W> Agenda<W> {
    pub fn new() -> Self {
        Self {
            book: Mutex::new(Book { entries: HashMap::new(), order: BTreeSet::new() }),
            peers: AtomicUsize::new(0),
            next: AtomicU64::new(NEVER),
        }
    }

    /// Whether there is no peer to look after. For whoever has changed something at a peer
    /// before.
    pub fn is_empty(&self) -> bool {
        // SeqCst: pairs with the fence in `mind`. Either whoever looks at a new peer sees
        // what was changed, or this sees the peer.
        fence(Ordering::SeqCst);
        self.peers.load(Ordering::Relaxed) == 0
    }

    /// The earliest time at which there is something to do.
    pub fn next(&self) -> u64 {
        // Relaxed: worth a look, no more. Whoever makes it earlier rings.
        self.next.load(Ordering::Relaxed)
    }

    /// Somebody asks for a peer. If it is new here, it is looked at as soon as possible,
    /// and this is true.
    pub fn mind(&self, desk: u32, now: u64, make: impl FnOnce() -> W) -> bool {
        let mut book = self.lock();
        if let Some(entry) = book.entries.get_mut(&desk) {
            entry.asked = entry.asked.max(now);
            return false;
        }
        let entry = Entry { ward: Arc::new(make()), due: NEVER, asked: now, opened: None };
        book.entries.insert(desk, entry);
        book.set_due(desk, now);
        self.publish(&book);
        // SeqCst: see `is_empty`.
        fence(Ordering::SeqCst);
        true
    }

    /// Wants a look at a peer by then, if it is here. True if that is sooner than anything
    /// else was wanted.
    pub fn hasten(&self, desk: u32, at: u64) -> bool {
        let mut book = self.lock();
        if book.entries.get(&desk).is_none_or(|entry| entry.due <= at) {
            return false;
        }
        book.set_due(desk, at);
        let first = at < self.next();
        self.publish(&book);
        first
    }

    /// Wants a look at all peers by then.
    pub fn hasten_all(&self, at: u64) {
        let mut book = self.lock();
        let later = book.entries.iter().filter(|(_, entry)| entry.due > at);
        let later: Vec<u32> = later.map(|(&desk, _)| desk).collect();
        later.into_iter().for_each(|desk| book.set_due(desk, at));
        self.publish(&book);
    }

    /// Lets all peers go.
    pub fn clear(&self) {
        let _gone;
        let mut book = self.lock();
        book.order.clear();
        _gone = std::mem::take(&mut book.entries);
        self.publish(&book);
    }

    /// The next look that is due.
    pub fn take(&self, now: u64) -> Option<Errand<W>> {
        let mut book = self.lock();
        let &(_, desk) = book.order.first().filter(|(due, _)| *due <= now)?;
        book.set_due(desk, NEVER);
        self.publish(&book);
        let entry = &book.entries[&desk];
        let (ward, asked, opened) = (Arc::clone(&entry.ward), entry.asked, entry.opened);
        Some(Errand { desk, ward, asked, opened })
    }

    /// Puts a peer back that was looked at. The caller drops the errand after this: it may
    /// be the last to have the ward.
    pub fn settle(&self, errand: &Errand<W>, next: Next) {
        let _gone;
        let mut book = self.lock();
        let same = |entry: &&mut Entry<W>| Arc::ptr_eq(&entry.ward, &errand.ward);
        let Some(entry) = book.entries.get_mut(&errand.desk).filter(same) else {
            // All were let go meanwhile.
            return;
        };
        let due = entry.due;
        let undisturbed = due == NEVER && entry.asked <= errand.asked;
        entry.asked = entry.asked.max(errand.asked);
        entry.opened = errand.opened;
        match next {
            Next::LetGo if undisturbed => _gone = book.entries.remove(&errand.desk),
            // Again at once: something has changed.
            Next::LetGo => book.set_due(errand.desk, due.min(errand.asked)),
            Next::At(time) => book.set_due(errand.desk, due.min(time)),
        }
        self.publish(&book);
    }

    fn publish(&self, book: &Book<W>) {
        let next = book.order.first().map_or(NEVER, |&(due, _)| due);
        // Relaxed: see `next` and `is_empty`.
        self.next.store(next, Ordering::Relaxed);
        self.peers.store(book.entries.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Book<W>> {
        // Nothing under the lock can fail half-way.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Book<W> {
    fn set_due(&mut self, desk: u32, due: u64) {
        let Some(entry) = self.entries.get_mut(&desk) else { return };
        self.order.remove(&(entry.due, desk));
        entry.due = due;
        if due != NEVER {
            self.order.insert((due, desk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agenda(desks: &[(u32, u64)]) -> Agenda<u32> {
        let agenda = Agenda::new();
        for &(desk, due) in desks {
            assert!(agenda.mind(desk, 0, || desk));
            let errand = agenda.take(0).unwrap();
            agenda.settle(&errand, Next::At(due));
        }
        agenda
    }

    #[test]
    fn looks_are_due_in_order_of_time() {
        let agenda = agenda(&[(1, 30), (2, 10), (3, 20)]);
        assert_eq!(agenda.next(), 10);
        assert!(agenda.take(9).is_none());
        let order: Vec<u32> = std::iter::from_fn(|| agenda.take(25)).map(|e| e.desk).collect();
        assert_eq!(order, [2, 3]);
        assert_eq!(agenda.next(), 30);
    }

    #[test]
    fn the_earliest_time_holds_also_during_a_look() {
        let agenda = agenda(&[(1, 30)]);
        assert!(agenda.hasten(1, 20));
        assert!(!agenda.hasten(1, 25) && !agenda.hasten(7, 0));
        let errand = agenda.take(20).unwrap();
        assert_eq!(agenda.next(), NEVER);
        assert!(agenda.hasten(1, 21));
        agenda.settle(&errand, Next::At(100));
        assert_eq!(agenda.next(), 21);
    }

    #[test]
    fn a_peer_that_somebody_asks_for_during_a_look_stays() {
        let agenda = agenda(&[(1, 30)]);
        let mut errand = agenda.take(30).unwrap();
        assert!(!agenda.mind(1, 31, || 0));
        agenda.settle(&errand, Next::LetGo);
        assert!(!agenda.is_empty() && agenda.next() <= 31);
        errand = agenda.take(40).unwrap();
        assert!(agenda.hasten(1, 40));
        agenda.settle(&errand, Next::LetGo);
        errand = agenda.take(40).unwrap();
        let ward = Arc::downgrade(&errand.ward);
        agenda.settle(&errand, Next::LetGo);
        assert!(agenda.is_empty() && agenda.next() == NEVER);
        drop(errand);
        assert!(ward.upgrade().is_none());
    }

    #[test]
    fn all_are_let_go_also_during_a_look() {
        let agenda = agenda(&[(1, 30), (2, 40)]);
        agenda.hasten_all(20);
        let errand = agenda.take(20).unwrap();
        assert_eq!(agenda.next(), 20);
        agenda.clear();
        assert!(agenda.is_empty() && agenda.take(100).is_none());
        // The desk may have gone to another peer.
        assert!(agenda.mind(errand.desk, 50, || 9));
        agenda.settle(&errand, Next::At(0));
        assert_eq!(agenda.next(), 50);
    }
}
