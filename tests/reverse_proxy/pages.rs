//! The pages for those who look after the proxy.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value};
use slabpool::http::Client;

use crate::origin::{Origin, Speaks};
use crate::proxy::admin;
use crate::support::{Running, ask, eventually, get};

/// Two upstreams, after three requests to the first one, of which one is held.
async fn in_use() -> (Running, Origin) {
    let origin = Origin::start(Speaks::Http1).await;
    let running = Running::start(&format!(
        "upstreams:\n  a: {{ hosts: ['{}'], connection_pool: {{ max_connections: 9 }} }}\n\
         \x20 b: {{ hosts: ['127.0.0.1:9', '[::1]:9'], connection_pool: {{ max_connections: 5 }} }}\n\
         routes: [{{ upstream: a }}]\n",
        origin.address
    ))
    .await;
    let pool = running.upstream(0).client.pool();
    let client = Client::<Full<Bytes>>::new();
    for _ in 0..2 {
        assert_eq!(get(&client, &running.uri("/it")).await.0, StatusCode::OK);
        eventually(|| pool.status().leased == 0).await;
    }
    let (client, uri) = (client.clone(), running.uri("/hold"));
    tokio::spawn(async move { get(&client, &uri).await });
    origin.until_holding(1).await;
    (running, origin)
}

fn names(object: &Map<String, Value>) -> Vec<&str> {
    object.keys().map(String::as_str).collect()
}

fn sum(of: &[Value], field: &str) -> u64 {
    of.iter().map(|it| it[field].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn the_numbers_of_the_pools_have_their_shape_and_add_up() {
    let (running, origin) = in_use().await;
    let page: Value = serde_json::from_str(&running.page("/pool.json").await.1).unwrap();
    assert_eq!(names(page.as_object().unwrap()), ["upstreams", "uptime_seconds"]);
    assert!(page["uptime_seconds"].as_f64().unwrap() > 0.0);
    let [a, b] = page["upstreams"].as_array().unwrap().as_slice() else { panic!("{page}") };
    let expected = [
        "acquired",
        "closes",
        "connecting",
        "hosts",
        "idle",
        "leased",
        "limit",
        "misses",
        "name",
        "opened",
        "reused",
        "wait_p50_us",
        "wait_p99_us",
        "waiting",
    ];
    assert_eq!(names(a.as_object().unwrap()), expected);
    let number = |field: &str| a[field].as_u64().unwrap();
    assert_eq!((&a["name"], number("limit")), (&Value::from("a"), 9));
    assert_eq!((number("acquired"), number("reused"), number("opened")), (3, 2, 1));
    assert_eq!((number("misses"), number("connecting"), number("waiting")), (1, 0, 0));
    assert_eq!(a["closes"], Value::Object(Map::new()));
    assert_eq!(a["wait_p50_us"], 0.0, "most had nothing to wait for");
    assert!(a["wait_p99_us"].as_f64().unwrap() > 0.0);
    let hosts = a["hosts"].as_array().unwrap();
    for field in ["idle", "leased"] {
        assert_eq!(number(field), sum(hosts, field), "{field}");
    }
    let host = &hosts[0];
    let expected =
        ["address", "connections", "errors", "health", "idle", "leased", "requests", "streams"];
    assert_eq!(names(host.as_object().unwrap()), expected);
    assert_eq!(host["address"], origin.address.to_string());
    assert_eq!((&host["health"], &host["requests"]), (&Value::from("up"), &Value::from(2)));
    let connections = host["connections"].as_array().unwrap();
    assert_eq!(connections.len() as u64, number("idle") + number("leased"));
    let expected = ["age_seconds", "idle_seconds", "state", "token", "uses"];
    assert_eq!(names(connections[0].as_object().unwrap()), expected);
    assert_eq!((&connections[0]["state"], &connections[0]["uses"]), (&"leased".into(), &3.into()));
    assert_eq!(connections[0]["idle_seconds"], 0.0);
    assert!(connections[0]["token"].is_string());

    assert_eq!((&b["limit"], b["hosts"].as_array().unwrap().len()), (&10.into(), 2));
    assert_eq!(b["hosts"][1]["address"], "[::1]:9");
    origin.open_gate(1);
    let pool = running.upstream(0).client.pool();
    eventually(|| pool.status().leased == 0).await;
    pool.clear();
    let page: Value = serde_json::from_str(&running.page("/pool.json").await.1).unwrap();
    assert_eq!(page["upstreams"][0]["closes"], serde_json::json!({ "cleared": 1 }));
    assert_eq!(page["upstreams"][0]["idle"], 0);
}

#[tokio::test]
async fn at_most_64_connections_of_a_host_are_named() {
    let origin = Origin::start(Speaks::Http1).await;
    let pool = "connection_pool: { min_connections: 70 }";
    let config = format!("upstreams: {{ a: {{ hosts: ['{}'], {pool} }} }}", origin.address);
    let running = Running::start(&config).await;
    eventually(|| running.upstream(0).client.pool().status().idle == 70).await;
    let page: Value = serde_json::from_str(&running.page("/pool.json").await.1).unwrap();
    let host = &page["upstreams"][0]["hosts"][0];
    assert_eq!((host["connections"].as_array().unwrap().len(), &host["idle"]), (64, &70.into()));
    assert_eq!(page["upstreams"][0]["idle"], 70);
}

/// The samples of a text for Prometheus, by name and labels. Each belongs to a metric whose
/// type was told before.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some(kind)) => {
                    assert_eq!(types.insert(name, kind), None, "{name} twice");
                }
                (Some("HELP"), Some(_), Some(_)) => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let parts = ["_bucket", "_sum", "_count"].iter();
        let family =
            parts.filter_map(|part| bare.strip_suffix(part)).find(|it| types.contains_key(it));
        assert!(types.contains_key(family.unwrap_or(bare)), "{line} has no type");
        assert_eq!(samples.insert(name, value.parse().unwrap()), None, "{name} twice");
    }
    samples
}

