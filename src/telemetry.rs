//! Numbers of a pool for the [`metrics`] facade, and with it for Prometheus, StatsD or
//! whatever a recorder is there for. Feature `metrics`.
//!
//! ```
//! use slabpool::{Pool, telemetry::Exporter};
//!
//! let pool = Pool::<String, std::net::TcpStream>::builder().build()?;
//! // At most 100 upstreams by name, the others together as "other".
//! let mut exporter = Exporter::new(&pool, "upstream").groups(100, |key| key.clone());
//! exporter.export(); // now and then, or before each scrape
//! # Ok::<(), slabpool::ConfigError>(())
//! ```
//!
//! | name | kind | labels besides `pool` | |
//! |---|---|---|---|
//! | `slabpool_connections` | gauge | `state`: `idle`, `leased` | connections |
//! | `slabpool_groups` | gauge | | groups |
//! | `slabpool_capacity` | gauge | | the most connections |
//! | `slabpool_hits_total` | counter | | gets that found a connection |
//! | `slabpool_misses_total` | counter | `kind`: see [`Miss`](crate::Miss) | gets that found none |
//! | `slabpool_ghost_hits_total` | counter | `rule`, `within`: see [`Ghosts`](crate::Ghosts) | misses that a rule has caused |
//! | `slabpool_inserts_total` | counter | | connections taken in |
//! | `slabpool_rejects_total` | counter | | connections not taken in |
//! | `slabpool_closes_total` | counter | `reason`: see [`CloseReason`] | connections given up |
//! | `slabpool_unexpected_data_total` | counter | | of these, those whose peer sent what nobody had asked for |
//! | `slabpool_taken_total` | counter | | connections taken out alive |
//! | `slabpool_panics_total` | counter | | panics of hooks and destructors |
//! | `slabpool_group_connections` | gauge | `group`, `state` | connections of a group |
//!
//! A managed pool, by `Exporter::managed`, has besides:
//!
//! | name | kind | labels besides `pool` | |
//! |---|---|---|---|
//! | `slabpool_waiting`, `slabpool_connecting` | gauge | | callers that wait; connects under way |
//! | `slabpool_streams` | gauge | | streams of connections that are shared |
//! | `slabpool_acquires_total` | counter | `outcome` | calls of `acquire`, by how they ended |
//! | `slabpool_connects_total` | counter | `outcome` | connects, by how they ended |
//! | `slabpool_wait_seconds`, `slabpool_connect_seconds` | histogram | | how long these took, however they ended |
//!
//! The number of labels is bounded: kinds, reasons and rules are fixed, and groups have
//! none unless [`Exporter::groups`] says so, and up to how many.

#[cfg(feature = "tokio")]
mod managed;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Weak;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::engine::Engine;
use crate::error::CloseReason;
use crate::pool::Pool;
use crate::stats::Status;

/// What groups beyond the limit are called together.
const OTHER: &str = "other";

/// Tells the recorder that is installed how a pool is doing. Does not keep the pool.
///
/// Nothing is counted for it on the way of a get or a release: each [`export`] sums up what
/// the pool knows anyway, as [`Pool::stats`] and [`Pool::status`] do, and costs as much.
///
/// [`export`]: Exporter::export
pub struct Exporter<K, C> {
    engine: Weak<Engine<K, C>>,
    pool: String,
    groups: Option<Groups<K>>,
    /// What else there is to export, by the name of the pool.
    more: Option<More>,
}

type More = Box<dyn FnMut(&str) + Send>;

struct Groups<K> {
    max: usize,
    name: Box<dyn Fn(&K) -> String + Send>,
    /// Those that have a label, in the order of their names; zero if they are not there.
    known: BTreeMap<String, Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    idle: usize,
    leased: usize,
}

impl<K, C> Exporter<K, C>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
{
    /// For this pool, whose metrics have the label `pool` with this name.
    pub fn new(pool: &Pool<K, C>, name: impl Into<String>) -> Self {
        describe();
        Self { engine: pool.engine().me.clone(), pool: name.into(), groups: None, more: None }
    }

    /// Exports the connections of each group as well, by the name that this gives to its
    /// key: at most so many names, those that are met first. What has none is `other`, all
    /// together. A name that was given stays, at zero when its group has gone.
    #[must_use]
    pub fn groups(
        mut self,
        groups_max: usize,
        name: impl Fn(&K) -> String + Send + 'static,
    ) -> Self {
        self.groups =
            Some(Groups { max: groups_max, name: Box::new(name), known: BTreeMap::new() });
        self
    }

