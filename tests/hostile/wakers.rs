//! Wakers that panic: whoever wakes them loses nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use slabpool::managed::{Manager, Pool};

use crate::common::{Connection, Tally, paused_runtime};

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

/// What a waker does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Clone,
    Wake,
    WakeByRef,
    Drop,
}

thread_local! {
    /// The call of a waker that is to panic, and how many of its kind go well before that.
    static FUSE: Cell<Option<(Call, usize)>> = const { Cell::new(None) };
}

fn touch(call: Call) {
    let Some((armed, left)) = FUSE.get() else { return };
    if armed == call && !std::thread::panicking() {
        FUSE.set(left.checked_sub(1).map(|left| (call, left)));
        if left == 0 {
            resume_unwind(Box::new(Meant));
        }
    }
}

static TOUCHY: RawWakerVTable = RawWakerVTable::new(
    |data| {
        touch(Call::Clone);
        RawWaker::new(data, &TOUCHY)
    },
    |_| touch(Call::Wake),
    |_| touch(Call::WakeByRef),
    |_| touch(Call::Drop),
);

/// Two of them are different if their numbers are.
fn touchy(number: usize) -> Waker {
    let data = std::ptr::without_provenance(number);
    // SAFETY: the table's functions use no data, and may be called from anywhere.
    unsafe { Waker::from_raw(RawWaker::new(data, &TOUCHY)) }
}

type Managed = Pool<u8, Dial>;

/// Opens connections that are counted.
struct Dial(Tally);

impl Manager<u8> for Dial {
    type Connection = Connection;
    type Error = std::io::Error;

    async fn connect(&self, _: &u8) -> Result<Connection, std::io::Error> {
        Ok(self.0.connect(0))
    }
}

/// Waits with such wakers, one after the other, is served or not, and goes. The panic comes
/// through wherever it may.
async fn wait_with_touchy_wakers(pool: &Managed, ending: usize) {
    let lease = pool.acquire(&1).await.unwrap();
    let mut waiting = [Box::pin(pool.acquire(&1)), Box::pin(pool.acquire(&1))];
    for number in [1, 1, 2] {
        for one in &mut waiting {
            defused(|| {
                let waker = touchy(number);
                // A future that has panicked is not polled again.
                let polled = catch_unwind(AssertUnwindSafe(|| {
                    one.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
                }));
                match polled {
                    Ok(ready) => assert!(!ready, "there is one connection, and it is leased"),
                    Err(panic) => {
                        *one = Box::pin(pool.acquire(&1));
                        resume_unwind(panic);
                    }
                }
            });
        }
    }
    defused(|| match ending {
        0 => lease.release(),
        1 => lease.close(),
        _ => drop(lease),
    });
    tokio::task::yield_now().await;
    let [first, second] = waiting;
    if ending == 0 {
        defused(|| drop(first));
        defused(|| drop(second));
    } else {
        defused(|| drop(second));
        defused(|| drop(first));
    }
}

/// Whatever a waker does when it is called, the pool has all of its connections and places.
#[test]
fn a_waker_that_panics_at_any_call_costs_nothing() {
    let mut panics = 0;
    for call in [Call::Clone, Call::Wake, Call::WakeByRef, Call::Drop] {
        for (ending, at) in (0..3).flat_map(|ending| (0..12).map(move |at| (ending, at))) {
            paused_runtime().block_on(async {
                let tally = Tally::default();
                let pool = Pool::builder(Dial(tally.clone())).max_connections_per_group(1);
                let pool = pool.build().unwrap();
                FUSE.set(Some((call, at)));
                wait_with_touchy_wakers(&pool, ending).await;
                panics += usize::from(FUSE.take().is_none());
                let status = pool.status();
                assert_eq!((status.waiting, status.leased), (0, 0), "{call:?} {at} {ending}");
                for _ in 0..2 {
                    pool.acquire(&1).await.unwrap().release();
                }
                assert_eq!(tally.alive(), 1, "{call:?} {at} {ending}");
                drop(pool);
                tokio::task::yield_now().await;
                assert_eq!(tally.alive(), 0, "{call:?} {at} {ending}");
            });
        }
    }
    assert!(panics > 30, "{panics}");
}
