//! Settings from files: what is accepted, what it does, and what an error says.

use std::fmt::Debug;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use slabpool::file::{self, ConnectionPool, Error, Span, Upstream};
use slabpool::{Pool, managed};

#[derive(Debug, Deserialize)]
struct Proxy {
    upstream_service: Upstream,
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    file::read(serde_norway::Deserializer::from_str(text))
}

fn toml<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    file::read(toml::Deserializer::parse(text).unwrap())
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    file::read(&mut serde_json::Deserializer::from_str(text))
}

fn seconds(seconds: u64) -> Option<Span> {
    Some(Span::Of(Duration::from_secs(seconds)))
}

const SERVICE: &str = "
# Proxy configuration snippet for an upstream service
upstream_service:
  hosts:
    - backend-server-1:8080
    - backend-server-2:8080
  connection_pool:
    max_connections: 100
    min_connections: 10
    idle_timeout_seconds: 60
    max_lifetime_seconds: 300
";

#[test]
fn a_service_as_proxies_write_it() {
    let Proxy { upstream_service: service } = yaml(SERVICE).unwrap();
    assert_eq!(service.hosts, ["backend-server-1:8080", "backend-server-2:8080"]);
    let pool = service.pool_of("backend-server-1:8080");
    assert_eq!((pool.max_connections, pool.min_connections), (Some(100), Some(10)));
    assert_eq!((pool.idle_timeout, pool.max_lifetime), (seconds(60), seconds(300)));
    assert_eq!(pool, service.connection_pool);
}

