//! What the common case does not pay for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slabpool::managed::{Manager, Pool};
use slabpool::{Clock, Liveness};

use crate::support::{Peer, SECOND, assert_group, builder};

/// The future of an acquire is carried around by all who may have to wait, who seldom do.
#[tokio::test(start_paused = true)]
async fn the_future_is_small() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    let words = |bytes: usize| bytes / size_of::<usize>();
    assert!(words(size_of_val(&pool.acquire(&1))) <= 8);
    assert!(words(size_of_val(&pool.acquire_timeout(&1, SECOND))) <= 8);
    assert!(words(size_of_val(&pool.acquire_owned(&1))) <= 8);
    assert!(words(size_of_val(&pool.acquire_timeout_owned(&1, SECOND))) <= 8);
    // Nothing was done: none was polled.
    assert_group(&pool, 0, 0, 0, 0);
    assert_eq!((peer.started(), pool.stats().pool.misses.total()), (0, 0));
}

/// Opens numbers, and counts how often it is asked for one.
struct Asked<const PROBES: bool>(Arc<AtomicUsize>);

impl<const PROBES: bool> Manager<u8> for Asked<PROBES> {
    type Connection = u8;
    type Error = Infallible;

    const PROBES: bool = PROBES;

    async fn connect(&self, key: &u8) -> Result<u8, Infallible> {
        Ok(*key)
    }

    fn probe(&self, _: &mut u8) -> Liveness {
        self.0.fetch_add(1, Ordering::Relaxed);
        Liveness::Alive
    }
}

/// How often a manager is asked: at two leases, while idle for a minute, and in all.
async fn asked<const PROBES: bool>() -> (usize, usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let clock = Clock::manual();
    let set = clock.clone();
    let pool = Pool::builder(Asked::<PROBES>(Arc::clone(&count)))
        .settings(move |core| core.idle_timeout(None).spawn_reaper(false).clock(set))
        .build()
        .unwrap();
    pool.acquire(&1).await.unwrap().release();
    pool.acquire(&1).await.unwrap().release();
    let leased = count.load(Ordering::Relaxed);
    for _ in 0..60 {
        clock.advance(SECOND);
        pool.maintain();
    }
    (leased, count.load(Ordering::Relaxed) - leased)
}

/// A manager that says that it does not probe is not asked, neither at a lease nor while a
/// connection is idle; one that does is.
#[tokio::test]
async fn who_does_not_probe_is_not_asked() {
    assert_eq!(asked::<false>().await, (0, 0));
    let (leased, idle) = asked::<true>().await;
    assert_eq!(leased, 1, "the first was new");
    assert!(idle > 0);
}
