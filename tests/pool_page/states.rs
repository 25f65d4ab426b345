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
    let age = 1.5 + 61.7 * at as f64;
    json!({
        "token": format!("{:x}-{:x}", 3 * at + 17, at), "state": state,
        "age_seconds": age, "idle_seconds": age / 40.0, "uses": 12 * at + 1,
    })
}

/// Three upstreams in the life of a proxy under load, `second` after second: a usual one, one
/// that is at its limit with a host down, and one over HTTP/2, without a limit, that drains.
pub fn lively(second: u64) -> Value {
    // A load that swells and ebbs, by some irregular but fixed steps.
    let step = |period: u64, swing: u64| (second * second * 7 + second * 3) % period * swing / period;
    let wave = |period: f64| (second as f64 / period).sin();
    let api: Vec<_> = (1..=3u64)
        .map(|at| {
            let leased = 9 + (4.0 + 4.0 * wave(9.0 + at as f64)) as u64 + step(7, 3);
            host(&format!("10.0.4.{at}:8080"), "up", 22 - leased, leased, 618_200 + 1_204 * second)
        })
        .collect();
    let mut api = upstream("api", Some(100), &api);
    api["connecting"] = json!(2);
    api["reused"] = json!(api["acquired"].as_u64().unwrap() * 973 / 1000 + 90 * step(11, 9));
    api["opened"] = json!(51_120 + second * 3 + step(5, 2));

    let mut search = upstream(
        "search",
        Some(16),
        &[
            host("search-1.internal:9200", "up", 0, 16, 91_000 + 310 * second),
            host("search-2.internal:9200", "down", 0, 0, 88_412),
        ],
    );
    search["connecting"] = json!(0);
    search["waiting"] = json!(4 + (6.0 + 6.0 * wave(6.0)) as u64 + step(5, 4));
    search["wait_p50_us"] = json!(8_420.0);
    search["wait_p99_us"] = json!(61_300.0);
    search["closes"] = json!({ "idle": 812, "lifetime": 240, "dropped": 37, "dead": 19 });

    let mut streams = upstream(
        "events over HTTP/2",
        None,
        &[
            host("[fd00::17]:443", "up", 1, 3, 2_410_000 + 2_960 * second),
            host("[fd00::18]:443", "draining", 0, 1, 1_987_320),
        ],
    );
    streams["hosts"][0]["streams"] = json!(212 + (40.0 * wave(8.0)) as i64);
    streams["hosts"][1]["streams"] = json!(9);
    streams["reused"] = json!(streams["acquired"].as_u64().unwrap() - 38);
    streams["opened"] = json!(38);
    streams["closes"] = json!({ "lifetime": 31, "drained": 2 });
    answer(5_000.0 + second as f64, &[api, search, streams])
}
