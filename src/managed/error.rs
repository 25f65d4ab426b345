//! What can go wrong, and whom it is told.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::RejectReason;

/// Why there is no connection. From [`Pool::acquire`](crate::managed::Pool::acquire).
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// None came in time.
    Timeout {
        /// How long the caller has waited.
        waited: Duration,
        /// The error of the last connect to this peer that failed meanwhile, if one did.
        last: Option<Arc<E>>,
    },
    /// As many wait for this peer as may
    /// ([`max_waiters_per_group`](crate::managed::Builder::max_waiters_per_group)).
    TooManyWaiters {
        /// How many may.
        waiters_max: usize,
    },
    /// The connect that the caller waited for has failed. Others may have waited for the
    /// same one.
    Connect(Arc<E>),
    /// The connect that the caller waited for took longer than it may
    /// ([`connect_timeout`](crate::managed::Builder::connect_timeout)).
    ConnectTimeout {
        /// How long it may take.
        connect_timeout: Duration,
    },
    /// The connect that the caller waited for has panicked, or the runtime that it ran in
    /// has shut down.
    ConnectAborted,
    /// A connection was opened, and the pool did not take it. Or none was, since the pool
    /// may hold nothing: its capacity is 0 ([`RejectReason::Full`]).
    Rejected(RejectReason),
    /// The pool is closed.
    Closed,
    /// The peer is out of service: its group was drained, and not resumed; or as many
    /// connects to it have failed in a row as
    /// [bring it down](crate::managed::Builder::down_after), and it is not time yet to try
    /// again.
    GroupDown,
    /// What [`group_limits`](crate::managed::Builder::group_limits) says of this peer cannot
    /// work.
    GroupLimits(ConfigError),
    /// So many connections to one peer are not possible.
    /// From [`Pool::prewarm`](crate::managed::Pool::prewarm).
    TooManyConnections {
        /// How many were asked for.
        connections: usize,
        /// How many a peer may have
        /// ([`max_connections_per_group`](crate::managed::Builder::max_connections_per_group)).
        connections_max: usize,
        /// How many the pool may have.
        capacity: usize,
    },
}

impl<E: fmt::Display> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { waited, last: None } => write!(f, "no connection within {waited:?}"),
            Self::Timeout { waited, last: Some(error) } => {
                write!(f, "no connection within {waited:?}; the last connect failed: {error}")
            }
            Self::TooManyWaiters { waiters_max } => {
                write!(f, "{waiters_max} callers wait already, which is as many as may")
            }
            Self::Connect(error) => write!(f, "could not connect: {error}"),
            Self::ConnectTimeout { connect_timeout } => {
                write!(f, "could not connect within {connect_timeout:?}")
            }
            Self::ConnectAborted => f.write_str("the connect has panicked, or was aborted"),
            Self::Rejected(reason) => write!(f, "the pool did not take a connection: {reason}"),
            Self::Closed => f.write_str("the pool is closed"),
            Self::GroupDown => f.write_str("the peer is out of service"),
            Self::GroupLimits(error) => write!(f, "the limits of the peer cannot work: {error}"),
            Self::TooManyConnections { connections, connections_max, capacity } => write!(
                f,
                "{connections} connections to one peer are not possible: it may have \
                 {connections_max}, and the pool {capacity}"
            ),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Timeout { last: Some(error), .. } | Self::Connect(error) => Some(&**error),
            Self::GroupLimits(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> Clone for AcquireError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Timeout { waited, last } => Self::Timeout { waited: *waited, last: last.clone() },
            &Self::TooManyWaiters { waiters_max } => Self::TooManyWaiters { waiters_max },
            Self::Connect(error) => Self::Connect(Arc::clone(error)),
            &Self::ConnectTimeout { connect_timeout } => Self::ConnectTimeout { connect_timeout },
            Self::ConnectAborted => Self::ConnectAborted,
            Self::Rejected(reason) => Self::Rejected(*reason),
            Self::Closed => Self::Closed,
            Self::GroupDown => Self::GroupDown,
            Self::GroupLimits(error) => Self::GroupLimits(error.clone()),
            &Self::TooManyConnections { connections, connections_max, capacity } => {
                Self::TooManyConnections { connections, connections_max, capacity }
            }
        }
    }
}

impl<E> AcquireError<E> {
    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::TooManyWaiters { .. } => "too_many_waiters",
            Self::TooManyConnections { .. } => "too_many_connections",
            Self::Connect(_) => "connect",
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::ConnectAborted => "connect_aborted",
            Self::Rejected(_) => "rejected",
            Self::Closed => "closed",
            Self::GroupDown => "group_down",
            Self::GroupLimits(_) => "group_limits",
        }
    }
}

/// What those who wait may be told; the rest of [`AcquireError`] they find out themselves.
pub(crate) type Failure<E> = AcquireError<E>;

/// A setting of a managed pool that cannot work. From
/// [`Builder::build`](crate::managed::Builder::build).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting of the pool below.
    Pool(crate::ConfigError),
    /// A number that is too small or too large.
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
        /// What was asked for.
        value: usize,
        /// The least possible.
        min: usize,
        /// The most possible.
        max: usize,
    },
    /// A time of zero, in which nothing can be done.
    Zero {
        /// The name of the setting.
        setting: &'static str,
    },
    /// The first delay after a connect that has failed is longer than the longest.
    BackoffReversed {
        /// The first delay.
        min: Duration,
        /// The longest one.
        max: Duration,
    },
    /// A connect may take longer than its caller waits.
    ConnectTimeoutAboveAcquireTimeout {
        /// How long a connect may take.
        connect_timeout: Duration,
        /// How long a caller waits.
        acquire_timeout: Duration,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(f),
            Self::OutOfRange { setting, value, min, max } => {
                write!(f, "{setting} is {value}, it must lie between {min} and {max}")
            }
            Self::Zero { setting } => write!(f, "{setting} is zero, which leaves no time at all"),
            Self::BackoffReversed { min, max } => {
                write!(
                    f,
                    "backoff begins with {min:?}, at most the {max:?} of its end are possible"
                )
            }
            Self::ConnectTimeoutAboveAcquireTimeout { connect_timeout, acquire_timeout } => write!(
                f,
                "connect_timeout is {connect_timeout:?}, at most the {acquire_timeout:?} of \
                 acquire_timeout are possible"
            ),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pool(error) => Some(error),
            _ => None,
        }
    }
}

impl From<crate::ConfigError> for ConfigError {
    fn from(error: crate::ConfigError) -> Self {
        Self::Pool(error)
    }
}
