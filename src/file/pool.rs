//! What a file says of a pool.

use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Span, ranges};
use crate::builder::Builder;
use crate::settings::GroupSettings;

macro_rules! connection_pool {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $range:literal $(, $alias:literal)*;)+) => {
        /// How connections are pooled. What a file does not say is as the builder has it by
        /// default. The names after "or" are understood as well.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "Raw")]
        #[non_exhaustive]
        pub struct ConnectionPool {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )+
        }

        /// As it is written; each field is checked, but not whether they go together.
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Raw {
            $(
                #[serde(deserialize_with = $range)]
                $(#[serde(alias = $alias)])*
                $name: Option<$type>,
            )+
        }

        impl TryFrom<Raw> for ConnectionPool {
            type Error = String;

            fn try_from(raw: Raw) -> Result<Self, String> {
                let pool = Self { $($name: raw.$name,)+ };
                pool.check().map(|()| pool)
            }
        }

        impl ConnectionPool {
            /// What is said here, and where nothing is, what `other` says.
            #[must_use]
            pub fn over(&self, other: &Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)+ }
            }
        }
    };
}

connection_pool! {
    /// The most connections to a host, idle, leased and being opened: the managed pool's
    /// `max_connections_per_group`.
    max_connections: usize, "ranges::positive_count";
    /// So many idle connections to a host are kept, `min_idle_per_group`; or `min_idle`.
    min_connections: usize, "ranges::count", "min_idle";
    /// The most idle connections to a host: `max_idle_per_group`.
    max_idle: usize, "ranges::count";
    /// The most connections in the whole pool, `capacity`; or `capacity`.
    keepalive_pool_size: usize, "ranges::count", "capacity";
    /// `idle_timeout`; or `idle_timeout_seconds`.
    idle_timeout: Span, "ranges::any", "idle_timeout_seconds";
    /// `max_lifetime`; or `max_lifetime_seconds`.
    max_lifetime: Span, "ranges::any", "max_lifetime_seconds";
    /// `lifetime_jitter`.
    lifetime_jitter: f64, "ranges::fraction";
    /// `max_uses`; or `max_requests`.
    max_uses: u64, "ranges::uses", "max_requests";
    /// The managed pool's `max_connecting_per_group`.
    max_connecting: usize, "ranges::connecting";
    /// The managed pool's `max_waiters_per_group`; or `max_pending_requests`.
    max_waiters: usize, "ranges::waiters", "max_pending_requests";
    /// The managed pool's `connect_timeout`; or `connect_timeout_seconds`.
    connect_timeout: Span, "ranges::some_time", "connect_timeout_seconds";
    /// The managed pool's `acquire_timeout`; or `acquire_timeout_seconds`.
    acquire_timeout: Span, "ranges::some_time", "acquire_timeout_seconds";
    /// The managed pool's `check_after`; or `check_after_seconds`.
    check_after: Span, "ranges::any", "check_after_seconds";
}

impl ConnectionPool {
    /// Whether the fields go together.
    pub(super) fn check(&self) -> Result<(), String> {
        let above =
            |small: (&str, Option<usize>), large: (&str, Option<usize>)| match (small.1, large.1) {
                (Some(value), Some(max)) if value > max => Err(format!(
                    "{} is {value}, at most the {max} of {} are possible",
                    small.0, large.0
                )),
                _ => Ok(()),
            };
        let min_connections = ("min_connections", self.min_connections);
        above(min_connections, ("max_connections", self.max_connections))?;
        above(min_connections, ("max_idle", self.max_idle))?;
        let connect = self.connect_timeout.map(time).unwrap_or_default();
        let acquire = self.acquire_timeout.map_or(Duration::MAX, time);
        if connect > acquire {
            return Err(format!(
                "connect_timeout is {connect:?}, at most the {acquire:?} of acquire_timeout are possible"
            ));
        }
        Ok(())
    }

    /// Sets in the builder of a pool what is said here.
    ///
    /// # Errors
    ///
    /// A field that only a managed pool can heed. Whether the values suit what else is set
    /// in the builder, [`Builder::build`] says.
    pub fn apply<K, C>(&self, builder: Builder<K, C>) -> Result<Builder<K, C>, Error>
    where
        K: Hash + Eq + Send + Sync + 'static,
        C: Send + 'static,
    {
        match self.only_managed() {
            Some(field) => Err(Error::new(field, ONLY_MANAGED)),
            None => Ok(self.apply_core(builder)),
        }
    }

