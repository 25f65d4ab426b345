//! Acquiring from the managed pool, and from its peers.
//!
//! ```text
//! cargo bench --bench acquire
//! ```
//!
//! The contenders are described in `common/managed.rs`. They come one after the other, a
//! few seconds each, in which the machine may change its pace: `--bench managed` says more
//! about which is faster, and by how much.

mod common;

use common::managed;

fn main() {
    let mut criterion = common::criterion();
    let titles = [
        ("acquire/uncontended", managed::UNCONTENDED),
        ("acquire/16 for 64 tasks", managed::TASKS_64),
        ("acquire/16 for 64 tasks that yield", managed::TASKS_64_YIELDING),
    ];
    for (title, contenders) in titles {
        for (threads, runtime) in managed::runtimes() {
            let mut group = criterion.benchmark_group(format!("{title}, {threads}"));
            for (name, new) in contenders {
                common::measure(&mut group, name, 1, || new(&runtime));
            }
            group.finish();
        }
    }
    criterion.final_summary();
}