#[test]
fn it_sets_what_it_says() {
    let pool: ConnectionPool = toml(
        "keepalive_pool_size = 7\nmin_connections = 2\nmax_idle = 5\nidle_timeout = \"1m 30s\"\n\
         max_lifetime = \"never\"\nlifetime_jitter = 0.25\nmax_requests = 1000",
    )
    .unwrap();
    let built = pool.apply(Pool::<String, u32>::builder()).unwrap().build().unwrap();
    let settings = built.settings();
    assert_eq!((settings.capacity, settings.max_uses), (7, 1_000));
    assert_eq!((settings.min_idle_per_group, settings.max_idle_per_group), (2, 5));
    assert_eq!(settings.idle_timeout, Some(Duration::from_secs(90)));
    assert_eq!((settings.max_lifetime, settings.lifetime_jitter), (None, 0.25));

    let text = "{\"max_connections\": 3, \"max_waiters\": 1, \"acquire_timeout\": \"2s\", \
                \"connect_timeout\": 1.5, \"check_after\": 0, \"capacity\": 9}";
    let pool: ConnectionPool = json(text).unwrap();
    let dial = |_: &String| async { Ok::<u32, std::io::Error>(1) };
    let builder = managed::Pool::builder(dial).settings(|core| core.max_uses(5));
    let shown = format!("{:?}", pool.apply_managed(builder));
    for part in [
        "max_connections_per_group: Some(3)",
        "max_waiters_per_group: 1",
        "acquire_timeout: 2s",
        "connect_timeout: 1.5s",
        "check_after: 0ns",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let builder = managed::Pool::builder(dial).settings(|core| core.max_uses(5));
    let built = pool.apply_managed(builder).build().unwrap();
    built
        .reconfigure(|settings| {
            assert_eq!(
                (settings.pool.capacity, settings.pool.max_uses),
                (9, 5),
                "what was set before stays"
            );
        })
        .unwrap();
}

#[test]
fn what_is_not_said_stays() {
    let empty: ConnectionPool = json("{}").unwrap();
    assert_eq!(empty, ConnectionPool::default());
    let built = empty.apply(Pool::<String, u32>::builder()).unwrap().build().unwrap();
    assert_eq!(built.settings(), Pool::<String, u32>::builder().build().unwrap().settings());
    let unset: ConnectionPool = yaml("idle_timeout: null\nmax_idle: ~").unwrap();
    assert_eq!(unset, ConnectionPool::default());
}

#[test]
fn hosts_may_differ() {
    let text = "
hosts: [a:1, b:2]
connection_pool: { max_connections: 10, idle_timeout: 60s }
overrides:
  b:2: { max_connections: 3, max_idle: 2, max_lifetime: 5m }
";
    let service: Upstream = yaml(text).unwrap();
    let (a, b) = (service.pool_of("a:1"), service.pool_of("b:2"));
    assert_eq!((a.max_connections, a.idle_timeout, a.max_idle), (Some(10), seconds(60), None));
    assert_eq!((b.max_connections, b.idle_timeout, b.max_idle), (Some(3), seconds(60), Some(2)));

    // In one pool, as settings of a group.
    let pool = Pool::<String, u32>::builder().build().unwrap();
    pool.group("b:2").configure(b.group_settings()).unwrap();
    for id in 0..2 {
        pool.put("b:2", id).unwrap();
    }
    assert!(pool.put("b:2", 3).is_err(), "two may be idle");
}

#[test]
fn times_are_written_as_people_do() {
    for (text, span) in [
        ("60", Span::Of(Duration::from_secs(60))),
        ("0", Span::Of(Duration::ZERO)),
        ("1.5", Span::Of(Duration::from_millis(1_500))),
        ("60s", Span::Of(Duration::from_secs(60))),
        ("500ms", Span::Of(Duration::from_millis(500))),
        ("1h 5m", Span::Of(Duration::from_secs(3_900))),
        ("never", Span::Never),
    ] {
        let read: Span = yaml(text).unwrap();
        assert_eq!(read, span, "{text}");
        // And they are written so that they can be read again.
        let written = serde_json::to_string(&span).unwrap();
        assert_eq!(json::<Span>(&written).unwrap(), span, "{written}");
    }
    for text in ["-1", "-0.5", ".nan", ".inf", "1e300", "soon", "\"\"", "[1]", "true", "60 x"] {
        let error = yaml::<Span>(text).unwrap_err().to_string();
        assert!(error.contains("a number of seconds"), "{text}: {error}");
    }
}

#[test]
fn what_is_written_can_be_read() {
    let Proxy { upstream_service: service } = yaml(SERVICE).unwrap();
    let written = serde_json::to_string(&service).unwrap();
    assert_eq!(json::<Upstream>(&written).unwrap(), service);
    assert!(!written.contains("max_idle"), "what was not said is not written: {written}");
}

fn refused<T: DeserializeOwned + Debug>(text: &str, path: &str, problem: &str) {
    let error = yaml::<T>(text).unwrap_err();
    assert_eq!(error.path, path, "{error}");
    assert!(error.problem.contains(problem), "{error}");
}

/// Some readers of YAML say where it is as well.
#[test]
fn an_error_says_once_where() {
    for (text, expected) in [
        ("upstream_service: {}", "upstream_service: missing field `hosts`"),
        ("upstream_service: { hosts: [], port: 1 }", "upstream_service.hosts: there is none"),
        ("upstream_service: { hosts: [a], port: 1 }", "upstream_service.port: unknown field"),
    ] {
        let error = yaml::<Proxy>(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_error_says_where_and_why() {
    let service = |pool: &str| {
        format!("upstream_service:\n  hosts: [a:1, b:2]\n  connection_pool: {{ {pool} }}")
    };
    let at = |field: &str| format!("upstream_service.connection_pool.{field}");
    for (pool, field, problem) in [
        ("max_conections: 1", "max_conections", "unknown field"),
        ("max_connections: many", "max_connections", "many"),
        ("max_connections: 0", "max_connections", "it is 0, it must lie between 1 and 8388608"),
        ("max_connections: -1", "max_connections", "-1"),
        ("keepalive_pool_size: 8388609", "keepalive_pool_size", "between 0 and 8388608"),
        ("capacity: 8388609", "capacity", "between 0 and 8388608"),
        ("max_connecting: 65536", "max_connecting", "between 1 and 65535"),
        ("max_waiters: 4194305", "max_waiters", "between 0 and 4194304"),
        ("max_uses: 0", "max_uses", "it is 0"),
        ("lifetime_jitter: 1.5", "lifetime_jitter", "it is 1.5, it must lie between 0 and 1"),
        ("lifetime_jitter: .nan", "lifetime_jitter", "NaN"),
        ("connect_timeout: 0", "connect_timeout", "it is zero"),
        ("idle_timeout: soon", "idle_timeout", "soon"),
    ] {
        refused::<Proxy>(&service(pool), &at(field), problem);
    }
    let pool = "upstream_service.connection_pool";
    refused::<Proxy>(
        &service("min_connections: 20, max_connections: 10"),
        pool,
        "min_connections is 20, at most the 10 of max_connections",
    );
    refused::<Proxy>(
        &service("min_connections: 2, max_idle: 1"),
        pool,
        "at most the 1 of max_idle",
    );
    refused::<Proxy>(
        &service("connect_timeout: 5s, acquire_timeout: 2s"),
        pool,
        "connect_timeout is 5s, at most the 2s of acquire_timeout",
    );
    refused::<Proxy>(
        &service("idle_timeout: 1s, idle_timeout_seconds: 2"),
        pool,
        "duplicate field",
    );

    refused::<Upstream>("hosts: []", "hosts", "at least 1");
    refused::<Upstream>("hosts: [a:1, b:2, a:1]", "hosts", "\"a:1\" is there twice");
    refused::<Upstream>("host: [a:1]", "host", "unknown field");
    refused::<Upstream>("connection_pool: {}", ".", "missing field `hosts`");
    refused::<Upstream>(
        "hosts: [a:1]\noverrides: { c:3: {} }",
        ".",
        "overrides.c:3: it is none of the hosts",
    );
    let text = "hosts: [a:1]\nconnection_pool: { max_connections: 5 }\noverrides: { a:1: { min_connections: 6 } }";
    refused::<Upstream>(
        text,
        ".",
        "overrides.a:1: min_connections is 6, at most the 5 of max_connections",
    );
}

#[test]
fn a_field_without_a_name_is_called_just_that() {
    for text in ["?", "{\"\": 1}"] {
        let error = yaml::<ConnectionPool>(text).unwrap_err();
        assert_eq!(error.path, "");
        assert!(error.to_string().starts_with("unknown field ``, expected one of"), "{error}");
    }
}
