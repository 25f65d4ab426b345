//! What is counted: by those who do not get a connection at once, and by connects. Whoever
//! gets one at once counts nothing; that follows from the seats of the pool below.

use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::core::lanes::thread_number;
use crate::managed::error::{AcquireError, Failure};
use crate::managed::histogram::{Histogram, Times};
use crate::managed::stats::{Connects as ConnectStats, Stats};
use crate::managed::waiting::Spell;
use crate::stats::Counter;

/// Waits are counted in so many places, so that threads that wait do not wait for each
/// other's counts.
const STRIPES: usize = 8;

/// All counters. Each number stands for itself.
#[derive(Debug)]
pub(crate) struct Tally {
    stripes: Box<[CachePadded<Stripe>; STRIPES]>,
    pub connects: Connects,
    /// Streams of channels that have ended, but for the first of each.
    joined: Counter,
}

#[derive(Debug, Default)]
struct Stripe {
    /// Leases of the pool below, of idle connections, that were not given out at once.
    diverted: Counter,
    missed: Counter,
    turned_away: Counter,
    timeouts: Counter,
    failed: Counter,
    refused: Counter,
    cancelled: Counter,
    handed_over: Counter,
    /// Streams, but for the first of a channel, that somebody had to seek.
    sought: Counter,
    /// All waits that have ended.
    waits: Times,
}

/// What desks know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    pub connecting: usize,
    pub waiting: usize,
    /// Streams of active channels that have begun, but for the first of each.
    pub joined: u64,
}

/// Of connects, which are rare enough to be counted in one place.
#[derive(Debug, Default)]
pub(crate) struct Connects {
    pub started: Counter,
    errors: Counter,
    timeouts: Counter,
    aborted: Counter,
    rejected: Counter,
    /// Connections that nobody waited for any more.
    pub kept: Counter,
    opened: Counter,
    /// Of those that were opened, have failed, or took too long.
    times: Times,
}

impl Connects {
    /// One has led to a connection, after this time.
    pub fn opened(&self, time: Duration) {
        self.opened.add();
        self.times.record(time);
    }

    /// One has ended otherwise, or with a connection that the pool did not take.
    pub fn failed<E>(&self, failure: &Failure<E>, time: Duration) {
        let counter = match failure {
            AcquireError::Connect(_) => &self.errors,
            AcquireError::ConnectTimeout { .. } => &self.timeouts,
            AcquireError::ConnectAborted => return self.aborted.add(),
            _ => return self.rejected.add(),
        };
        counter.add();
        self.times.record(time);
    }

    fn stats(&self, connecting: usize) -> ConnectStats {
        ConnectStats {
            // Those that have ended first, so that no more seem to end than were started.
            opened: self.opened.get(),
            errors: self.errors.get(),
            timeouts: self.timeouts.get(),
            aborted: self.aborted.get(),
            rejected: self.rejected.get(),
            kept: self.kept.get(),
            time: self.times.read(),
            connecting,
            started: self.started.get(),
        }
    }
}

impl Tally {
    pub fn new() -> Self {
        Self { stripes: Box::default(), connects: Connects::default(), joined: Counter::default() }
    }

    fn own(&self) -> &Stripe {
        &self.stripes[thread_number() % STRIPES]
    }

    /// An idle connection was leased, and not given to whoever had just asked for it.
    pub fn diverted(&self) {
        self.own().diverted.add();
    }

    /// Somebody has asked for what is there at once, and got nothing.
    pub fn missed(&self) {
        self.own().missed.add();
    }

    /// Somebody who waited got what another one has released.
    pub fn handed_over(&self) {
        self.own().handed_over.add();
    }

    /// One who could not be served at once has a stream of a channel that others use.
    pub fn sought(&self) {
        self.own().sought.add();
    }

    /// A channel has ended that has had so many streams.
    pub fn ended(&self, streams: u64) {
        self.joined.add_many(streams.saturating_sub(1));
    }

    /// Somebody could not be served at once, though it may have met a connection.
    pub fn wait(&self, spell: Spell, met: bool) -> Wait<'_> {
        if met {
            self.diverted();
        }
        Wait { tally: self, spell, ended: false }
    }

    fn sum(&self, counter: impl Fn(&Stripe) -> &Counter) -> u64 {
        self.stripes.iter().map(|stripe| counter(stripe).get()).sum()
    }

    /// All numbers, with what others know.
    pub fn stats(&self, pool: crate::Stats, now: Now) -> Stats {
        let mut wait_time = Histogram::default();
        self.stripes.iter().for_each(|stripe| stripe.waits.add_to(&mut wait_time));
        let [timeouts, failed, refused, cancelled] = [
            self.sum(|stripe| &stripe.timeouts),
            self.sum(|stripe| &stripe.failed),
            self.sum(|stripe| &stripe.refused),
            self.sum(|stripe| &stripe.cancelled),
        ];
        let others = timeouts + failed + refused + cancelled;
        let joined = self.joined.get() + now.joined;
        Stats {
            joined: joined.saturating_sub(self.sum(|stripe| &stripe.sought)),
            hits: pool.hits.saturating_sub(self.sum(|stripe| &stripe.diverted)),
            missed: self.sum(|stripe| &stripe.missed),
            turned_away: self.sum(|stripe| &stripe.turned_away),
            served: wait_time.count().saturating_sub(others),
            handed_over: self.sum(|stripe| &stripe.handed_over),
            timeouts,
            failed,
            refused,
            cancelled,
            wait_time,
            waiting: now.waiting,
            connects: self.connects.stats(now.connecting),
            pool,
        }
    }
}

/// One who waits. Dropped before its end, it has gone away.
pub(crate) struct Wait<'a> {
    tally: &'a Tally,
    spell: Spell,
    ended: bool,
}

impl Wait<'_> {
    /// The waiting has ended, with an error or not. Returns how long it took.
    pub fn end<E>(mut self, error: Option<&AcquireError<E>>) -> Duration {
        self.ended = true;
        let (stripe, waited) = (self.tally.own(), self.spell.waited());
        match error {
            None => {}
            Some(AcquireError::TooManyWaiters { .. }) => {
                stripe.turned_away.add();
                return waited;
            }
            Some(AcquireError::Timeout { .. }) => stripe.timeouts.add(),
            Some(AcquireError::Closed | AcquireError::GroupDown) => stripe.refused.add(),
            Some(_) => stripe.failed.add(),
        }
        stripe.waits.record(waited);
        waited
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let stripe = self.tally.own();
            stripe.cancelled.add();
            stripe.waits.record(self.spell.waited());
        }
    }
}
