//! Changing the settings while the pool is in use.
//!
//! What is in force are numbers, those of [`Limits`] in each group and a few for the
//! pool: get and release read them, and know nothing of settings. To change the
//! settings is to replace them, and then to work the numbers out anew, group by group.
//! Several threads may do so for one group, each with what it takes for the settings;
//! the last one to write has the latest ones: see [`Engine::apply_settings`].
//!
//! [`Limits`]: crate::limits::Limits

use std::hash::Hash;
use std::sync::{Arc, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use crate::engine::Engine;
use crate::error::ConfigError;
use crate::events::event;
use crate::group::{Member, Members};
use crate::pool::Pool;
use crate::settings::{GroupSettings, Settings};
use crate::sync::{
    AtomicU32, Condvar, Mutex, MutexGuard, Ordering, Step, ThreadId, current_thread, fence,
};

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Pool<K, C> {
    /// A copy of the settings in force.
    pub fn settings(&self) -> Settings {
        Settings::clone(&self.engine().settings.load())
    }

    /// Changes settings while the pool is in use.
    ///
    /// `change` is called once, with a copy of the settings in force. What it makes of
    /// them is checked as a whole, and then holds, in groups with
    /// [settings of their own](crate::Group::configure) for what those leave open. From when on
    /// is said at each of the [`Settings`]. Calls come one after the other, so that no
    /// change is lost; a thread waits for those that are at it, and nobody else does.
    ///
    /// Costs a walk over all groups. If the capacity is lowered, the idle connections that
    /// are too many are closed before this returns, on this thread
    /// ([`CloseReason::Evicted`](crate::CloseReason::Evicted)).
    ///
    /// ```
    /// # let pool = slabpool::Pool::<u8, String>::new();
    /// pool.reconfigure(|settings| {
    ///     settings.capacity = 500;
    ///     settings.idle_timeout = None;
    /// })?;
    /// assert_eq!(pool.status().capacity, 500);
    /// # Ok::<(), slabpool::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work; nothing is changed.
    ///
    /// # Panics
    ///
    /// If `change` does; nothing is changed. When it is called inside such a closure,
    /// which would wait for itself.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Settings)) -> Result<(), ConfigError> {
        self.engine().reconfigure(change)
    }
}

/// Where those who change settings take turns. Nobody else comes here.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Whose turn it is to change the settings of the pool.
    holder: Mutex<Option<ThreadId>>,
    free: Condvar,
    /// For the settings of groups. Held for some steps, and while no other code runs.
    groups: Mutex<()>,
    /// How often the settings of the pool were changed.
    changes: AtomicU32,
    step: Step,
}

impl Desk {
    pub fn new() -> Self {
        Self {
            holder: Mutex::new(None),
            free: Condvar::new(),
            groups: Mutex::new(()),
            changes: AtomicU32::new(0),
            step: Step::new(),
        }
    }

    /// How often the settings of the pool were changed: those that are read after this are
    /// at least as new.
    pub fn changes(&self) -> u32 {
        // Acquire: pairs with the Release in `reconfigure_and`.
        self.changes.load(Ordering::Acquire)
    }

    /// Waits for those who are there already.
    fn turn(&self) -> Turn<'_> {
        let me = current_thread();
        let mut holder = lock(&self.holder);
        assert!(*holder != Some(me), "`reconfigure` was called inside the closure of another one");
        while holder.is_some() {
            holder = self.free.wait(holder).unwrap_or_else(PoisonError::into_inner);
        }
        *holder = Some(me);
        Turn(self)
    }
}

/// The right to change the settings of the pool, until this is dropped.
struct Turn<'a>(&'a Desk);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.holder) = None;
        self.0.free.notify_one();
    }
}

