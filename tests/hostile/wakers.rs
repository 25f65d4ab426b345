//! Wakers that panic: whoever wakes them loses nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use slabpool::managed::Pool;

use crate::common::{Tally, paused_runtime};

struct Meant;

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        resume_unwind(Box::new(Meant));
    }
}

/// What comes of it, or nothing if it panicked as it was meant to.
fn defused<R>(run: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(panic) if panic.is::<Meant>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

#[test]
fn a_waiter_whose_waker_panics_costs_nobody_a_connection() {
    paused_runtime().block_on(async {
        let tally = Tally::default();
        let makes = tally.clone();
        let pool = Pool::builder(move |_: &u8| {
            let connection = makes.connect(0);
            async move { Ok::<_, std::io::Error>(connection) }
        })
        .max_connections_per_group(1)
        .build()
        .unwrap();
        for ending in 0..3 {
            let lease = pool.acquire(&1).await.unwrap();
            let waker = Waker::from(Arc::new(Bomb));
            let mut waiting = Box::pin(pool.acquire(&1));
            let polled = Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker));
            assert!(matches!(polled, Poll::Pending));
            // Hands it to the one who waits, and wakes it.
            defused(|| match ending {
                0 => lease.release(),
                1 => lease.close(),
                _ => drop(lease),
            });
            // It is the waiter's, though it was not woken; or the next one's if it goes.
            if ending == 0 {
                waiting.await.unwrap().release();
            } else {
                defused(|| drop(waiting));
            }
            pool.acquire(&1).await.unwrap().release();
            assert_eq!(tally.alive(), 1, "{ending}");
        }
        drop(pool);
        tokio::task::yield_now().await;
        assert_eq!(tally.alive(), 0);
    });
}
