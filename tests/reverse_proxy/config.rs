//! Files: those that can be, and what is said of those that cannot.

use std::path::Path;
use std::time::Duration;

use slabpool::file::Span;

use crate::proxy::Proxy;
use crate::proxy::config::{Config, Error};

const SAMPLE: &str = include_str!("../../examples/reverse_proxy/proxy.yaml");

/// As people write it who have one service.
const SNIPPET: &str = "\
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

fn yaml(text: &str) -> Result<Config, Error> {
    Config::parse(text, "yaml")
}

#[test]
fn the_sample_is_possible() {
    let config = yaml(SAMPLE).unwrap();
    let names: Vec<_> = config.upstreams.keys().map(String::as_str).collect();
    assert_eq!(names, ["api", "secure"]);
    assert_eq!(config.admin, Some("127.0.0.1:9901".parse().unwrap()));
    let api = config.upstreams["api"].upstream().unwrap();
    let narrow = api.pool_of("backend-server-2:8080");
    assert_eq!((narrow.min_connections, narrow.max_connections), (Some(2), Some(100)));
    assert_eq!(narrow.idle_timeout, Some(Span::Of(Duration::from_secs(20))));
    let keys: Vec<_> = config.upstreams["secure"]
        .hosts
        .iter()
        .map(|host| config.upstreams["secure"].key(host).unwrap().to_string())
        .collect();
    let named = "as backend.example.com";
    let expected = ["https://backend-server-3", "https://backend-server-4:8443"];
    assert_eq!(keys, expected.map(|host| format!("{host} {named}")));
    assert_eq!(config.routes.len(), 2);
}

/// The sample says of much that it is the default.
#[test]
fn the_sample_tells_the_defaults() {
    let told = yaml(SAMPLE).unwrap();
    let default = Config::default();
    assert_eq!((told.listen, told.max_in_flight), (default.listen, default.max_in_flight));
    assert_eq!(told.drain_timeout, default.drain_timeout);
    let mut bare = yaml("upstreams: { a: { hosts: [b], health: {} } }").unwrap().upstreams;
    let bare = bare.remove("a").unwrap();
    assert_eq!(told.upstreams["api"].health, bare.health);
    assert_eq!((bare.careful, bare.http2, bare.tls), (false, None, None));
}

#[test]
fn a_service_of_its_own_is_a_proxy() {
    let config = yaml(SNIPPET).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    let indented: String = SNIPPET.lines().skip(1).map(|line| format!("  {line}\n")).collect();
    let below = yaml(&format!("upstreams:\n{indented}")).unwrap();
    assert_eq!(below, config);
    let settings = Proxy::new(&config).unwrap().upstreams()[0].client.pool().settings();
    assert_eq!(settings.max_connections_per_group, 100);
    assert_eq!(settings.pool.min_idle_per_group, 10);
    assert_eq!(settings.pool.idle_timeout, Some(Duration::from_secs(60)));
    assert_eq!(settings.pool.max_lifetime, Some(Duration::from_secs(300)));
}

#[test]
fn other_languages_say_the_same() {
    let toml = "\
        [upstreams.upstream_service]\n\
        hosts = ['backend-server-1:8080', 'backend-server-2:8080']\n\
        [upstreams.upstream_service.connection_pool]\n\
        max_connections = 100\nmin_connections = 10\n\
        idle_timeout_seconds = 60\nmax_lifetime_seconds = 300\n";
    let json = r#"{ "upstream_service": {
        "hosts": ["backend-server-1:8080", "backend-server-2:8080"],
        "connection_pool": { "max_connections": 100, "min_connections": 10,
            "idle_timeout": "1m", "max_lifetime": "5m" } } }"#;
    let expected = yaml(SNIPPET).unwrap();
    assert_eq!(Config::parse(toml, "toml").unwrap(), expected);
    assert_eq!(Config::parse(json, "json").unwrap(), expected);
    let error = Config::parse(&format!("{json} more"), "json").unwrap_err().to_string();
    assert!(error.contains("trailing"), "{error}");
    let error = Config::parse(json, "ini").unwrap_err().to_string();
    assert_eq!(error, "the file's extension: it is \"ini\", it must be yaml, yml, toml or json");
    let error = Config::open(Path::new("/no/such/proxy.yaml")).unwrap_err().to_string();
    assert!(error.starts_with("/no/such/proxy.yaml: "), "{error}");
}

