//! What is tried, and what must come of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::load::{self, Downstream, Plan, Tally};
use crate::origin::Origin;
use crate::server::{Proxy, Setup, wait_for};

/// Descriptors that come and go in Pingora itself.
const SLACK: usize = 16;

/// What went wrong.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, fine: bool, fault: impl FnOnce() -> String) {
        if !fine {
            self.0.push(fault());
        }
    }
}

/// A proxy under load.
struct Scene {
    setup: Setup,
    h1: Vec<Origin>,
    h2: Vec<Origin>,
    proxy: Arc<Proxy>,
    /// Descriptors of the proxy before anybody asked it, and the most of them.
    descriptors: (usize, Arc<AtomicUsize>),
    tally: Arc<Tally>,
    faults: Faults,
}

impl Scene {
    async fn new(name: &str, setup: Setup, h1: usize, h2: usize) -> io::Result<Self> {
        println!("{name}");
        let (mut ones, mut twos) = (Vec::new(), Vec::new());
        for _ in 0..h1 {
            ones.push(Origin::start(false).await?);
        }
        for _ in 0..h2 {
            twos.push(Origin::start(true).await?);
        }
        let proxy = Arc::new(Proxy::start(&setup, &ones, &twos)?);
        let descriptors = (proxy.descriptors(), Arc::default());
        let tally = Arc::default();
        let faults = Faults::default();
        Ok(Self { setup, h1: ones, h2: twos, proxy, descriptors, tally, faults })
    }

    fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.h1.iter().chain(&self.h2)
    }

    fn opened(&self) -> usize {
        self.origins().map(|origin| origin.counts.opened()).sum()
    }

    fn open(&self) -> usize {
        self.origins().map(|origin| origin.counts.open()).sum()
    }

    fn served(&self) -> usize {
        self.origins().map(|origin| origin.counts.served()).sum()
    }

    fn plan(&self, downstream: Downstream, clients: usize, requests: usize) -> Plan {
        let ones = (0..self.h1.len()).map(|index| format!("/h1/{index}"));
        let twos = (0..self.h2.len()).map(|index| format!("/h2/{index}"));
        let (routes, proxy) = (ones.chain(twos).collect(), self.proxy.address);
        Plan { proxy, downstream, clients, requests, routes, bodies: true }
    }

    /// Runs a plan to its end, and says how it goes.
    async fn load(&mut self, plan: &Plan) {
        let begin = Instant::now();
        self.tally = Arc::default();
        let running = load::run(plan, &self.tally);
        tokio::pin!(running);
        let mut second = tokio::time::interval(Duration::from_millis(500));
        let mut said = Instant::now();
        loop {
            tokio::select! {
                () = &mut running => break,
                _ = second.tick() => {
                    self.sample();
                    if said.elapsed() > Duration::from_secs(5) {
                        said = Instant::now();
                        self.say(plan, begin);
                    }
                }
            }
        }
        self.sample();
        self.say(plan, begin);
        let (right, asked) = (self.tally.right(), plan.requests);
        self.faults.unless(right == asked, || format!("{right} right answers to {asked}"));
        self.faults.0.extend(self.tally.faults());
    }

    fn sample(&self) {
        self.descriptors.1.fetch_max(self.proxy.descriptors(), Relaxed);
    }

    fn say(&self, plan: &Plan, begin: Instant) {
        let right = self.tally.right();
        let rate = right as f64 / begin.elapsed().as_secs_f64();
        println!(
            "    {right} of {} answers, {rate:.0}/s; connections to servers: {} opened, {} open; \
             the proxy has {} descriptors, {} KiB",
            plan.requests,
            self.opened(),
            self.open(),
            self.proxy.descriptors(),
            self.proxy.memory_kib(),
        );
    }

    /// The proxy never had more descriptors than this, besides those that it began with.
    fn descriptors_within(&mut self, more: usize) {
        let (before, most) = (self.descriptors.0, self.descriptors.1.load(Relaxed));
        let limit = before + more + SLACK;
        self.faults.unless(most <= limit, || {
            format!("the proxy had {most} descriptors, at first {before}, at most {limit} are fine")
        });
    }

    /// Connections to the servers end up as this many, and stay so.
    async fn settles_at(&mut self, open: usize) {
        let settled = wait_for("connections to be closed", || self.open() == open);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = self.open();
        let each: Vec<_> = self.origins().map(|origin| origin.counts.open()).collect();
        self.faults.unless(settled.is_ok() && now == open, || {
            format!("{now} connections to servers stay open, {open} was expected: {each:?}")
        });
    }

    /// Each request was served, none more than once.
    fn served_once(&mut self, requests: usize) {
        let served = self.served();
        self.faults.unless(served == requests, || format!("{served} served, {requests} asked"));
    }

    /// No connection was thrown away, and no more were opened than there were clients that
    /// could need them at a time.
    fn nothing_wasted(&mut self, clients: usize) {
        let (opened, open) = (self.opened(), self.open());
        self.faults.unless(opened == open, || {
            format!("{opened} connections were opened, and {open} are left")
        });
        for origin in self.h1.iter().chain(&self.h2) {
            let opened = origin.counts.opened();
            self.faults.unless(opened <= clients, || {
                format!("{opened} connections to one server for {clients} clients")
            });
        }
    }
}

