//! What each thread does with the pool: a random deed after the other.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use slabpool::{Group, PutOptions, Token};

use crate::dice::{Dice, KEYS};
use crate::ledger::{Connection, Key, interrupt, was_meant};
use crate::world::{Lease, World};

/// Leases and tokens that a thread keeps.
const HELD_MAX: usize = 8;
const TOKENS_MAX: usize = 64;
/// How long the thread that closes a connection may take to say so: long enough for one
/// that the system has put aside.
const PATIENCE: Duration = Duration::from_secs(20);

/// One thread, for one round.
pub struct Worker<'a> {
    world: &'a World,
    dice: Dice,
    number: usize,
    part: u64,
    /// Keys that were used once, so far.
    fresh: u64,
    held: Vec<Lease>,
    tokens: Vec<Token>,
    drained: Option<Key>,
    handle: Option<Group<Key, Connection>>,
    /// The connection that nobody else touches.
    own: Option<u64>,
}

impl<'a> Worker<'a> {
    /// For one round, which is a part of the run. Nobody is at it yet.
    pub fn new(world: &'a World, seed: u64, part: u64, number: usize) -> Self {
        world.pool.clear_group(&Key(Key::PRIVATE + number as u64));
        Self {
            world,
            dice: Dice::new(seed, part, number as u64),
            number,
            part,
            fresh: 0,
            held: Vec::new(),
            tokens: Vec::new(),
            drained: None,
            handle: None,
            own: None,
        }
    }

    /// So many deeds; then everything is given back.
    pub fn run(mut self, deeds: u64, last: bool) {
        for deed in 0..deeds {
            self.act();
            if deed % 1_024 == 0 && self.world.ledger.has_failed() {
                break;
            }
            // The pool is closed while the others are at it.
            if last && self.number == 0 && deed == deeds / 2 && self.dice.once_in(2) {
                self.world.pool.close();
            }
        }
        while let Some(lease) = self.held.pop() {
            self.finish(lease);
        }
        self.resume();
    }

    fn act(&mut self) {
        match self.dice.below(4_096) {
            0..1_900 => self.exchange(),
            1_900..2_300 => self.hold(),
            2_300..2_800 => self.let_go(),
            2_800..2_900 => self.pass_on(),
            2_900..3_500 => self.use_own(),
            3_500..3_650 => self.put(),
            3_650..3_750 => self.choose(),
            3_750..3_850 => self.remove(),
            3_850..3_950 => self.use_handle(),
            3_950..4_060 => self.tick(),
            4_060..4_080 => self.put_once(),
            4_080..4_090 => drop(self.world.pool.maintain()),
            _ => self.administer(),
        }
    }

    fn key(&mut self) -> Key {
        Key(self.dice.zipf())
    }

    /// A connection of its own for a key, which may die.
    fn connect(&mut self, key: Key) -> Connection {
        self.world.ledger.connect(key, self.dice.below(1 << 20))
    }

    /// The connection released last, or a new one if there is room.
    fn lease(&mut self, key: Key) -> Option<Lease> {
        if let Some(lease) = self.world.pool.get_owned(&key) {
            lease.begin(key);
            return Some(lease);
        }
        let connection = self.connect(key);
        match self.world.pool.insert_owned(&key, connection) {
            Ok(lease) => {
                self.world.ledger.entered();
                lease.begin(key);
                Some(lease)
            }
            Err(rejected) => {
                rejected.into_inner().calm();
                None
            }
        }
    }

    fn exchange(&mut self) {
        let key = self.key();
        if let Some(lease) = self.world.pool.get(&key) {
            lease.begin(key);
            lease.end();
            return lease.release();
        }
        let lease = self.lease(key);
        lease.into_iter().for_each(|lease| self.finish(lease));
    }

    fn hold(&mut self) {
        let key = self.key();
        if self.held.len() < HELD_MAX
            && let Some(lease) = self.lease(key)
        {
            self.held.push(lease);
        }
    }

    fn let_go(&mut self) {
        if !self.held.is_empty() {
            let place = self.dice.below(self.held.len() as u64) as usize;
            let lease = self.held.swap_remove(place);
            self.finish(lease);
        }
    }

    /// Ends a lease in one of the ways that there are.
    fn finish(&mut self, mut lease: Lease) {
        lease.end();
        match self.dice.below(200) {
            0..150 => lease.release(),
            150..160 => {
                let timeout = Duration::from_millis(self.dice.below(5_000));
                lease.release_with(PutOptions::new().idle_timeout(timeout));
            }
            160..170 => {
                lease.die();
                lease.release();
            }
            170..180 => drop(lease),
            180..185 => lease.close(),
            185..190 => lease.close_dead(),
            190..195 => {
                self.world.ledger.left();
                lease.detach().calm();
            }
            _ => {
                // Evicted while it is leased.
                let token = lease.token();
                self.world.pool.evict(token);
                lease.release();
            }
        }
    }

    /// Leases go from thread to thread.
    fn pass_on(&mut self) {
        if let Some(lease) = self.held.pop() {
            self.held.extend(self.world.send(lease));
        } else if let Some(lease) = self.world.receive() {
            self.finish(lease);
        }
    }

    fn put(&mut self) {
        let key = self.key();
        let connection = self.connect(key);
        let result = if self.dice.once_in(4) {
            let timeout = Duration::from_secs(1 + self.dice.below(10));
            let options = PutOptions::new().idle_timeout(timeout).max_uses(3);
            self.world.pool.put_with(&key, connection, options)
        } else {
            self.world.pool.put(&key, connection)
        };
        match result {
            Ok(token) => {
                self.world.ledger.entered();
                self.remember(token);
            }
            Err(rejected) => rejected.into_inner().calm(),
        }
    }

