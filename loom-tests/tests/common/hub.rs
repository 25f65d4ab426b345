//! A peer whose connections serve several at a time, and those who share them. What is done
//! without the desk is done in the order in which `managed/sharing.rs` does it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use loom::thread;
use slabpool::PooledOwned;
use slabpool::model::{Begun, Channels, Joins, News, Place, Way, looks};

use crate::common::Conn;
use crate::desk::{Bell, Grant, Model, Peer, pass_on, serve};

type Lease = PooledOwned<u8, Conn>;

/// A peer, and where channels are.
pub struct Hub {
    pub peer: Rc<Peer>,
    pub channels: Arc<Channels<Lease>>,
    /// How many a connection serves that is opened to others.
    pub limit: u32,
    /// Whether what is released is closed instead, its time being up.
    pub unfit: Cell<bool>,
}

/// What one who shares has found.
pub enum Found {
    Stream(Begun),
    Waits(Sharer),
}

/// One who shares, in the line, and what it got so far.
pub struct Sharer {
    place: Place,
    bell: Arc<Bell>,
    first: Poll<News<Model>>,
}

impl Hub {
    pub fn new(peer: &Rc<Peer>, limit: u32) -> Rc<Self> {
        let channels = Arc::new(Channels::new());
        Rc::new(Self { peer: Rc::clone(peer), channels, limit, unfit: Cell::new(false) })
    }

    fn make(&self) -> impl Fn() -> Grant {
        || Grant::of(&self.peer)
    }

    /// A stream that nobody else has had yet, of the connection that is idle.
    pub fn first(&self) -> Begun {
        match self.find() {
            Some(stream) => stream,
            None => panic!("one is idle"),
        }
    }

    /// A newcomer, as far as it comes without waiting.
    fn find(&self) -> Option<Begun> {
        match self.peer.desk.enter() {
            Way::Stream(stream) => Some(stream),
            Way::Look => match self.peer.group.get_owned() {
                Some(lease) => Some(self.open(lease)),
                None => {
                    self.peer.desk.unprospect(false, &self.peer.bounds, self.make());
                    None
                }
            },
            Way::Join => None,
        }
    }

    /// Opens a connection to all who share.
    pub fn open(&self, lease: Lease) -> Begun {
        let channel = self.channels.take().unwrap();
        // SAFETY: taken from the arena just now.
        unsafe { self.channels.get(channel).fill(lease, 0, 1, self.limit) };
        let desk = &self.peer.desk;
        desk.activated(&self.channels, channel, self.limit, &self.peer.bounds, self.make());
        Begun { channel, number: 1 }
    }

    /// The way without a lock.
    pub fn hinted(&self) -> Option<Begun> {
        let channel = self.peer.desk.hint()?;
        let number = self.channels.get(channel).streams.open().ok()?.opened();
        let stream = Begun { channel, number };
        let waiting = self.peer.desk.word.load().is_waiting();
        (!waiting || self.peer.desk.claim_stream(stream)).then_some(stream)
    }

    /// Comes, and waits if need be.
    pub fn seek(&self) -> Found {
        let prospect = match self.peer.desk.enter() {
            Way::Stream(stream) => return Found::Stream(stream),
            Way::Look => match self.peer.group.get_owned() {
                Some(lease) => return Found::Stream(self.open(lease)),
                None => true,
            },
            Way::Join => false,
        };
        Found::Waits(self.wait(prospect))
    }

    /// Joins the line, looks, and polls once, as a future would.
    pub fn wait(&self, prospect: bool) -> Sharer {
        let desk = &self.peer.desk;
        let place = desk
            .join_sharing((), Joins::Wanting, &self.peer.bounds, self.make(), prospect)
            .unwrap();
        if looks(&self.peer.group) {
            serve(&self.peer);
        }
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let first = desk.poll(place.id, &mut Context::from_waker(&waker));
        Sharer { place, bell, first }
    }

    /// Uses the connection.
    pub fn look(&self, stream: Begun) {
        // SAFETY: there is the stream.
        let lease = unsafe { self.channels.get(stream.channel).lease() };
        lease.look();
    }

