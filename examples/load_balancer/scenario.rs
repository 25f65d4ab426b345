//! What happens in the demonstration: three hosts, many clients, a host that is killed and
//! comes back, and one that says that it is not fit. Each phase lasts for so many requests, or until something has happened.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slabpool::managed::{GroupStatus, Health};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::balancer::{Balancer, Counter, End, Host, Settings, serve};
use crate::client::{Seen, client};
use crate::origin::Origin;

type AnyError = Box<dyn Error + Send + Sync>;

/// Longer than any phase takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

const VICTIM: usize = 0;
const ORDINARY: usize = 1;
pub const SLOW: usize = 2;

/// How long the hosts take for an answer.
const DELAYS: [Duration; 3] =
    [Duration::from_millis(2), Duration::from_millis(2), Duration::from_millis(20)];

/// All are up; one was killed; it is back; another one is not fit.
const PHASES: u64 = 4;

/// How much happens.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub clients: usize,
    /// Requests of all clients together, in [`PHASES`]. Between these there are some more.
    pub requests: u64,
    /// The most connections to a host.
    pub max_connections: usize,
    pub check_interval: Duration,
}

/// What is left of it.
pub struct Outcome {
    pub balancer: Arc<Balancer>,
    pub seen: Arc<Seen>,
    pub end: End,
    pub events: Events,
    origins: Vec<Origin>,
    plan: Plan,
}

/// What was seen of the hosts.
pub struct Events {
    /// Requests sent to each of them while all were up.
    pub before: Vec<u64>,
    killed: Outage,
    /// Requests that the one that was killed has answered when it was back.
    after: u64,
    unfit: Outage,
}

/// What was seen of a host while it was out of service.
struct Outage {
    /// What there was of it in the pool when that began.
    status: GroupStatus,
    /// Requests that were sent to it.
    requests: u64,
}

impl Outage {
    fn is_total(&self) -> bool {
        let GroupStatus { idle, leased, health, .. } = self.status;
        (idle, leased, self.requests) == (0, 0, 0) && health == Health::Drained
    }
}