    /// Exports the numbers as they are now. False if the pool has gone, with nothing done.
    ///
    /// Reads every seat, and with [`groups`](Exporter::groups) every group.
    pub fn export(&mut self) -> bool {
        let Some(engine) = self.engine.upgrade() else { return false };
        self.export_status(engine.status());
        self.export_stats(&engine);
        if let Some(more) = &mut self.more {
            more(&self.pool);
        }
        if let Some(groups) = &mut self.groups {
            groups.count(&engine);
            for (group, counts) in &groups.known {
                for (state, count) in [("idle", counts.idle), ("leased", counts.leased)] {
                    let labels = labels(&self.pool, &[("group", group), ("state", state)]);
                    gauge!("slabpool_group_connections", labels).set(count as f64);
                }
            }
        }
        true
    }

    /// Exports the numbers each time when so much time has passed, until the pool has gone.
    ///
    /// # Panics
    ///
    /// If `every` is zero, or when it is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the exports, and nothing else.
    #[cfg(feature = "tokio")]
    pub async fn run(mut self, every: std::time::Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.export() {
                return;
            }
        }
    }

    fn export_status(&self, status: Status) {
        for (state, count) in [("idle", status.idle), ("leased", status.leased)] {
            gauge!("slabpool_connections", self.labels(&[("state", state)])).set(count as f64);
        }
        gauge!("slabpool_groups", self.labels(&[])).set(status.groups as f64);
        gauge!("slabpool_capacity", self.labels(&[])).set(status.capacity as f64);
    }

    fn export_stats(&self, engine: &Engine<K, C>) {
        let stats = engine.stats();
        for (name, count) in [
            ("slabpool_hits_total", stats.hits),
            ("slabpool_inserts_total", stats.inserts),
            ("slabpool_rejects_total", stats.rejects),
            ("slabpool_unexpected_data_total", stats.closes[CloseReason::UnexpectedData]),
            ("slabpool_taken_total", stats.taken),
            ("slabpool_panics_total", stats.panics),
        ] {
            counter!(name, self.labels(&[])).absolute(count);
        }
        for (kind, count) in stats.misses.iter() {
            let labels = self.labels(&[("kind", kind.name())]);
            counter!("slabpool_misses_total", labels).absolute(count);
        }
        for (reason, count) in stats.closes.iter() {
            let labels = self.labels(&[("reason", reason.name())]);
            counter!("slabpool_closes_total", labels).absolute(count);
        }
        for (rule, ago, count) in stats.ghosts.iter() {
            let labels = self.labels(&[("rule", rule.name()), ("within", ago.name())]);
            counter!("slabpool_ghost_hits_total", labels).absolute(count);
        }
    }

    fn labels(&self, others: &[(&'static str, &str)]) -> Vec<Label> {
        labels(&self.pool, others)
    }
}

fn labels(pool: &str, others: &[(&'static str, &str)]) -> Vec<Label> {
    let all = [("pool", pool)].into_iter().chain(others.iter().copied());
    all.map(|(name, value)| Label::new(name, value.to_owned())).collect()
}

impl<K> Groups<K> {
    fn count<C>(&mut self, engine: &Engine<K, C>) {
        self.known.values_mut().for_each(|counts| *counts = Counts::default());
        engine.directory.for_each(|members| {
            let status = engine.group_status(members);
            let name = (self.name)(&members.key);
            let is_named = self.known.contains_key(&name) || self.named() < self.max;
            let name = if is_named { Cow::Owned(name) } else { Cow::Borrowed(OTHER) };
            let counts = self.known.entry(name.into_owned()).or_default();
            counts.idle += status.idle;
            counts.leased += status.leased;
        });
    }

    /// How many groups have a name of their own.
    fn named(&self) -> usize {
        self.known.len() - usize::from(self.known.contains_key(OTHER))
    }
}

fn describe() {
    describe_gauge!("slabpool_connections", Unit::Count, "Connections in the pool");
    describe_gauge!("slabpool_groups", Unit::Count, "Groups in the pool");
    describe_gauge!("slabpool_capacity", Unit::Count, "The most connections in the pool");
    describe_gauge!("slabpool_group_connections", Unit::Count, "Connections of a group");
    for (name, text) in [
        ("slabpool_hits_total", "Gets that found a connection"),
        ("slabpool_misses_total", "Gets that found no connection, by why"),
        ("slabpool_ghost_hits_total", "Misses that a rule of the pool has caused"),
        ("slabpool_inserts_total", "Connections that the pool took"),
        ("slabpool_rejects_total", "Connections that the pool did not take"),
        ("slabpool_closes_total", "Connections that the pool gave up, by reason"),
        (
            "slabpool_unexpected_data_total",
            "Connections closed since their peer sent what nobody had asked for",
        ),
        ("slabpool_taken_total", "Connections that were taken out alive"),
        ("slabpool_panics_total", "Panics of hooks and destructors"),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
}

impl<K, C> fmt::Debug for Exporter<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("pool", &self.pool)
            .field("groups", &self.groups.as_ref().map(|groups| groups.known.len()))
            .finish_non_exhaustive()
    }
}
