//! A connection with its permit.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::connection::{CloseMode, Connection, Liveness};
use crate::managed::line::Id;

/// A pooled connection, as the pool below has it: with the right to be one of
/// [`max_connections_per_group`](crate::managed::Builder::max_connections_per_group),
/// which ends when this is dropped, wherever that happens.
///
/// It is what hooks see that are set by [`settings`](crate::managed::Builder::settings).
/// It dereferences to the connection.
pub struct Slot<C> {
    connection: C,
    permit: Permit,
    opener: Opener,
}

/// Who had a connection opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    /// One who has this place in the line, or has left it; or nobody.
    Place(Option<Id>),
    /// Its first user.
    User,
}

impl<C> Slot<C> {
    /// One that was opened for somebody in this place, or for nobody.
    pub(crate) fn new(connection: C, permit: Permit, by: Option<Id>) -> Self {
        Self { connection, permit, opener: Opener::Place(by) }
    }

    /// The one in this place gets it.
    pub(crate) fn received(&mut self, by: Id) {
        if self.opener == Opener::Place(Some(by)) {
            self.opener = Opener::User;
        }
    }

    /// Whether its first user had it opened.
    pub(crate) fn is_own(&self) -> bool {
        self.opener == Opener::User
    }

    /// The connection, without the permit: it no longer counts.
    pub fn into_inner(self) -> C {
        self.connection
    }

    pub(crate) fn permit(&self) -> &Permit {
        &self.permit
    }

    pub(crate) fn into_parts(self) -> (C, Permit) {
        (self.connection, self.permit)
    }
}

impl<C> Deref for Slot<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        &self.connection
    }
}

impl<C> DerefMut for Slot<C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        &mut self.connection
    }
}

impl<C: Connection> Connection for Slot<C> {
    fn liveness(&mut self) -> Liveness {
        self.connection.liveness()
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.connection.poll_liveness(cx)
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        self.connection.prepare_close(mode);
    }
}

impl<C: fmt::Debug> fmt::Debug for Slot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

/// Where permits come from. Does not know the pool below, which holds permits.
pub(crate) trait Office: Send + Sync {
    /// The permit of a connection of this desk was given up.
    fn freed(&self, desk: u32, connecting: bool);
}

/// The right to be a connection of a peer (M1). It frees itself when it is dropped.
pub(crate) struct Permit {
    office: Arc<dyn Office>,
    pub desk: u32,
    holds: Holds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Connecting,
    Open,
    Nothing,
}

impl Permit {
    /// For a connection that is to be opened, reserved in the word of this desk.
    pub fn new(office: Arc<dyn Office>, desk: u32) -> Self {
        Self { office, desk, holds: Holds::Connecting }
    }

    /// The connection is open. The caller says so to the word.
    pub fn opened(mut self) -> Self {
        debug_assert!(self.holds == Holds::Connecting);
        self.holds = Holds::Open;
        self
    }

    /// The caller frees it in the word.
    pub fn spend(mut self) {
        self.holds = Holds::Nothing;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.holds != Holds::Nothing {
            self.office.freed(self.desk, self.holds == Holds::Connecting);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("desk", &self.desk).finish_non_exhaustive()
    }
}
