//! What must hold when all tasks have gone as far as they get.

use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;

use slabpool::managed::{GroupStatus, Health};
use tokio::time::Instant;

use crate::script::{Act, Bounds, KEYS, Miss};
use crate::world::{CONNECT, Held, PATIENCE, World, settle};

impl World {
    #[track_caller]
    pub fn check(&mut self, after: &Act) {
        let peers: [GroupStatus; KEYS] = std::array::from_fn(|key| self.pool.group_status(&key));
        let told = format!("after {after:?}: {peers:#?}, {:?}", self.net.lock().bounds);
        let faults = std::mem::take(&mut self.net.lock().faults);
        assert!(faults.is_empty(), "{faults:?} {told}");
        let mut streams = [0; KEYS];
        for held in &self.held {
            let key = held.conn().key;
            streams[key] += usize::from(held.stream().is_some());
        }
        for key in 0..KEYS {
            let (peer, told) = (&peers[key], format!("peer {key} {told}"));
            let (open, connecting) = {
                let state = self.net.lock();
                (state.open[key], state.connecting[key])
            };
            assert_eq!(peer.idle + peer.leased, open, "open; {told}");
            assert_eq!(peer.connecting, connecting, "connecting; {told}");
            assert_eq!(peer.connections, open + connecting, "permits; {told}");
            assert_eq!(peer.streams, streams[key], "streams; {told}");
            let callers = self.callers.iter().filter(|caller| caller.key == key).count();
            assert!(peer.waiting <= callers, "{callers} callers; {told}");
            if self.drained[key] {
                assert_eq!((peer.idle, peer.waiting), (0, 0), "drained; {told}");
            }
            self.nobody_is_forgotten(key, &peers, &told);
        }
        self.sums(&peers, &told);
    }

    fn sums(&self, peers: &[GroupStatus; KEYS], told: &str) {
        let status = self.pool.status();
        let sum = |of: fn(&GroupStatus) -> usize| peers.iter().map(of).sum::<usize>();
        assert_eq!(status.idle, sum(|peer| peer.idle), "{told}");
        assert_eq!(status.leased, sum(|peer| peer.leased), "{told}");
        assert_eq!(status.connecting, sum(|peer| peer.connecting), "{told}");
        assert_eq!(status.waiting, sum(|peer| peer.waiting), "{told}");
        let stats = self.pool.stats();
        let connects = &stats.connects;
        let ended = connects.opened + connects.errors + connects.timeouts + connects.aborted;
        assert_eq!(connects.started, ended + connects.connecting as u64, "{stats:?}");
        assert_eq!(stats.wait_time.count(), stats.waits(), "{stats:?}");
        // A stream that is there at once is not counted.
        let calls = self.calls - self.callers.len() as u64;
        let gets = stats.gets();
        assert!(gets <= calls && gets + self.calls_to_share >= calls, "{calls} calls, {stats:?}");
    }

    /// Nobody waits for what is there, or could be opened.
    fn nobody_is_forgotten(&self, key: usize, peers: &[GroupStatus; KEYS], told: &str) {
        let peer = &peers[key];
        let (checking, bounds) = {
            let state = self.net.lock();
            (state.checking[key], state.bounds)
        };
        if peer.idle > 0 && self.setup.miss != Miss::Connect {
            assert_eq!(peer.waiting, 0, "they wait, and something is idle; {told}");
        }
        let sharing = self.callers.iter().filter(|caller| caller.key == key && caller.shared);
        let sharing = sharing.count();
        let lasting = self.setup.lifetime.is_none() && self.setup.max_uses.is_none();
        if sharing > checking && lasting && self.setup.down_after == 0 {
            for held in &self.held {
                let fit = held.conn().key == key && !held.conn().unfit.load(SeqCst);
                let Some(share) = held.stream().filter(|_| fit) else { continue };
                let (used, limit) = share.streams();
                assert!(used >= limit, "they wait for a stream, and there is one; {told}");
            }
        }
        if peer.waiting > peer.connecting && peer.health == Health::Up && self.has_room(key, peers)
        {
            let waits = self.uncovered(key, peer, checking);
            assert!(
                waits <= checking + peer.connecting,
                "{waits} wait, {checking} check, and there is room for a connect; {bounds:?} {told}"
            );
        }
    }

    /// Whether one more connect may begin.
    fn has_room(&self, key: usize, peers: &[GroupStatus; KEYS]) -> bool {
        let Bounds { capacity, connections, connecting, single, .. } = self.net.lock().bounds;
        let peer = &peers[key];
        let none_open = peer.connections == peer.connecting;
        // Those who wait for a connect to a peer that has nothing else wait for that.
        if none_open && peer.connecting > 0 {
            return false;
        }
        let connecting = if none_open && single { 1 } else { connecting };
        let all = peers.iter().map(|peer| peer.connections).sum::<usize>();
        let room = all < capacity || peers.iter().any(|peer| peer.idle > 0);
        peer.connections < connections && peer.connecting < connecting && room && all <= capacity
    }

    /// Callers that have no reason to go on waiting.
    fn uncovered(&self, key: usize, peer: &GroupStatus, checking: usize) -> usize {
        let now = Instant::now();
        let suspended = self.has_suspended(key, peer);
        let callers = self.callers.iter().filter(|caller| {
            let late = caller.end <= now + CONNECT;
            // Who has got something that was of no use is patient once more.
            let again = caller.shared || self.setup.check_after.is_some();
            let patient =
                self.setup.miss == Miss::Wait && (again || now <= caller.start + PATIENCE);
            let shares = caller.shared && (peer.connecting > 0 || checking > 0 || suspended);
            caller.key == key && !late && !patient && !shares
        });
        callers.count()
    }

    /// Whether there is a channel that nobody uses: it can serve nobody for now.
    fn has_suspended(&self, key: usize, peer: &GroupStatus) -> bool {
        let streams = self.held.iter().filter_map(Held::stream);
        let tokens = streams.filter(|share| *share.key() == key).map(|share| share.token());
        peer.shared > tokens.collect::<HashSet<_>>().len()
    }

    /// All is given back: nothing is out, and nobody waits.
    pub async fn rest(&mut self) {
        for key in 0..KEYS {
            self.pool.resume_group(&key);
        }
        self.callers.drain(..).for_each(|caller| caller.task.abort());
        self.held.clear();
        self.advance(100).await;
        self.held.clear();
        self.pool.maintain();
        settle().await;
        self.advance(100).await;
        let status = self.pool.status();
        assert_eq!((status.waiting, status.connecting, status.streams), (0, 0, 0), "{status:?}");
        let shared = (0..KEYS).map(|key| self.pool.group_status(&key).shared).sum::<usize>();
        assert_eq!(status.leased, shared, "{status:?}");
        self.pool.clear();
        let status = self.pool.status();
        assert_eq!((status.idle, status.leased), (0, 0), "{status:?}");
        // Each that came has gone, closed or taken out.
        let stats = self.pool.stats().pool;
        let gone = stats.closes.total() + stats.taken;
        assert_eq!((stats.inserts, self.net.lock().open), (gone, [0; KEYS]), "{stats:?}");
    }
}
