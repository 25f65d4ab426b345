//! One pool for all hosts of a file, some of which differ.

use slabpool::file::{self, Upstream};
use slabpool::managed::AcquireError;
use slabpool::{Pool, managed};

fn upstream(pool: &str, own: &str) -> Upstream {
    let text = format!(
        "hosts: [a:1, b:2]\nconnection_pool: {{ {pool} }}\noverrides: {{ b:2: {{ {own} }} }}"
    );
    file::read(serde_norway::Deserializer::from_str(&text)).unwrap()
}

async fn dial(_: String) -> std::io::Result<u32> {
    Ok(7)
}

#[tokio::test(start_paused = true)]
async fn a_managed_pool() {
    let upstream = upstream(
        "max_connections: 3, max_idle: 3, acquire_timeout: 4s",
        "max_connections: 2, max_idle: 1, max_waiters: 0, connect_timeout: 1s, max_connecting: 1",
    );
    let pool = managed::Pool::builder(|host: &String| dial(host.clone()));
    let pool = upstream.apply_managed(pool).unwrap().build().unwrap();
    for (host, connections, idle) in [("a:1", 3, 3), ("b:2", 2, 1)] {
        let mut leases = Vec::new();
        for _ in 0..connections {
            leases.push(pool.acquire(host).await.unwrap());
        }
        let error = pool.acquire(host).await.unwrap_err();
        let expected = if host == "a:1" { "timeout" } else { "too_many_waiters" };
        assert_eq!(error.name(), expected, "{host}: {error}");
        leases.into_iter().for_each(|lease| lease.release());
        assert_eq!(pool.group_status(host).idle, idle, "{host}");
    }
    // What is no host of the file is as all.
    let _leases = [pool.acquire("c:3").await.unwrap(), pool.acquire("c:3").await.unwrap()];
    assert!(pool.acquire("c:3").await.is_ok());
}

/// Times, by what is waited for.
#[tokio::test(start_paused = true)]
async fn times_of_one_host() {
    let upstream = upstream("connect_timeout: 2s", "connect_timeout: 1s, acquire_timeout: 1s");
    let hang = |_: &String| std::future::pending::<std::io::Result<u32>>();
    let pool = upstream.apply_managed(managed::Pool::builder(hang)).unwrap().build().unwrap();
    for (host, seconds) in [("a:1", 2), ("b:2", 1)] {
        let start = tokio::time::Instant::now();
        let error = pool.acquire(host).await.unwrap_err();
        let elapsed = start.elapsed().as_secs();
        let late =
            matches!(error, AcquireError::ConnectTimeout { .. } | AcquireError::Timeout { .. });
        assert!(late && elapsed == seconds, "{host}: {error} after {elapsed} s");
    }
}

#[test]
fn a_pool() {
    let upstream = upstream("max_idle: 2", "max_idle: 1");
    let pool = upstream.apply(Pool::<String, u32>::builder()).unwrap().build().unwrap();
    for (host, idle) in [("a:1", 2), ("b:2", 1), ("c:3", 2)] {
        let kept = (0..5).filter(|&id| pool.put(host, id).is_ok()).count();
        assert_eq!(kept, idle, "{host}");
    }
}

#[test]
fn what_one_host_cannot_have() {
    for own in ["capacity: 5", "lifetime_jitter: 0.5", "check_after: 1s"] {
        let field = own.split(':').next().unwrap().replace("capacity", "keepalive_pool_size");
        let builder = managed::Pool::builder(|host: &String| dial(host.clone()));
        let error = upstream("", own).apply_managed(builder).unwrap_err();
        assert_eq!(error.path, format!("overrides.b:2.{field}"));
        assert_eq!(error.problem, "one host of a pool cannot have its own");
    }
    for (all, own, path) in [
        ("max_waiters: 1", "max_idle: 1", "connection_pool.max_waiters"),
        ("max_idle: 1", "max_connections: 1", "overrides.b:2.max_connections"),
    ] {
        let error = upstream(all, own).apply(Pool::<String, u32>::builder()).unwrap_err();
        assert_eq!(error.to_string(), format!("{path}: only a managed pool has it"));
    }
    let error = upstream("", "capacity: 1").apply(Pool::<String, u32>::builder()).unwrap_err();
    assert_eq!(error.path, "overrides.b:2.keepalive_pool_size");
}
