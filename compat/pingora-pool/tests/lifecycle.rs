//! Pingora makes its pools before it has a runtime, and may fork after that.

use std::sync::Arc;
use std::time::Duration;

use pingora_pool::{ConnectionMeta, ConnectionPool};
use tokio::runtime::Builder;
use tokio::sync::watch;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// One test, so that no other one starts threads meanwhile.
#[test]
fn a_pool_starts_nothing_and_works_after_a_fork() {
    let before = threads();
    let pools: Vec<_> =
        (0..3).map(|_| Arc::new(ConnectionPool::<&'static str>::new(256))).collect();
    let (pool, meta) = (&pools[0], ConnectionMeta::new(1, 5));
    let _handle = pool.put(&meta, "before the fork");
    pool.pop_closed(&ConnectionMeta::new(1, 6));
    assert_eq!(threads(), before);

    // SAFETY: the child uses the pool and a runtime of its own, allocates, and exits. No
    // other thread of the parent holds anything that these need.
    match unsafe { libc::fork() } {
        0 => {
            let works = pool.get(&1) == Some("before the fork") && serves(pool) && threads() == 1;
            // SAFETY: ends the child at once, without the parent's destructors.
            unsafe { libc::_exit(if works { 0 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child that was just made.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
        }
    }
    assert_eq!(pool.get(&1), Some("before the fork"));
    assert!(serves(pool));
    assert_eq!(threads(), before, "nor did it start any later");
}

/// Whether watchers run, and time passes, in a runtime that is made now.
fn serves(pool: &Arc<ConnectionPool<&'static str>>) -> bool {
    let (_closed, closed) = watch::channel(false);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let meta = ConnectionMeta::new(2, 5);
        let (idle, watch_use) = pool.put(&meta, "used");
        let watched = Arc::clone(pool);
        let (theirs, mine) = (closed.clone(), meta.clone());
        let watch = tokio::spawn(async move {
            watched.idle_timeout(&mine, None, idle, theirs, watch_use).await
        });
        tokio::task::yield_now().await;
        let used = pool.get(&2) == Some("used") && !watch.await.unwrap();

        let (idle, watch_use) = pool.put(&meta, "too late");
        let soon = Some(Duration::from_millis(5));
        let expired = !pool.idle_timeout(&meta, soon, idle, closed, watch_use).await;
        used && expired && pool.get(&2).is_none()
    })
}

// What Pingora spawns, and moves between threads.
const _: () = {
    const fn is_shared<T: Send + Sync + 'static>() {}
    const fn is_sent<T: Send + 'static>() {}
    is_shared::<ConnectionPool<Arc<tokio::sync::Mutex<Box<dyn tokio::io::AsyncRead + Send>>>>>();
    is_shared::<pingora_pool::PoolNode<Box<dyn std::any::Any + Send>>>();
    is_shared::<ConnectionMeta>();
    is_sent::<pingora_pool::Idle>();
    is_sent::<pingora_pool::WatchUse>();
};
