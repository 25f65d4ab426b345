//! What the public types may be used for: sent to other threads, shared, printed. All of
//! it is checked when this is compiled.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use slabpool::{
    Ago, Builder, Clock, CloseMode, CloseReason, Closes, ConfigError, Connection, Ghosts, Group,
    GroupSettings, GroupStats, KeepAlive, Liveness, ManualClock, Meta, Miss, Misses, Pool, Pooled,
    PooledOwned, PutOptions, RejectReason, Rejected, RetirementBudget, Settings, Stats, Status,
    Token,
};

/// A connection that may be sent, and not shared.
type Sent = Cell<u8>;

fn sent<T: Send>() {}
fn shared<T: Send + Sync>() {}
fn lasting<T: Send + Sync + 'static>() {}
fn plain<T: Copy + PartialEq + Debug + Send + Sync + Unpin + 'static>() {}
fn named<T: Eq + Hash + Display>() {}

#[test]
fn handles_are_shared_whatever_the_connection_is() {
    lasting::<Pool<String, Sent>>();
    lasting::<Group<String, Sent>>();
    lasting::<Pool<u8, Box<dyn Connection + Send>>>();
    sent::<Builder<String, Sent>>();
}

#[test]
fn leases_are_what_their_connection_is() {
    sent::<Pooled<'static, String, Sent>>();
    sent::<PooledOwned<String, Sent>>();
    shared::<Pooled<'static, String, u8>>();
    lasting::<PooledOwned<String, u8>>();
}

/// Both of these hold for a type that may be shared: which one is meant then, the compiler
/// cannot tell.
trait Unshared<A> {
    fn check() {}
}
impl<T> Unshared<()> for T {}
impl<T: Sync> Unshared<u8> for T {}

#[test]
fn a_lease_is_not_shared_where_its_connection_must_not_be() {
    <PooledOwned<String, Sent> as Unshared<_>>::check();
    <Pooled<'static, String, Sent> as Unshared<_>>::check();
}

#[test]
fn what_waits_may_wait_in_a_task() {
    fn is_sent(_: &(impl Send + 'static)) {}
    let pool = Pool::<u8, u8>::new();
    #[cfg(feature = "tokio")]
    {
        is_sent(&pool.reaper());
        is_sent(&pool.drain(Duration::ZERO));
    }
    let group = pool.group(&1);
    is_sent(&async move { group.get_checked(Duration::ZERO, async |_| true).await.is_some() });
    is_sent(&async move { pool.get_checked_owned(&1, Duration::ZERO, async |_| true).await });
}

#[test]
fn numbers_and_settings_are_plain_values() {
    plain::<Status>();
    plain::<GroupStats>();
    plain::<Meta>();
    plain::<Closes>();
    plain::<Misses>();
    plain::<Ghosts>();
    plain::<Token>();
    plain::<KeepAlive>();
    plain::<PutOptions>();
    plain::<GroupSettings>();
    plain::<RetirementBudget>();
    plain::<Liveness>();
    plain::<CloseMode>();
    plain::<RejectReason>();
    lasting::<Settings>();
    lasting::<Stats>();
    lasting::<Clock>();
    lasting::<ManualClock>();
}

#[test]
fn what_is_counted_by_has_a_name() {
    named::<CloseReason>();
    named::<Miss>();
    named::<Ago>();
    named::<Token>();
}

#[test]
fn errors_are_errors() {
    fn error<T: Error + Send + Sync + 'static>() {}
    error::<ConfigError>();
    error::<Rejected<u8>>();
    // Its connection may be sent: so it goes into a `Box<dyn Error + Send>`.
    fn sent_error<T: Error + Send + 'static>() {}
    sent_error::<Rejected<Sent>>();
}