    /// A field that only a managed pool can heed.
    pub(super) fn only_managed(&self) -> Option<&'static str> {
        first_of(&[
            ("max_connections", self.max_connections.is_some()),
            ("max_connecting", self.max_connecting.is_some()),
            ("max_waiters", self.max_waiters.is_some()),
            ("connect_timeout", self.connect_timeout.is_some()),
            ("acquire_timeout", self.acquire_timeout.is_some()),
            ("check_after", self.check_after.is_some()),
        ])
    }

    /// A field that one host of a pool cannot have of its own.
    pub(super) fn only_whole(&self) -> Option<&'static str> {
        first_of(&[
            ("keepalive_pool_size", self.keepalive_pool_size.is_some()),
            ("lifetime_jitter", self.lifetime_jitter.is_some()),
            ("check_after", self.check_after.is_some()),
        ])
    }

    fn apply_core<K, C>(&self, mut builder: Builder<K, C>) -> Builder<K, C>
    where
        K: Hash + Eq + Send + Sync + 'static,
        C: Send + 'static,
    {
        if let Some(capacity) = self.keepalive_pool_size {
            builder = builder.capacity(capacity);
        }
        if let Some(min_idle) = self.min_connections {
            builder = builder.min_idle_per_group(min_idle);
        }
        if let Some(max_idle) = self.max_idle {
            builder = builder.max_idle_per_group(max_idle);
        }
        if let Some(timeout) = self.idle_timeout {
            builder = builder.idle_timeout(timeout);
        }
        if let Some(lifetime) = self.max_lifetime {
            builder = builder.max_lifetime(lifetime);
        }
        if let Some(jitter) = self.lifetime_jitter {
            builder = builder.lifetime_jitter(jitter);
        }
        if let Some(max_uses) = self.max_uses {
            builder = builder.max_uses(max_uses);
        }
        builder
    }

    /// Sets in the builder of a managed pool what is said here; see [`apply`](Self::apply).
    #[cfg(feature = "tokio")]
    pub fn apply_managed<K, M>(
        &self,
        mut builder: crate::managed::Builder<K, M>,
    ) -> crate::managed::Builder<K, M>
    where
        K: Hash + Eq + Send + Sync + 'static,
        M: crate::managed::Manager<K>,
    {
        if let Some(max_connections) = self.max_connections {
            builder = builder.max_connections_per_group(max_connections);
        }
        if let Some(max_connecting) = self.max_connecting {
            builder = builder.max_connecting_per_group(max_connecting);
        }
        if let Some(max_waiters) = self.max_waiters {
            builder = builder.max_waiters_per_group(max_waiters);
        }
        if let Some(timeout) = self.connect_timeout {
            builder = builder.connect_timeout(time(timeout));
        }
        if let Some(timeout) = self.acquire_timeout {
            builder = builder.acquire_timeout(time(timeout));
        }
        if let Some(idle_for) = self.check_after {
            builder = builder.check_after(time(idle_for));
        }
        let pool = self.clone();
        builder.settings(move |core| pool.apply_core(core))
    }

    /// What is said here of one group of a managed pool, for
    /// [`group_limits`](crate::managed::Builder::group_limits): `max_connections`,
    /// `max_connecting`, `max_waiters`, `connect_timeout` and `acquire_timeout`. The rest is in
    /// [`group_settings`](Self::group_settings).
    #[cfg(feature = "tokio")]
    pub fn group_limits(&self) -> crate::managed::GroupLimits {
        let mut group = crate::managed::GroupLimits::new();
        if let Some(max_connections) = self.max_connections {
            group = group.max_connections(max_connections);
        }
        if let Some(max_connecting) = self.max_connecting {
            group = group.max_connecting(max_connecting);
        }
        if let Some(max_waiters) = self.max_waiters {
            group = group.max_waiters(max_waiters);
        }
        if let Some(timeout) = self.connect_timeout {
            group = group.connect_timeout(time(timeout));
        }
        if let Some(timeout) = self.acquire_timeout {
            group = group.acquire_timeout(time(timeout));
        }
        group
    }

    /// What is said here of one group, for [`Group::configure`](crate::Group::configure) and
    /// [`Builder::group_settings`]. The capacity is not part of it, nor what
    /// only a managed pool has.
    pub fn group_settings(&self) -> GroupSettings {
        let mut group = GroupSettings::new();
        if let Some(min_idle) = self.min_connections {
            group = group.min_idle(min_idle);
        }
        if let Some(max_idle) = self.max_idle {
            group = group.max_idle(max_idle);
        }
        if let Some(timeout) = self.idle_timeout {
            group = group.idle_timeout(timeout);
        }
        if let Some(lifetime) = self.max_lifetime {
            group = group.max_lifetime(lifetime);
        }
        if let Some(max_uses) = self.max_uses {
            group = group.max_uses(max_uses);
        }
        group
    }
}

pub(super) const ONLY_MANAGED: &str = "only a managed pool has it";

fn first_of(fields: &[(&'static str, bool)]) -> Option<&'static str> {
    fields.iter().find(|(_, is_there)| *is_there).map(|(field, _)| *field)
}

/// For ever is longer than anybody waits.
fn time(span: Span) -> Duration {
    Option::from(span).unwrap_or(Duration::MAX)
}
