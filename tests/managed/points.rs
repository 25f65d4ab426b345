//! An acquire that is dropped at each point where it can be, in each situation that it can be
//! in: afterwards all counts are right, and the next caller is served (B.15, B.16, B.21, B.22).

use std::time::Duration;

use slabpool::managed::{Builder, Fairness, OnMiss};

use crate::support::{
    Leased, MS, Mode, Peer, SECOND, TestPool, assert_group, builder, poll_times, settle,
};

/// What the acquire meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Situation {
    Idle,
    Connects,
    /// ... and the connect fails.
    ConnectFails,
    /// The only connection is leased, and released after a while.
    WaitsForRelease,
    /// ... and closed after a while.
    WaitsForClose,
    /// One is idle, and must pass a check first.
    Checked,
    /// ... which does not come to an end.
    CheckHangs,
    /// ... which it does not pass.
    CheckFails,
    TimesOut,
    /// The pool is closed meanwhile.
    PoolCloses,
    /// The peer is taken out of service meanwhile.
    GroupDown,
}

const SITUATIONS: [Situation; 11] = [
    Situation::Idle,
    Situation::Connects,
    Situation::ConnectFails,
    Situation::WaitsForRelease,
    Situation::WaitsForClose,
    Situation::Checked,
    Situation::CheckHangs,
    Situation::CheckFails,
    Situation::TimesOut,
    Situation::PoolCloses,
    Situation::GroupDown,
];

/// Which acquire it is.
#[derive(Clone, Copy, Debug)]
enum Call {
    Borrowed,
    Owned,
    BorrowedWithin,
    OwnedWithin,
}

const CALLS: [Call; 4] = [Call::Borrowed, Call::Owned, Call::BorrowedWithin, Call::OwnedWithin];

const POLICIES: [OnMiss; 3] =
    [OnMiss::Race, OnMiss::Wait(Duration::from_millis(2)), OnMiss::Connect];

/// The acquire may take so long.
const TIME: Duration = Duration::from_millis(20);

struct Scene {
    peer: Peer,
    pool: TestPool,
    held: std::cell::Cell<Option<Leased>>,
    situation: Situation,
}

impl Scene {
    async fn new(
        situation: Situation,
        policy: impl FnOnce(Builder<u32, Peer>) -> Builder<u32, Peer>,
    ) -> Self {
        use Situation as S;
        let peer = Peer::new();
        let checks = matches!(situation, S::Checked | S::CheckHangs | S::CheckFails);
        let pool = policy(builder(&peer))
            .max_connections_per_group(1)
            .acquire_timeout(TIME)
            .connect_timeout(TIME / 2)
            .check_after(if checks { Duration::ZERO } else { SECOND })
            .build()
            .unwrap();
        let warm = !matches!(situation, S::Connects | S::ConnectFails);
        let held = std::cell::Cell::new(None);
        if warm {
            let lease = pool.acquire_owned(&1).await.unwrap();
            if checks || situation == S::Idle { lease.release() } else { held.set(Some(lease)) }
        }
        peer.set_check(situation != S::CheckFails, situation == S::CheckHangs);
        peer.set(if situation == S::ConnectFails {
            Mode::Fail(4 * MS)
        } else {
            Mode::Open(4 * MS)
        });
        Self { peer, pool, held, situation }
    }

    /// What others do after so many polls.
    fn go_on(&self, time: usize) {
        if time != 3 {
            return;
        }
        match self.situation {
            Situation::WaitsForRelease => self.held.take().into_iter().for_each(Leased::release),
            Situation::WaitsForClose => self.held.take().into_iter().for_each(Leased::close),
            Situation::PoolCloses => self.pool.close(),
            Situation::GroupDown => self.pool.drain_group(&1),
            _ => {}
        }
    }

    /// Polls the acquire so many times. Tells whether it has come to an end by then.
    async fn play(&self, call: Call, times: usize) -> bool {
        let (pool, go_on) = (&self.pool, |time| self.go_on(time));
        // Of what it gets some is released, and some closed.
        match call {
            Call::Borrowed => match poll_times(pool.acquire(&1), times, go_on).await {
                None => return false,
                Some(outcome) => outcome.into_iter().for_each(|lease| lease.release()),
            },
            Call::Owned => match poll_times(pool.acquire_owned(&1), times, go_on).await {
                None => return false,
                Some(outcome) => drop(outcome),
            },
            Call::BorrowedWithin => {
                match poll_times(pool.acquire_timeout(&1, TIME), times, go_on).await {
                    None => return false,
                    Some(outcome) => drop(outcome),
                }
            }
            Call::OwnedWithin => {
                match poll_times(pool.acquire_timeout_owned(&1, TIME), times, go_on).await {
                    None => return false,
                    Some(outcome) => outcome.into_iter().for_each(|lease| lease.release()),
                }
            }
        }
        true
    }

    /// Nothing is left of the acquire, and the next one is served.
    async fn settle(self) {
        let Self { peer, pool, held, situation } = self;
        settle().await;
        assert_eq!(pool.group_status(&1).waiting, 0);
        held.take().into_iter().for_each(Leased::release);
        tokio::time::sleep(SECOND).await;
        assert_group(&pool, peer.open(), 0, 0, 0);
        assert!(peer.open() <= 1 && peer.peak() <= 1);
        peer.set(Mode::Open(Duration::ZERO));
        peer.set_check(true, false);
        if situation == Situation::GroupDown {
            pool.resume_group(&1);
        }
        match pool.acquire(&1).await {
            Ok(lease) => lease.close(),
            Err(error) => assert!(pool.is_closed(), "{error:?}"),
        }
        assert_group(&pool, 0, 0, 0, 0);
        assert_eq!((peer.open(), pool.status().groups), (0, 0));
    }
}

async fn at_every_point(call: Call, policy: impl Fn(Builder<u32, Peer>) -> Builder<u32, Peer>) {
    for situation in SITUATIONS {
        let mut times = 0;
        loop {
            let scene = Scene::new(situation, &policy).await;
            let ended = scene.play(call, times).await;
            scene.settle().await;
            if ended {
                break;
            }
            times += 1;
            assert!(times < 100, "{situation:?}, {call:?} does not come to an end");
        }
        let at_once = matches!(situation, Situation::Idle | Situation::Checked);
        assert_eq!(times == 1, at_once, "{situation:?}, {call:?}: {times} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_is_fair() {
    for call in CALLS {
        for on_miss in POLICIES {
            at_every_point(call, |builder| builder.on_miss(on_miss)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_others_barge() {
    for on_miss in POLICIES {
        at_every_point(Call::Owned, |builder| {
            builder.on_miss(on_miss).fairness(Fairness::Barging).single_flight(true)
        })
        .await;
    }
}
