//! Contenders at acquiring: pools whose callers wait, under tokio.
//!
//! All of them pool numbers in memory, of one kind, up to [`CONNECTIONS`], which are all open
//! before anything is measured. None checks what it hands out: bb8 is told not to, and
//! deadpool's manager has nothing to do. slabpool has keys, and the others have none.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, ready};
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed as deadpool_managed;
use slabpool::managed;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::yield_now;

use super::fast::FastPool;
use super::{Connection, Work};

/// What a pool holds.
pub const CONNECTIONS: usize = 16;
/// Tasks that use it at a time, and how often each does.
const TASKS: usize = 64;
const TURNS: usize = 10;
/// Of a runtime with several threads, as the machine has cores.
const WORKERS: usize = 2;

const KEY: u64 = 7;
const OPENS: &str = "a connection in memory can be opened";
const IN_TIME: &str = "the others give theirs back soon";
/// Of an acquire: as slabpool's own.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A name, and how to make the work for a runtime.
pub type OnRuntime = (&'static str, fn(&Arc<Runtime>) -> Work);

/// A pool of numbers.
pub trait Subject: Clone + Send + Sync + 'static {
    type Lease<'a>: DerefMut<Target = Connection> + Send;
    type Error: Debug + Send;

    fn new(connections: usize) -> impl Future<Output = Self> + Send;

    /// The pool's own future, with nothing around it.
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send;

    /// Gives a connection back.
    #[inline(always)]
    fn end(lease: Self::Lease<'_>) {
        drop(lease);
    }
}

/// Acquires a connection, counts in it, and gives it back.
pub const UNCONTENDED: [OnRuntime; 8] = [
    ("slabpool, released", uncontended::<Slabpool<false>>),
    ("slabpool, dropped", uncontended::<Slabpool<true>>),
    ("deadpool", uncontended::<Deadpool<false>>),
    ("deadpool, with a timeout", uncontended::<Deadpool<true>>),
    ("bb8", uncontended::<Bb8>),
    ("fast_pool", uncontended::<FastPool>),
    ("slabpool's core, get and release", uncontended::<Core>),
    ("tokio's Semaphore", uncontended::<Permits>),
];

/// 64 tasks, each of which does so ten times, on 16 connections.
pub const TASKS_64: [OnRuntime; 8] = [
    ("slabpool, released", tasks::<Slabpool<false>, false>),
    ("slabpool, dropped", tasks::<Slabpool<true>, false>),
    ("deadpool", tasks::<Deadpool<false>, false>),
    ("deadpool, with a timeout", tasks::<Deadpool<true>, false>),
    ("bb8", tasks::<Bb8, false>),
    ("fast_pool", tasks::<FastPool, false>),
    ("tokio's Semaphore", tasks::<Permits, false>),
    ("tasks that acquire nothing", tasks::<Nothing, false>),
];

/// The same, but whoever has a connection lets others run before it gives it back. So there
/// are those who wait.
pub const TASKS_64_YIELDING: [OnRuntime; 8] = [
    ("slabpool, released", tasks::<Slabpool<false>, true>),
    ("slabpool, dropped", tasks::<Slabpool<true>, true>),
    ("deadpool", tasks::<Deadpool<false>, true>),
    ("deadpool, with a timeout", tasks::<Deadpool<true>, true>),
    ("bb8", tasks::<Bb8, true>),
    ("fast_pool", tasks::<FastPool, true>),
    ("tokio's Semaphore", tasks::<Permits, true>),
    ("tasks that acquire nothing", tasks::<Nothing, true>),
];

/// A runtime of one thread, or of several.
pub fn runtime(threads: usize) -> Arc<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    Arc::new(builder.worker_threads(threads).enable_all().build().expect("there are threads"))
}

