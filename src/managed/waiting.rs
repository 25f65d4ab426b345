//! A caller that found no idle connection: from its place in the line to what it gets.

use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::checked::Unsound;
use crate::handle::Group;
use crate::lease::PooledOwned;
use crate::managed::attempt::Attempt;
use crate::managed::builder::OnMiss;
use crate::managed::desk::{Joins, LineFull, News, Ticket};
use crate::managed::error::AcquireError;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::registry::{Caller, Visit};
use crate::managed::sharing::Prospect;
use crate::managed::slot::Slot;
use crate::managed::streams::Begun;

pub(super) type LeaseOf<K, M> = PooledOwned<K, Slot<<M as Manager<K>>::Connection>>;
pub(super) type ErrorOf<K, M> = AcquireError<<M as Manager<K>>::Error>;
type Acquired<K, M> = Result<LeaseOf<K, M>, ErrorOf<K, M>>;

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// For a connection of its own.
    Alone,
    /// For a connection of its own that it has opened for itself, if that can be.
    Fresh,
    /// For a connection, or a stream of one; having looked for one so far, as a prospect.
    Sharing { prospect: bool },
}

/// What the waiting ends with.
pub(super) enum Got<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// One who shares is a prospect now.
    Lease(LeaseOf<K, M>),
    Stream(Begun),
}

/// When an acquire began, and when it must end.
#[derive(Clone, Copy)]
pub(crate) struct Spell {
    pub(super) start: Instant,
    end: Instant,
}

impl Spell {
    pub fn of(timeout: Duration) -> Self {
        let start = Instant::now();
        // A time that is too far away to be told is for ever: thirty years.
        let for_ever = Duration::from_secs(30 * 365 * 24 * 3_600);
        Self { start, end: start.checked_add(timeout.min(for_ever)).unwrap_or(start) }
    }

