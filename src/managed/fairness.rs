//! Who comes first.

use crate::managed::turn::BYPASS_MAX;

/// Who gets a connection that somebody returns while others wait for one.
/// Set by [`Builder::fairness`](crate::managed::Builder::fairness).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fairness {
    /// Who has waited longest. The connection is handed over: nobody else gets it, and it is
    /// not used until that caller runs. A newcomer that finds an idle connection while others
    /// wait leaves it to them.
    #[default]
    Fair,
    /// Whoever comes first. The connection is idle, and who has waited longest is woken to
    /// look for itself; a newcomer, or whoever has returned it, may take it before. Who finds
    /// nothing keeps its place.
    ///
    /// So connections are not left unused while callers wake up, and fewer are woken; but a
    /// caller may wait longer, and how long differs more from one to the other.
    /// [`BYPASSES`](Fairness::BYPASSES) limits by how much. New connections are
    /// handed over as in [`Fair`](Fairness::Fair).
    Barging,
}

impl Fairness {
    /// In [`Barging`](Fairness::Barging), so many connections at most go past the first of
    /// those who wait; the next one is handed over to it. So who joins a line behind `n`
    /// others is passed by at most `(n + 1) * BYPASSES` times.
    pub const BYPASSES: u32 = BYPASS_MAX;
}
