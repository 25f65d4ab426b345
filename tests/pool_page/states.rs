//! Scripted answers: what a proxy could say.

use serde_json::{Value, json};

pub fn answer(uptime_seconds: f64, upstreams: &[Value]) -> Value {
    json!({ "uptime_seconds": uptime_seconds, "upstreams": upstreams })
}

/// An upstream of `hosts`, whose numbers are the sums of theirs.
pub fn upstream(name: &str, limit: Option<u64>, hosts: &[Value]) -> Value {
    let sum = |field: &str| hosts.iter().map(|host| host[field].as_u64().unwrap()).sum::<u64>();
    let acquired = sum("requests");
    json!({
        "name": name, "limit": limit,
        "idle": sum("idle"), "leased": sum("leased"), "connecting": 1, "waiting": 0,
        "acquired": acquired, "reused": acquired * 39 / 40,
        "opened": acquired / 40, "misses": acquired / 40,
        "closes": { "idle": acquired / 90, "lifetime": acquired / 200, "unexpected_data": 1 },
        "wait_p50_us": 1.2, "wait_p99_us": 1840.0,
        "hosts": hosts,
    })
}

pub fn host(address: &str, health: &str, idle: u64, leased: u64, requests: u64) -> Value {
    let connections: Vec<_> = (0..idle + leased)
        .map(|at| connection(at, if at % 3 == 0 && at / 3 < leased { "leased" } else { "idle" }))
        .take(64)
        .collect();
    json!({
        "address": address, "health": health, "idle": idle, "leased": leased, "streams": 0,
        "requests": requests, "errors": requests / 5_000, "connections": connections,
    })
}

fn connection(at: u64, state: &str) -> Value {
    // Few digits in any base, so that they are the same again after the way through JSON.
    let age = 1.5 + 61.75 * at as f64;
    json!({
        "token": format!("{:x}-{:x}", 3 * at + 17, at), "state": state,
        "age_seconds": age, "idle_seconds": age / 32.0, "uses": 12 * at + 1,
    })
}

/// Three upstreams in the life of a proxy under load, `second` after second: a usual one, one
/// that is at its limit with a host down, and one over HTTP/2, without a limit, that drains.
pub fn lively(second: u64) -> Value {
    answer(5_000.0 + second as f64, &[api(second), search(second), events(second)])
}

fn api(second: u64) -> Value {
    let host = |at: u64| {
        let leased = 6 + at + load(second, 19.0 + at as f64, 5) + noise(second + at, 3);
        let requests =
            618_200 - 17_420 * at + sum(second, |s| 900 + load(s, 19.0, 300) + noise(s, 160));
        host(&format!("10.0.4.{at}:8080"), "up", 22 - leased, leased, requests)
    };
    let mut api = upstream("api", Some(100), &[host(1), host(2), host(3)]);
    api["connecting"] = json!(2);
    let opened = 21_120 + sum(second, |s| load(s, 19.0, 6) + noise(s, 5));
    balance(&mut api, opened, &[("dropped", 412), ("unexpected_data", 3), ("lifetime", 5_103)]);
    api
}

fn search(second: u64) -> Value {
    let up = 91_000 + sum(second, |s| 290 + load(s, 23.0, 60) + noise(s, 30));
    let hosts = [
        host("search-1.internal:9200", "up", 0, 16, up),
        host("search-2.internal:9200", "down", 0, 0, 88_412),
    ];
    let mut search = upstream("search", Some(16), &hosts);
    search["connecting"] = json!(0);
    search["waiting"] = json!(2 + load(second, 11.0, 12) + noise(second, 4));
    search["wait_p50_us"] = json!(8_420.0);
    search["wait_p99_us"] = json!(61_300.0);
    // A host goes down: its connections are gone, and those who had them open new ones.
    let broken = |s: u64| if (24..29).contains(&s) { 90 - noise(s, 30) } else { 0 };
    let opened = 1_660 + sum(second, |s| noise(s, 2) + broken(s));
    balance(&mut search, opened, &[("lifetime", 240), ("dropped", 37), ("dead", 389)]);
    search["hosts"][1]["errors"] = json!(316);
    search
}

fn events(second: u64) -> Value {
    let busy = 2_410_000 + sum(second, |s| 2_700 + load(s, 31.0, 500) + noise(s, 200));
    let hosts = [
        host("[fd00::17]:443", "up", 1, 3, busy),
        host("[fd00::18]:443", "draining", 0, 1, 1_987_320),
    ];
    let mut events = upstream("events over HTTP/2", None, &hosts);
    events["hosts"][0]["streams"] = json!(200 + load(second, 31.0, 90));
    events["hosts"][1]["streams"] = json!(9);
    balance(&mut events, 38 + second / 40, &[("drained", 2), ("dead", 1)]);
    events
}

/// Makes the numbers add up: what was opened and is not there was closed, when idle for too
/// long or for one of the `reasons`.
fn balance(upstream: &mut Value, opened: u64, reasons: &[(&str, u64)]) {
    let number = |field: &str| upstream[field].as_u64().unwrap();
    let (acquired, there) = (number("acquired"), number("idle") + number("leased"));
    let others: u64 = reasons.iter().map(|reason| reason.1).sum();
    let idle = opened - there - others;
    upstream["opened"] = json!(opened);
    upstream["misses"] = json!(opened);
    upstream["reused"] = json!(acquired - opened);
    upstream["closes"] = json!({ "idle": idle });
    for &(reason, many) in reasons {
        upstream["closes"][reason] = json!(many);
    }
}

/// What `each` second until this one has brought.
fn sum(second: u64, each: impl Fn(u64) -> u64) -> u64 {
    (1..=second).map(each).sum()
}

/// From nothing to `swing` and back, in about six times `period`.
fn load(second: u64, period: f64, swing: u64) -> u64 {
    let wave = (second as f64 / period).sin() + 0.4 * (second as f64 / period * 3.7).sin();
    ((wave + 1.4) / 2.8 * swing as f64) as u64
}

/// Less than `below`, the same for the same second, and of no pattern.
fn noise(second: u64, below: u64) -> u64 {
    let mixed = (second + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % below
}
