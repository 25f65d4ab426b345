//! A waker that says how many clones there are, and what became of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use slabpool::{Connection, Liveness};
use tokio::sync::Notify;

pub struct Watcher {
    counts: Arc<Counts>,
    waker: Waker,
    woken: Mutex<mpsc::Receiver<()>>,
}

struct Counts {
    wakes: AtomicUsize,
    notify: Notify,
    woken: mpsc::Sender<()>,
}

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        let woken = self.woken.clone();
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.notify.notify_one();
        // Whoever hears of it finds this clone gone.
        drop(self);
        let _ = woken.send(());
    }
}

impl Watcher {
    pub fn new() -> Self {
        let (sender, woken) = mpsc::channel();
        let counts =
            Arc::new(Counts { wakes: AtomicUsize::new(0), notify: Notify::new(), woken: sender });
        Self { waker: Waker::from(Arc::clone(&counts)), counts, woken: Mutex::new(woken) }
    }

    pub fn poll(&self, connection: &mut (impl Connection + ?Sized)) -> Poll<Liveness> {
        connection.poll_liveness(&mut Context::from_waker(&self.waker))
    }

    /// How many clones of the waker are kept somewhere.
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.counts) - 2
    }

    pub fn wakes(&self) -> usize {
        self.counts.wakes.load(Ordering::SeqCst)
    }

    /// Waits for a wake-up that has not been waited for, inside a runtime.
    pub async fn woken(&self) {
        self.counts.notify.notified().await;
    }

    /// As [`Watcher::woken`], and blocks the thread.
    pub fn wait(&self) {
        self.woken.lock().unwrap().recv().unwrap();
    }
}
