//! Limits of one peer that differ from those of its pool.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::group::Members;
use crate::managed::error::ConfigError;
use crate::managed::limits::Own;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::registry::{Registry, Visit};
use crate::managed::settings::{Terms, bound};
use crate::managed::waiting::Spell;
use crate::managed::word::{CONNECTING_MAX, CONNECTIONS_MAX, WAITERS_MAX};

/// Limits and times of one peer that differ from those of its pool.
///
/// What is not set here is as the pool has it, also when that is changed by
/// [`reconfigure`](crate::managed::Pool::reconfigure). See
/// [`Builder::group_limits`](crate::managed::Builder::group_limits). How many stay idle, and
/// for how long, is a matter of the pool below:
/// [`slabpool::Builder::group_settings`](crate::Builder::group_settings).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct GroupLimits {
    connections: Option<usize>,
    connecting: Option<usize>,
    waiters: Option<usize>,
    single_flight: Option<bool>,
    acquire_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
}

/// What asks for them.
pub(crate) type LimitsOf<K> = Box<dyn Fn(&K) -> GroupLimits + Send + Sync>;

impl GroupLimits {
    /// No difference.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Builder::max_connections_per_group`](crate::managed::Builder::max_connections_per_group).
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections = Some(connections);
        self
    }

    /// As [`Builder::max_connecting_per_group`](crate::managed::Builder::max_connecting_per_group).
    pub fn max_connecting(mut self, connecting: usize) -> Self {
        self.connecting = Some(connecting);
        self
    }

    /// As [`Builder::max_waiters_per_group`](crate::managed::Builder::max_waiters_per_group).
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.waiters = Some(waiters);
        self
    }

    /// As [`Builder::single_flight`](crate::managed::Builder::single_flight).
    pub fn single_flight(mut self, single: bool) -> Self {
        self.single_flight = Some(single);
        self
    }

    /// As [`Builder::acquire_timeout`](crate::managed::Builder::acquire_timeout). What the
    /// caller says ([`acquire_timeout`](crate::managed::Pool::acquire_timeout)) goes before.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = Some(timeout);
        self
    }

    /// As [`Builder::connect_timeout`](crate::managed::Builder::connect_timeout). Where one of
    /// the two times is the pool's, a connect may take no longer than the `acquire_timeout`
    /// that holds for the peer.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Whether these can work.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first that cannot; the same that
    /// [`Builder::build`](crate::managed::Builder::build) says of the settings of all peers.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.own().map(|_| ())
    }

    /// As a desk has them; `None` if there is no difference.
    pub(crate) fn own(&self) -> Result<Option<Box<Own>>, ConfigError> {
        let Self { single_flight, acquire_timeout, connect_timeout, .. } = *self;
        let checked = |setting, value: Option<usize>, range| {
            value.map(|value| bound(setting, value, range)).transpose()
        };
        let own = Own {
            connections: checked(
                "max_connections_per_group",
                self.connections,
                (1, CONNECTIONS_MAX),
            )?,
            connecting: checked("max_connecting_per_group", self.connecting, (1, CONNECTING_MAX))?,
            waiters: checked("max_waiters_per_group", self.waiters, (0, WAITERS_MAX))?,
            single_flight,
            acquire_timeout,
            connect_timeout,
        };
        // Those of the pool are not known here: the longest, and the shortest.
        let acquire_timeout = acquire_timeout.unwrap_or(Duration::MAX);
        let connect_timeout = connect_timeout.unwrap_or(acquire_timeout.min(SHORTEST));
        Terms { acquire_timeout, connect_timeout }.validate()?;
        Ok((own != Own::default()).then(|| Box::new(own)))
    }
}

impl<K, C, E> Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    /// Visits the desk of the peer that this group is of. An error if that has limits of its
    /// own which cannot work.
    pub fn visit(
        self: &Arc<Self>,
        members: &Arc<Members<K>>,
    ) -> Result<Visit<K, C, E>, ConfigError> {
        let own = match &self.limits_of {
            None => None,
            Some(limits_of) => {
                if let Some(visit) = self.revisit(members.hash, &members.key) {
                    // Release: as in `visit_with`.
                    members.annex.store(visit.desk + 1, Ordering::Release);
                    return Ok(visit);
                }
                // Without a lock, being a user's. In vain, if another one is here first.
                limits_of(&members.key).own()?
            }
        };
        Ok(self.visit_with(members, own))
    }
}

const SHORTEST: Duration = Duration::from_nanos(1);

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// The times that hold for the peer that has this desk.
    pub fn terms_of(&self, desk: u32) -> Terms {
        let terms = **self.terms.load();
        if self.registry.limits_of.is_none() {
            return terms;
        }
        let own = self.registry.desk(desk).own();
        let acquire_timeout = own.acquire_timeout.unwrap_or(terms.acquire_timeout);
        let connect_timeout = own.connect_timeout.unwrap_or(terms.connect_timeout);
        Terms { acquire_timeout, connect_timeout: connect_timeout.min(acquire_timeout) }
    }

    /// The time of one who comes now: what it says, else what holds for its peer.
    pub fn spell_for(&self, timeout: Option<Duration>, members: &Arc<Members<K>>) -> Spell {
        Spell::of(timeout.unwrap_or_else(|| {
            let visit = self.registry.limits_of.as_ref().map(|_| self.registry.visit(members));
            match visit {
                Some(Ok(visit)) => self.terms_of(visit.desk).acquire_timeout,
                // If its limits cannot work, it learns that next.
                Some(Err(_)) | None => self.terms.load().acquire_timeout,
            }
        }))
    }
}

/// The hook itself has nothing to show.
pub(crate) fn shown<K>(limits_of: &Option<LimitsOf<K>>) -> impl fmt::Debug {
    limits_of.as_ref().map(|_| "..")
}
