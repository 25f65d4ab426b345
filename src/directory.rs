//! Key to group. Readers take no lock and wait for nobody.
//!
//! The groups are items of an [`Index`]. Keys are hashed with random keys, so that nobody
//! can choose colliding ones, and compared by `Eq`.
//!
//! A group that was taken out may still be held by those who have found it before. It waits
//! in limbo until some have gathered, and is freed then, or used again under another key if
//! nobody has it any more: so a pool whose groups come and go allocates none.

use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use ahash::RandomState;

use crate::core::hold::Hold;
use crate::core::index::{Found, Index, Sought};
use crate::group::Members;
use crate::store::Home;

/// So many groups are left in limbo, about, before those are freed that nobody holds.
const LIMBO_MAX: u32 = if cfg!(slabpool_loom) { 1 } else { 32 };
/// So many are kept to be used again.
const SPARES_MAX: u32 = 64;

/// All groups of a pool.
#[derive(Debug)]
pub(crate) struct Directory<K> {
    hasher: RandomState,
    index: Index,
    /// The items of the index are `Arc`s, as pointers.
    items: PhantomData<Arc<Members<K>>>,
}

/// A group that was found. It is there for as long as this is.
pub(crate) struct Held<'a, K> {
    group: ManuallyDrop<Arc<Members<K>>>,
    _hold: Hold<'a>,
}

impl<K> Deref for Held<'_, K> {
    type Target = Arc<Members<K>>;

    #[inline(always)]
    fn deref(&self) -> &Arc<Members<K>> {
        &self.group
    }
}

/// A place of the index with a group that nobody else knows of.
struct Draft<'a> {
    index: &'a Index,
    hold: &'a Hold<'a>,
    place: u32,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.index.give(self.hold, self.place);
    }
}

impl<K> Directory<K> {
    pub fn new() -> Self {
        Self { hasher: hasher(), index: Index::new(), items: PhantomData }
    }