#[tokio::test]
async fn the_metrics_can_be_read() {
    let (running, origin) = in_use().await;
    let text = running.page("/metrics").await.1;
    let seen = samples(&text);
    let host = origin.address;
    for (name, value) in [
        ("slabpool_connections{pool=\"a\",state=\"leased\"}".to_owned(), 1.0),
        ("slabpool_connections{pool=\"b\",state=\"idle\"}".to_owned(), 0.0),
        (
            format!("slabpool_group_connections{{pool=\"a\",group=\"{host}\",state=\"leased\"}}"),
            1.0,
        ),
        ("slabpool_acquires_total{pool=\"a\",outcome=\"hit\"}".to_owned(), 2.0),
        ("slabpool_connects_total{pool=\"a\",outcome=\"opened\"}".to_owned(), 1.0),
        ("slabpool_wait_seconds_count{pool=\"a\"}".to_owned(), 1.0),
        ("slabpool_wait_seconds_bucket{pool=\"a\",le=\"+Inf\"}".to_owned(), 1.0),
        ("proxy_requests_total{upstream=\"a\"}".to_owned(), 3.0),
        ("proxy_reused_total{upstream=\"a\"}".to_owned(), 1.0),
        ("proxy_in_flight".to_owned(), 1.0),
        (format!("proxy_host_up{{upstream=\"a\",host=\"{host}\"}}"), 1.0),
        (format!("proxy_host_load{{upstream=\"a\",host=\"{host}\"}}"), 1.0),
    ] {
        assert_eq!(seen.get(name.as_str()), Some(&value), "{name} in\n{text}");
    }
    // Another time, nothing is counted twice.
    let again = running.page("/metrics").await.1;
    let again = samples(&again);
    let count = "slabpool_connects_total{pool=\"a\",outcome=\"opened\"}";
    assert_eq!(again[count], 1.0);
    assert_eq!(again["slabpool_wait_seconds_count{pool=\"a\"}"], 1.0);
}

#[tokio::test]
async fn there_are_these_pages_and_no_others() {
    let (running, origin) = in_use().await;
    for (path, status, kind) in [
        ("/pool", 200, "text/html; charset=utf-8"),
        ("/pool.json", 200, "application/json"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/it", 404, "text/plain; charset=utf-8"),
    ] {
        let page = admin::answer(&running.proxy, &Method::GET, path);
        let said = page.headers().get(CONTENT_TYPE);
        assert_eq!((page.status().as_u16(), said), (status, Some(&HeaderValue::from_static(kind))));
        assert_eq!(running.page(path).await.0.as_u16(), status);
    }
    assert!(running.page("/pool").await.1.contains("pool.json"));
    let uri = format!("http://{}/pool.json", running.admin);
    let request = Request::post(uri).body(Full::default()).unwrap();
    assert_eq!(ask(&Client::new(), request).await.0, StatusCode::METHOD_NOT_ALLOWED);
    // None of them is for clients.
    assert_eq!(get(&Client::new(), &running.uri("/pool.json")).await.1, "/pool.json");

    let requests = origin.requests();
    drop(running.stop);
    eventually(|| running.proxy.is_ending()).await;
    let page = admin::answer(&running.proxy, &Method::GET, "/healthz");
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    origin.open_gate(1);
    assert!(running.serving.await.unwrap().is_complete());
    assert_eq!(origin.requests(), requests);
}
