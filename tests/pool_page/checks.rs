//! What holds for every page and every answer.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::page::Page;

/// Two widths in pixels, as a browser lays them out.
const PIXEL: f64 = 1.0;

/// The page is up to date, and shows its answer.
pub fn live(shown: &Value) {
    assert_eq!((&shown["state"], &shown["stale"]), (&json!("live"), &json!(false)));
    agrees(shown);
}

/// Every number and every bar is the answer's.
pub fn agrees(shown: &Value) {
    let answer = &shown["answer"];
    let upstreams = list(&answer["upstreams"]);
    assert_eq!(list(&shown["upstreams"]).len(), upstreams.len());
    for (upstream, shown) in upstreams.iter().zip(list(&shown["upstreams"])) {
        assert_eq!(shown["name"], upstream["name"]);
        bars(upstream, shown);
        figures(upstream, &shown["figures"]);
        closes(upstream, list(&shown["closes"]));
        assert_eq!(list(&shown["hosts"]).len(), list(&upstream["hosts"]).len());
        for (host, shown) in list(&upstream["hosts"]).iter().zip(list(&shown["hosts"])) {
            host_row(host, shown);
        }
    }
    let total =
        |field| grouped(upstreams.iter().map(|upstream| upstream[field].as_u64().unwrap()).sum());
    let counts =
        format!("{} leased, {} idle, {} waiting", total("leased"), total("idle"), total("waiting"));
    let title = shown["title"].as_str().unwrap();
    assert!(title.contains(&counts), "{title:?} has no {counts:?}");
}

fn bars(upstream: &Value, shown: &Value) {
    let parts = ["leased", "connecting", "idle"];
    let all: u64 = parts.iter().map(|part| upstream[part].as_u64().unwrap()).sum();
    let bar = shown["bar"].as_f64().unwrap();
    let mut drawn = 0.0;
    for part in parts {
        let count = upstream[part].as_u64().unwrap();
        assert_eq!(shown["parts"][part]["count"], grouped(count), "{part}");
        let width = shown["parts"][part]["width"].as_f64().unwrap();
        drawn += width;
        assert_eq!(shown["parts"][part]["fill"], shown["parts"][part]["key"], "{part}");
        // Without a limit the scale is the page's; the parts are in proportion all the same.
        if let Some(limit) = upstream["limit"].as_u64() {
            let right = bar * count as f64 / limit.max(all).max(1) as f64;
            assert!((width - right).abs() < PIXEL, "{part}: {width}, not {right}");
        } else if count == 0 {
            assert_eq!(width, 0.0, "{part}");
        }
    }
    assert!(drawn < bar + PIXEL);
    let fill = |part: &str| shown["parts"][part]["fill"].as_str().unwrap().to_owned();
    let fills = HashSet::from(parts.map(fill));
    assert_eq!(fills.len(), parts.len(), "{fills:?}");
    let limit = shown["limit"].as_str().unwrap();
    match upstream["limit"].as_u64() {
        Some(most) => {
            assert_eq!(limit, format!("{} of {} connections", grouped(all), grouped(most)));
        }
        None => assert!(limit.contains("no limit"), "{limit}"),
    }
}

fn figures(upstream: &Value, shown: &Value) {
    assert_eq!(shown["waiting"], grouped(upstream["waiting"].as_u64().unwrap()));
    let reuse = shown["reuse"].as_str().unwrap();
    match upstream["acquired"].as_u64().unwrap() {
        0 => assert_eq!(reuse, "–"),
        acquired => {
            let exact = upstream["reused"].as_f64().unwrap() * 100.0 / acquired as f64;
            let shown: f64 = reuse.strip_suffix(" %").unwrap().parse().unwrap();
            assert!((-1e-9..0.1 + 1e-9).contains(&(exact - shown)), "{reuse}, not {exact}");
        }
    }
    for (field, exact) in [("p50", &upstream["wait_p50_us"]), ("p99", &upstream["wait_p99_us"])] {
        let text = shown[field].as_str().unwrap();
        match exact.as_f64() {
            None => assert_eq!(text, "–"),
            Some(exact) => {
                let (least, most) = micros(text);
                assert!((least..=most).contains(&exact), "{text}, not {exact} µs");
            }
        }
    }
}

