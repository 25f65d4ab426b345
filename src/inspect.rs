//! A dump for humans: every group with its connections, as a table and through serde.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::core::seat::{Mark, Seat};
use crate::core::state::Phase;
use crate::engine::Engine;
use crate::group::Members;
use crate::pool::Pool;
use crate::stats::Status;
use crate::store::Record;
use crate::token::Token;

/// What is in a pool, connection by connection. From [`Pool::inspect`].
///
/// It displays as a table, and with the feature `serde` it can be serialized: times in
/// seconds, tokens as they display.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot<K> {
    /// The pool in numbers.
    pub status: Status,
    /// Its groups, those with the most connections first.
    pub groups: Vec<GroupSnapshot<K>>,
}

/// One group of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupSnapshot<K> {
    /// Its key.
    pub key: K,
    /// Whether it is [drained](crate::Group::drain).
    pub draining: bool,
    /// How many lanes it uses; see [`Builder::lanes`](crate::Builder::lanes).
    pub lanes: usize,
    /// Its connections: idle ones first, the last one released on top.
    pub connections: Vec<ConnectionSnapshot>,
}

/// One connection of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// Its name.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_displayed"))]
    pub token: Token,
    /// What it is doing.
    pub state: ConnectionState,
    /// Since it was inserted.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds"))]
    pub age: Duration,
    /// Since it was released; `None` of a leased one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "maybe_seconds"))]
    pub idle_for: Option<Duration>,
    /// How often it was leased.
    pub uses: u64,
    /// When it expires if nothing happens: an idle one by its idle timeout or its lifetime,
    /// a leased one by its lifetime. `None` if it does not.
    #[cfg_attr(feature = "serde", serde(serialize_with = "maybe_seconds"))]
    pub expires_in: Option<Duration>,
}

/// What a connection of a [`Snapshot`] was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum ConnectionState {
    /// It waits to be leased.
    Idle,
    /// It is leased.
    Leased,
    /// It is leased, and is closed when it is released: it was evicted, invalidated,
    /// cleared or drained.
    Leaving,
}

impl<K, C> Pool<K, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    C: Send + 'static,
{
    /// Every group with its connections, to be looked at by people.
    ///
    /// Reads every seat and copies every key: for a page that is asked for now and then.
    /// Nobody has to wait for it. Read while others work, some lines may be off by what
    /// happened meanwhile; of a pool at rest they are exact.
    pub fn inspect(&self) -> Snapshot<K> {
        self.engine().snapshot()
    }
}

/// A group, and those of its connections that were met.
type Lines<K> = (Arc<Members<K>>, Vec<ConnectionSnapshot>);

#[cfg(feature = "tokio")]
impl<K, M> crate::managed::Pool<K, M>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    M: crate::managed::Manager<K>,
{
    /// As [`slabpool::Pool::inspect`](crate::Pool::inspect). A connection that serves several
    /// at a time is one that is leased.
    pub fn inspect(&self) -> Snapshot<K> {
        self.inner().core.inspect()
    }
}