/// Each with the beginning of what is said of it.
const IMPOSSIBLE: [(&str, &str); 28] = [
    ("{}", "upstreams: there is none"),
    ("listne: 1", "listne: unknown field"),
    ("listen: here", "listen: "),
    ("max_in_flight: 0\nupstreams: { a: { hosts: [b] } }", "max_in_flight: it is 0"),
    ("drain_timeout: -1", "drain_timeout: "),
    (
        "listen: 1.2.3.4:5\nadmin: 1.2.3.4:5\nupstreams: { a: { hosts: [b] } }",
        "admin: it is 1.2.3.4:5",
    ),
    ("upstreams: { a: {} }", "upstreams.a: missing field `hosts`"),
    ("upstreams: { a: { hosts: [] } }", "upstreams.a.hosts: there is none"),
    ("upstreams: { a: { hosts: [b, b] } }", "upstreams.a.hosts: \"b\" is there twice"),
    ("upstreams: { a: { hosts: ['b:1', 'b c'] } }", "upstreams.a.hosts[1]: \"b c\" is no host"),
    ("upstreams: { a: { hosts: ['b:0'] } }", "upstreams.a.hosts[0]: "),
    ("upstreams: { a: { hosts: ['b:1/c'] } }", "upstreams.a.hosts[0]: "),
    ("upstreams: { a: { hosts: ['c@b:1'] } }", "upstreams.a.hosts[0]: "),
    ("upstreams: { a: { hosts: [b], port: 1 } }", "upstreams.a.port: unknown field"),
    (
        "upstreams: { a: { hosts: [b], connection_pool: { max_connections: 0 } } }",
        "upstreams.a.connection_pool.max_connections: it is 0",
    ),
    (
        "upstreams: { a: { hosts: [b], connection_pool: { max_connection: 1 } } }",
        "upstreams.a.connection_pool.max_connection: unknown field",
    ),
    (
        "upstreams: { a: { hosts: [b], connection_pool: { max_connections: 1, min_connections: 2 } } }",
        "upstreams.a.connection_pool: min_connections is 2",
    ),
    (
        "upstreams: { a: { hosts: [b], overrides: { c: { max_idle: 1 } } } }",
        "upstreams.a: overrides.c: it is none of the hosts",
    ),
    (
        "upstreams: { a: { hosts: [b], overrides: { b: { max_connections: 1 } } } }",
        "upstreams.a.overrides.b.max_connections: it is of all hosts together",
    ),
    (
        "upstreams: { a: { hosts: [b], tls: { server: c } } }",
        "upstreams.a.tls.server: unknown field",
    ),
    (
        "upstreams: { a: { hosts: [b], tls: { ca_file: c, insecure: true } } }",
        "upstreams.a.tls.insecure: it is on",
    ),
    (
        "upstreams: { a: { hosts: [b], health: { path: c } } }",
        "upstreams.a.health.path: it is \"c\"",
    ),
    (
        "upstreams: { a: { hosts: [b], health: { interval: 0 } } }",
        "upstreams.a.health.interval: it is zero",
    ),
    (
        "upstreams: { a: { hosts: [b], health: { up_after: 0 } } }",
        "upstreams.a.health.up_after: it is 0",
    ),
    (
        "upstreams: { a: { hosts: [b], response_timeout: 0 } }",
        "upstreams.a.response_timeout: it is zero",
    ),
    ("upstreams: { a: { hosts: [b] }, c: { hosts: [d] } }", "routes: there is none, and 2"),
    (
        "upstreams: { a: { hosts: [b] } }\nroutes: [{ upstream: a }, { upstream: c }]",
        "routes[1].upstream: there is no \"c\"",
    ),
    (
        "upstreams: { a: { hosts: [b] } }\nroutes: [{ upstream: a, path_prefix: v1 }]",
        "routes[0].path_prefix: it is \"v1\"",
    ),
];

#[test]
fn what_cannot_be_is_named() {
    for (text, expected) in IMPOSSIBLE {
        let error = yaml(text).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn certificates_that_are_none_are_named() {
    for (file, problem) in [("/no/such.pem", "No such file"), ("Cargo.toml", "there is no")] {
        let text = format!("upstreams: {{ a: {{ hosts: [b], tls: {{ ca_file: {file} }} }} }}");
        let error = Proxy::new(&yaml(&text).unwrap()).err().unwrap().to_string();
        let expected = format!("upstreams.a.tls.ca_file: it is \"{file}\": ");
        assert!(error.starts_with(&expected) && error.contains(problem), "{error}");
    }
}

#[test]
fn routes_go_by_host_and_path() {
    let fits = |route: &str, host: &str, path: &str| {
        let text =
            format!("upstreams: {{ a: {{ hosts: [b] }} }}\nroutes: [{{ upstream: a{route} }}]");
        yaml(&text).unwrap().routes[0].fits(host, path)
    };
    assert!(fits("", "any", "/"));
    assert!(fits(", host: Example.com", "example.COM", "/"));
    assert!(!fits(", host: example.com", "www.example.com", "/"));
    for (prefix, path, expected) in [
        ("/v1", "/v1", true),
        ("/v1", "/v1/x", true),
        ("/v1", "/v10", false),
        ("/v1/", "/v1/x", true),
        ("/v1/", "/v1", false),
        ("/", "/v1", true),
    ] {
        assert_eq!(
            fits(&format!(", path_prefix: {prefix}"), "", path),
            expected,
            "{prefix} {path}"
        );
    }
}
