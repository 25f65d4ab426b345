//! A connection whose peer is in the hands of the test.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use slabpool::{Connection, Liveness};

/// One end of a connection; the test has the other.
#[derive(Clone, Default)]
pub struct Line(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fate: Option<Liveness>,
    /// Who waits for something to read: one at a time, as with sockets.
    reader: Option<Waker>,
    polls: usize,
    asked: usize,
    unwatchable: bool,
    forgetful: bool,
    panics: bool,
}

impl Line {
    fn with(set: impl FnOnce(&mut State)) -> Self {
        let line = Self::default();
        set(&mut line.0.lock().unwrap());
        line
    }

    /// One that says that it cannot be watched.
    pub fn unwatchable() -> Self {
        Self::with(|state| state.unwatchable = true)
    }

    /// One that says that it is watched, and keeps no waker.
    pub fn forgetful() -> Self {
        Self::with(|state| state.forgetful = true)
    }

    /// One that panics when it is polled, after it has kept the waker.
    pub fn panicking() -> Self {
        Self::with(|state| state.panics = true)
    }

    /// From now on it cannot be watched.
    pub fn stop_watching(&self) {
        self.0.lock().unwrap().unwatchable = true;
    }

    /// Something happens at the peer.
    pub fn suffer(&self, fate: Liveness) {
        self.suffer_quietly(fate);
        let reader = self.take_reader();
        reader.into_iter().for_each(Waker::wake);
    }

    /// As [`Line::suffer`], and nobody is woken.
    pub fn suffer_quietly(&self, fate: Liveness) {
        self.0.lock().unwrap().fate = Some(fate);
    }

    /// The peer hangs up.
    pub fn kill(&self) {
        self.suffer(Liveness::Closed);
    }

    /// Something happens that needs no attention.
    pub fn twitch(&self) {
        self.suffer(Liveness::Alive);
    }

    /// The user waits for an answer, whose waker takes the place of the pool's.
    pub fn await_answer(&self) {
        self.0.lock().unwrap().reader = Some(Waker::noop().clone());
    }

    /// How often it was polled.
    pub fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    /// How often it was asked otherwise.
    pub fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    pub fn is_watched(&self) -> bool {
        self.reader().is_some()
    }

    /// The waker that is registered.
    pub fn reader(&self) -> Option<Waker> {
        self.0.lock().unwrap().reader.clone()
    }

    pub fn take_reader(&self) -> Option<Waker> {
        self.0.lock().unwrap().reader.take()
    }

    /// Whether both are ends of one connection.
    pub fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the pool's end was dropped, and not only forgotten.
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Connection for Line {
    fn liveness(&mut self) -> Liveness {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        state.fate.unwrap_or(Liveness::Alive)
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        let mut state = self.0.lock().unwrap();
        state.polls += 1;
        match state.fate.filter(|&fate| fate != Liveness::Alive) {
            Some(fate) => return Poll::Ready(fate),
            None if state.unwatchable => return Poll::Ready(Liveness::Alive),
            None if state.forgetful => {}
            None => state.reader = Some(cx.waker().clone()),
        }
        let panics = state.panics;
        drop(state);
        assert!(!panics, "as the test wants");
        Poll::Pending
    }
}