/// The runtimes that are measured.
pub fn runtimes() -> [(&'static str, Arc<Runtime>); 2] {
    [("1 thread", runtime(1)), ("2 threads", runtime(WORKERS))]
}

fn uncontended<S: Subject>(runtime: &Arc<Runtime>) -> Work {
    let (runtime, subject) = made::<S>(runtime);
    Box::new(move |_, count| {
        let subject = subject.clone();
        let turns = runtime.spawn(async move {
            for _ in 0..count {
                turn::<S, false>(&subject).await;
            }
        });
        runtime.block_on(turns).expect("no contender panics");
    })
}

/// One operation is all that the tasks do together, from when the first is spawned.
fn tasks<S: Subject, const YIELDS: bool>(runtime: &Arc<Runtime>) -> Work {
    let (runtime, subject) = made::<S>(runtime);
    Box::new(move |_, count| {
        runtime.block_on(async {
            for _ in 0..count {
                let spawn = |_| {
                    let subject = subject.clone();
                    tokio::spawn(async move {
                        for _ in 0..TURNS {
                            turn::<S, YIELDS>(&subject).await;
                        }
                    })
                };
                let handles: Vec<_> = (0..TASKS).map(spawn).collect();
                for handle in handles {
                    handle.await.expect("no contender panics");
                }
            }
        });
    })
}

#[inline(always)]
async fn turn<S: Subject, const YIELDS: bool>(subject: &S) {
    let mut lease = subject.acquire().await.expect(IN_TIME);
    *lease += 1;
    black_box(*lease);
    if YIELDS {
        yield_now().await;
    }
    S::end(lease);
}

/// A pool all of whose connections are open and idle.
fn made<S: Subject>(runtime: &Arc<Runtime>) -> (Arc<Runtime>, S) {
    (Arc::clone(runtime), runtime.block_on(filled(CONNECTIONS)))
}

/// As [`made`], inside the runtime.
pub async fn filled<S: Subject>(connections: usize) -> S {
    let subject = S::new(connections).await;
    let mut leases = Vec::new();
    for _ in 0..connections {
        leases.push(subject.acquire().await.expect(OPENS));
    }
    leases.into_iter().for_each(S::end);
    subject
}

/// Opens numbers, for whoever asks.
#[derive(Debug)]
pub struct Numbers;

/// Whether leases are dropped, or released.
#[derive(Clone, Debug)]
pub struct Slabpool<const DROPPED: bool>(managed::Pool<u64, Numbers>);

impl managed::Manager<u64> for Numbers {
    type Connection = Connection;
    type Error = Infallible;

    const PROBES: bool = false;

    async fn connect(&self, _: &u64) -> Result<Connection, Infallible> {
        Ok(0)
    }
}

impl<const DROPPED: bool> Subject for Slabpool<DROPPED> {
    type Lease<'a> = managed::Pooled<'a, u64, Numbers>;
    type Error = managed::AcquireError<Infallible>;

    async fn new(connections: usize) -> Self {
        let builder = managed::Pool::builder(Numbers)
            .settings(|core| core.release_on_drop(DROPPED))
            .max_connections_per_group(connections)
            .max_waiters_per_group(1 << 20)
            .acquire_timeout(TIMEOUT);
        Self(builder.build().expect("the settings are possible"))
    }

    #[inline(always)]
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send {
        self.0.acquire(&KEY)
    }

    #[inline(always)]
    fn end(lease: Self::Lease<'_>) {
        if DROPPED { drop(lease) } else { lease.release() }
    }
}

/// With a timeout for waiting, or without, which is the default.
#[derive(Clone, Debug)]
pub struct Deadpool<const TIMED: bool>(deadpool_managed::Pool<Numbers>);

impl deadpool_managed::Manager for Numbers {
    type Type = Connection;
    type Error = Infallible;

    async fn create(&self) -> Result<Connection, Infallible> {
        Ok(0)
    }

    async fn recycle(
        &self,
        _: &mut Connection,
        _: &deadpool_managed::Metrics,
    ) -> deadpool_managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl<const TIMED: bool> Subject for Deadpool<TIMED> {
    type Lease<'a> = deadpool_managed::Object<Numbers>;
    type Error = deadpool_managed::PoolError<Infallible>;

    async fn new(connections: usize) -> Self {
        let builder = deadpool_managed::Pool::builder(Numbers)
            .max_size(connections)
            .wait_timeout(TIMED.then_some(TIMEOUT))
            .runtime(deadpool::Runtime::Tokio1);
        Self(builder.build().expect("the settings are possible"))
    }

    #[inline(always)]
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send {
        self.0.get()
    }
}

#[derive(Clone, Debug)]
pub struct Bb8(bb8::Pool<Numbers>);

impl bb8::ManageConnection for Numbers {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(0)
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl Subject for Bb8 {
    type Lease<'a> = bb8::PooledConnection<'a, Numbers>;
    type Error = bb8::RunError<Infallible>;

    async fn new(connections: usize) -> Self {
        let builder = bb8::Pool::builder()
            .max_size(connections as u32)
            .test_on_check_out(false)
            .connection_timeout(TIMEOUT);
        Self(builder.build(Numbers).await.expect(OPENS))
    }

    #[inline(always)]
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send {
        self.0.get()
    }
}

/// What a managed slabpool is built on, by key. Nobody can wait.
#[derive(Clone, Debug)]
pub struct Core(slabpool::Pool<u64, Connection>);

impl Subject for Core {
    type Lease<'a> = slabpool::Pooled<'a, u64, Connection>;
    type Error = ();

    async fn new(connections: usize) -> Self {
        let pool = super::pool(2 * connections);
        (0..connections as u64).for_each(|number| {
            pool.put(&KEY, number).expect("there is room");
        });
        Self(pool)
    }

    #[inline(always)]
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send {
        ready(self.0.get(&KEY).ok_or(()))
    }

    #[inline(always)]
    fn end(lease: Self::Lease<'_>) {
        lease.release();
    }
}

/// The fair line of waiters that tokio has, with no connections: a control.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Semaphore>);

/// A number that is the caller's own.
#[derive(Debug)]
pub struct Own<P>(Connection, P);

impl Subject for Permits {
    type Lease<'a> = Own<SemaphorePermit<'a>>;
    type Error = Infallible;

    async fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections)))
    }

    #[inline(always)]
    async fn acquire(&self) -> Result<Self::Lease<'_>, Self::Error> {
        Ok(Own(0, self.0.acquire().await.expect("nobody closes it")))
    }
}

/// No pool at all: what the tasks cost.
#[derive(Clone, Debug)]
pub struct Nothing;

impl Subject for Nothing {
    type Lease<'a> = Own<()>;
    type Error = Infallible;

    async fn new(_: usize) -> Self {
        Self
    }

    #[inline(always)]
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send {
        ready(Ok(Own(0, ())))
    }
}

impl<P> Deref for Own<P> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl<P> DerefMut for Own<P> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