    fn remember(&mut self, token: Token) {
        if self.tokens.len() < TOKENS_MAX {
            self.tokens.push(token);
        } else {
            let place = self.dice.below(TOKENS_MAX as u64) as usize;
            self.tokens[place] = token;
        }
    }

    /// Keys without end, of which some have settings that panic.
    fn put_once(&mut self) {
        self.fresh += 1;
        let thread = (self.part << 8) + self.number as u64;
        let number = (thread << 16) + self.fresh % (1 << 16);
        let key = Key(Key::ONCE + number);
        let connection = self.connect(key);
        match expecting(|| self.world.pool.put(&key, connection)) {
            Some(Ok(token)) => {
                self.world.ledger.entered();
                self.remember(token);
            }
            Some(Err(rejected)) => rejected.into_inner().calm(),
            None => {}
        }
    }

    /// By a predicate, which may panic.
    fn choose(&mut self) {
        let (key, wanted) = (self.key(), self.dice.below(4));
        let dice = &mut self.dice;
        let found = expecting(|| {
            self.world.pool.get_if_owned(&key, |meta| {
                if dice.once_in(1_000) {
                    interrupt();
                }
                meta.uses % 4 == wanted
            })
        });
        if let Some(lease) = found.flatten() {
            lease.begin(key);
            self.finish(lease);
        }
    }

    fn remove(&mut self) {
        if self.tokens.is_empty() {
            return;
        }
        // Some stay, and are stale when they are used again.
        let place = self.dice.below(self.tokens.len() as u64) as usize;
        let token = self.tokens[place];
        if self.dice.once_in(2) {
            self.world.pool.evict(token);
            return;
        }
        self.world.ledger.left();
        match self.world.pool.take(token) {
            Some(connection) => {
                connection.begin(connection.key);
                connection.end();
                connection.calm();
            }
            // It did not leave.
            None => self.world.ledger.stayed(),
        }
    }

    fn use_handle(&mut self) {
        if self.handle.is_none() || self.dice.once_in(100) {
            let key = self.key();
            self.handle = Some(self.world.pool.group(&key));
        }
        let Some(group) = &self.handle else { return };
        let key = *group.key();
        if let Some(lease) = group.get() {
            lease.begin(key);
            lease.end();
            return lease.release();
        }
        let connection = self.world.ledger.connect(key, self.dice.below(1 << 20));
        match group.insert(connection) {
            Ok(lease) => {
                self.world.ledger.entered();
                lease.release();
            }
            Err(rejected) => rejected.into_inner().calm(),
        }
    }

    /// Time passes, in steps and in leaps.
    fn tick(&mut self) {
        let milliseconds = match self.dice.below(2_000) {
            0 => 3_600_000,
            1..20 => 5_000,
            _ => self.dice.below(4),
        };
        self.world.clock.advance(Duration::from_millis(milliseconds));
    }

    /// What operators do, which is rare.
    fn administer(&mut self) {
        let (pool, key) = (&self.world.pool, Key(self.dice.below(KEYS)));
        match self.dice.below(100) {
            0..20 => pool.clear_group(&key),
            20..30 if self.drained.is_none() => {
                pool.drain_group(&key);
                self.drained = Some(key);
            }
            30..60 => self.resume(),
            60..63 if self.number == 0 && self.part % 4 == 3 => self.world.resize(&mut self.dice),
            63 => pool.clear(),
            64..66 if !self.world.strict => pool.invalidate(),
            66..80 if !self.world.strict => pool.invalidate_group(&key),
            80..82 if !self.world.strict => {
                let dice = &mut self.dice;
                expecting(|| {
                    pool.retain(|_, _, _| {
                        if dice.once_in(10_000) {
                            interrupt();
                        }
                        !dice.once_in(50)
                    });
                });
            }
            _ => {}
        }
    }

    fn resume(&mut self) {
        if let Some(key) = self.drained.take() {
            self.world.pool.resume_group(&key);
        }
    }

    /// The private connection: a get finds it, or it was closed.
    fn use_own(&mut self) {
        let key = Key(Key::PRIVATE + self.number as u64);
        let Some(id) = self.own else { return self.open_own(key) };
        if self.find_own(key, id) {
            return;
        }
        let (closed, since) = (&self.world.ledger.closed[self.number], Instant::now());
        while closed.load(Relaxed) != id && since.elapsed() < PATIENCE {
            // It may come back, when whoever looks at it is done.
            if !self.world.strict && self.find_own(key, id) {
                self.world.excused.fetch_add(1, Relaxed);
                return;
            }
            thread::yield_now();
        }
        let was_closed = closed.load(Relaxed) == id;
        self.world.ledger.check(was_closed, || format!("{id} of {key:?} was missed"));
        self.own = None;
    }

    fn find_own(&self, key: Key, id: u64) -> bool {
        let Some(lease) = self.world.pool.get(&key) else { return false };
        lease.begin(key);
        self.world.ledger.check(lease.id == id, || format!("{} in place of {id}", lease.id));
        lease.end();
        lease.release();
        true
    }

    fn open_own(&mut self, key: Key) {
        let connection = self.world.ledger.connect(key, 0);
        let id = connection.id;
        if self.world.pool.put(&key, connection).is_ok() {
            self.world.ledger.entered();
            self.own = Some(id);
        }
    }
}

/// What comes of it, or nothing if it panicked on purpose.
fn expecting<R>(run: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(panic) if was_meant(&*panic) => None,
        Err(panic) => resume_unwind(panic),
    }
}