fn closes(upstream: &Value, shown: &[Value]) {
    let closes = upstream["closes"].as_object().unwrap();
    let most = closes.values().filter_map(Value::as_f64).fold(1.0, f64::max);
    let longest = shown.iter().filter_map(|close| close["width"].as_f64()).fold(0.0, f64::max);
    assert_eq!(shown.len(), closes.values().filter(|many| many.as_u64() > Some(0)).count());
    for close in shown {
        let reason = close["reason"].as_str().unwrap();
        let many = &closes[&reason.replace(' ', "_")];
        assert_eq!(close["count"], grouped(many.as_u64().unwrap()), "{reason}");
        // The shortest is drawn two pixels wide, so that it is seen.
        let right = (many.as_f64().unwrap() / most * longest).max(2.0);
        let width = close["width"].as_f64().unwrap();
        assert!((width - right).abs() < PIXEL, "{reason}: {width}, not {right}");
    }
}

fn host_row(host: &Value, shown: &Value) {
    assert_eq!(shown["address"], host["address"]);
    assert_eq!(shown["health"], host["health"]);
    for field in ["idle", "leased", "streams", "requests", "errors"] {
        let right = grouped(host[field].as_u64().unwrap());
        assert_eq!(shown["counts"][field], right, "{field} of {}", host["address"]);
    }
    if shown["open"] == true {
        let mut right: Vec<_> = list(&host["connections"]).iter().collect();
        let age = |connection: &Value| connection["age_seconds"].as_f64().unwrap();
        right.sort_by(|a, b| age(b).total_cmp(&age(a)));
        let rows = list(&shown["connections"]);
        assert_eq!(rows.len(), right.len());
        for (row, connection) in rows.iter().zip(right) {
            assert_eq!(row[0], connection["token"]);
            assert_eq!(row[1], connection["state"]);
            assert_eq!(row[2], duration(connection["age_seconds"].as_f64().unwrap()));
            match connection["state"] == "idle" {
                true => assert_eq!(row[3], duration(connection["idle_seconds"].as_f64().unwrap())),
                false => assert_eq!(row[3], "–"),
            }
            assert_eq!(row[4], grouped(connection["uses"].as_u64().unwrap()));
        }
    }
}

/// Nothing is wider than a window of `width` pixels.
pub fn fits(page: &Page, width: u64) {
    page.resize(width);
    let inner = page.run("return document.documentElement.clientWidth").as_u64().unwrap();
    assert_eq!(inner, width);
    let wide = page.run(
        "return [...document.body.querySelectorAll('*')]
           .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5
             || !node.closest('svg') && node.scrollWidth > node.clientWidth + 1
               && getComputedStyle(node).display !== 'inline')
           .map((node) => `${node.tagName}.${node.className}: ${node.textContent.slice(0, 40)}`)",
    );
    assert_eq!(wide, json!([]), "wider than {width} pixels");
    let scroll = page.run("return document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(scroll <= width, "the page scrolls sideways: {scroll} of {width} pixels");
}

/// The console is empty.
pub fn quiet(page: &Page) {
    assert_eq!(page.console(), Vec::<String>::new());
}

/// Every text stands out from the ground by the 4.5 of WCAG 2, level AA.
pub fn legible(page: &Page) {
    let faint = page.run(include_str!("contrast.js"));
    assert_eq!(faint, json!([]));
}

/// The page shows this very answer.
pub fn answers(shown: &Value, answer: &Value) {
    assert_eq!(plain(&shown["answer"]), plain(answer));
}

/// With JavaScript's one kind of number.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        other => other.clone(),
    }
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// `12 345`, with narrow spaces that do not break.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1.5s`, `21m 38s`, `1h 02m`, `3d 4h`.
fn duration(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    let seconds = seconds.round() as u64;
    let [minutes, hours] = [seconds / 60, seconds / 3_600];
    match hours {
        0 => format!("{minutes}m {:02}s", seconds % 60),
        1..24 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

/// The least and the most microseconds that are shown as `text`.
fn micros(text: &str) -> (f64, f64) {
    let (number, unit) = text.rsplit_once(' ').unwrap();
    let scale = match unit {
        "µs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => panic!("{text}"),
    };
    let half = if number.contains('.') { 0.051 } else { 0.51 };
    let number: f64 = number.replace('\u{202f}', "").parse().unwrap();
    ((number - half) * scale, (number + half) * scale)
}