    /// The hash of a key in any borrowed form.
    #[inline(always)]
    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The group of `key`, held, or the hash of the key if there is none.
    #[inline(always)]
    pub fn find<Q>(&self, key: &Q) -> Result<Held<'_, K>, u64>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let hold = self.index.holds.begin();
        match self.seek(hash, key, &hold) {
            Sought::Found(found) => {
                // SAFETY: held for as long as this is there (X3).
                let group = unsafe { group_of(found.item) };
                Ok(Held { group, _hold: hold })
            }
            Sought::Gap(_) => Err(hash),
        }
    }

    /// Calls `use_it` with the group of `key`, if there is one.
    #[inline(always)]
    pub fn with<Q, R>(&self, key: &Q, use_it: impl FnOnce(&Arc<Members<K>>) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.with_or(key, |group| Some(use_it(group)), |_| None)
    }

    /// Calls `use_it` with the group of `key`, or `otherwise` with the hash of the key if
    /// there is none.
    #[inline(always)]
    pub fn with_or<Q, R>(
        &self,
        key: &Q,
        use_it: impl FnOnce(&Arc<Members<K>>) -> R,
        otherwise: impl FnOnce(u64) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.find(key) {
            Ok(group) => use_it(&group),
            Err(hash) => otherwise(hash),
        }
    }

    #[inline(always)]
    fn seek<Q>(&self, hash: u64, key: &Q, hold: &Hold<'_>) -> Sought<'_>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.index.seek(Index::order_of(hash), hold, |item| {
            // SAFETY: held when it is asked for (X3).
            let group = unsafe { group_of::<K>(item) };
            (*group.key).borrow() == key
        })
    }

    /// The group of `key` in which `enter` succeeds: the one that is there, or the
    /// one that `create` makes, entered already, perhaps of one that nobody has.
    ///
    /// `enter` fails for a group that was retired, which is then replaced.
    pub fn enter<Q>(
        &self,
        key: &Q,
        enter: impl Fn(&Members<K>) -> bool,
        create: impl FnOnce(u64, Option<Arc<Members<K>>>) -> Arc<Members<K>>,
    ) -> Arc<Members<K>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let order = Index::order_of(hash);
        let hold = self.index.holds.begin();
        let mut create = Some(create);
        let mut draft: Option<Draft<'_>> = None;
        loop {
            let gap = match self.seek(hash, key, &hold) {
                Sought::Gap(gap) => gap,
                Sought::Found(found) => {
                    // SAFETY: held (X3).
                    let group = unsafe { group_of(found.item) };
                    if enter(&group) {
                        hold.meet();
                        return Arc::clone(&group);
                    }
                    self.take_out(order, &hold, &found);
                    continue;
                }
            };
            if draft.is_none()
                && let Some(create) = create.take()
            {
                draft = Some(self.draft(order, &hold, |spare| create(hash, spare)));
            }
            let place = draft.as_ref().expect("it was made above").place;
            // SAFETY: the draft has it until it is linked.
            let group = unsafe { group_of(self.index.item(place)) };
            let group = Arc::clone(&group);
            if self.index.link(&hold, gap, place) {
                std::mem::forget(draft);
                hold.meet();
                return group;
            }
        }
    }

    /// A new group in a place of its own.
    fn draft<'a>(
        &'a self,
        order: u32,
        hold: &'a Hold<'a>,
        create: impl FnOnce(Option<Arc<Members<K>>>) -> Arc<Members<K>>,
    ) -> Draft<'a> {
        let place = self.index.take(hold).expect("there is room for 134 million groups");
        let draft = Draft { index: &self.index, hold, place };
        let spare = self.index.item(place);
        self.index.fill(place, std::ptr::null_mut(), order);
        // SAFETY: the place was nobody's, and so is what it had, which is taken once.
        let spare = (!spare.is_null()).then(|| unsafe { into_group(spare) });
        let group = Arc::into_raw(create(spare));
        self.index.fill(place, group.cast_mut().cast(), order);
        draft
    }

    /// Calls `use_it` with the group of a connection whose seat the caller does not own.
    /// `None` if the connection has left.
    pub fn held<R>(&self, home: &Home<K>, use_it: impl FnOnce(&Arc<Members<K>>) -> R) -> Option<R> {
        let hold = self.index.holds.begin();
        let group = home.look();
        hold.keep(group as u64);
        // If it is there after it was held, then the connection has not left the group
        // before; so that was in the directory, and whoever takes it out sees the hold (O1).
        if group.is_null() || home.look() != group {
            return None;
        }
        // SAFETY: held until `hold` goes (X3).
        let group = unsafe { group_of(group.cast()) };
        Some(use_it(&group))
    }

    /// Takes out a group that the caller has retired.
    pub fn remove(&self, group: &Arc<Members<K>>) {
        let order = Index::order_of(group.hash);
        let wanted = Arc::as_ptr(group).cast_mut().cast();
        let hold = self.index.holds.begin();
        // None: replaced by its successor, or about to be.
        while let Sought::Found(found) = self.index.seek_item(order, wanted) {
            if self.take_out(order, &hold, &found) {
                return;
            }
        }
    }

    fn take_out(&self, order: u32, hold: &Hold<'_>, found: &Found<'_>) -> bool {
        let Some(place) = self.index.take_out(order, hold, found) else { return false };
        // Before this one joins them, which the caller still has.
        let waiting = hold.row.limbo.len();
        if waiting > 0 && waiting.is_multiple_of(LIMBO_MAX) {
            self.reclaim(hold);
        }
        self.index.leave(hold, place);
        true
    }

    /// Frees the groups that this thread has taken out and that nobody holds, but for those
    /// that may be used again.
    #[cold]
    #[inline(never)]
    fn reclaim(&self, hold: &Hold<'_>) {
        let mut surplus = Vec::new();
        self.index.reclaim(hold, |place| {
            // SAFETY: it was taken out, and nobody holds it (X3).
            let group = unsafe { group_of::<K>(self.index.item(place)) };
            // Whoever has the group still has a reference of its own.
            if Arc::strong_count(&group) > 1 || hold.row.spares.len() >= SPARES_MAX {
                surplus.push(ManuallyDrop::into_inner(group));
                self.index.fill(place, std::ptr::null_mut(), 0);
            }
            self.index.give(hold, place);
        });
        // Not sooner: the keys are the user's, whose code may come back here.
        drop(surplus);
    }

    /// Calls `each` with every group that is there when its turn comes.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Members<K>>)) {
        self.index.for_each(|item| {
            // SAFETY: held meanwhile (X3).
            let group = unsafe { group_of(item) };
            each(&group);
        });
    }

    /// For whoever has changed something that holds for all groups: those who enter a group
    /// from now on see the change, and `for_each` finds the groups of the others.
    pub fn meet(&self) {
        self.index.holds.meet();
    }

    /// The number of groups: exact at rest.
    pub fn len(&self) -> usize {
        self.index.holds.balance()
    }
}

impl<K> Drop for Directory<K> {
    fn drop(&mut self) {
        for item in self.index.drain() {
            // SAFETY: nobody else is left, and each place has an item of its own.
            drop(unsafe { into_group::<K>(item) });
        }
    }
}

/// # Safety
///
/// The item is of an index of groups, and not given up while this is used.
#[inline(always)]
unsafe fn group_of<K>(item: *mut ()) -> ManuallyDrop<Arc<Members<K>>> {
    // SAFETY: items come from `Arc::into_raw`, and this one is there, by the caller's promise.
    ManuallyDrop::new(unsafe { into_group(item) })
}

/// # Safety
///
/// The item is of an index of groups, and the caller takes it out of it.
#[inline(always)]
unsafe fn into_group<K>(item: *mut ()) -> Arc<Members<K>> {
    // SAFETY: items come from `Arc::into_raw` of this type, by the caller's promise.
    unsafe { Arc::from_raw(item.cast_const().cast()) }
}

/// Keyed at random, so that nobody can choose colliding keys; in models groups are where
/// they were in the execution before.
fn hasher() -> RandomState {
    if cfg!(slabpool_loom) { RandomState::with_seeds(1, 2, 3, 4) } else { RandomState::new() }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests;
