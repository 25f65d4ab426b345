//! One connect: the task that it runs in.

use std::hash::Hash;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::time::timeout;

use crate::error::{RejectReason, Rejected};
use crate::handle::Group;
use crate::managed::error::Failure;
use crate::managed::line::Id;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::slot::{Permit, Slot};
use crate::unit::Unit;

/// A connect under way. Whoever it was for may go; then it serves others.
pub(crate) struct Attempt<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub inner: Arc<Inner<K, M>>,
    pub group: Group<K, Slot<M::Connection>>,
    pub by: Id,
    /// Until it has come to an end. Keeps the desk.
    pub permit: Option<Permit>,
    /// The place of the connection in the pool, until it is there.
    pub unit: Option<Unit<K, Slot<M::Connection>>>,
}

impl<K, M> Attempt<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub async fn run(mut self) {
        let connect_timeout = self.inner.connect_timeout;
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
        let slot = Slot::new(connection, permit.opened());
        let make = || registry.grant(index);
        if !desk.has_taker(self.by) {
            return match self.group.put_in(&mut unit, slot) {
                Ok(_) => {
                    desk.shelved_new(registry.bounds, make);
                    registry.attend(&self.inner.core, index);
                }
                Err(rejected) => self.rejected(rejected),
            };
        }
        match self.group.insert_owned_in(&mut unit, slot) {
            Ok(lease) => {
                if let Err(lease) = desk.give_new(lease, self.by, registry.bounds, make) {
                    self.inner.pass_on(lease);
                }
            }
            Err(rejected) => self.rejected(rejected),
        }
    }

    /// The pool did not take the connection.
    fn rejected(&mut self, rejected: Rejected<Slot<M::Connection>>) {
        let (connection, permit) = rejected.connection.into_parts();
        // Closed before its permit is freed; a panic of its destructor changes nothing.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(connection))) {
            mem::forget(panic);
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
        permit.spend();
        let state = registry.desk(index).fail(self.by, failure, registry.bounds, make);
        registry.part(index, state);
        // Last: what waits for a place gets this one.
        drop(self.unit.take());
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
