//! What concerns the whole managed pool, or a whole group: ends, settings, numbers.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::managed::condition::Health;
use crate::managed::error::Failure;
use crate::managed::keeper::moment;
use crate::managed::manager::Manager;
use crate::managed::pool::{Inner, Pool};

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
    /// The most connections that the pool holds: idle, leased and being opened.
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
    /// Whether connects to it succeed.
    pub health: Health,
}

/// What came of [`Pool::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "connections may still be out"]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were still in the pool when the deadline was over: leased, or just
    /// being closed.
    pub remaining: usize,
    /// Connects that were still under way then.
    pub connecting: usize,
}

impl Drained {
    /// Whether all leases and connects have ended, and all connections were closed, in time.
    /// That is final.
    pub fn is_complete(self) -> bool {
        self.remaining == 0 && self.connecting == 0
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { remaining, connecting } = self;
        if self.is_complete() {
            return f.write_str("drained");
        }
        write!(f, "at the deadline, {remaining} connections were still out, ")?;
        write!(f, "and {connecting} connects under way")
    }
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
        self.inner.registry.agenda.clear();
        self.inner.registry.ended.notify_waiters();
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.core.is_closed()
    }

    /// Closes the pool as [`close`](Pool::close) does, at once when this is called, and then
    /// waits until all leases and all connects have ended and all connections are closed,
    /// but no longer than `deadline` from the call, rounded up to a millisecond. Connects go
    /// on until they end by themselves, at the latest when the
    /// [`connect_timeout`](crate::managed::Builder::connect_timeout) is over; what they have
    /// opened is closed. A deadline of zero only closes and reports. For the rest see
    /// [`slabpool::Pool::drain`](crate::Pool::drain).
    ///
    /// # Panics
    ///
    /// When it has to wait, and is polled outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting. The pool stays closed, and may be drained
    /// again.
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = Drained> + Send + use<K, M> {
        let start = Instant::now();
        self.close();
        let pool = self.clone();
        async move {
            let Inner { core, registry, .. } = &*pool.inner;
            let capacity = &core.engine().capacity;
            // What is being opened has its place in the pool.
            let left = || {
                let states = registry.all().into_iter().map(|desk| registry.desk(desk).word.load());
                let connecting = states.map(|state| state.connecting() as usize).sum::<usize>();
                let used = capacity.used();
                let connecting = connecting.min(used);
                Drained { remaining: used - connecting, connecting }
            };
            let now = left();
            if now.is_complete() || deadline.is_zero() {
                return now;
            }
            let ended = capacity.emptied();
            let in_time = match start.checked_add(deadline) {
                Some(end) => timeout_at(end, ended).await.is_ok(),
                None => {
                    ended.await;
                    true
                }
            };
            if in_time { Drained { remaining: 0, connecting: 0 } } else { left() }
        }
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
        // A visit, so that the desk stays this peer's. Without a desk nobody waits, and
        // whoever comes sees that it is drained.
        let (hash, registry) = (group.members().hash, &self.inner.registry);
        let Some(visit) = registry.revisit(hash, key) else { return };
        visit.desk().fail_all(Failure::GroupDown);
        self.inner.drain_channels(visit.desk);
        self.inner.registry.ended.notify_waiters();
        self.inner.registry.hasten(visit.desk, moment());
    }

    /// Takes a peer into service again, whether it was drained, or is
    /// [down](crate::managed::Builder::down_after) because connects have failed.
    pub fn resume_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.core.resume_group(key);
        self.inner.revive(key);
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
        status.health = self.inner.health(key);
        status
    }

    /// As [`slabpool::Pool::maintain`](crate::Pool::maintain). Looks besides at connections that
    /// could have no [stream](Manager::streams) for now, and does what is due for
    /// [minimums](crate::managed::Builder::keep_warm).
    pub fn maintain(&self) -> usize {
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
