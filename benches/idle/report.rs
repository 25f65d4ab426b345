//! The tables.

use crate::referee::{Cycles, Match, Score};
use crate::table::{self, Table};

/// Places in `Match::scores`.
const SLABPOOL: usize = 0;
const PINGORA: usize = 1;
const UNWATCHED: usize = 2;

pub fn print(matches: &[Match]) {
    println!("Connections share 100 keys, but for those that are said to have their own.");
    together(matches).publish();
    let title = "Get and release, nothing happens between; ns of processor time";
    cycles("idle-cycles", title, matches, |score| &score.cycles).publish();
    let title = "Get and release, the user reads between; ns of processor time";
    cycles("idle-reads", title, matches, |score| &score.reads).publish();
    let title = "Get and release, connections were replaced; ns of processor time";
    cycles("idle-replaced", title, matches, |score| &score.later_cycles).publish();
    // What an empty pool takes is shared out among them.
    let title = "Bytes on the heap for each idle connection, beyond the connection itself";
    let bytes = |score: &Score, connections| format!("{:.0}", score.heap / connections);
    each("idle-heap", title, matches, bytes).publish();
    let title = "Filling the pool, us of processor time for each connection";
    let micros = |score: &Score, connections| format!("{:.2}", score.fill / 1e3 / connections);
    each("idle-fill", title, matches, micros).publish();
    let title = "From the peer's close to the pool's, us, for one connection at a time";
    blows("idle-closes", title, matches, |score| &score.closes).publish();
    let title = "From a byte that nobody asked for to the pool's close, us";
    blows("idle-bytes", title, matches, |score| &score.sends).publish();
    ends(matches).publish();
    all(matches).publish();
    rest(matches).publish();
}

fn name(played: &Match) -> String {
    let Match { connections, wanted, kind, .. } = played;
    let own = if played.is_own_keys() { ", a key each" } else { "" };
    let wish = if connections < wanted { format!(" (not {wanted})") } else { String::new() };
    format!("{connections}{wish} {kind}{own}")
}

/// The medians of all cycles. The other tables have more of each.
fn together(matches: &[Match]) -> Table {
    const COLUMNS: [&str; 6] = [
        "not watched",
        "watched",
        "... user has read",
        "... replaced",
        "Pingora's way",
        "... user has read, Pingora's way",
    ];
    let title = "Get and release, ns of processor time";
    let mut table = Table::new("idle", title, &COLUMNS);
    let cell = |cycles: &Cycles| match cycles.cpu.is_empty() {
        true => String::new(),
        false => format!("{:.0}", median(&cycles.cpu)),
    };
    for played in matches {
        let [slabpool, pingora, unwatched] = &played.scores;
        let cells = [
            &unwatched.cycles,
            &slabpool.cycles,
            &slabpool.reads,
            &slabpool.later_cycles,
            &pingora.cycles,
            &pingora.reads,
        ];
        table.row(name(played), cells.map(cell));
    }
    table
}

/// How connections end, likewise.
fn ends(matches: &[Match]) -> Table {
    const COLUMNS: [&str; 8] = [
        "close, median",
        "p99",
        "Pingora's way",
        "p99 of it",
        "a byte, median",
        "a byte, Pingora's way",
        "all at once, ms",
        "all at once, Pingora's way, ms",
    ];
    let title = "From what the peer does until the pool has closed the connection, us";
    let mut table = Table::new("idle-ends", title, &COLUMNS);
    for played in matches {
        let [slabpool, pingora, _] = &played.scores;
        let (Some(all), Some(pingora_all)) = (slabpool.all, pingora.all) else { continue };
        let cells = [
            quantile(&slabpool.closes, 0.5) / 1e3,
            quantile(&slabpool.closes, 0.99) / 1e3,
            quantile(&pingora.closes, 0.5) / 1e3,
            quantile(&pingora.closes, 0.99) / 1e3,
            median(&slabpool.sends) / 1e3,
            median(&pingora.sends) / 1e3,
            all.0 / 1e6,
            pingora_all.0 / 1e6,
        ];
        table.row(name(played), cells.map(|cell| format!("{cell:.1}")));
    }
    table
}

