//! Health checks: hosts are asked how they are, whether anybody uses them or not.
//!
//! Beside these the pool takes a host out of service by itself when connects to it fail
//! ([`down_after`](slabpool::managed::Builder::down_after)): sooner, and only if somebody
//! wants one. A host that accepts connections and cannot serve is found by asking alone.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Balancer;
use super::connection::ask_health;
use super::host::Host;

/// Checks all hosts, until it is dropped.
pub fn check_all(balancer: &Arc<Balancer>) -> JoinSet<()> {
    let mut checks = JoinSet::new();
    for host in balancer.hosts() {
        checks.spawn(check(Arc::clone(balancer), Arc::clone(host)));
    }
    checks
}

/// Asks one host again and again. Answers that speak against what is held of it are counted,
/// and enough of them in a row turn that around.
async fn check(balancer: Arc<Balancer>, host: Arc<Host>) {
    let settings = &balancer.settings;
    let mut contrary = 0;
    loop {
        sleep(settings.check_interval).await;
        let asked = ask_health(host.address, &settings.health_path);
        let fit = matches!(timeout(settings.check_timeout, asked).await, Ok(Ok(())));
        contrary = if fit == host.is_up() { 0 } else { contrary + 1 };
        if contrary >= if fit { settings.rise } else { settings.fall } {
            contrary = 0;
            balancer.turn(&host, fit);
        }
    }
}

impl Balancer {
    /// Takes a host into service, or out of it.
    fn turn(&self, host: &Host, up: bool) {
        if up {
            // First, so that whoever chooses it is not turned away.
            self.pool.resume_group(&host.address);
            host.set_up(true);
        } else {
            host.set_up(false);
            host.tally.outages.add();
            // What is idle is closed, what is leased when its request has ended. Who waits
            // for a connection is told at once, and goes to another host.
            self.pool.drain_group(&host.address);
        }
        (self.settings.on_turn)(host.address, up);
    }
}
