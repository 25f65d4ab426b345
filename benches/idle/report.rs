//! The tables.

use crate::referee::{Cycles, Match, Score};

/// Places in `Match::scores`.
const SLABPOOL: usize = 0;
const PINGORA: usize = 1;
const UNWATCHED: usize = 2;

pub fn print(matches: &[Match]) {
    println!("Connections share 100 keys, but for those that are said to have their own.");
    print_cycles("Get and release, nothing happens between", matches, |score| &score.cycles);
    print_cycles("Get and release, the user reads between", matches, |score| &score.reads);
    let title = "Get and release, nothing happens between, connections were replaced";
    print_cycles(title, matches, |score| &score.later_cycles);
    print_heap(matches);
    print_fill(matches);
    print_blows("From the peer's close to the pool's", matches, |score| &score.closes);
    print_blows("From a byte that nobody asked for to the pool's close", matches, |score| {
        &score.sends
    });
    print_all(matches);
    print_idle(matches);
}

fn name(played: &Match) -> String {
    let Match { connections, wanted, kind, .. } = played;
    let own = if played.is_own_keys() { ", a key each" } else { "" };
    let wish = if connections < wanted { format!(" (not {wanted})") } else { String::new() };
    format!("{connections}{wish} {kind}{own}")
}

fn print_cycles(title: &str, matches: &[Match], of: impl Fn(&Score) -> &Cycles) {
    println!("\n### {title}\n");
    println!("Nanoseconds of processor time, and of wall time in brackets.\n");
    println!("| | slabpool, not watched | slabpool | pingora-pool | slabpool / pingora-pool |");
    println!("|---|---:|---:|---:|---:|");
    for played in matches {
        let medians = played.scores.each_ref().map(|score| {
            let Cycles { cpu, wall } = of(score);
            (!cpu.is_empty()).then(|| (median(cpu), median(wall)))
        });
        let [Some(slabpool), Some(pingora), unwatched] = medians else { continue };
        let cell = |(cpu, wall): (f64, f64)| format!("{cpu:.0} ({wall:.0})");
        println!(
            "| {} | {} | {} | {} | {:.2} |",
            name(played),
            unwatched.map(cell).unwrap_or_default(),
            cell(slabpool),
            cell(pingora),
            slabpool.0 / pingora.0
        );
    }
}

fn print_heap(matches: &[Match]) {
    println!("\n### Memory\n");
    println!("Bytes on the heap for each idle connection, beyond the connection itself. What an");
    println!("empty pool takes is shared out among them.\n");
    print_each(matches, |score, connections| format!("{:.0}", score.heap / connections));
}

fn print_fill(matches: &[Match]) {
    println!("\n### Filling the pool\n");
    println!("Microseconds of processor time for each connection.\n");
    print_each(matches, |score, connections| format!("{:.2}", score.fill / 1e3 / connections));
}

fn print_each(matches: &[Match], cell: impl Fn(&Score, f64) -> String) {
    println!("| | slabpool, not watched | slabpool | pingora-pool |");
    println!("|---|---:|---:|---:|");
    for played in matches {
        let cell = |n: usize| cell(&played.scores[n], played.connections as f64);
        println!(
            "| {} | {} | {} | {} |",
            name(played),
            cell(UNWATCHED),
            cell(SLABPOOL),
            cell(PINGORA)
        );
    }
}

fn print_blows(title: &str, matches: &[Match], of: impl Fn(&Score) -> &Vec<f64>) {
    println!("\n### {title}\n");
    println!("Microseconds, for one connection at a time.\n");
    println!("| | slabpool, median | p99 | pingora-pool, median | p99 | ratio of medians |");
    println!("|---|---:|---:|---:|---:|---:|");
    for played in matches.iter().filter(|played| !of(&played.scores[0]).is_empty()) {
        let times = |n: usize| of(&played.scores[n]);
        let micros = |times: &[f64], part| quantile(times, part) / 1e3;
        println!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} |",
            name(played),
            micros(times(SLABPOOL), 0.5),
            micros(times(SLABPOOL), 0.99),
            micros(times(PINGORA), 0.5),
            micros(times(PINGORA), 0.99),
            median(times(SLABPOOL)) / median(times(PINGORA))
        );
    }
}

fn print_all(matches: &[Match]) {
    println!("\n### The peer closes all connections at once\n");
    println!("Milliseconds until the pool has closed them all, and microseconds of its processor");
    println!("time for each. Once each.\n");
    println!("| | slabpool, ms | µs each | pingora-pool, ms | µs each | ratio of µs |");
    println!("|---|---:|---:|---:|---:|---:|");
    for played in matches {
        let all = played.scores.each_ref().map(|score| score.all);
        let (Some(slabpool), Some(pingora)) = (all[SLABPOOL], all[PINGORA]) else { continue };
        let each = |cpu: f64| cpu / 1e3 / played.connections as f64;
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            name(played),
            slabpool.0 / 1e6,
            each(slabpool.1),
            pingora.0 / 1e6,
            each(pingora.1),
            slabpool.1 / pingora.1
        );
    }
}

fn print_idle(matches: &[Match]) {
    println!("\n### Doing nothing\n");
    println!("Microseconds of processor time in a second. pingora-pool has a thread for its");
    println!("timers, which wakes up a hundred times.\n");
    println!("| | slabpool, not watched | slabpool | pingora-pool |");
    println!("|---|---:|---:|---:|");
    for played in matches {
        let micros = played.scores.each_ref().map(|score| score.idle.map(|part| part * 1e6));
        if let [Some(slabpool), Some(pingora), Some(unwatched)] = micros {
            println!("| {} | {unwatched:.0} | {slabpool:.0} | {pingora:.0} |", name(played));
        }
    }
}

fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The least sample that is no less than this part of them all.
fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.saturating_sub(1)]
}