/// Runs everything. True if all is as it must be.
pub async fn all(requests: usize, only: Option<&str>) -> bool {
    let mut fine = true;
    let mut total = 0;
    macro_rules! run {
        ($scenario:ident, $requests:expr $(, $more:expr)*) => {
            if only.is_none_or(|only| only == stringify!($scenario)) {
                match $scenario($requests $(, $more)*).await {
                    Ok(scene) => {
                        total += scene.tally.right();
                        for fault in &scene.faults.0 {
                            println!("    WRONG: {fault}");
                        }
                        fine &= scene.faults.0.is_empty();
                    }
                    Err(error) => {
                        println!("    WRONG: {error}");
                        fine = false;
                    }
                }
            }
        };
    }
    run!(steady, requests / 2, true);
    run!(steady, requests / 4, false);
    run!(http2, requests / 4);
    run!(both_sides, requests / 20);
    run!(alone, requests / 50);
    run!(bound, requests / 20);
    run!(size_zero, requests / 50);
    run!(timeout, requests / 50);
    run!(timeout_zero, requests / 50);
    run!(servers_that_close, requests / 20);
    run!(daemon, requests / 20);
    run!(upgrade, usize::MAX);
    println!("{total} right answers; {}", if fine { "all is well" } else { "NOT ALL IS WELL" });
    fine
}

/// Many clients, four servers, room for all connections.
async fn steady(requests: usize, work_stealing: bool) -> io::Result<Scene> {
    let name = if work_stealing { "HTTP/1.1" } else { "HTTP/1.1, a runtime for each thread" };
    let setup = Setup { work_stealing, ..Setup::default() };
    let mut scene = Scene::new(name, setup, 4, 0).await?;
    scene.load(&scene.plan(Downstream::Kept, 64, requests)).await;
    scene.served_once(requests);
    scene.nothing_wasted(64);
    scene.descriptors_within(64 + scene.opened());
    Ok(scene)
}

/// Servers that speak HTTP/2.
async fn http2(requests: usize) -> io::Result<Scene> {
    let mut scene = Scene::new("HTTP/2 to the servers", Setup::default(), 0, 2).await?;
    scene.load(&scene.plan(Downstream::Kept, 64, requests)).await;
    scene.served_once(requests);
    scene.nothing_wasted(64);
    scene.descriptors_within(64 + scene.opened());
    Ok(scene)
}

/// Clients that speak HTTP/2, servers of both kinds.
async fn both_sides(requests: usize) -> io::Result<Scene> {
    let mut scene = Scene::new("HTTP/2 on both sides", Setup::default(), 2, 2).await?;
    scene.load(&scene.plan(Downstream::H2, 64, requests)).await;
    scene.served_once(requests);
    scene.nothing_wasted(64);
    scene.descriptors_within(4 + scene.opened());
    Ok(scene)
}

/// One client: the connection is there again when it asks the next time.
async fn alone(requests: usize) -> io::Result<Scene> {
    let setup = Setup { work_stealing: false, threads: 3, ..Setup::default() };
    let mut scene = Scene::new("one client, three runtimes", setup, 1, 0).await?;
    scene.load(&scene.plan(Downstream::Kept, 1, requests)).await;
    let opened = scene.opened();
    scene.faults.unless(opened == 1, || format!("{opened} connections for one client"));
    Ok(scene)
}

