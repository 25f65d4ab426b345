//! Health checks: hosts are asked how they are, whether anybody uses them or not.
//!
//! Beside these the pool takes a host out of service by itself when connects to it fail
//! ([`down_after`](slabpool::managed::Builder::down_after)): sooner, and only if somebody
//! wants one. A host that accepts connections and cannot serve is found by asking alone.

use std::sync::Arc;
use std::time::Duration;

use slabpool::file::Span;
use slabpool::http::Client;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::config::Health;
use super::host::Host;
use super::upstream::{Upstream, inquirer, question};
use super::{Proxy, RequestBody};

/// Checks all hosts of those upstreams that have checks, and opens what is to be kept open,
/// until this is dropped.
pub fn look_after(proxy: &Proxy) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for upstream in proxy.upstreams() {
        for host in &upstream.hosts {
            let (upstream, host) = (Arc::clone(upstream), Arc::clone(host));
            tasks.spawn(async move { upstream.prewarm(&host).await });
        }
        let Some(health) = &upstream.service.health else { continue };
        for host in &upstream.hosts {
            // It was built from the same settings as the upstream was.
            let Ok(client) = inquirer(&upstream.service, health) else { continue };
            tasks.spawn(check(Arc::clone(upstream), Arc::clone(host), client, health.clone()));
        }
    }
    tasks
}

/// Asks one host again and again. Answers that speak against what is held of it are counted,
/// and enough of them in a row turn that around.
async fn check(
    upstream: Arc<Upstream>,
    host: Arc<Host>,
    client: Client<RequestBody>,
    health: Health,
) {
    let mut contrary = 0;
    loop {
        sleep(time(health.interval)).await;
        let asked = timeout(time(health.timeout), is_fit(&upstream, &host, &client, &health));
        let fit = asked.await.unwrap_or(false);
        contrary = if fit == host.is_up() { 0 } else { contrary + 1 };
        if contrary >= if fit { health.up_after } else { health.down_after } {
            contrary = 0;
            turn(&upstream, &host, fit);
        }
    }
}

/// Whether a new client would be served.
async fn is_fit(
    upstream: &Upstream,
    host: &Host,
    client: &Client<RequestBody>,
    health: &Health,
) -> bool {
    let name = upstream.service.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
    let Some(request) = question(host, health, name) else { return false };
    client.request(request).await.is_ok_and(|response| response.status().is_success())
}

/// Takes a host into service, or out of it.
fn turn(upstream: &Upstream, host: &Host, up: bool) {
    let pool = upstream.client.pool();
    if up {
        // First, so that whoever chooses it is not turned away.
        pool.resume_group(&host.key);
        host.set_up(true);
    } else {
        host.set_up(false);
        // What is idle is closed, what is leased when its request has ended. Who waits for a
        // connection is told at once, and goes to another host.
        pool.drain_group(&host.key);
    }
    let now = if up { "in service again" } else { "out of service" };
    eprintln!("upstream {}: host {} is {now}", upstream.name, host.address);
}

fn time(span: Span) -> Duration {
    Option::from(span).unwrap_or(Duration::MAX)
}