    /// Whether there is no time left.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.end
    }

    pub fn waited(self) -> Duration {
        self.start.elapsed()
    }

    /// When it is too late to start a connect that is wanted from `first` on.
    fn connect_by(self, first: Instant, connect_timeout: Duration) -> Instant {
        let left = self.end.saturating_duration_since(first);
        match left.checked_sub(connect_timeout) {
            Some(spare) if !spare.is_zero() => first + spare,
            _ => first + left / 2,
        }
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// A connection that may be used, for a caller that did not find one at once, or found
    /// one that it may not take yet.
    pub async fn seek(
        self: Arc<Self>,
        group: Group<K, Slot<M::Connection>>,
        found: Option<LeaseOf<K, M>>,
        spell: Spell,
    ) -> Acquired<K, M> {
        let visit = self.registry.visit(group.members()).map_err(AcquireError::GroupLimits)?;
        self.mind(&group, visit.desk);
        let mut found = found;
        // When it first has to wait, as good as now.
        let mut since = Some(spell.start);
        loop {
            let lease = match found.take() {
                Some(lease) if !self.must_wait(visit.desk) => lease,
                other => {
                    // Whoever waits was here before.
                    other.into_iter().for_each(|lease| self.pass_on(lease));
                    let since = since.take().unwrap_or_else(Instant::now);
                    match self.wait(&visit, &group, spell, since, Kind::Alone).await? {
                        Got::Lease(lease) => lease,
                        Got::Stream(_) => unreachable!("those who share get streams"),
                    }
                }
            };
            match self.check(lease, spell).await? {
                Some(lease) => return Ok(lease),
                None => {
                    found = self.registry.lease_again(&self.core, group.members());
                    since = None;
                }
            }
        }
    }

    /// Whether a connection must be checked: whether it was idle for long.
    pub(super) fn is_due(&self, lease: &LeaseOf<K, M>) -> bool {
        lease.idle_nanos() >= self.check_after && lease.meta().reused
    }

    /// Checks a connection if it was idle for long. `None` if it is of no more use.
    pub(super) async fn check(
        &self,
        lease: LeaseOf<K, M>,
        spell: Spell,
    ) -> Result<Option<LeaseOf<K, M>>, ErrorOf<K, M>> {
        if !self.is_due(&lease) {
            return Ok(Some(lease));
        }
        // Closed if the check does not come to an end: half a ping may be left in it.
        let mut lease = Unsound::new(lease);
        match timeout_at(spell.end, self.manager.check(lease.connection())).await {
            Ok(true) => Ok(Some(lease.passed())),
            Ok(false) => {
                lease.failed();
                Ok(None)
            }
            Err(_elapsed) => {
                drop(lease);
                Err(AcquireError::Timeout { waited: spell.waited(), last: None })
            }
        }
    }

    /// Why nobody gets a connection to this peer, if nobody does.
    fn refusal(
        &self,
        visit: &VisitOf<K, M>,
        group: &Group<K, Slot<M::Connection>>,
    ) -> Option<ErrorOf<K, M>> {
        if self.core.is_closed() {
            return Some(AcquireError::Closed);
        }
        let down = self.registry.policy.down_after > 0 && visit.desk().refuses();
        (down || group.is_draining()).then_some(AcquireError::GroupDown)
    }

    /// What to tell one for whom there is no place in the line. Not that, if there is nothing
    /// to stand in line for.
    pub(super) fn turn_away(
        &self,
        visit: &VisitOf<K, M>,
        group: &Group<K, Slot<M::Connection>>,
    ) -> ErrorOf<K, M> {
        let waiters_max = visit.desk().limits.load().waiters as usize;
        let full = AcquireError::TooManyWaiters { waiters_max };
        self.refusal(visit, group).unwrap_or(full)
    }

    /// Waits in line, since this time.
    pub(super) async fn wait(
        self: &Arc<Self>,
        visit: &VisitOf<K, M>,
        group: &Group<K, Slot<M::Connection>>,
        spell: Spell,
        since: Instant,
        kind: Kind,
    ) -> Result<Got<K, M>, ErrorOf<K, M>> {
        let (how, patience) = match self.on_miss {
            _ if kind == Kind::Fresh => (Joins::Apart, None),
            OnMiss::Race => (Joins::Wanting, None),
            OnMiss::Wait(time) => (Joins::Patient, Some(time)),
            OnMiss::Connect => (Joins::Apart, None),
        };
        let first_wish = since.checked_add(patience.unwrap_or_default()).unwrap_or(spell.end);
        let first_wish = first_wish.min(spell.end);
        let connect_timeout = self.terms_of(visit.desk).connect_timeout;
        let caller = Caller {
            members: Arc::clone(group.members()),
            connect_by: spell.connect_by(first_wish, connect_timeout),
        };
        let (desk, registry) = (visit.desk(), &self.registry);
        let make = || registry.grant(visit.desk);
        let joined = match kind {
            Kind::Alone | Kind::Fresh => desk.join(caller, how, &desk.limits, make),
            Kind::Sharing { prospect } => {
                desk.join_sharing(caller, how, &desk.limits, make, prospect)
            }
        };
        let ticket = joined.map_err(|LineFull| self.turn_away(visit, group))?;
        let waiter = Waiter { inner: self, visit, group, ticket, kind, gone: false };
        // In the line first, and looks then: see `desk.rs`.
        group.members().lanes.barrier();
        if group.members().lanes.live(&self.core.engine().core) > 0 {
            registry.serve(&self.core, visit.desk);
        }
        if let Some(refusal) = self.refusal(visit, group) {
            return Err(refusal);
        }
        if patience.is_some() {
            match timeout_at(first_wish, waiter.outcome()).await {
                Ok(outcome) => return outcome,
                Err(_elapsed) => {
                    desk.want(ticket.id, &desk.limits, || registry.grant(visit.desk));
                }
            }
        }
        match timeout_at(spell.end, waiter.outcome()).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => waiter.give_up(spell),
        }
    }
}

pub(super) type VisitOf<K, M> = Visit<K, <M as Manager<K>>::Connection, <M as Manager<K>>::Error>;

