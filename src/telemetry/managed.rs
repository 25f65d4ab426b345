//! What a managed pool has to tell besides.

use std::hash::Hash;
use std::sync::Arc;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{Exporter, labels};
use crate::managed::{Histogram, Manager, Pool, Slot, Stats, Status};

impl<K, C> Exporter<K, Slot<C>>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
{
    /// For a managed pool: with its callers and connects. Does not keep the pool.
    pub fn managed<M>(pool: &Pool<K, M>, name: impl Into<String>) -> Self
    where
        M: Manager<K, Connection = C>,
    {
        describe();
        let inner = Arc::downgrade(&pool.inner);
        let (mut waits, mut connects) = (Histogram::default(), Histogram::default());
        let mut exporter = Self::new(&pool.inner.core, name);
        exporter.more = Some(Box::new(move |name| {
            let Some(inner) = inner.upgrade() else { return };
            let pool = Pool { inner };
            let stats = pool.stats();
            export(name, pool.status(), &stats);
            record(name, "slabpool_wait_seconds", &stats.wait_time, &mut waits);
            record(name, "slabpool_connect_seconds", &stats.connects.time, &mut connects);
        }));
        exporter
    }
}

fn export(name: &str, status: Status, stats: &Stats) {
    gauge!("slabpool_waiting", labels(name, &[])).set(status.waiting as f64);
    gauge!("slabpool_connecting", labels(name, &[])).set(status.connecting as f64);
    gauge!("slabpool_streams", labels(name, &[])).set(status.streams as f64);
    for (outcome, count) in [
        ("hit", stats.hits),
        ("joined", stats.joined),
        ("served", stats.served),
        ("timeout", stats.timeouts),
        ("failed", stats.failed),
        ("refused", stats.refused),
        ("cancelled", stats.cancelled),
        ("turned_away", stats.turned_away),
        ("missed", stats.missed),
    ] {
        let labels = labels(name, &[("outcome", outcome)]);
        counter!("slabpool_acquires_total", labels).absolute(count);
    }
    for (outcome, count) in [
        ("opened", stats.connects.opened),
        ("error", stats.connects.errors),
        ("timeout", stats.connects.timeouts),
        ("aborted", stats.connects.aborted),
    ] {
        let labels = labels(name, &[("outcome", outcome)]);
        counter!("slabpool_connects_total", labels).absolute(count);
    }
}

/// Records what has come to a histogram since `before`: each time as the longest of its
/// bucket, which is at most a fifth more than it was.
fn record(pool: &str, name: &'static str, now: &Histogram, before: &mut Histogram) {
    let target = histogram!(name, labels(pool, &[]));
    for ((bound, count), (_, old)) in now.buckets().zip(before.buckets()) {
        let new = count.saturating_sub(old);
        if new > 0 {
            target.record_many(bound.min(now.max()).as_secs_f64(), new as usize);
        }
    }
    *before = now.clone();
}

fn describe() {
    describe_gauge!("slabpool_waiting", Unit::Count, "Callers that wait for a connection");
    describe_gauge!("slabpool_connecting", Unit::Count, "Connections that are being opened");
    describe_gauge!("slabpool_streams", Unit::Count, "Streams of connections that are shared");
    describe_counter!("slabpool_acquires_total", Unit::Count, "Calls of acquire, by their end");
    describe_counter!("slabpool_connects_total", Unit::Count, "Connects, by their end");
    describe_histogram!("slabpool_wait_seconds", Unit::Seconds, "How long callers waited");
    describe_histogram!("slabpool_connect_seconds", Unit::Seconds, "How long connects took");
}
