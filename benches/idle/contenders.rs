//! What is compared.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pingora_pool::{ConnectionMeta, ConnectionPool};
use slabpool::Pool;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::sync::Mutex;
use tokio::task::unconstrained;

use crate::wires::Wire;

/// Longer than anything here takes, so that nothing expires.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Why there is a connection to get.
const IDLE: &str = "none is in use, and none was closed";

/// What happens between get and release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Nothing,
    /// The user has begun to read, and so its waker is registered, not the pool's.
    Read,
}

/// A pool, and what is around it.
pub trait Contender<W: Wire> {
    fn put(&self, key: u64, wire: W);

    /// A get and a release.
    async fn cycle(&self, key: u64, usage: Use);

    /// Whether nothing is left under a key.
    fn is_empty(&self, key: u64) -> bool;
}

/// slabpool, which watches or does not.
pub struct Slab<W>(Pool<u64, W>);

impl<W: Wire> Slab<W> {
    pub fn new(capacity: usize, watch: bool) -> Self {
        let builder = Pool::builder().capacity(capacity).idle_timeout(IDLE_TIMEOUT);
        let builder = if watch { builder.watch() } else { builder };
        Self(builder.build().expect("the settings are possible"))
    }
}

impl<W: Wire> Contender<W> for Slab<W> {
    fn put(&self, key: u64, wire: W) {
        self.0.put(&key, wire).unwrap_or_else(|_| panic!("there is room"));
    }

    async fn cycle(&self, key: u64, usage: Use) {
        let mut lease = self.0.get(&key).expect(IDLE);
        if usage == Use::Read {
            begin_to_read(&mut *lease).await;
        }
        lease.release();
    }

    fn is_empty(&self, key: u64) -> bool {
        self.0.get(&key).is_none()
    }
}

/// pingora-pool as Pingora's connector uses it: a released connection is shared with a
/// task that reads from it, and a get waits until that task has let go of it.
pub struct Pingora<W>(Arc<ConnectionPool<Arc<Mutex<W>>>>);

impl<W: Wire> Pingora<W> {
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(ConnectionPool::new(capacity)))
    }
}

impl<W: Wire> Contender<W> for Pingora<W> {
    fn put(&self, key: u64, mut wire: W) {
        assert!(is_quiet(&mut wire), "{IDLE}");
        let meta = ConnectionMeta::new(key, wire.number() as i32);
        let shared = Arc::new(Mutex::new(wire));
        let locked = Arc::clone(&shared).try_lock_owned().expect("nobody else has it");
        let (notify_evicted, watch_use) = self.0.put(&meta, shared);
        let pool = Arc::clone(&self.0);
        tokio::spawn(async move {
            let timeout = Some(IDLE_TIMEOUT);
            pool.idle_poll(locked, &meta, timeout, notify_evicted, watch_use).await;
        });
    }

    async fn cycle(&self, key: u64, usage: Use) {
        let shared = self.0.get(&key).expect(IDLE);
        drop(shared.lock().await);
        let mutex = Arc::try_unwrap(shared).unwrap_or_else(|_| panic!("its task has ended"));
        let mut wire = mutex.into_inner();
        assert!(is_quiet(&mut wire), "{IDLE}");
        if usage == Use::Read {
            begin_to_read(&mut wire).await;
        }
        self.put(key, wire);
    }

    fn is_empty(&self, key: u64) -> bool {
        self.0.get(&key).is_none()
    }
}

/// Whether there is nothing to read, asked without waiting.
fn is_quiet<W: Wire>(wire: &mut W) -> bool {
    let mut byte = [0; 1];
    let read = pin!(unconstrained(wire.read(&mut byte)));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Registers this task's waker, as one does who waits for an answer.
async fn begin_to_read<W: Wire>(wire: &mut W) {
    unconstrained(poll_fn(|cx| {
        let mut byte = [0; 1];
        let read = Pin::new(&mut *wire).poll_read(cx, &mut ReadBuf::new(&mut byte));
        assert!(read.is_pending(), "{IDLE}");
        Poll::Ready(())
    }))
    .await;
}
