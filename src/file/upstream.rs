//! Hosts that serve the same, and the pool for them.

use std::collections::BTreeMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::pool::ONLY_MANAGED;
use super::{ConnectionPool, Error, ranges};
use crate::builder::Builder;
use crate::settings::GroupSettings;

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

/// One pool for all hosts, by host.
impl Upstream {
    /// Sets in the builder of a pool what is said here of all hosts, and of each that differs:
    /// by [`Builder::group_settings`], in the place of what was set there.
    ///
    /// # Errors
    ///
    /// A field that only a managed pool can heed, or that one host of a pool cannot have of its
    /// own: `keepalive_pool_size`, `lifetime_jitter`.
    pub fn apply<K, C>(&self, builder: Builder<K, C>) -> Result<Builder<K, C>, Error>
    where
        K: Hash + Eq + AsRef<str> + Send + Sync + 'static,
        C: Send + 'static,
    {
        if let Some(field) = self.connection_pool.only_managed() {
            return Err(Error::new(&format!("connection_pool.{field}"), ONLY_MANAGED));
        }
        self.check_overrides(ConnectionPool::only_managed, ONLY_MANAGED)?;
        self.check_overrides(ConnectionPool::only_whole, ONLY_WHOLE)?;
        Ok(self.connection_pool.apply(builder)?.group_settings(self.settings_of_hosts()))
    }

    /// Sets in the builder of a managed pool what is said here of all hosts, and of each that
    /// differs: by [`group_limits`](crate::managed::Builder::group_limits), and
    /// [`group_settings`](Builder::group_settings) of the pool below, in the place of what was
    /// set there.
    ///
    /// ```
    /// # use slabpool::file::{self, Upstream};
    /// # use slabpool::managed::Pool;
    /// # async fn dial(_: String) -> std::io::Result<String> { Ok(String::new()) }
    /// let text = r#"{
    ///     "hosts": ["a:1", "b:2"],
    ///     "connection_pool": { "max_connections": 100, "idle_timeout": "60s" },
    ///     "overrides": { "b:2": { "max_connections": 4, "idle_timeout": "5s" } }
    /// }"#;
    /// let upstream: Upstream = file::read(&mut serde_json::Deserializer::from_str(text))?;
    /// let pool = Pool::builder(|host: &String| dial(host.clone()));
    /// let pool = upstream.apply_managed(pool)?.build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A field that one host of a pool cannot have of its own: `keepalive_pool_size`,
    /// `lifetime_jitter`, `check_after`.
    #[cfg(feature = "tokio")]
    pub fn apply_managed<K, M>(
        &self,
        builder: crate::managed::Builder<K, M>,
    ) -> Result<crate::managed::Builder<K, M>, Error>
    where
        K: Hash + Eq + AsRef<str> + Send + Sync + 'static,
        M: crate::managed::Manager<K>,
    {
        self.check_overrides(ConnectionPool::only_whole, ONLY_WHOLE)?;
        let (settings_of, overrides) = (self.settings_of_hosts(), self.overrides.clone());
        let limits_of = move |host: &K| {
            overrides.get(host.as_ref()).map(ConnectionPool::group_limits).unwrap_or_default()
        };
        let builder = self.connection_pool.apply_managed(builder);
        Ok(builder.settings(|core| core.group_settings(settings_of)).group_limits(limits_of))
    }

    fn settings_of_hosts<K: AsRef<str>>(&self) -> impl Fn(&K) -> GroupSettings + use<K> {
        let overrides = self.overrides.clone();
        move |host| {
            overrides.get(host.as_ref()).map(ConnectionPool::group_settings).unwrap_or_default()
        }
    }

    fn check_overrides(
        &self,
        wrong: impl Fn(&ConnectionPool) -> Option<&'static str>,
        problem: &str,
    ) -> Result<(), Error> {
        let first = self.overrides.iter().find_map(|(host, own)| Some((host, wrong(own)?)));
        first.map_or(Ok(()), |(host, field)| {
            Err(Error::new(&format!("overrides.{host}.{field}"), problem))
        })
    }
}

const ONLY_WHOLE: &str = "one host of a pool cannot have its own";

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