/// A place in the line. What is left in it when this is dropped goes to others.
struct Waiter<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: &'a Arc<Inner<K, M>>,
    visit: &'a VisitOf<K, M>,
    group: &'a Group<K, Slot<M::Connection>>,
    ticket: Ticket,
    kind: Kind,
    gone: bool,
}

impl<K, M> Waiter<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// The end of the waiting. Starts a connect when it is this caller's turn to.
    ///
    /// Cancel safe: what is there stays there until it is seen.
    async fn outcome(&self) -> Result<Got<K, M>, ErrorOf<K, M>> {
        poll_fn(|cx| {
            loop {
                match self.visit.desk().poll(self.ticket.id, cx) {
                    Poll::Ready(News::Outcome(outcome)) => {
                        return Poll::Ready(self.received(outcome).map(Got::Lease));
                    }
                    Poll::Ready(News::Stream(stream)) => {
                        return Poll::Ready(Ok(Got::Stream(stream)));
                    }
                    Poll::Ready(News::Grant(grant)) => {
                        let at = (self.visit, self.group);
                        let grant = match self.inner.furnish(grant, self.ticket.id, at) {
                            Ok(Some(grant)) => grant,
                            Ok(None) => continue,
                            Err(error) => return Poll::Ready(Err(error)),
                        };
                        let (inner, group) = (Arc::clone(self.inner), self.group.clone());
                        let attempt = Attempt::new(inner, group, Some(self.ticket.id), grant);
                        drop(tokio::spawn(attempt.run()));
                        self.inner.grow(self.group.members(), self.visit.desk);
                    }
                    Poll::Ready(News::Look) => {
                        if !self.look() {
                            return Poll::Pending;
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// The end of the waiting, which its caller sees.
    fn received(&self, mut outcome: Acquired<K, M>) -> Acquired<K, M> {
        if let Ok(lease) = &mut outcome {
            lease.received(self.ticket.id);
            if lease.meta().reused {
                self.inner.registry.tally.handed_over();
            }
        }
        outcome
    }

    /// Was nudged: looks for an idle connection. False if there is nothing new.
    fn look(&self) -> bool {
        let (inner, desk, lanes) = (self.inner, self.visit.desk(), &self.group.members().lanes);
        // Off the nudged first, and looks then: see `desk/barging.rs`.
        lanes.barrier();
        // To find nothing would count as a miss.
        if lanes.were_bare() {
            return false;
        }
        let lease = inner.registry.lease_again(&inner.core, self.group.members());
        let Some(lease) = lease else { return false };
        if let Err(lease) = desk.take(self.ticket.id, lease) {
            inner.pass_on(lease);
        }
        // Those who came before the barrier may have left it to this one to say that there
        // is more.
        if !lanes.were_bare() && desk.word.load().is_waiting() {
            desk.nudge();
        }
        true
    }

    /// The time is up: takes what has come at the last moment.
    fn give_up(mut self, spell: Spell) -> Result<Got<K, M>, ErrorOf<K, M>> {
        self.gone = true;
        let desk = self.visit.desk();
        let last = match desk.failure_since(self.ticket) {
            Some(AcquireError::Connect(error)) => Some(error),
            _ => None,
        };
        let left = desk.leave(self.ticket.id);
        match (left.outcome, left.stream) {
            (Some(outcome), _) => self.received(outcome).map(Got::Lease),
            (None, Some(stream)) => Ok(Got::Stream(stream)),
            (None, None) => Err(AcquireError::Timeout { waited: spell.waited(), last }),
        }
    }
}

impl<K, M> Drop for Waiter<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        // A permit that was not used frees itself.
        let left = self.visit.desk().leave(self.ticket.id);
        if let Some(Ok(lease)) = left.outcome {
            self.inner.pass_on(lease);
            if let Kind::Sharing { .. } = self.kind {
                drop(Prospect::of(self.inner, self.visit.desk));
            }
        }
        if let Some(stream) = left.stream {
            self.inner.undo_stream(stream.channel);
        }
    }
}
