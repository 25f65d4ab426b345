//! What concerns the whole managed pool, or a whole group: ends, settings, numbers.

use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

use crate::drain::Drained;
use crate::managed::error::Failure;
use crate::managed::manager::Manager;
use crate::managed::pool::Pool;
use crate::settings::Settings;
use crate::stats::Stats;

/// What is in a managed pool. From [`Pool::status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Connections that wait to be leased.
    pub idle: usize,
    /// Connections that are leased.
    pub leased: usize,
    /// Connections that are being opened.
    pub connecting: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// Streams of connections that serve several at a time.
    pub streams: usize,
    /// Peers that have a connection, a connect or a caller.
    pub groups: usize,
    /// The most connections that the pool holds, idle and leased together.
    pub capacity: usize,
}

/// What there is of one peer. From [`Pool::group_status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Connections that wait to be leased.
    pub idle: usize,
    /// Connections that are leased.
    pub leased: usize,
    /// Connections that are being opened, or may be, by a caller that was told so.
    pub connecting: usize,
    /// Connections that count: idle, leased, being opened, or just being closed.
    pub connections: usize,
    /// Callers that wait, with a connect under way for them or not.
    pub waiting: usize,
    /// Connections among those leased that serve several at a time.
    pub shared: usize,
    /// Their streams.
    pub streams: usize,
}

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Closes the pool, for good: what is idle at once, what is leased when its lease ends.
    /// All who wait get [`Closed`](crate::managed::AcquireError::Closed) at once, and so does
    /// everybody from now on. What is being opened is closed when it is open.
    pub fn close(&self) {
        self.inner.core.close();
        for desk in self.inner.registry.all() {
            self.inner.registry.desk(desk).fail_all(Failure::Closed);
            self.inner.drain_channels(desk);
        }
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.core.is_closed()
    }

    /// Closes the pool as [`close`](Pool::close) does, and then waits for its leases; see
    /// [`slabpool::Pool::drain`](crate::Pool::drain). Does not wait for what is being
    /// opened.
    ///
    /// # Panics
    ///
    /// When it has to wait, and is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting. The pool stays closed.
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = Drained> + Send + use<K, M> {
        self.close();
        self.inner.core.drain(deadline)
    }

    /// Takes a peer out of service, until [`resume_group`](Pool::resume_group): what is idle
    /// is closed, what is leased is closed when its lease ends, what is being opened when it
    /// is open. All who wait for it get
    /// [`GroupDown`](crate::managed::AcquireError::GroupDown) at once, and so does everybody
    /// who asks for it.
    pub fn drain_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let group = self.inner.core.group(key);
        group.drain();
        // A visit, so that the desk stays this peer's.
        let visit = self.inner.registry.visit(group.members());
        visit.desk().fail_all(Failure::GroupDown);
        self.inner.drain_channels(visit.desk);
    }

    /// Takes a peer into service again.
    pub fn resume_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.resume_group(key);
    }

    /// Closes all idle connections. Those that serve several at a time take no new streams
    /// from now on.
    pub fn clear(&self) {
        self.inner.core.clear();
        self.drain_all_channels();
    }

    /// As [`clear`](Pool::clear), of one peer.
    pub fn clear_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.clear_group(key);
        self.look_up(key).into_iter().for_each(|desk| self.inner.drain_channels(desk));
    }

    /// Shows each idle connection to `keep`, and closes it if that returns `false`; see
    /// [`slabpool::Pool::retain`](crate::Pool::retain).
    ///
    /// # Panics
    ///
    /// If `keep` does. The connection it was looking at stays in the pool.
    pub fn retain(&self, mut keep: impl FnMut(&K, &crate::Meta, &mut M::Connection) -> bool) {
        self.inner.core.retain(|key, meta, slot| keep(key, meta, slot));
    }

    /// As [`slabpool::Pool::invalidate`](crate::Pool::invalidate).
    pub fn invalidate(&self) {
        self.inner.core.invalidate();
        self.drain_all_channels();
    }

    /// As [`slabpool::Pool::invalidate_group`](crate::Pool::invalidate_group).
    pub fn invalidate_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.invalidate_group(key);
        self.look_up(key).into_iter().for_each(|desk| self.inner.drain_channels(desk));
    }

    /// Changes settings of the pool below; see
    /// [`slabpool::Pool::reconfigure`](crate::Pool::reconfigure).
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError) names the first setting that cannot work;
    /// nothing is changed.
    ///
    /// # Panics
    ///
    /// As that does.
    pub fn reconfigure(
        &self,
        change: impl FnOnce(&mut Settings),
    ) -> Result<(), crate::ConfigError> {
        self.inner.core.reconfigure(change)
    }

    /// What is in the pool, and who waits. Reads every seat, and goes to every desk.
    pub fn status(&self) -> Status {
        let core = self.inner.core.status();
        let desks = self.inner.registry.all();
        let mut status = Status {
            idle: core.idle,
            leased: core.leased,
            groups: desks.len(),
            capacity: core.capacity,
            ..Status::default()
        };
        for desk in desks {
            let desk = self.inner.registry.desk(desk);
            status.connecting += desk.word.load().connecting() as usize;
            status.waiting += desk.waiting();
            status.streams += desk.bench().streams;
        }
        status
    }

    /// What there is of one peer, and who waits for it.
    pub fn group_status<Q>(&self, key: &Q) -> GroupStatus
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let core = self.inner.core.group_status(key);
        let mut status =
            GroupStatus { idle: core.idle, leased: core.leased, ..GroupStatus::default() };
        if let Some(desk) = self.look_up(key) {
            let desk = self.inner.registry.desk(desk);
            let state = desk.word.load();
            status.connecting = state.connecting() as usize;
            status.connections = state.connections() as usize;
            status.waiting = desk.waiting();
            let bench = desk.bench();
            (status.shared, status.streams) = (bench.channels, bench.streams);
        }
        status
    }

    /// What has happened in the pool below. A caller that finds nothing at once counts as a
    /// miss, whatever it gets in the end.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// As [`slabpool::Pool::maintain`](crate::Pool::maintain).
    ///
    /// Looks besides at connections that could have no [stream](Manager::streams) for now.
    pub fn maintain(&self) -> usize {
        for desk in self.inner.registry.all() {
            self.inner.tend(desk);
        }
        self.inner.core.maintain()
    }

    /// The desk of a peer, for a look.
    fn look_up<Q>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.inner.core.engine().directory.hash(key);
        self.inner.registry.look_up(hash, key)
    }

    fn drain_all_channels(&self) {
        for desk in self.inner.registry.all() {
            self.inner.drain_channels(desk);
        }
    }

    /// As [`slabpool::Pool::tick`](crate::Pool::tick).
    pub fn tick(&self) -> Duration {
        self.inner.core.tick()
    }

    /// As [`slabpool::Pool::reaper`](crate::Pool::reaper). The first connect spawns one,
    /// unless the [pool below](crate::managed::Builder::settings) was told otherwise.
    ///
    /// # Panics
    ///
    /// As that does.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the maintenance, and nothing else.
    pub fn reaper(&self) -> impl Future<Output = ()> + Send + use<K, M> {
        self.inner.core.reaper()
    }
}
