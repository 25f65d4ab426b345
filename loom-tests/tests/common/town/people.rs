//! Those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use slabpool::model::{Begun, News, Place, looks, may_be_idle};

use super::{Grant, Model, Peer, Town};

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One who waits at a peer, and what it got so far.
pub struct Sleeper {
    pub peer: usize,
    pub place: Place,
    shares: bool,
    bell: Arc<Bell>,
    rung: usize,
    pub news: Option<News<Model>>,
}

impl Sleeper {
    /// Polls for the first time.
    pub fn begin(town: &Town, peer: usize, place: Place, shares: bool) -> Self {
        let mut sleeper = Self { peer, place, shares, bell: Arc::default(), rung: 0, news: None };
        sleeper.poll(town);
        sleeper
    }

    /// Whether something is there, or it was woken since it looked.
    pub fn is_awake(&self) -> bool {
        self.news.is_some() || self.bell.0.load(Ordering::Relaxed) > self.rung
    }

    /// As `Waiter::outcome`: polls until nothing is there, or something that it can use.
    pub fn poll(&mut self, town: &Town) {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        while self.news.is_none() {
            self.rung = self.bell.0.load(Ordering::Relaxed);
            match town.desk(self.peer).poll(self.place.id, &mut cx) {
                Poll::Ready(News::Grant(grant)) => {
                    self.news = town.furnish(self, grant).map(News::Grant);
                }
                Poll::Ready(News::Look) if self.look(town) => {}
                Poll::Ready(News::Look) | Poll::Pending => return,
                Poll::Ready(news) => self.news = Some(news),
            }
        }
    }

    fn look(&self, town: &Town) -> bool {
        let Peer { desk, group } = &town.peers[self.peer];
        if !looks(group) {
            return false;
        }
        let Some(lease) = group.get_owned() else { return false };
        if let Err(lease) = desk.take(self.place.id, lease) {
            town.pass_on(self.peer, lease);
        }
        if may_be_idle(group) && desk.word.load().is_waiting() {
            desk.nudge();
        }
        true
    }

    /// Uses what it has got.
    pub fn end(mut self, town: &Town, news: News<Model>) {
        self.news = None;
        let (peer, shares) = (self.peer, self.shares);
        self.leave(town);
        match news {
            News::Outcome(Ok(lease)) if shares => town.end(town.open(peer, lease)),
            News::Outcome(Ok(lease)) => town.release(peer, lease),
            News::Stream(stream) => town.end(stream),
            News::Grant(grant) => drop(grant),
            News::Outcome(Err(failure)) => panic!("{failure}"),
            News::Look => unreachable!("that is nothing to be used"),
        }
    }

    /// Whether it was told of a failure.
    pub fn was_told(&self, why: &str) -> bool {
        matches!(self.news, Some(News::Outcome(Err(told))) if told == why)
    }

    /// Goes away. What it was given goes to others.
    pub fn leave(mut self, town: &Town) {
        let left = town.desk(self.peer).leave(self.place.id);
        let (mut lease, mut stream) = (left.outcome.and_then(Result::ok), left.stream);
        match self.news.take() {
            Some(News::Outcome(Ok(seen))) => lease = Some(seen),
            Some(News::Stream(seen)) => stream = Some(seen),
            news => drop(news),
        }
        if let Some(lease) = lease {
            town.pass_on(self.peer, lease);
            if self.shares {
                let make = || Grant::of(self.peer);
                town.desk(self.peer).unprospect(false, &town.bounds, make);
            }
        }
        if let Some(Begun { channel, .. }) = stream {
            let parked = town.channels.get(channel).streams.undo().is_parked();
            town.ended(channel, self.peer as u32, parked);
        }
    }
}
