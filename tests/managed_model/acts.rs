//! What callers, peers and operators do.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use slabpool::managed::Health;
use tokio::time::Instant;

use crate::script::{Act, Bounds, Parting};
use crate::world::{ACQUIRE, Caller, Held, Kind, World, settle};

impl World {
    pub async fn act(&mut self, act: &Act) {
        match *act {
            Act::Acquire { key, shared, timeout } => self.acquire(key, shared, timeout),
            Act::Try { key } => {
                self.calls += 1;
                if let Some(lease) = self.pool.try_acquire(&key) {
                    lease.enter(true);
                    lease.leave();
                    lease.release();
                }
            }
            Act::Cancel { at } if !self.callers.is_empty() => {
                let caller = self.callers.swap_remove(at % self.callers.len());
                caller.task.abort();
                drop(caller.task.await);
            }
            Act::Part { at, how } if !self.held.is_empty() => {
                let at = at % self.held.len();
                self.part(at, how);
            }
            Act::Kill { at } if !self.held.is_empty() => {
                let held = &self.held[at % self.held.len()];
                held.conn().alive.store(false, SeqCst);
            }
            Act::Streams { at, limit, told } if !self.held.is_empty() => {
                let conn = self.held[at % self.held.len()].conn();
                conn.limit.store(limit, SeqCst);
                if told {
                    self.pool.refresh_streams(&conn.key);
                }
            }
            Act::NewStreams { limit } => self.net.lock().streams = limit,
            Act::Connects { key, mode } => self.net.lock().modes[key] = mode,
            Act::Checks { check } => self.net.lock().check = check,
            Act::Reconfigure { bounds } => self.reconfigure(bounds),
            Act::Prewarm { key, count } => {
                let pool = self.pool.clone();
                self.prewarms
                    .push(tokio::spawn(async move { drop(pool.prewarm(&key, count).await) }));
            }
            Act::Maintain => drop(self.pool.maintain()),
            Act::Advance { ms } => self.advance(ms).await,
            _ => self.operate(act),
        }
        settle().await;
        self.collect().await;
    }

    fn operate(&mut self, act: &Act) {
        match *act {
            Act::DrainGroup { key } => {
                self.pool.drain_group(&key);
                self.drained[key] = true;
                self.condemn(Some(key));
            }
            Act::ResumeGroup { key } => {
                self.pool.resume_group(&key);
                self.drained[key] = false;
                let health = self.pool.group_status(&key).health;
                assert_eq!(health, Health::Up, "it was resumed");
            }
            Act::ClearGroup { key } => {
                self.pool.clear_group(&key);
                self.condemn(Some(key));
            }
            Act::InvalidateGroup { key } => {
                self.pool.invalidate_group(&key);
                self.condemn(Some(key));
            }
            Act::Clear => {
                self.pool.clear();
                self.condemn(None);
            }
            Act::Invalidate => {
                self.pool.invalidate();
                self.condemn(None);
            }
            Act::Retain { odd } => self.pool.retain(|&key, _, _| (key % 2 == 1) == odd),
            _ => {}
        }
    }

    fn acquire(&mut self, key: usize, shared: bool, timeout: Option<u64>) {
        self.calls += 1;
        self.calls_to_share += u64::from(shared);
        let timeout = timeout.map_or(ACQUIRE, Duration::from_millis);
        let (pool, start) = (self.pool.clone(), Instant::now());
        let task = tokio::spawn(async move {
            Ok(Held::new(if shared {
                Kind::Share(pool.acquire_shared_timeout_owned(&key, timeout).await?)
            } else {
                Kind::Own(pool.acquire_timeout_owned(&key, timeout).await?)
            }))
        });
        self.callers.push(Caller { key, shared, start, end: start + timeout, task });
    }

    fn part(&mut self, at: usize, how: Parting) {
        if matches!(how, Parting::Drain)
            && let Some(share) = self.held[at].share()
        {
            share.unfit.store(true, SeqCst);
            share.drain();
            return;
        }
        let held = self.held.swap_remove(at);
        let dead = matches!(how, Parting::Dead);
        if dead {
            held.conn().unfit.store(true, SeqCst);
        }
        match (held.into_kind(), how) {
            (Kind::Own(lease), Parting::Drop | Parting::Drain) => drop(lease),
            (Kind::Own(lease), Parting::Release) => lease.release(),
            (Kind::Own(lease), Parting::Close) => lease.close(),
            (Kind::Own(lease), Parting::Dead) => lease.close_dead(),
            (Kind::Own(lease), Parting::Detach) => lease.detach().detached(),
            (Kind::Share(share), Parting::Release) => share.release(),
            (Kind::Share(share), Parting::Dead) => share.close_dead(),
            (Kind::Share(share), _) => drop(share),
        }
    }

    /// No stream begins of what is in use now.
    fn condemn(&self, key: Option<usize>) {
        let held = self.held.iter().map(Held::conn);
        let held = held.filter(|conn| key.is_none_or(|key| key == conn.key));
        held.for_each(|conn| conn.unfit.store(true, SeqCst));
    }

    fn reconfigure(&mut self, bounds: Bounds) {
        let before = self.net.lock().bounds;
        // What is raised holds from here on, what is lowered when it is done.
        self.net.lock().bounds = Bounds {
            capacity: before.capacity.max(bounds.capacity),
            connections: before.connections.max(bounds.connections),
            connecting: before.connecting.max(bounds.connecting),
            ..bounds
        };
        let change = |settings: &mut slabpool::managed::Settings| {
            settings.pool.capacity = bounds.capacity;
            settings.max_connections_per_group = bounds.connections;
            settings.max_connecting_per_group = bounds.connecting;
            settings.max_waiters_per_group = bounds.waiters;
            settings.single_flight = bounds.single;
        };
        self.pool.reconfigure(change).unwrap();
        self.net.lock().bounds = bounds;
    }
}
