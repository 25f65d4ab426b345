//! What is drawn, of which tables.

use crate::Tables;
use crate::svg::{Bars, Lines};

/// The plots by the names of their files.
pub fn all(tables: &Tables) -> Vec<(&'static str, String)> {
    vec![
        ("pair", pair(tables).draw()),
        ("keys", keys(tables).draw()),
        ("threads", threads(tables).draw()),
        ("shapes", shapes(tables).draw()),
        ("come-and-go", come_and_go(tables).draw()),
        ("memory", memory(tables).draw()),
        ("tails", tails(tables).draw()),
        ("managed", managed(tables).draw()),
    ]
}

const MEDIAN: &str = "ns, median";

/// The rows of the first table, with a bar from a column of each of several.
fn bars(tables: &Tables, title: &str, series: &[(&str, &str, &str)]) -> Bars {
    let rows = tables.rows(series[0].1).map(|name| {
        let bars = series.iter().map(|(_, table, column)| tables.number(table, name, column));
        (name.to_owned(), bars.collect())
    });
    let rows = rows.collect();
    let series = series.iter().map(|(name, ..)| (*name).to_owned()).collect();
    Bars { title: title.to_owned(), series, rows }
}

fn pair(tables: &Tables) -> Bars {
    bars(tables, "A get and a release, one thread, one group; ns", &[("ns", "pair", MEDIAN)])
}

/// The map of peers has another name in the second table.
fn keys(tables: &Tables) -> Bars {
    let mut bars = bars(
        tables,
        "A get and a release, one thread, 1,000 groups; ns",
        &[("keys of 60 bytes", "pair-60-byte", MEDIAN), ("u64 keys", "pair-u64", MEDIAN)],
    );
    for (name, bars) in &mut bars.rows {
        bars[1] = tables.number("pair-u64", &name.replace("Peer", "u64"), MEDIAN);
    }
    bars
}

/// Of all threads together, in a microsecond.
fn threads(tables: &Tables) -> Bars {
    let title = "Gets and releases in a microsecond, of all threads together";
    let mut bars = bars(
        tables,
        title,
        &[
            ("1 thread", "pair", MEDIAN),
            ("2 threads, same group", "threads-same", MEDIAN),
            ("2 threads, a group each", "threads-own", MEDIAN),
        ],
    );
    // What shares nothing would make all others small.
    bars.rows.retain(|(name, _)| name != "nothing shared");
    for (_, bars) in &mut bars.rows {
        for (bar, threads) in bars.iter_mut().zip([1.0, 2.0, 2.0]) {
            *bar = bar.map(|nanos| threads * 1e3 / nanos);
        }
    }
    bars
}

fn shapes(tables: &Tables) -> Bars {
    bars(
        tables,
        "A get and a release, keys chosen by Zipf's law; ns, of 2 threads for one of each",
        &[
            ("1,000 keys", "zipf-few", MEDIAN),
            ("... 2 threads", "zipf-few-threads", MEDIAN),
            ("100,000 keys", "zipf-many", MEDIAN),
        ],
    )
}

fn come_and_go(tables: &Tables) -> Bars {
    let sources =
        [("put-new-key", "put, new key"), ("put-one-key", "put, one key"), ("come-and-go", "")];
    let rows = sources.into_iter().flat_map(|(table, what)| {
        tables.rows(table).map(move |name| {
            let label = if what.is_empty() { name.to_owned() } else { format!("{name}: {what}") };
            (label, vec![tables.number(table, name, MEDIAN)])
        })
    });
    let title = "Puts into a full pool, and connections that come and go; ns";
    Bars { title: title.to_owned(), series: vec!["ns".to_owned()], rows: rows.collect() }
}

fn memory(tables: &Tables) -> Bars {
    bars(
        tables,
        "Bytes on the heap for each of 100,000 idle connections, beyond the connection",
        &[
            ("100 keys", "memory", "100,000, 100 keys"),
            ("a key each", "memory", "100,000, a key each"),
        ],
    )
}

fn tails(tables: &Tables) -> Lines {
    let name = "tails-quantiles";
    let places: Vec<String> = tables.columns(name).to_vec();
    let rows = tables.rows(name).map(|row| {
        let values = places.iter().map(|column| tables.number(name, row, column));
        (row.to_owned(), values.collect())
    });
    let title = "A get and a release: within so many ns so many are done".to_owned();
    Lines { title, rows: rows.collect(), places }
}

fn managed(tables: &Tables) -> Bars {
    // One operation is 640 acquires.
    const ACQUIRES: f64 = 640.0;
    let series = [
        ("nobody waits", "managed-tasks", "1 thread, ns"),
        ("... 2 threads", "managed-tasks", "2 threads, ns"),
        ("all wait", "managed-yielding", "1 thread, ns"),
    ];
    let rows = tables.rows(series[0].1).map(|name| {
        let bar = |(_, table, column): (&str, &str, &str)| {
            tables.number(table, name, column).map(|nanos| nanos / ACQUIRES)
        };
        (name.to_owned(), series.map(bar).to_vec())
    });
    let title = "Acquire and give back, 64 tasks on 16 connections; ns for each".to_owned();
    let rows = rows.collect();
    Bars { title, series: series.map(|(name, ..)| name.to_owned()).to_vec(), rows }
}
