//! A pool with everything that can be set, the era that it lives in, and what must be true
//! when nobody is at it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slabpool::{Clock, CloseReason, GroupSettings, ManualClock, Pool, PooledOwned};

use crate::dice::Dice;
use crate::ledger::{Connection, Key, Ledger, interrupt};

pub type Lease = PooledOwned<Key, Connection>;

const SECOND: Duration = Duration::from_secs(1);
/// Leases on their way from one thread to another.
const TRAVELLERS_MAX: usize = 32;

/// One pool, for some rounds.
pub struct World {
    pub pool: Pool<Key, Connection>,
    pub clock: ManualClock,
    pub ledger: Arc<Ledger>,
    /// Whether nothing looks at idle connections: then a get that misses has no excuse but
    /// that the connection was closed.
    pub strict: bool,
    /// Misses of private keys while somebody may have looked at the connection.
    pub excused: AtomicU64,
    panics_before: u64,
    travellers: Mutex<Vec<Lease>>,
}

impl World {
    /// The world of an era, which is a part of the run.
    pub fn new(ledger: &Arc<Ledger>, seed: u64, era: u64) -> Self {
        let mut dice = Dice::new(seed, era, u64::MAX);
        let clock = Clock::manual();
        let strict = !era.is_multiple_of(3);
        let capacity = capacity(&mut dice);
        ledger.inside.store(0, Relaxed);
        ledger.ceiling.store(capacity as i64, Relaxed);
        let books = Arc::clone(ledger);
        let mut builder = Pool::builder()
            .capacity(capacity)
            .lanes([1, 1, 2, 4][dice.below(4) as usize])
            .idle_timeout(20 * SECOND)
            .max_lifetime(200 * SECOND)
            .max_uses(10_000)
            .min_idle_per_group(dice.below(2) as usize)
            .release_on_drop(dice.once_in(2))
            .probe_interval(None)
            .clock(&clock)
            .group_settings(settings_of)
            .on_close(move |key, connection, reason| close(&books, *key, connection, reason));
        if !strict {
            let books = Arc::clone(ledger);
            builder =
                builder.probe_interval(5 * SECOND).probe(move |connection: &mut Connection| {
                    let id = connection.id;
                    // The pool closes it then; what the probe found is lost.
                    if id.is_multiple_of(4_096) && connection.key.owner().is_none() {
                        books.panic();
                    }
                    connection.look()
                });
        }
        Self {
            pool: builder.build().expect("the settings are possible"),
            clock,
            ledger: Arc::clone(ledger),
            strict,
            excused: AtomicU64::new(0),
            panics_before: ledger.panics.load(Relaxed),
            travellers: Mutex::default(),
        }
    }

    /// Sends a lease to another thread; back if too many are on their way.
    pub fn send(&self, lease: Lease) -> Option<Lease> {
        let mut travellers = self.travellers.lock().unwrap_or_else(PoisonError::into_inner);
        if travellers.len() < TRAVELLERS_MAX {
            travellers.push(lease);
            return None;
        }
        Some(lease)
    }

    /// A lease that another thread, or this one, has sent.
    pub fn receive(&self) -> Option<Lease> {
        self.travellers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Changes what can be changed. One thread alone may do so.
    pub fn resize(&self, dice: &mut Dice) {
        let capacity = capacity(dice);
        // What is leased may stay above a capacity that was lowered: the ceiling comes
        // down when nobody is at it.
        self.ledger.ceiling.fetch_max(capacity as i64, Relaxed);
        let changed = self.pool.reconfigure(|settings| {
            settings.capacity = capacity;
            settings.idle_timeout = Some((1 + dice.below(40) as u32) * SECOND);
            settings.max_idle_per_group = if dice.once_in(2) { usize::MAX } else { 40 };
            settings.trim_window = dice.once_in(3).then_some(10 * SECOND);
            settings.max_uses = 100 + dice.below(100_000);
        });
        self.ledger.check(changed.is_ok(), || format!("{changed:?}"));
    }

    /// Everything that must be true when nobody is at it.
    pub fn settle(&self, round: u64) {
        // More than one piece of work may be waiting for another.
        for _ in 0..4 {
            self.pool.maintain();
        }
        let Self { pool, ledger, .. } = self;
        let (status, stats) = (pool.status(), pool.stats());
        let held = (status.idle + status.leased) as u64;
        let inside = ledger.inside.load(Relaxed);
        let live = ledger.live();
        ledger.check(live == held, || {
            format!("round {round}: {live} connections live, {held} are in the pool: {status:?}")
        });
        ledger.check(inside == held as i64, || {
            format!("round {round}: {inside} entered and did not leave, {held} are there")
        });
        let gone = stats.closes.total() + stats.taken;
        ledger.check(stats.inserts == gone + held, || {
            format!("round {round}: {} inserted, {gone} gone, {held} there", stats.inserts)
        });
        let panics = ledger.panics.load(Relaxed) - self.panics_before;
        ledger.check(stats.panics == panics, || {
            format!("round {round}: {} panics counted of {panics}", stats.panics)
        });
        let most = status.capacity.max(status.leased) as i64;
        ledger.check(inside <= most, || format!("round {round}: over the bound: {status:?}"));
        ledger.ceiling.store(most, Relaxed);
        let groups = pool.inspect().groups;
        let listed = groups.iter().map(|group| group.connections.len() as u64).sum::<u64>();
        ledger.check(listed == held, || format!("round {round}: {listed} listed of {held}"));
        ledger.check(groups.len() == status.groups && groups.len() as u64 <= held, || {
            format!("round {round}: {} groups of {held} connections", status.groups)
        });
    }

    /// The end of the era: nothing is left of the pool.
    pub fn end(self, round: u64) {
        while let Some(lease) = self.receive() {
            lease.end();
            if round.is_multiple_of(2) {
                lease.release();
            } else {
                self.pool.close();
            }
        }
        let Self { pool, ledger, .. } = self;
        // Some pools are closed, others just go.
        if round.is_multiple_of(3) {
            pool.close();
            let status = pool.status();
            ledger.check(status.idle + status.leased + status.groups == 0, || {
                format!("round {round}: left in a closed pool: {status:?}")
            });
        }
        drop(pool);
        let (live, inside) = (ledger.live(), ledger.inside.load(Relaxed));
        ledger.check(live == 0 && inside == 0, || {
            format!("round {round}: {live} connections live after their pool, {inside} inside")
        });
    }
}

fn capacity(dice: &mut Dice) -> usize {
    [96, 128, 300, 700, 2_000][dice.below(5) as usize]
}

fn settings_of(key: &Key) -> GroupSettings {
    let settings = GroupSettings::new();
    match key.0 {
        number if key.owner().is_some() => settings.max_uses(number - Key::PRIVATE + 5_000),
        number if number >= Key::ONCE && number % 64 == 1 => interrupt(),
        number if number % 7 == 0 => settings.max_idle(2).min_idle(0),
        number if number % 11 == 0 => settings.idle_timeout(2 * SECOND),
        _ => settings,
    }
}

fn close(ledger: &Ledger, key: Key, connection: Connection, reason: CloseReason) {
    ledger.left();
    ledger.check(connection.key == key, || format!("{key:?} was told of {connection:?}"));
    if let Some(owner) = key.owner() {
        ledger.closed[owner].store(connection.id, Relaxed);
    }
    // Now and then, and of some reasons more than of others.
    if (connection.id + reason.index() as u64).is_multiple_of(1_000) {
        // One panic at a time: another one while this unwinds would be the end.
        connection.calm();
        ledger.panic();
    }
}