    /// The end of a stream that was used.
    pub fn end(&self, stream: Begun) {
        self.look(stream);
        let streams = &self.channels.get(stream.channel).streams;
        self.ended(stream.channel, streams.close().is_parked());
    }

    /// The end of one that was not.
    pub fn undo(&self, stream: Begun) {
        let streams = &self.channels.get(stream.channel).streams;
        self.ended(stream.channel, streams.undo().is_parked());
    }

    fn ended(&self, channel: u32, parked: bool) {
        if parked {
            return self.finish(channel);
        }
        if self.channels.get(channel).streams.load().has_room() {
            self.peer.desk.warm(&self.channels, channel);
        }
        if self.peer.desk.word.load().is_waiting() {
            self.peer.desk.serve_streams();
        }
    }

    /// The end of a channel that the caller has parked.
    pub fn finish(&self, index: u32) {
        let channel = self.channels.get(index);
        let draining = channel.streams.load().is_draining();
        self.peer.desk.word.enter();
        // SAFETY: parked by the caller.
        let lease = unsafe { channel.take() };
        lease.touch();
        if draining || self.unfit.get() {
            lease.close();
            crate::desk::free(&self.peer, false);
        } else {
            lease.release();
        }
        if self.peer.desk.word.load().is_waiting() {
            serve(&self.peer);
        }
        self.peer.desk.strike(index, &self.peer.bounds, self.make());
        self.channels.give(index);
        assert!(!self.peer.desk.word.leave().is_empty(), "the test is about");
    }

    /// Gives up a place. What is in it goes to others.
    pub fn leave(&self, sharer: Sharer) {
        let Sharer { place, first, .. } = sharer;
        match first {
            Poll::Ready(News::Stream(stream)) => self.undo(stream),
            Poll::Ready(News::Outcome(Ok(lease))) => self.give_up(lease),
            _ => {}
        }
        let left = self.peer.desk.leave(place.id);
        if let Some(Ok(lease)) = left.outcome {
            self.give_up(lease);
        }
        if let Some(stream) = left.stream {
            self.undo(stream);
        }
    }

    fn give_up(&self, lease: Lease) {
        pass_on(&self.peer, lease);
        self.peer.desk.unprospect(false, &self.peer.bounds, self.make());
    }

    /// What the waiting has come to; woken for it, if it was not there at once.
    pub fn got(&self, sharer: Sharer) -> Option<Begun> {
        let Sharer { place, bell, first } = sharer;
        let news = match first {
            Poll::Ready(news) => Some(news),
            Poll::Pending => {
                match self.peer.desk.poll(place.id, &mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(news) => {
                        assert_eq!(bell.0.load(Ordering::Relaxed), 1, "woken once");
                        Some(news)
                    }
                    Poll::Pending => None,
                }
            }
        };
        let stream = match news? {
            News::Stream(stream) => stream,
            News::Outcome(Ok(lease)) => self.open(lease),
            News::Outcome(Err(failure)) => panic!("{failure}"),
            News::Grant(_) | News::Look => panic!("a connect that nobody needs"),
        };
        assert!(self.peer.desk.leave(place.id).stream.is_none());
        Some(stream)
    }

    /// As [`Hub::got`], of whatever one who shares has found.
    pub fn finally(&self, found: Found) -> Begun {
        match found {
            Found::Stream(stream) => stream,
            Found::Waits(sharer) => self.got(sharer).expect("forgotten"),
        }
    }
}

impl Sharer {
    /// Whether it was told to connect, which it does not. Leaves the line.
    pub fn may_connect(self, hub: &Hub) -> bool {
        let Self { place, first, .. } = self;
        let poll = match first {
            Poll::Pending => hub.peer.desk.poll(place.id, &mut Context::from_waker(Waker::noop())),
            ready => ready,
        };
        let _left = hub.peer.desk.leave(place.id);
        matches!(poll, Poll::Ready(News::Grant(_)))
    }
}

pub fn with_hub<R: 'static>(
    hub: &Rc<Hub>,
    body: impl FnOnce(Rc<Hub>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let hub = Rc::clone(hub);
    thread::spawn(move || body(hub))
}
