//! What can be done to a pool, whoever makes it up.

use slabpool::CloseReason;

use crate::oracle::{Limits, Rule};
use crate::wire::Probing;

pub const KEYS: u8 = 3;

/// How the pool is built.
#[derive(Clone, Debug)]
pub struct Setup {
    pub capacity: usize,
    pub lanes: usize,
    pub defaults: Limits,
    pub probing: Probing,
}

#[derive(Clone, Debug)]
pub enum Op {
    Get {
        key: u8,
        owned: bool,
    },
    GetIf {
        key: u8,
        rule: Rule,
    },
    Insert {
        key: u8,
    },
    Put {
        key: u8,
        patience: u64,
        count: usize,
    },
    Release {
        at: usize,
    },
    ReleaseWith {
        at: usize,
        patience: Option<u64>,
        uses: Option<u64>,
    },
    CloseDead {
        at: usize,
    },
    /// Something happens at the other end.
    Suffer {
        at: usize,
        reason: CloseReason,
    },
    CloseLease {
        at: usize,
    },
    DropLease {
        at: usize,
    },
    Detach {
        at: usize,
    },
    Take {
        at: usize,
        alive: bool,
    },
    Evict {
        at: usize,
        alive: bool,
        count: usize,
    },
    Clear,
    ClearGroup {
        key: u8,
    },
    Retain {
        rule: Rule,
        odd: bool,
    },
    Invalidate,
    InvalidateGroup {
        key: u8,
    },
    Configure {
        key: u8,
        own: Option<Limits>,
    },
    Drain {
        key: u8,
    },
    Resume {
        key: u8,
    },
    Reconfigure {
        capacity: Option<usize>,
        defaults: Option<Limits>,
    },
    Handle {
        key: u8,
    },
    DropHandle {
        at: usize,
    },
    Advance {
        ms: u64,
    },
    Maintain,
    Close,
}
