//! The places of an index that are not in the list, and all that are.

use super::{Index, Sought, Word};
use crate::core::hold::Hold;
use crate::sync::Ordering;

impl Index {
    /// A place that is the caller's: with an item that was spared, or with none.
    pub fn take(&self, hold: &Hold<'_>) -> Option<u32> {
        hold.row.spares.pop(|place| &self.places.get(place).free).or_else(|| self.places.take())
    }

    /// The item of a place that is the caller's. Null is none.
    pub fn item(&self, place: u32) -> *mut () {
        // Relaxed: whoever made it the caller's has published it.
        self.places.get(place).item.load(Ordering::Relaxed)
    }

    /// Gives a place that is the caller's an item.
    pub fn fill(&self, place: u32, item: *mut (), order: u32) {
        let place = self.places.get(place);
        // Release: pairs with the Acquire of who finds the place by an old word (`step`).
        place.order.store(order, Ordering::Release);
        place.item.store(item, Ordering::Release);
    }

    /// Gives back a place that is the caller's, with or without an item that nobody holds.
    pub fn give(&self, hold: &Hold<'_>, place: u32) {
        if self.item(place).is_null() {
            self.places.give(place);
        } else {
            hold.row.spares.push(place, &self.places.get(place).free);
        }
    }

    /// Leaves a place that was taken out until nobody holds its item.
    pub fn leave(&self, hold: &Hold<'_>, place: u32) {
        hold.row.limbo.push(place, &self.places.get(place).free);
    }

    /// Calls `each` with every place that this thread has left and whose item nobody holds:
    /// it is the closure's.
    pub fn reclaim(&self, hold: &Hold<'_>, mut each: impl FnMut(u32)) {
        let limbo = hold.row.limbo.take_all();
        let held = self.holds.all();
        let is_held = |item| held.as_ref().is_none_or(|held| held.binary_search(&item).is_ok());
        while let Some(place) = limbo.pop(|place| &self.places.get(place).free) {
            if is_held(self.item(place) as u64) {
                self.leave(hold, place);
            } else {
                each(place);
            }
        }
    }

    /// Calls `each` with every item that is in the list when its turn comes. It is held.
    pub fn for_each(&self, mut each: impl FnMut(*mut ())) {
        for (_, place) in self.places.iter() {
            // Acquire: pairs with the Release in `link`.
            if Word(place.next.load(Ordering::Acquire)).is_gone() {
                continue;
            }
            let order = place.order.load(Ordering::Acquire);
            let item = place.item.load(Ordering::Acquire);
            let hold = self.holds.begin();
            // Perhaps it is not in the list yet, or not any more.
            if let Sought::Found(found) = self.seek(order, &hold, |other| other == item) {
                each(found.item);
            }
        }
    }

    /// All items, of whatever place, when nobody else is left.
    pub fn drain(&mut self) -> impl Iterator<Item = *mut ()> {
        let items = self.places.iter().map(|(_, place)| place.item.load(Ordering::Relaxed));
        items.filter(|item| !item.is_null())
    }
}
