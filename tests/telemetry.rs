//! What is exported to the `metrics` facade.

mod common;

use std::collections::BTreeMap;

use common::{Connection, SECOND, Tally, paused_runtime};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use slabpool::telemetry::Exporter;
use slabpool::{Clock, Pool};

/// All that is exported, as `name{label="value",..}`.
fn exported(export: impl FnOnce()) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, export);
    let metrics = snapshotter.snapshot().into_vec().into_iter();
    metrics
        .map(|(key, _, _, value)| {
            let key = key.key();
            let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
            let name = format!("{}{{{}}}", key.name(), labels.collect::<Vec<_>>().join(","));
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => values.len() as f64,
            };
            (name, value)
        })
        .collect()
}

fn pool() -> Pool<String, Connection> {
    Pool::builder().capacity(3).clock(Clock::manual()).build().unwrap()
}

#[test]
fn numbers_are_those_of_the_pool() {
    let (tally, pool) = (Tally::default(), pool());
    assert!(pool.get("a").is_none());
    for id in 0..4 {
        pool.put("a", tally.connect(id)).unwrap();
    }
    pool.get("a").unwrap().release();
    let lease = pool.get("a").unwrap();
    let mut exporter = Exporter::new(&pool, "up");
    let metrics = exported(|| assert!(exporter.export()));
    for (name, value) in [
        ("slabpool_connections{pool=up,state=idle}", 2.0),
        ("slabpool_connections{pool=up,state=leased}", 1.0),
        ("slabpool_groups{pool=up}", 1.0),
        ("slabpool_capacity{pool=up}", 3.0),
        ("slabpool_hits_total{pool=up}", 2.0),
        ("slabpool_misses_total{pool=up,kind=cold}", 1.0),
        ("slabpool_misses_total{pool=up,kind=dead}", 0.0),
        ("slabpool_inserts_total{pool=up}", 4.0),
        ("slabpool_rejects_total{pool=up}", 0.0),
        ("slabpool_closes_total{pool=up,reason=evicted}", 1.0),
        ("slabpool_unexpected_data_total{pool=up}", 0.0),
        ("slabpool_taken_total{pool=up}", 0.0),
        ("slabpool_panics_total{pool=up}", 0.0),
        ("slabpool_ghost_hits_total{pool=up,rule=evicted,within=1s}", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name} in {metrics:#?}");
    }
    assert!(!metrics.keys().any(|name| name.contains("group_connections")), "nobody asked for it");
    lease.release();
}

#[test]
fn groups_have_few_names() {
    let (tally, pool) = (Tally::default(), pool());
    let mut exporter = Exporter::new(&pool, "up").groups(1, |key| format!("peer {key}"));
    pool.put("a", tally.connect(1)).unwrap();
    exported(|| assert!(exporter.export()));
    pool.put("b", tally.connect(2)).unwrap();
    let lease = pool.insert("c", tally.connect(3)).unwrap();
    let name = |group: &str, state: &str| {
        format!("slabpool_group_connections{{pool=up,group={group},state={state}}}")
    };
    let metrics = exported(|| assert!(exporter.export()));
    assert_eq!(metrics[&name("peer a", "idle")], 1.0);
    assert_eq!((metrics[&name("other", "idle")], metrics[&name("other", "leased")]), (1.0, 1.0));
    let names = metrics.keys().filter(|name| name.contains("group_connections")).count();
    assert_eq!(names, 4, "one name, and the others together: {metrics:#?}");

    lease.close();
    pool.clear();
    let metrics = exported(|| assert!(exporter.export()));
    assert_eq!(metrics[&name("peer a", "idle")], 0.0, "a group that has gone is at zero");
    assert_eq!(metrics[&name("other", "leased")], 0.0);
}

#[test]
fn an_exporter_does_not_keep_the_pool() {
    let runtime = paused_runtime();
    runtime.block_on(async {
        let (tally, pool) = (Tally::default(), pool());
        pool.put("a", tally.connect(1)).unwrap();
        let mut by_hand = Exporter::new(&pool, "up");
        let task = tokio::spawn(Exporter::new(&pool, "up").run(SECOND));
        tokio::time::sleep(3 * SECOND).await;
        assert!(!task.is_finished());
        drop(pool);
        task.await.unwrap();
        assert!(!by_hand.export());
        assert_eq!(tally.alive(), 0);
    });
}

#[test]
fn a_managed_pool_tells_of_its_callers() {
    let runtime = paused_runtime();
    let pool = slabpool::managed::Pool::builder(|key: &u32| {
        let key = *key;
        async move { if key == 0 { Err("nobody there") } else { Ok(key) } }
    })
    .max_connections_per_group(1)
    .build()
    .unwrap();
    runtime.block_on(async {
        assert!(pool.acquire(&0).await.is_err());
        let lease = pool.acquire(&1).await.unwrap();
        assert!(pool.acquire_timeout(&1, 2 * SECOND).await.is_err());
        lease.release();
        pool.acquire(&1).await.unwrap().release();
    });
    let mut exporter = Exporter::managed(&pool, "up");
    let metrics = exported(|| assert!(exporter.export()));
    for (name, value) in [
        ("slabpool_connections{pool=up,state=idle}", 1.0),
        ("slabpool_waiting{pool=up}", 0.0),
        ("slabpool_connecting{pool=up}", 0.0),
        ("slabpool_streams{pool=up}", 0.0),
        ("slabpool_acquires_total{pool=up,outcome=hit}", 1.0),
        ("slabpool_acquires_total{pool=up,outcome=served}", 1.0),
        ("slabpool_acquires_total{pool=up,outcome=failed}", 1.0),
        ("slabpool_acquires_total{pool=up,outcome=timeout}", 1.0),
        ("slabpool_connects_total{pool=up,outcome=opened}", 1.0),
        ("slabpool_connects_total{pool=up,outcome=error}", 1.0),
        // How many were recorded.
        ("slabpool_wait_seconds{pool=up}", 3.0),
        ("slabpool_connect_seconds{pool=up}", 2.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name} in {metrics:#?}");
    }
    // What was recorded is not recorded again.
    let metrics = exported(|| assert!(exporter.export()));
    assert_eq!(metrics.get("slabpool_wait_seconds{pool=up}").copied().unwrap_or(0.0), 0.0);
}