/// Less room than connections.
async fn bound(requests: usize) -> io::Result<Scene> {
    let setup = Setup { pool_size: 4, ..Setup::default() };
    let bound = setup.pool_size * setup.threads;
    let mut scene = Scene::new("room for 8 connections, 64 clients", setup, 4, 0).await?;
    scene.load(&scene.plan(Downstream::Kept, 64, requests)).await;
    scene.served_once(requests);
    scene.descriptors_within(64 + 64 + bound);
    scene.settles_at(bound).await;
    Ok(scene)
}

/// No room at all.
async fn size_zero(requests: usize) -> io::Result<Scene> {
    let setup = Setup { pool_size: 0, ..Setup::default() };
    let mut scene = Scene::new("no room", setup, 1, 1).await?;
    scene.load(&scene.plan(Downstream::Kept, 4, requests)).await;
    scene.settles_at(0).await;
    let (opened, served) = (scene.h1[0].counts.opened(), scene.h1[0].counts.served());
    scene.faults.unless(opened == served, || format!("{opened} connections, {served} requests"));
    Ok(scene)
}

/// Idle connections are closed in time.
async fn timeout(requests: usize) -> io::Result<Scene> {
    let setup = Setup { idle_timeout: Some(Duration::from_millis(500)), ..Setup::default() };
    let mut scene = Scene::new("an idle timeout of half a second", setup, 1, 1).await?;
    scene.load(&scene.plan(Downstream::Kept, 16, requests)).await;
    scene.settles_at(0).await;
    scene.load(&scene.plan(Downstream::Kept, 16, requests)).await;
    scene.served_once(2 * requests);
    Ok(scene)
}

/// Connections are not used again.
async fn timeout_zero(requests: usize) -> io::Result<Scene> {
    let setup = Setup { idle_timeout: Some(Duration::ZERO), ..Setup::default() };
    let mut scene = Scene::new("an idle timeout of zero", setup, 1, 0).await?;
    // From the first one on it is known.
    scene.load(&scene.plan(Downstream::Kept, 1, 1)).await;
    scene.settles_at(0).await;
    scene.load(&scene.plan(Downstream::Kept, 4, requests)).await;
    scene.settles_at(0).await;
    let (opened, served) = (scene.opened(), scene.served());
    scene.faults.unless(opened == served, || format!("{opened} connections, {served} requests"));
    Ok(scene)
}

/// Servers close connections, each after 50 requests.
async fn servers_that_close(requests: usize) -> io::Result<Scene> {
    let mut scene = Scene::new("servers that close", Setup::default(), 4, 0).await?;
    for origin in &scene.h1 {
        origin.counts.uses_max.store(50, Relaxed);
    }
    // Without bodies, which Pingora does not always send again.
    let plan = Plan { bodies: false, ..scene.plan(Downstream::Kept, 32, requests) };
    scene.load(&plan).await;
    let opened = scene.opened();
    let needed = requests / 50 + 32 * 4;
    scene.faults.unless(opened <= needed, || format!("{opened} opened, {needed} needed"));
    Ok(scene)
}

/// A proxy that forks after its pools were made.
async fn daemon(requests: usize) -> io::Result<Scene> {
    let setup = Setup { daemon: true, ..Setup::default() };
    let mut scene = Scene::new("a daemon", setup, 2, 1).await?;
    scene.load(&scene.plan(Downstream::Kept, 32, requests)).await;
    scene.served_once(requests);
    scene.nothing_wasted(32);
    scene.descriptors_within(32 + scene.opened());
    Ok(scene)
}

/// A proxy takes the place of another one, under load.
async fn upgrade(_: usize) -> io::Result<Scene> {
    let mut scene = Scene::new("a graceful upgrade", Setup::default(), 2, 1).await?;
    let plan = scene.plan(Downstream::Each, 8, usize::MAX);
    let tally = Arc::clone(&scene.tally);
    let load = tokio::spawn({
        let (plan, tally) = (plan.clone(), Arc::clone(&tally));
        async move { load::run(&plan, &tally).await }
    });
    let before = 500;
    wait_for("some answers", || tally.right() >= before)?;
    let successor = scene.proxy.upgrade(&scene.setup, &scene.h1, &scene.h2)?;
    let old = std::mem::replace(&mut scene.proxy, Arc::new(successor));
    let old = Arc::into_inner(old).expect("nobody else has it");
    old.ended()?;
    let alone = tally.right();
    wait_for("some more answers", || tally.right() >= alone + before)?;
    tally.stop();
    let _ended = load.await;
    println!("    {} answers, {alone} while there were two", tally.right());
    scene.faults.0.extend(tally.faults());
    Ok(scene)
}
