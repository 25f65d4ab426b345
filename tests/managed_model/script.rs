//! What may happen to a managed pool.

use proptest::prelude::*;

pub const KEYS: usize = 3;

/// How the pool is built. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Setup {
    pub miss: Miss,
    pub barging: bool,
    pub grow_by: usize,
    pub down_after: u32,
    pub min_idle: usize,
    pub bounds: Bounds,
    pub check_after: Option<u64>,
    pub release_on_drop: bool,
    pub idle_timeout: Option<u64>,
    pub lifetime: Option<u64>,
    pub max_uses: Option<u64>,
    /// How many each connection serves that is opened.
    pub streams: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    Race,
    Wait,
    Connect,
}

/// What can be changed later.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub capacity: usize,
    pub connections: usize,
    pub connecting: usize,
    pub waiters: usize,
    pub single: bool,
}

/// What connects to a peer do from now on.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Open(u64),
    Fail(u64),
    Hang,
    Panic,
}

/// What comes of checks from now on.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    Pass,
    Slow(u64),
    Fail,
    Hang,
    Panic,
}

/// How a lease, or a stream, ends.
#[derive(Clone, Copy, Debug)]
pub enum Parting {
    Release,
    Drop,
    Close,
    Dead,
    Detach,
    /// Takes no new streams, and stays.
    Drain,
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Acquire {
        key: usize,
        shared: bool,
        timeout: Option<u64>,
    },
    Try {
        key: usize,
    },
    Cancel {
        at: usize,
    },
    Part {
        at: usize,
        how: Parting,
    },
    /// The other end goes.
    Kill {
        at: usize,
    },
    /// A connection can serve another number, of which the pool is told or not.
    Streams {
        at: usize,
        limit: u32,
        told: bool,
    },
    NewStreams {
        limit: u32,
    },
    Connects {
        key: usize,
        mode: Mode,
    },
    Checks {
        check: Check,
    },
    DrainGroup {
        key: usize,
    },
    ResumeGroup {
        key: usize,
    },
    ClearGroup {
        key: usize,
    },
    InvalidateGroup {
        key: usize,
    },
    Clear,
    Invalidate,
    Retain {
        odd: bool,
    },
    Reconfigure {
        bounds: Bounds,
    },
    Prewarm {
        key: usize,
        count: usize,
    },
    Maintain,
    Advance {
        ms: u64,
    },
}

/// How it all ends.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// All is given back.
    Rest,
    Close,
    Drain {
        deadline: u64,
    },
    /// The pool is dropped, with all that is in it.
    Drop,
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let waiters = prop_oneof![1 => 0..3_usize, 3 => Just(100)];
    (1..6_usize, prop_oneof![Just(1), 1..4_usize], 1..4_usize, waiters, any::<bool>()).prop_map(
        |(capacity, connections, connecting, waiters, single)| Bounds {
            capacity,
            connections,
            connecting,
            waiters,
            single,
        },
    )
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let miss = prop_oneof![2 => Just(Miss::Race), 1 => Just(Miss::Wait), 1 => Just(Miss::Connect)];
    let how = (miss, any::<bool>(), 1..4_usize, prop_oneof![2 => Just(0), 1 => 1..3_u32]);
    let more = (prop_oneof![2 => Just(0), 1 => 1..3_usize], bounds(), any::<bool>());
    let often =
        |times: std::ops::Range<u64>| prop_oneof![5 => Just(None), 1 => times.prop_map(Some)];
    let times = (
        prop_oneof![1 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(20))],
        often(10..80),
        often(20..120),
        often(1..4),
    );
    (how, more, times, prop_oneof![1 => Just(0), 4 => 1..4_u32]).prop_map(
        |(
            (miss, barging, grow_by, down_after),
            (min_idle, bounds, release_on_drop),
            times,
            streams,
        )| {
            let (check_after, idle_timeout, lifetime, max_uses) = times;
            Setup {
                miss,
                barging,
                grow_by,
                down_after,
                min_idle,
                bounds,
                check_after,
                release_on_drop,
                idle_timeout,
                lifetime,
                max_uses,
                streams,
            }
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    // Most ask for the same, so that some wait.
    let key = || prop_oneof![3 => Just(0), 1 => 0..KEYS];
    let at = || 0..64_usize;
    let mode = prop_oneof![
        3 => Just(Mode::Open(0)),
        3 => (1..30_u64).prop_map(Mode::Open),
        2 => (0..30_u64).prop_map(Mode::Fail),
        1 => Just(Mode::Hang),
        1 => Just(Mode::Panic),
    ];
    let check = prop_oneof![
        3 => Just(Check::Pass),
        2 => (1..30_u64).prop_map(Check::Slow),
        1 => Just(Check::Fail),
        1 => Just(Check::Hang),
        1 => Just(Check::Panic),
    ];
    let parting = prop_oneof![
        8 => Just(Parting::Release),
        2 => Just(Parting::Drop),
        1 => Just(Parting::Close),
        1 => Just(Parting::Dead),
        1 => Just(Parting::Detach),
        1 => Just(Parting::Drain),
    ];
    let timeout = prop_oneof![3 => Just(None), 1 => (0..150_u64).prop_map(Some)];
    let callers = prop_oneof![
        8 => (key(), any::<bool>(), timeout)
            .prop_map(|(key, shared, timeout)| Act::Acquire { key, shared, timeout }),
        1 => key().prop_map(|key| Act::Try { key }),
        2 => at().prop_map(|at| Act::Cancel { at }),
        8 => (at(), parting).prop_map(|(at, how)| Act::Part { at, how }),
        4 => (1..40_u64).prop_map(|ms| Act::Advance { ms }),
    ];
    let peers = prop_oneof![
        1 => at().prop_map(|at| Act::Kill { at }),
        3 => (at(), 0..4_u32, any::<bool>())
            .prop_map(|(at, limit, told)| Act::Streams { at, limit, told }),
        1 => (0..4_u32).prop_map(|limit| Act::NewStreams { limit }),
        3 => (key(), mode).prop_map(|(key, mode)| Act::Connects { key, mode }),
        1 => check.prop_map(|check| Act::Checks { check }),
    ];
    let upkeep = prop_oneof![
        1 => key().prop_map(|key| Act::DrainGroup { key }),
        2 => key().prop_map(|key| Act::ResumeGroup { key }),
        1 => key().prop_map(|key| Act::ClearGroup { key }),
        1 => key().prop_map(|key| Act::InvalidateGroup { key }),
        1 => Just(Act::Clear),
        1 => Just(Act::Invalidate),
        1 => any::<bool>().prop_map(|odd| Act::Retain { odd }),
        3 => bounds().prop_map(|bounds| Act::Reconfigure { bounds }),
        2 => (key(), 1..4_usize).prop_map(|(key, count)| Act::Prewarm { key, count }),
        3 => Just(Act::Maintain),
    ];
    prop_oneof![8 => callers, 2 => peers, 2 => upkeep]
}

pub fn script() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 1..80)
}

pub fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        3 => Just(Ending::Rest),
        1 => Just(Ending::Close),
        1 => (0..200_u64).prop_map(|deadline| Ending::Drain { deadline }),
        1 => Just(Ending::Drop),
    ]
}
