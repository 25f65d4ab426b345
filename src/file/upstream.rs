//! Hosts that serve the same, and the pool for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConnectionPool, ranges};

/// A service: the hosts that offer it, how connections to them are pooled, and where one of
/// them differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
#[non_exhaustive]
pub struct Upstream {
    /// At least one, each once.
    pub hosts: Vec<String>,
    /// For each of the hosts.
    pub connection_pool: ConnectionPool,
    /// What is different for some of them, by host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, ConnectionPool>,
}

impl Upstream {
    /// What holds for one host: its overrides, else the settings for all.
    pub fn pool_of(&self, host: &str) -> ConnectionPool {
        let overrides = self.overrides.get(host);
        overrides
            .map_or_else(|| self.connection_pool.clone(), |own| own.over(&self.connection_pool))
    }
}

/// As it is written; whether the overrides fit is not checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(deserialize_with = "ranges::hosts")]
    hosts: Vec<String>,
    #[serde(default)]
    connection_pool: ConnectionPool,
    #[serde(default)]
    overrides: BTreeMap<String, ConnectionPool>,
}

impl TryFrom<Raw> for Upstream {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { hosts, connection_pool, overrides } = raw;
        if let Some(unknown) = overrides.keys().find(|host| !hosts.contains(host)) {
            return Err(format!("overrides.{unknown}: it is none of the hosts"));
        }
        for (host, own) in &overrides {
            let merged = own.over(&connection_pool).check();
            merged.map_err(|problem| format!("overrides.{host}: {problem}"))?;
        }
        Ok(Self { hosts, connection_pool, overrides })
    }
}
