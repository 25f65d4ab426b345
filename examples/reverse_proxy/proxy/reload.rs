//! Settings that change while the proxy runs: those of the pools.

use super::config::{Config, Service};
use super::{Proxy, Upstream};

impl Proxy {
    /// Puts the settings of the pools in force as they are in `config`, upstream by upstream.
    /// Connections that are too many by them are closed, idle ones at once.
    ///
    /// Returns what has happened, a line for each upstream, and what else is different in
    /// `config` and needs a new start.
    pub fn reload(&self, config: &Config) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, service) in &config.upstreams {
            let path = format!("upstreams.{name}");
            lines.push(match self.upstreams.iter().find(|upstream| upstream.name == *name) {
                Some(upstream) => format!("{path}: {}", reconfigured(upstream, service)),
                None => format!("{path}: it is new, which needs a new start"),
            });
        }
        for upstream in &self.upstreams {
            if !config.upstreams.contains_key(&upstream.name) {
                let name = &upstream.name;
                lines.push(format!("upstreams.{name}: to remove it needs a new start"));
            }
        }
        let (new, old) = (config, &self.config);
        for (field, differs) in [
            ("listen", new.listen != old.listen),
            ("admin", new.admin != old.admin),
            ("max_in_flight", new.max_in_flight != old.max_in_flight),
            ("drain_timeout", new.drain_timeout != old.drain_timeout),
            ("routes", new.routes != old.routes),
        ] {
            if differs {
                lines.push(format!("{field}: to change it needs a new start"));
            }
        }
        lines
    }
}

fn reconfigured(upstream: &Upstream, service: &Service) -> String {
    // What a pool built from it would have, so that what is no longer said is as by default.
    let settings = match Upstream::settings_of(service) {
        Ok(settings) => settings,
        Err(error) => return format!("unchanged: {error}"),
    };
    let pool = upstream.client.pool();
    if let Err(error) = pool.reconfigure(|in_force| *in_force = settings) {
        return format!("unchanged: {error}");
    }
    let others = |service: &Service| {
        let connection_pool = upstream.service.connection_pool.clone();
        Service { connection_pool, ..service.clone() }
    };
    if others(service) == upstream.service {
        "the settings of its pool are in force".to_owned()
    } else {
        "the settings of its pool are in force, what else differs needs a new start".to_owned()
    }
}