/// What is behind these locks is whole whenever somebody panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, C> Engine<K, C> {
    /// See [`Pool::reconfigure`](crate::Pool::reconfigure).
    pub fn reconfigure(&self, change: impl FnOnce(&mut Settings)) -> Result<(), ConfigError> {
        let change = |settings: &mut Settings| {
            change(settings);
            Ok(())
        };
        self.reconfigure_and(change, |()| ())
    }

    /// As [`Engine::reconfigure`], where more than the settings is changed: `then`, with what
    /// `change` has returned, before the next one's turn. An error of `change` changes
    /// nothing.
    pub fn reconfigure_and<T, E: From<ConfigError>>(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<T, E>,
        then: impl FnOnce(T),
    ) -> Result<(), E> {
        let turn = self.desk.turn();
        let mut settings = Settings::clone(&self.settings.load());
        let changed = change(&mut settings)?;
        settings.validate()?;
        then(changed);
        self.tuning.set(&settings);
        self.capacity.set_max(settings.capacity);
        self.desk.step.publish();
        self.settings.store(Arc::new(settings));
        // Release: pairs with the Acquire in `changes`.
        self.desk.changes.fetch_add(1, Ordering::Release);
        event!(info, "pool reconfigured");
        // From here on others may change them again. What follows looks for itself what
        // they are.
        drop(turn);
        // Either whoever makes a group sees the change once it is in the directory, or it is
        // found here.
        self.directory.meet();
        self.directory.for_each(|group| self.apply_settings(group));
        self.shrink(usize::MAX);
        // The capacity may have been raised.
        self.capacity.tell();
        Ok(())
    }

    /// See [`Group::configure`](crate::Group::configure).
    pub fn configure(
        &self,
        group: &Arc<Members<K>>,
        settings: GroupSettings,
    ) -> Result<(), ConfigError> {
        settings.validate()?;
        let own = settings != GroupSettings::new();
        self.tuning.note_min_idle(settings.min_idle.unwrap_or(0));
        let desk = lock(&self.desk.groups);
        self.desk.step.publish();
        group.own.set(settings);
        // Relaxed: changed by one thread at a time.
        let had_own = group.configured.swap(own, Ordering::Relaxed);
        if own && !had_own {
            // Before the next one can have the settings part again.
            let entered = group.roll.enter(Member::Handle);
            debug_assert!(entered, "a group with a handle is not retired");
        }
        drop(desk);
        self.apply_settings(group);
        if had_own && !own {
            self.part(group, Member::Handle);
        }
        Ok(())
    }

    /// Works out the limits of a group from the settings of the pool and its own.
    ///
    /// Starts over only when another thread has changed them meanwhile.
    pub fn apply_settings(&self, group: &Members<K>) {
        // SeqCst, here and below: two threads at the same group, of which the other one
        // comes with newer settings, have stored them before its first fence. Either this
        // thread finds them when it looks again, or what it has written is older
        // than what the other one writes.
        fence(Ordering::SeqCst);
        loop {
            self.desk.step.observe();
            let (settings, own) = (self.settings.load(), group.own.get());
            group.limits.set(&settings, &own);
            fence(Ordering::SeqCst);
            self.desk.step.observe();
            // The guard keeps the old ones: others cannot be in their place.
            if Arc::ptr_eq(&settings, &self.settings.load()) && own == group.own.get() {
                return;
            }
        }
    }

    /// Closes idle connections, the one released longest ago first, for as long as there
    /// are more than the capacity allows. Returns how many it closed, at most
    /// `closes_max`.
    ///
    /// Several threads close together no more than are too many (B2). An insertion at the
    /// same time may close others on top of that: it does not wait until those are closed
    /// that somebody has claimed.
    pub fn shrink(&self, closes_max: usize) -> usize {
        let mut closed = 0;
        while closed < closes_max
            && let Some(excess) = self.capacity.claim_excess()
            && let Some(victim) = self.lru.seize(&self.core.seats)
        {
            excess.shed(self.evict_for_permit(victim));
            closed += 1;
        }
        closed
    }
}

/// The settings that a group has of its own. Most have none, and pay a word for that.
#[derive(Debug, Default)]
pub(crate) struct Own(OnceLock<ArcSwap<GroupSettings>>);

impl Own {
    pub fn new(settings: GroupSettings) -> Self {
        let own = Self::default();
        own.set(settings);
        own
    }

    /// Whether there never were any.
    pub fn is_none(&self) -> bool {
        self.0.get().is_none()
    }

    pub fn get(&self) -> GroupSettings {
        self.0.get().map_or_else(GroupSettings::new, |own| **own.load())
    }

    /// By one thread at a time.
    fn set(&self, settings: GroupSettings) {
        if let Some(own) = self.0.get() {
            own.store(Arc::new(settings));
        } else if settings != GroupSettings::new() {
            self.0.get_or_init(|| ArcSwap::from_pointee(settings));
        }
    }
}