impl<K: Clone, C> Engine<K, C> {
    fn snapshot(&self) -> Snapshot<K> {
        let now = self.config.clock.now();
        let mut found: HashMap<*const Members<K>, Lines<K>> = HashMap::new();
        let mut add = |members: &Arc<Members<K>>, line: Option<ConnectionSnapshot>| {
            let lines = found.entry(Arc::as_ptr(members));
            lines.or_insert_with(|| (Arc::clone(members), Vec::new())).1.extend(line);
        };
        self.directory.for_each(|members| add(members, None));
        for (index, seat) in self.core.seats.iter() {
            let key = self.core.card(index).key.follow() as usize;
            let Some(record) = self.store.get(key).filter(|record| record.seat == index) else {
                continue;
            };
            self.directory.held(&record.group, |members| {
                let line = self.line(seat, &record, members, now);
                line.into_iter().for_each(|line| add(members, Some(line)));
            });
        }
        let mut groups: Vec<_> =
            found.into_values().map(|(members, lines)| group(&members, lines)).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.connections.len()));
        Snapshot { status: self.status(), groups }
    }

    /// One connection. `None` if it is on its way out, or another one has its seat.
    fn line(
        &self,
        seat: &Seat,
        record: &Record<K, C>,
        members: &Members<K>,
        now: u64,
    ) -> Option<ConnectionSnapshot> {
        // S3: the word before the rest.
        let word = seat.state.load();
        let mark = seat.mark.get();
        let card = self.core.card(record.seat);
        // By the word, it is not of a former connection.
        let token = Token { serial: card.serial.follow(), key: card.key.get() as usize };
        if Mark::serial(mark) != token.serial as u32 {
            return None;
        }
        let state = match word.phase() {
            Phase::Vacant | Phase::Claimed => return None,
            Phase::Idle | Phase::Inspected | Phase::Orphaned => ConnectionState::Idle,
            Phase::Leased if Mark::is_of(mark, self.generation_of(members)) => {
                ConnectionState::Leased
            }
            Phase::Leased => ConnectionState::Leaving,
        };
        // What it was used since the word was read may have been taken back (`recover`).
        let uses = word.incarnation().wrapping_sub(record.uses_base.get()).cast_signed().max(0);
        let (idle_for, end) = match state {
            ConnectionState::Idle => {
                (Some(nanoseconds(now.saturating_sub(seat.stamp.get()))), seat.deadline.get())
            }
            _ => (None, record.retire_at.get()),
        };
        // If it still is there, what was read of the record is its own.
        if card.serial.get() != token.serial {
            return None;
        }
        Some(ConnectionSnapshot {
            token,
            state,
            age: nanoseconds(now.saturating_sub(card.born.get())),
            idle_for,
            uses: uses.cast_unsigned(),
            expires_in: (end != u64::MAX).then(|| nanoseconds(end.saturating_sub(now))),
        })
    }
}

fn nanoseconds(time: u64) -> Duration {
    Duration::from_nanos(time)
}

fn group<K: Clone>(members: &Members<K>, mut lines: Vec<ConnectionSnapshot>) -> GroupSnapshot<K> {
    lines.sort_by_key(|line| (line.idle_for.is_none(), line.idle_for, line.age));
    GroupSnapshot {
        key: K::clone(&members.key),
        draining: members.lanes.era.is_draining(),
        lanes: members.lanes.in_use(),
        connections: lines,
    }
}

impl<K> GroupSnapshot<K> {
    /// How many of its connections are in this state.
    pub fn count(&self, state: ConnectionState) -> usize {
        self.connections.iter().filter(|line| line.state == state).count()
    }
}

impl<K: fmt::Debug> fmt::Display for Snapshot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { idle, leased, groups, capacity, .. } = self.status;
        writeln!(f, "{idle} idle, {leased} leased, {groups} groups, capacity {capacity}")?;
        self.groups.iter().try_for_each(|group| group.fmt(f))
    }
}

impl<K: fmt::Debug> fmt::Display for GroupSnapshot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.count(ConnectionState::Idle);
        let draining = if self.draining { ", draining" } else { "" };
        let leased = self.connections.len() - idle;
        writeln!(f, "\n{:?}: {idle} idle, {leased} leased{draining}", self.key)?;
        if self.connections.is_empty() {
            return Ok(());
        }
        let heads = ["token", "state", "age", "idle", "uses", "expires"];
        let [token, state, age, idle, uses, expires] = heads;
        writeln!(f, "  {token:<18} {state:<8} {age:>8} {idle:>8} {uses:>8} {expires:>8}")?;
        for line in &self.connections {
            let token = line.token.to_string();
            let state = format!("{:?}", line.state).to_lowercase();
            let (age, uses) = (brief(Some(line.age)), line.uses);
            let (idle, expires) = (brief(line.idle_for), brief(line.expires_in));
            writeln!(f, "  {token:<18} {state:<8} {age:>8} {idle:>8} {uses:>8} {expires:>8}")?;
        }
        Ok(())
    }
}

/// A time in at most eight characters; a dash for none.
fn brief(time: Option<Duration>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() < 1 => format!("{} us", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        1..120 => format!("{:.1} s", time.as_secs_f64()),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(feature = "serde")]
fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

#[cfg(feature = "serde")]
fn maybe_seconds<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.serialize_some(&time.as_secs_f64()),
        None => to.serialize_none(),
    }
}

#[cfg(feature = "serde")]
fn as_displayed<S: serde::Serializer>(token: &Token, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(token)
}
