//! What `/pool.json` says: every upstream with its hosts and their connections.
//!
//! Connections are those of one look at the pool, and idle and leased ones are counted
//! there, so that these numbers agree with each other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use slabpool::http::Key;
use slabpool::managed::{self, GroupStatus};
use slabpool::{ConnectionSnapshot, ConnectionState, GroupSnapshot};

use super::{Host, Proxy, Upstream};

/// So many connections of a host are named, idle ones first. All are counted.
const NAMED_MAX: usize = 64;

/// The whole of it.
#[derive(Debug, Serialize)]
pub struct Overview {
    pub uptime_seconds: f64,
    pub upstreams: Vec<UpstreamView>,
}

#[derive(Debug, Serialize)]
pub struct UpstreamView {
    pub name: String,
    /// The most connections, to all hosts together.
    pub limit: usize,
    pub idle: usize,
    pub leased: usize,
    /// Connects under way.
    pub connecting: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// Times that a request got a connection, or a stream of one.
    pub acquired: u64,
    /// Of these, those whose connection was there before.
    pub reused: u64,
    pub opened: u64,
    /// Times that none was there at once.
    pub misses: u64,
    /// By why; without those that there were none of.
    pub closes: BTreeMap<&'static str, u64>,
    /// What half of the requests waited for a connection at most, if they got one or not.
    pub wait_p50_us: f64,
    pub wait_p99_us: f64,
    pub hosts: Vec<HostView>,
}

#[derive(Debug, Serialize)]
pub struct HostView {
    pub address: String,
    pub health: &'static str,
    pub idle: usize,
    pub leased: usize,
    /// Of connections that are shared.
    pub streams: usize,
    pub requests: u64,
    pub errors: u64,
    pub connections: Vec<ConnectionView>,
}

#[derive(Debug, Serialize)]
pub struct ConnectionView {
    pub token: String,
    pub state: &'static str,
    pub age_seconds: f64,
    /// Zero of one that is leased.
    pub idle_seconds: f64,
    pub uses: u64,
}

/// How it is at the moment.
pub fn overview(proxy: &Proxy) -> Overview {
    Overview {
        uptime_seconds: proxy.started.elapsed().as_secs_f64(),
        upstreams: proxy.upstreams().iter().map(|upstream| of_upstream(upstream)).collect(),
    }
}

fn of_upstream(upstream: &Upstream) -> UpstreamView {
    let pool = upstream.client.pool();
    let (snapshot, stats, status) = (pool.inspect(), pool.stats(), pool.status());
    let of = |host: &Host| {
        let group = snapshot.groups.iter().find(|group| group.key == host.key);
        of_host(host, group, pool.group_status(&host.key))
    };
    let hosts: Vec<_> = upstream.hosts.iter().map(|host| of(host)).collect();
    let closes = stats.pool.closes.iter().filter(|&(_, count)| count > 0);
    UpstreamView {
        name: upstream.name.clone(),
        limit: limit(upstream),
        idle: hosts.iter().map(|host| host.idle).sum(),
        leased: hosts.iter().map(|host| host.leased).sum(),
        connecting: status.connecting,
        waiting: status.waiting,
        acquired: acquired(&stats),
        reused: stats.hits + stats.joined + stats.handed_over,
        opened: stats.connects.opened,
        misses: stats.waits() + stats.turned_away,
        closes: closes.map(|(reason, count)| (reason.name(), count)).collect(),
        wait_p50_us: micros(waited(&stats, 0.5)),
        wait_p99_us: micros(waited(&stats, 0.99)),
        hosts,
    }
}

fn of_host(host: &Host, group: Option<&GroupSnapshot<Key>>, status: GroupStatus) -> HostView {
    let connections = group.map_or(&[][..], |group| &group.connections);
    let idle = group.map_or(0, |group| group.count(ConnectionState::Idle));
    let leased = connections.len() - idle;
    HostView {
        address: host.address.clone(),
        health: health(status, leased),
        idle,
        leased,
        streams: status.streams,
        requests: host.requests.get(),
        errors: host.errors.get(),
        connections: connections.iter().take(NAMED_MAX).map(of_connection).collect(),
    }
}

fn of_connection(connection: &ConnectionSnapshot) -> ConnectionView {
    let is_idle = connection.state == ConnectionState::Idle;
    ConnectionView {
        token: connection.token.to_string(),
        state: if is_idle { "idle" } else { "leased" },
        age_seconds: connection.age.as_secs_f64(),
        idle_seconds: connection.idle_for.unwrap_or_default().as_secs_f64(),
        uses: connection.uses,
    }
}

/// A word for it. A host that is out of service drains as long as requests are on it.
pub fn health(status: GroupStatus, leased: usize) -> &'static str {
    match status.health {
        managed::Health::Up => "up",
        managed::Health::Drained if leased > 0 => "draining",
        _ => "down",
    }
}

/// The most connections to all hosts.
fn limit(upstream: &Upstream) -> usize {
    let settings = upstream.client.pool().settings();
    let hosts = upstream.hosts.len();
    settings.max_connections_per_group.saturating_mul(hosts).min(settings.pool.capacity)
}

fn acquired(stats: &managed::Stats) -> u64 {
    stats.hits + stats.joined + stats.served
}

/// What this part of those who asked for a connection did not wait longer than. Who got one
/// at once has not waited.
fn waited(stats: &managed::Stats, part: f64) -> Duration {
    let at_once = (stats.hits + stats.joined) as f64;
    let waits = stats.waits() as f64;
    let rank = part * (at_once + waits) - at_once;
    if rank <= 0.0 { Duration::ZERO } else { stats.wait_time.quantile((rank / waits).min(1.0)) }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