/// Has it all happen. `tell` hears what, and how many requests have ended.
pub async fn drive(plan: Plan, tell: impl Fn(&str, u64)) -> Result<Outcome, AnyError> {
    let mut origins = Vec::new();
    for delay in DELAYS {
        origins.push(Origin::start(delay).await?);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let settings = Settings {
        max_connections: plan.max_connections,
        acquire_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        check_interval: plan.check_interval,
        check_timeout: PATIENCE,
        ..Settings::default()
    };
    let balancer = Arc::new(Balancer::new(&addresses, settings)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let serving = tokio::spawn(serve(Arc::clone(&balancer), listener, stopped, PATIENCE));

    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for number in 0..plan.clients {
        let seen = Arc::clone(&seen);
        clients.spawn(async move { client(address, number, &seen).await });
    }
    let stage = Stage { balancer: &balancer, seen: &seen, plan, tell: &tell };
    let events = stage.play(&mut origins).await?;
    seen.stop();
    while clients.join_next().await.is_some() {}
    drop(stop);
    let end = serving.await?;
    until(|| origins.iter().all(|origin| origin.open() == 0)).await?;
    Ok(Outcome { balancer, seen, end, events, origins, plan })
}

struct Stage<'a, T> {
    balancer: &'a Balancer,
    seen: &'a Seen,
    plan: Plan,
    tell: &'a T,
}

impl<T: Fn(&str, u64)> Stage<'_, T> {
    async fn play(&self, origins: &mut [Origin]) -> Result<Events, AnyError> {
        self.requests("all hosts are up").await?;
        let sent = self.balancer.hosts().iter().map(|host| host.tally.requests.get());
        let before = sent.collect();

        origins[VICTIM].kill().await;
        let killed = self.outage(VICTIM, "one was killed").await?;
        origins[VICTIM].start_again().await?;
        let host = &self.balancer.hosts()[VICTIM];
        self.until("it was started again", || host.is_up()).await?;
        let answered = host.tally.answers.get();
        self.requests("it is in service again").await?;
        self.until("it is to answer", || host.tally.answers.get() > answered).await?;
        let after = host.tally.answers.get() - answered;

        origins[ORDINARY].set_fit(false);
        let unfit = self.outage(ORDINARY, "one says that it is not fit").await?;
        Ok(Events { before, killed, after, unfit })
    }

    /// Waits until a host is out of service and nothing is left of it, and then for as many
    /// requests as a phase has.
    async fn outage(&self, host: usize, why: &str) -> Result<Outage, AnyError> {
        let host = &self.balancer.hosts()[host];
        let status = || self.balancer.pool().group_status(&host.address);
        let is_empty = |status: GroupStatus| (status.connections, status.waiting) == (0, 0);
        self.until(why, || !host.is_up() && is_empty(status())).await?;
        let (status, before) = (status(), host.tally.requests.get());
        self.requests("one is out of service").await?;
        Ok(Outage { status, requests: host.tally.requests.get() - before })
    }

    /// Lasts for as many requests as a phase has.
    async fn requests(&self, what: &str) -> Result<(), AnyError> {
        let end = self.seen.total() + self.plan.requests / PHASES;
        self.until(what, || self.seen.total() >= end).await
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<(), AnyError> {
        let looks = || {
            (self.tell)(what, self.seen.total());
            holds()
        };
        until(looks).await.map_err(|error| format!("{what}: {error}").into())
    }
}

async fn until(holds: impl Fn() -> bool) -> Result<(), AnyError> {
    let late = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > late {
            return Err(format!("nothing has come of it within {PATIENCE:?}").into());
        }
        sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

impl Outcome {
    /// What must hold, however fast the machine is, and whether it does.
    pub fn expectations(&self) -> Vec<(&'static str, bool)> {
        let Self { balancer, seen, end, events, origins, plan } = self;
        let [right, lost, broken, wrong] = [&seen.right, &seen.lost, &seen.broken, &seen.wrong]
            .map(|count| count.load(Ordering::Relaxed));
        let hosts = balancer.hosts();
        let victim = &hosts[VICTIM].tally;
        let sum = |of: fn(&Host) -> &Counter| hosts.iter().map(|host| of(host).get()).sum::<u64>();
        let answers = sum(|host| &host.tally.answers);
        let status = balancer.pool().status();
        vec![
            ("every request that may be repeated got its own answer", {
                wrong == 0 && right > 0 && balancer.unanswered() == 0
            }),
            ("of the others, at most one for each connection to the dead host was lost", {
                lost + broken == victim.errors.get()
                    && victim.errors.get() == sum(|host| &host.tally.errors)
                    && lost + broken <= plan.max_connections as u64
            }),
            ("every request that was sent was answered, or moved, or lost", {
                answers == right + broken
                    && sum(|host| &host.tally.requests)
                        == answers + sum(|host| &host.tally.moved) + lost
            }),
            ("the dead host and the unfit one were taken out of service, once each", {
                let outages = |host: usize| hosts[host].tally.outages.get();
                (outages(VICTIM), outages(ORDINARY), outages(SLOW)) == (1, 1, 0)
            }),
            ("nothing was left of their groups then, and nothing sent to them", {
                events.killed.is_total() && events.unfit.is_total()
            }),
            ("when the dead host was back, it served again", events.after > 0),
            ("connections served many requests each", {
                sum(|host| &host.tally.connects) * 10 < answers
            }),
            ("nobody was cut off, and nothing is left open", {
                end.cut_off == 0
                    && end.drained.is_complete()
                    && (status.idle, status.leased, status.connecting, status.waiting)
                        == (0, 0, 0, 0)
                    && hosts.iter().all(|host| host.load() == 0)
                    && origins.iter().all(|origin| origin.open() == 0)
            }),
        ]
    }
}
