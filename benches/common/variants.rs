//! The pair of get and release on a handle of slabpool, where more than that is asked of
//! the pool, or it has more behind it.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};

use slabpool::{Builder, Connection as Watchable, Group, Liveness, Pool};

use super::{IDLE, Work};

/// Idle connections in the group.
const IDLE_PER_GROUP: u64 = 8;

/// A connection that is always alive, and keeps the waker of its reader as a socket does.
pub struct Line {
    number: u64,
    reader: Option<Waker>,
}

impl Line {
    fn new(number: u64) -> Self {
        Self { number, reader: None }
    }

    fn wait(&mut self, cx: &mut Context<'_>) {
        match &mut self.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => self.reader = Some(cx.waker().clone()),
        }
    }
}

impl Watchable for Line {
    fn liveness(&mut self) -> Liveness {
        Liveness::Alive
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.wait(cx);
        Poll::Pending
    }
}

/// The lower half of the stack was closed, and as many new ones put on top: they have the
/// seats of those that went, whose tickets still lie below. Each pair uses one of them.
pub fn replaced() -> Work {
    let pool = Pool::<u64, u64>::builder().build().expect("the settings are possible");
    let group = pool.group(&0);
    let tokens: Vec<_> = (0..IDLE_PER_GROUP)
        .map(|connection| group.put(connection).expect("there is room"))
        .collect();
    for token in &tokens[..IDLE_PER_GROUP as usize / 2] {
        assert!(pool.evict(*token), "it is idle");
    }
    (0..IDLE_PER_GROUP / 2).for_each(|connection| {
        group.put(connection).expect("there is room");
    });
    pairs(group, |_| {})
}

/// A closure looks at each connection that is leased.
pub fn probed() -> Work {
    let group = filled(Pool::builder().probe(|line: &mut Line| {
        if line.number == u64::MAX { Liveness::Closed } else { Liveness::Alive }
    }));
    pairs(group, |_| {})
}

/// Watched, by users who never wait for an answer: the bell stays where it is.
pub fn watched() -> Work {
    pairs(filled(Pool::builder().watch()), |_| {})
}

/// Watched, by users who wait, and so put a waker of their own in its place.
pub fn displaced() -> Work {
    pairs(filled(Pool::builder().watch()), |line| {
        line.wait(&mut Context::from_waker(Waker::noop()));
    })
}

fn filled(builder: Builder<u64, Line>) -> Group<u64, Line> {
    let pool = builder.build().expect("the settings are possible");
    let group = pool.group(&0);
    (0..IDLE_PER_GROUP).for_each(|number| {
        group.put(Line::new(number)).expect("there is room");
    });
    group
}

fn pairs<C: Send + 'static>(
    group: Group<u64, C>,
    use_it: impl Fn(&mut C) + Send + Sync + 'static,
) -> Work {
    Box::new(move |_, pairs| {
        for _ in 0..pairs {
            let mut lease = group.get().expect(IDLE);
            use_it(black_box(&mut *lease));
            lease.release();
        }
    })
}
