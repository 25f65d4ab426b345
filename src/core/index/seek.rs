//! How an item of an index is found.

use super::{DOOR, Found, Gap, Index, NIL, Sought, Step};
use crate::core::hold::Hold;
use crate::sync::Ordering;

impl Index {
    /// Looks for an item of this order to which `is_it` says yes. What is found is held.
    ///
    /// Goes back only when others have changed the list there.
    #[inline(always)]
    pub fn seek(
        &self,
        order: u32,
        hold: &Hold<'_>,
        is_it: impl FnMut(*mut ()) -> bool,
    ) -> Sought<'_> {
        self.seek_and(order, |item| hold.keep(item as u64), is_it)
    }

    /// As [`Index::seek`], for who knows the item and needs none held.
    pub fn seek_item(&self, order: u32, item: *mut ()) -> Sought<'_> {
        self.seek_and(order, |_| {}, |other| other == item)
    }

    #[inline(always)]
    pub(super) fn seek_and(
        &self,
        order: u32,
        mut keep: impl FnMut(*mut ()),
        mut is_it: impl FnMut(*mut ()) -> bool,
    ) -> Sought<'_> {
        let (gap, step) = self.walk(order, self.begin(Self::door_of(order, self.level())));
        match step {
            Step::Same(place, next) => {
                // Acquire: as the order in `step`; and what is behind it is there.
                let item = place.item.load(Ordering::Acquire);
                keep(item);
                // X1: it was there after it was held (X3).
                if self.stands(gap) && is_it(item) {
                    let own = Gap { at: &place.next, word: next };
                    return Sought::Found(Found { item, own, before: gap });
                }
            }
            Step::End => return Sought::Gap(gap),
            Step::On(_) | Step::Changed => {}
        }
        self.seek_on(order, keep, is_it)
    }

    /// As [`Index::seek_and`], where several have the order, or others change the list.
    #[cold]
    #[inline(never)]
    fn seek_on(
        &self,
        order: u32,
        mut keep: impl FnMut(*mut ()),
        mut is_it: impl FnMut(*mut ()) -> bool,
    ) -> Sought<'_> {
        'again: loop {
            let mut from = self.begin(Self::door_of(order, self.level()));
            loop {
                let (gap, step) = self.walk(order, from);
                let (place, next) = match step {
                    Step::Same(place, next) => (place, next),
                    Step::End => return Sought::Gap(gap),
                    Step::On(_) | Step::Changed => continue 'again,
                };
                // Acquire, and X1: as above.
                let item = place.item.load(Ordering::Acquire);
                keep(item);
                if !self.stands(gap) {
                    continue 'again;
                }
                let own = Gap { at: &place.next, word: next };
                if is_it(item) {
                    return Sought::Found(Found { item, own, before: gap });
                }
                from = own;
            }
        }
    }

    /// Goes on past what stands before an order: to a gap, and what comes after it.
    #[inline(always)]
    fn walk<'a>(&'a self, order: u32, mut gap: Gap<'a>) -> (Gap<'a>, Step<'a>) {
        loop {
            match self.step(order, 0, gap) {
                Step::On(next) => gap = next,
                other => return (gap, other),
            }
        }
    }

    /// What comes after a gap, for who looks for an order, or for a door.
    #[inline(always)]
    pub(super) fn step<'a>(&'a self, order: u32, door: u32, gap: Gap<'a>) -> Step<'a> {
        let node = gap.word.node();
        if node >= NIL {
            return self.pass_door(order, door, gap); // a door, or the end
        }
        let place = self.places.get(node);
        // Acquire: pairs with the Release in `fill`: who reads what was written for the next
        // use of the place sees below that it was taken out.
        let its_order = place.order.load(Ordering::Acquire);
        let next = self.load(&place.next);
        if its_order == order && !next.is_gone() {
            return Step::Same(place, next);
        }
        // X1: all that was read of the node was true while it was in the list.
        if !self.stands(gap) {
            return Step::Changed;
        }
        if next.is_gone() {
            return self.unlink(gap, next).map_or(Step::Changed, Step::On);
        }
        if its_order > order { Step::End } else { Step::On(Gap { at: &place.next, word: next }) }
    }

    #[inline]
    fn pass_door<'a>(&'a self, order: u32, door: u32, gap: Gap<'a>) -> Step<'a> {
        let node = gap.word.node();
        let number = node & !DOOR;
        if node == NIL || (Self::order_of_door(number), number) > (order, door) {
            return Step::End;
        }
        let at = &self.door(number).0;
        let word = self.load(at);
        // X1, as above.
        if !self.stands(gap) {
            return Step::Changed;
        }
        Step::On(Gap { at, word })
    }
}
