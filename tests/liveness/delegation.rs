//! Types that ask what is inside.

use std::mem;
use std::task::{Context, Poll, Waker};

use slabpool::{CloseMode, Connection, Liveness};

/// Answers what it was told to, and writes down what it was asked.
struct Scripted {
    answer: Poll<Liveness>,
    asked: Vec<&'static str>,
}

impl Connection for Scripted {
    fn liveness(&mut self) -> Liveness {
        self.asked.push("liveness");
        Liveness::UnexpectedData
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.asked.push("poll");
        assert!(cx.waker().will_wake(Waker::noop()));
        self.answer
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        self.asked.push(if mode == CloseMode::Abort { "abort" } else { "graceful" });
    }
}

/// Says what it is, and nothing else.
struct Simple(Liveness);

impl Connection for Simple {
    fn liveness(&mut self) -> Liveness {
        self.0
    }
}

fn poll<C: Connection + ?Sized>(connection: &mut C) -> Poll<Liveness> {
    connection.poll_liveness(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_box_asks_what_is_in_it() {
    let mut boxed = Box::new(Scripted { answer: Poll::Pending, asked: Vec::new() });
    // Of the box, not of what it derefs to.
    assert_eq!(<Box<Scripted> as Connection>::liveness(&mut boxed), Liveness::UnexpectedData);
    assert_eq!(poll::<Box<Scripted>>(&mut boxed), Poll::Pending);
    boxed.answer = Poll::Ready(Liveness::Closed);
    assert_eq!(poll::<Box<Scripted>>(&mut boxed), Poll::Ready(Liveness::Closed));
    <Box<Scripted> as Connection>::prepare_close(&mut boxed, CloseMode::Abort);
    <Box<Scripted> as Connection>::prepare_close(&mut boxed, CloseMode::Graceful);
    assert_eq!(mem::take(&mut boxed.asked), ["liveness", "poll", "poll", "abort", "graceful"]);
}

#[test]
fn a_pool_of_different_connections_is_possible() {
    let mut connections: Vec<Box<dyn Connection + Send>> = vec![
        Box::new(Simple(Liveness::Alive)),
        Box::new(Scripted { answer: Poll::Pending, asked: Vec::new() }),
        Box::new(Box::new(Simple(Liveness::Closed))),
    ];
    let said: Vec<_> = connections.iter_mut().map(poll).collect();
    assert_eq!(said, [Poll::Ready(Liveness::Alive), Poll::Pending, Poll::Ready(Liveness::Closed)]);
}

#[test]
fn what_cannot_be_watched_says_how_it_is() {
    for liveness in [Liveness::Alive, Liveness::Closed, Liveness::UnexpectedData] {
        assert_eq!(poll(&mut Simple(liveness)), Poll::Ready(liveness));
    }
}