fn cycles(file: &str, title: &str, matches: &[Match], of: impl Fn(&Score) -> &Cycles) -> Table {
    const COLUMNS: [&str; 9] = [
        "not watched",
        "watched",
        "min",
        "max",
        "pingora-pool",
        "min of it",
        "max of it",
        "wall time, watched",
        "pingora-pool / watched",
    ];
    let mut table = Table::new(file, title, &COLUMNS);
    for played in matches {
        let [slabpool, pingora, unwatched] = played.scores.each_ref().map(&of);
        if slabpool.cpu.is_empty() || pingora.cpu.is_empty() {
            continue;
        }
        let whole = |nanos: f64| format!("{nanos:.0}");
        let spread =
            |cycles: &Cycles| [0.5, 0.0, 1.0].map(|part| whole(quantile(&cycles.cpu, part)));
        let unwatched = Some(unwatched).filter(|cycles| !cycles.cpu.is_empty());
        let mut cells =
            vec![unwatched.map(|cycles| whole(median(&cycles.cpu))).unwrap_or_default()];
        cells.extend(spread(slabpool).into_iter().chain(spread(pingora)));
        cells.push(whole(median(&slabpool.wall)));
        cells.push(format!("{:.1}", median(&pingora.cpu) / median(&slabpool.cpu)));
        table.row(name(played), cells);
    }
    table
}

fn each(file: &str, title: &str, matches: &[Match], cell: impl Fn(&Score, f64) -> String) -> Table {
    let mut table = Table::new(file, title, &["not watched", "watched", "pingora-pool"]);
    for played in matches {
        let cell = |n: usize| cell(&played.scores[n], played.connections as f64);
        table.row(name(played), [UNWATCHED, SLABPOOL, PINGORA].map(cell));
    }
    table
}

fn blows(file: &str, title: &str, matches: &[Match], of: impl Fn(&Score) -> &Vec<f64>) -> Table {
    let columns =
        ["watched, median", "p99", "pingora-pool, median", "p99 of it", "ratio of medians"];
    let mut table = Table::new(file, title, &columns);
    for played in matches.iter().filter(|played| !of(&played.scores[0]).is_empty()) {
        let times = |n: usize| of(&played.scores[n]);
        let micros = |n: usize, part| format!("{:.1}", quantile(times(n), part) / 1e3);
        let ratio = median(times(SLABPOOL)) / median(times(PINGORA));
        let cells = [
            micros(SLABPOOL, 0.5),
            micros(SLABPOOL, 0.99),
            micros(PINGORA, 0.5),
            micros(PINGORA, 0.99),
            format!("{ratio:.2}"),
        ];
        table.row(name(played), cells);
    }
    table
}

fn all(matches: &[Match]) -> Table {
    const COLUMNS: [&str; 5] = [
        "watched, ms",
        "us of processor time each",
        "pingora-pool, ms",
        "us each of it",
        "ratio of us",
    ];
    let title = "The peer closes all at once: until the pool has closed them; once each";
    let mut table = Table::new("idle-all", title, &COLUMNS);
    for played in matches {
        let all = played.scores.each_ref().map(|score| score.all);
        let (Some(slabpool), Some(pingora)) = (all[SLABPOOL], all[PINGORA]) else { continue };
        let each = |cpu: f64| cpu / 1e3 / played.connections as f64;
        let cells = [slabpool.0 / 1e6, each(slabpool.1), pingora.0 / 1e6, each(pingora.1)];
        let ratio = slabpool.1 / pingora.1;
        table.row(name(played), cells.into_iter().chain([ratio]).map(|cell| format!("{cell:.2}")));
    }
    table
}

/// pingora-pool has a thread for its timers, which wakes up a hundred times a second.
fn rest(matches: &[Match]) -> Table {
    let title = "Doing nothing, us of processor time in a second";
    let mut table = Table::new("idle-rest", title, &["not watched", "watched", "pingora-pool"]);
    for played in matches {
        let micros = played.scores.each_ref().map(|score| score.idle.map(|part| part * 1e6));
        if let [Some(slabpool), Some(pingora), Some(unwatched)] = micros {
            let cells = [unwatched, slabpool, pingora].map(|cell| format!("{cell:.0}"));
            table.row(name(played), cells);
        }
    }
    table
}

fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Of samples that there are.
fn quantile(samples: &[f64], part: f64) -> f64 {
    table::quantile(samples, part).expect("there are samples")
}
