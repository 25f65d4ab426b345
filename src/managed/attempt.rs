//! One connect: the task that it runs in.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use crate::ending::discard;
use crate::error::{CloseReason, RejectReason, Rejected};
#[cfg(feature = "tracing")]
use crate::events::Name;
use crate::events::event;
use crate::handle::Group;
use crate::managed::error::Failure;
use crate::managed::health::{Blow, Struck, Vitals};
use crate::managed::keeper::moment;
use crate::managed::line::Id;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::prewarm::Report;
use crate::managed::room::Grant;
use crate::managed::slot::{Permit, Slot};
use crate::unit::Unit;

/// A connect under way. Whoever it was for may go; then it serves others.
pub(crate) struct Attempt<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: Arc<Inner<K, M>>,
    group: Group<K, Slot<M::Connection>>,
    /// Whose it is; `None` if nobody waits for it.
    by: Option<Id>,
    /// Until it has come to an end. Keeps the desk.
    permit: Option<Permit>,
    /// The place of the connection in the pool, until it is there.
    unit: Option<Unit<K, Slot<M::Connection>>>,
    start: Instant,
    /// As `start`, for the health of the peer.
    began: u64,
    /// Who wants to know what comes of it.
    report: Option<Arc<Report<M::Error>>>,
}

impl<K, M> Attempt<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// A connect that is about to be started for the one in this place, or for nobody.
    pub fn new(
        inner: Arc<Inner<K, M>>,
        group: Group<K, Slot<M::Connection>>,
        by: Option<Id>,
        grant: Grant<K, M::Connection>,
    ) -> Self {
        inner.registry.tally.connects.started.add();
        let Grant { permit, unit } = grant;
        let (permit, start) = (Some(permit), Instant::now());
        Self { inner, group, by, permit, unit, start, began: moment(), report: None }
    }

    /// Somebody wants to know what comes of it.
    pub fn reporting(mut self, report: Arc<Report<M::Error>>) -> Self {
        self.report = Some(report);
        self
    }

    pub async fn run(mut self) {
        let desk = self.permit.as_ref().expect("it has not come to an end").desk;
        let connect_timeout = self.inner.terms_of(desk).connect_timeout;
        let connect = self.inner.manager.connect(self.group.key());
        // By itself, so that the connect has gone when its permit is freed.
        let outcome = timeout(connect_timeout, connect).await;
        match outcome {
            Ok(Ok(connection)) => self.succeed(connection),
            Ok(Err(error)) => self.fail(Failure::Connect(Arc::new(error))),
            Err(_elapsed) => self.fail(Failure::ConnectTimeout { connect_timeout }),
        }
    }

    fn succeed(&mut self, connection: M::Connection) {
        let (Some(permit), Some(mut unit)) = (self.permit.take(), self.unit.take()) else { return };
        let (index, registry) = (permit.desk, &self.inner.registry);
        let desk = registry.desk(index);
        let connects = &registry.tally.connects;
        connects.opened(self.start.elapsed());
        let slot = Slot::new(connection, permit.opened(), self.by);
        let make = || registry.grant(index);
        if !desk.has_taker(self.by) {
            return match self.group.put_in(&mut unit, slot) {
                Ok(_) => {
                    connects.kept.add();
                    desk.shelved_new(&desk.limits, make);
                    registry.attend(&self.inner.core, index);
                    self.succeeded(index);
                }
                Err(rejected) => self.rejected(rejected),
            };
        }
        match self.group.insert_owned_in(&mut unit, slot) {
            Ok(lease) => {
                if let Err(lease) = desk.give_new(lease, self.by, &desk.limits, make) {
                    connects.kept.add();
                    self.inner.pass_on(lease);
                }
                self.succeeded(index);
            }
            Err(rejected) => self.rejected(rejected),
        }
    }

    fn succeeded(&mut self, index: u32) {
        if let Some(report) = self.report.take() {
            report.opened();
        }
        self.inner.registry.ended.notify_waiters();
        self.inner.registry.hasten(index, moment());
    }

    /// The pool did not take the connection.
    fn rejected(&mut self, rejected: Rejected<Slot<M::Connection>>) {
        let (connection, permit) = rejected.connection.into_parts();
        // Closed before its permit is freed; a panic of its destructor changes nothing.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(connection))) {
            discard(panic);
        }
        self.permit = Some(permit);
        self.fail(match rejected.reason {
            RejectReason::Closed => Failure::Closed,
            RejectReason::Draining => Failure::GroupDown,
            reason => Failure::Rejected(reason),
        });
    }

    fn fail(&mut self, failure: Failure<M::Error>) {
        let Some(permit) = self.permit.take() else { return };
        let (index, registry) = (permit.desk, &self.inner.registry);
        let make = || registry.grant(index);
        registry.tally.connects.failed(&failure, self.start.elapsed());
        if let Some(report) = self.report.take() {
            report.failed(failure.clone());
        }
        event!(
            debug,
            group = %Name(&self.inner.core.engine().config, self.group.members()),
            after = ?self.start.elapsed(),
            cause = failure.name(),
            "connect failed"
        );
        let verdict = Verdict::of(&failure);
        if verdict == Verdict::Unreachable {
            // While the permit keeps the desk.
            self.inner.mind_failure(&self.group, index);
        }
        permit.spend();
        let blow = Blow { began: self.began, now: moment(), draw: registry.draw() };
        let (mut struck, mut retry_at) = (Struck::Up, blow.now);
        let strike = |vitals: &mut Vitals| {
            match verdict {
                Verdict::Unreachable => struck = vitals.strike(blow, registry.policy),
                Verdict::Reachable => vitals.recover(),
                Verdict::Unknown => {}
            }
            retry_at = blow.now.max(vitals.retry_at());
            (struck != Struck::Up).then_some(Failure::GroupDown)
        };
        let desk = registry.desk(index);
        let state = desk.fail_and(self.by, failure, &desk.limits, make, strike);
        registry.part(index, state);
        if struck == Struck::Felled {
            event!(
                warn,
                group = %Name(&self.inner.core.engine().config, self.group.members()),
                "peer is down"
            );
            // What is leased is closed when its lease ends, what is idle now.
            let members = self.group.members();
            members.invalidate();
            self.inner.core.engine().clear(members, CloseReason::Drained);
        }
        registry.ended.notify_waiters();
        registry.hasten(index, retry_at);
        // Last: what waits for a place gets this one.
        drop(self.unit.take());
    }
}

/// What a failure says of the peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unreachable,
    /// A connection was opened, and the pool did not take it.
    Reachable,
    Unknown,
}

impl Verdict {
    fn of<E>(failure: &Failure<E>) -> Self {
        match failure {
            Failure::Connect(_) | Failure::ConnectTimeout { .. } | Failure::ConnectAborted => {
                Self::Unreachable
            }
            Failure::Rejected(_) => Self::Reachable,
            _ => Self::Unknown,
        }
    }
}

impl<K, M> Drop for Attempt<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        // Does nothing if it has come to an end; else it panicked, or its runtime ends.
        self.fail(Failure::ConnectAborted);
    }
}
