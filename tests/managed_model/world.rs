//! A pool, those who use it, and the clock.

use std::sync::Arc;
use std::time::Duration;

use slabpool::managed::{AcquireError, Fairness, OnMiss, Pool, PooledOwned, SharedOwned};
use slabpool::{Clock, ManualClock};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::peer::{Conn, Net, Peers};
use crate::script::{Ending, KEYS, Miss, Setup};

pub const ACQUIRE: Duration = Duration::from_millis(300);
pub const CONNECT: Duration = Duration::from_millis(80);
pub const PATIENCE: Duration = Duration::from_millis(20);
pub const MS: Duration = Duration::from_millis(1);

pub type TestPool = Pool<usize, Peers>;
pub type Failure = AcquireError<usize>;

/// Something that is leased. Says to the connection that it has left it.
pub struct Held {
    kind: Option<Kind>,
    /// Whether nobody else can have it meanwhile.
    alone: bool,
}

pub enum Kind {
    Own(PooledOwned<usize, Peers>),
    Share(SharedOwned<usize, Peers>),
}

impl Held {
    pub fn new(mut kind: Kind) -> Self {
        let alone = match &mut kind {
            Kind::Own(_) => true,
            Kind::Share(share) => share.exclusive().is_some(),
        };
        let held = Self { kind: Some(kind), alone };
        held.conn().enter(alone);
        held
    }

    pub fn conn(&self) -> &Conn {
        match self.kind.as_ref().unwrap() {
            Kind::Own(lease) => lease,
            Kind::Share(share) => share,
        }
    }

    pub fn share(&self) -> Option<&SharedOwned<usize, Peers>> {
        match self.kind.as_ref().unwrap() {
            Kind::Own(_) => None,
            Kind::Share(share) => Some(share),
        }
    }

    /// The stream, if it is one of several.
    pub fn stream(&self) -> Option<&SharedOwned<usize, Peers>> {
        self.share().filter(|_| !self.alone)
    }

    pub fn into_kind(mut self) -> Kind {
        self.conn().leave();
        self.kind.take().unwrap()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.kind.is_some() {
            self.conn().leave();
        }
    }
}

/// One who waits, or has waited.
pub struct Caller {
    pub key: usize,
    pub shared: bool,
    pub start: Instant,
    pub end: Instant,
    pub task: JoinHandle<Result<Held, Failure>>,
}

pub struct World {
    pub pool: TestPool,
    pub net: Arc<Net>,
    pub clock: ManualClock,
    pub setup: Setup,
    pub callers: Vec<Caller>,
    pub held: Vec<Held>,
    pub prewarms: Vec<JoinHandle<()>>,
    /// Calls, and among them those who share.
    pub calls: u64,
    pub calls_to_share: u64,
    pub drained: [bool; KEYS],
}

