//! How it goes with the connects to a peer: how many have failed in a row, when the pool may
//! try again by itself, and whether the peer is down. Part of the desk, under its lock.
//!
//! ```text
//!            `down_after` failures in a row
//!      up ----------------------------------> down, until retry_at
//!      ^                                        |          ^
//!      | a connect succeeds,                    | time     | the trial fails:
//!      | or the peer is resumed by hand         v          | twice as long
//!      +------------------------------------ half-open ----+
//! ```
//!
//! * **Y1** While a peer is down, no connect begins before `retry_at`, and from then on only
//!   where none is under way: that one is the trial. So there is one at a time, and one that
//!   is given up before it began leaves its place to the next.
//! * **Y2** Connects that were under way together are one round: they make the delay longer
//!   once, however many of them fail.
//!
//! Times are nanoseconds since a moment that is the same for all.

/// What a pool makes of connects that fail.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The delay after the first round that has failed; each further one doubles it.
    pub backoff_min: u64,
    pub backoff_max: u64,
    /// So many failures in a row bring the peer down; 0 is never.
    pub down_after: u32,
}

impl Policy {
    /// The delay after so many rounds have failed: as long as that or shorter, by at most a
    /// half. `draw` is a number drawn by lot.
    fn delay(self, rounds: u32, draw: u64) -> u64 {
        let doublings = rounds.saturating_sub(1).min(63);
        let factor = 1_u64 << doublings;
        let whole = self.backoff_min.saturating_mul(factor).min(self.backoff_max);
        let half = whole / 2;
        // From 0 to the half of it, both included.
        let drawn = (u128::from(draw) * (u128::from(half) + 1)) >> 64;
        whole - drawn as u64
    }
}

/// A connect that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Blow {
    /// When it began.
    pub began: u64,
    /// When it failed.
    pub now: u64,
    /// A number drawn by lot, for the jitter.
    pub draw: u64,
}

/// What a failure has done to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    /// It is up.
    Up,
    /// It is down, and was up before.
    Felled,
    /// It is down still.
    Down,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    down: bool,
    /// Connects that have failed since the last one that did not.
    failures: u32,
    /// Rounds of them (Y2).
    rounds: u32,
    /// When the last round was counted.
    counted: u64,
    /// When the pool may try again.
    retry_at: u64,
}

impl Vitals {
    /// Whether the peer is not down.
    pub fn is_up(&self) -> bool {
        !self.down
    }

    /// How many connects have failed since the last one that did not.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the pool may connect without being asked; when the next caller may, if the peer
    /// is down.
    pub fn retry_at(&self) -> u64 {
        self.retry_at
    }

    /// Whether callers are to be turned away.
    pub fn refuses(&self, now: u64) -> bool {
        self.down && now < self.retry_at
    }

    /// Whether a connect may begin while so many are under way (Y1). The caller holds the
    /// lock until it has begun.
    pub fn admits(&self, now: u64, connecting: u32) -> bool {
        !self.down || (now >= self.retry_at && connecting == 0)
    }

    /// A connect has failed.
    pub fn strike(&mut self, blow: Blow, policy: Policy) -> Struck {
        let Blow { began, now, draw } = blow;
        self.failures = self.failures.saturating_add(1);
        let was_down = self.down;
        self.down |= policy.down_after > 0 && self.failures >= policy.down_after;
        let next_round = self.rounds == 0 || began > self.counted;
        if next_round {
            self.rounds = self.rounds.saturating_add(1);
            self.counted = now;
        }
        if next_round || self.down != was_down {
            self.retry_at = now.saturating_add(policy.delay(self.rounds, draw));
        }
        match (was_down, self.down) {
            (_, false) => Struck::Up,
            (false, true) => Struck::Felled,
            (true, true) => Struck::Down,
        }
    }

    /// A connect has succeeded, or somebody knows better.
    pub fn recover(&mut self) {
        *self = Self::default();
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { backoff_min: 100, backoff_max: 1_000, down_after: 3 };

    fn fail(health: &mut Vitals, began: u64, now: u64) -> Struck {
        health.strike(Blow { began, now, draw: 0 }, POLICY)
    }

    #[test]
    fn the_delay_doubles_up_to_its_bound_and_jitter_only_shortens() {
        let wholes: Vec<u64> = (1..7).map(|rounds| POLICY.delay(rounds, 0)).collect();
        assert_eq!(wholes, [100, 200, 400, 800, 1_000, 1_000]);
        let halves: Vec<u64> = (1..7).map(|rounds| POLICY.delay(rounds, u64::MAX)).collect();
        assert_eq!(halves, [50, 100, 200, 400, 500, 500]);
        assert_eq!(POLICY.delay(u32::MAX, 0), 1_000);
        let huge = Policy { backoff_min: u64::MAX, backoff_max: u64::MAX, down_after: 0 };
        assert_eq!(huge.delay(5, 0), u64::MAX);
        assert!(huge.delay(5, u64::MAX) >= u64::MAX / 2);
    }

    #[test]
    fn connects_that_were_under_way_together_are_one_round() {
        let mut health = Vitals::default();
        for _ in 0..2 {
            assert_eq!(fail(&mut health, 0, 10), Struck::Up);
        }
        assert_eq!((health.failures(), health.retry_at()), (2, 110));
        // The third one brings it down, and counts from now.
        assert_eq!(fail(&mut health, 5, 500), Struck::Felled);
        assert_eq!((health.failures(), health.retry_at()), (3, 600));
        assert_eq!(fail(&mut health, 9, 590), Struck::Down);
        assert_eq!(health.retry_at(), 600, "of the round before");
    }

    #[test]
    fn one_trial_at_a_time_and_each_that_fails_doubles_the_delay() {
        let mut health = Vitals::default();
        assert!(health.admits(0, 5) && !health.refuses(0));
        for now in [0, 10, 20] {
            fail(&mut health, now, now);
        }
        assert_eq!(health.retry_at(), 420);
        assert!(health.refuses(419) && !health.admits(419, 0));
        assert!(!health.refuses(420) && health.admits(420, 0) && !health.admits(420, 1));
        assert_eq!(fail(&mut health, 420, 450), Struck::Down);
        assert_eq!(health.retry_at(), 1_250);
        health.recover();
        assert!(health.is_up() && health.admits(0, 9));
        assert_eq!((health.failures(), health.retry_at()), (0, 0));
        assert_eq!(fail(&mut health, 460, 460), Struck::Up);
        assert_eq!(health.retry_at(), 560, "from the beginning");
    }

    #[test]
    fn nothing_brings_a_peer_down_unless_it_was_asked_for() {
        let mut health = Vitals::default();
        for now in 0..100 {
            let blow = Blow { began: now, now, draw: 7 };
            assert_eq!(health.strike(blow, Policy { down_after: 0, ..POLICY }), Struck::Up);
        }
        assert!(health.is_up());
    }
}