/// Lets all tasks go as far as they get without time passing.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn build(setup: &Setup, net: &Arc<Net>, clock: &ManualClock) -> TestPool {
    let (setup, clock) = (setup.clone(), clock.clone());
    let ms = Duration::from_millis;
    let on_miss = match setup.miss {
        Miss::Race => OnMiss::Race,
        Miss::Wait => OnMiss::Wait(PATIENCE),
        Miss::Connect => OnMiss::Connect,
    };
    let fairness = if setup.barging { Fairness::Barging } else { Fairness::Fair };
    let check_after = setup.check_after.map_or(Duration::MAX, ms);
    Pool::builder(Peers(Arc::clone(net)))
        .max_connections_per_group(setup.bounds.connections)
        .max_connecting_per_group(setup.bounds.connecting)
        .max_waiters_per_group(setup.bounds.waiters)
        .single_flight(setup.bounds.single)
        .acquire_timeout(ACQUIRE)
        .connect_timeout(CONNECT)
        .check_after(check_after)
        .on_miss(on_miss)
        .fairness(fairness)
        .grow_by(setup.grow_by)
        .down_after(setup.down_after)
        .backoff(ms(10), ms(40))
        .keep_warm(ms(200))
        .settings(move |pool| {
            let pool = pool.capacity(setup.bounds.capacity).min_idle_per_group(setup.min_idle);
            let pool = pool.idle_timeout(setup.idle_timeout.map(ms)).lifetime_jitter(0.0);
            let pool = pool.max_lifetime(setup.lifetime.map(ms)).clock(clock);
            let pool = pool.release_on_drop(setup.release_on_drop).spawn_reaper(false);
            match setup.max_uses {
                Some(uses) => pool.max_uses(uses),
                None => pool,
            }
        })
        .build()
        .unwrap()
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let net = Net::new(setup.bounds, setup.streams);
        let clock = Clock::manual();
        Self {
            pool: build(setup, &net, &clock),
            net,
            clock,
            setup: setup.clone(),
            callers: Vec::new(),
            held: Vec::new(),
            prewarms: Vec::new(),
            calls: 0,
            calls_to_share: 0,
            drained: [false; KEYS],
        }
    }

    /// Takes what callers have got.
    pub async fn collect(&mut self) {
        let mut at = 0;
        while at < self.callers.len() {
            if !self.callers[at].task.is_finished() {
                at += 1;
                continue;
            }
            match self.callers.remove(at).task.await {
                Ok(Ok(held)) => self.held.push(held),
                Ok(Err(_)) => {}
                Err(error) => assert!(error.is_panic() || error.is_cancelled()),
            }
        }
        self.prewarms.retain(|task| !task.is_finished());
    }

    pub async fn advance(&mut self, ms: u64) {
        for _ in 0..ms {
            self.clock.advance(MS);
            tokio::time::advance(MS).await;
            settle().await;
            self.collect().await;
            let now = Instant::now();
            let late = self.callers.iter().find(|caller| now > caller.end + MS);
            assert!(late.is_none(), "a caller waits past its deadline: {:?}", self.pool);
        }
    }

    pub async fn end(mut self, ending: Ending) {
        match ending {
            Ending::Rest => self.rest().await,
            Ending::Close => {
                self.pool.close();
                self.refused().await;
            }
            Ending::Drain { deadline } => {
                let drain = tokio::spawn(self.pool.drain(Duration::from_millis(deadline)));
                self.refused().await;
                self.held.truncate(1);
                self.advance(deadline + 2).await;
                assert!(drain.is_finished(), "drain waits past its deadline");
                let drained = drain.await.unwrap();
                let left = self.net.lock().open.iter().sum::<usize>();
                // With no time at all it has counted what was given back since.
                assert!(deadline == 0 || drained.remaining == left, "{drained}, {left} are open");
            }
            Ending::Drop => {}
        }
        let Self { pool, net, held, callers, prewarms, clock, .. } = self;
        drop(pool);
        drop(held);
        // Who waits goes on waiting.
        settle().await;
        for caller in callers {
            caller.task.abort();
            drop(caller.task.await);
        }
        // What hangs does so no longer than a connect may take, one after the other.
        for _ in 0..400 {
            clock.advance(MS);
            tokio::time::advance(MS).await;
            settle().await;
        }
        assert!(prewarms.iter().all(JoinHandle::is_finished), "a prewarm that hangs");
        let state = net.lock();
        assert_eq!((state.open, state.connecting), ([0; KEYS], [0; KEYS]));
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        drop(state);
        assert_eq!(Arc::strong_count(&net), 1, "something keeps the pool");
    }

    /// The pool was closed: all who wait know it.
    async fn refused(&mut self) {
        settle().await;
        self.collect().await;
        let waiting = self.pool.status().waiting;
        assert_eq!(waiting, 0, "they wait for a pool that was closed");
        assert!(matches!(self.pool.acquire(&0).await, Err(AcquireError::Closed)));
        assert!(matches!(self.pool.acquire_shared(&0).await, Err(AcquireError::Closed)));
    }
}
