//! Get and release on two threads at once, in one group and in a group each.
//!
//! ```text
//! cargo bench --bench threads
//! ```
//!
//! The time is from when the first thread begins until the last is done, for one pair of
//! each; the throughput counts the pairs of both. The contenders are described in
//! `common/pairs.rs`. Means nothing on a machine that has not two idle cores.

mod common;

use common::pairs;

const THREADS: usize = 2;

fn main() {
    let mut criterion = common::criterion();
    for (title, groups) in [("threads/same_group", 1), ("threads/own_group", THREADS)] {
        let mut group = criterion.benchmark_group(title);
        for (name, new) in pairs::BY_GROUP {
            common::measure(&mut group, name, THREADS, || new(groups));
        }
        if groups == 1 {
            for (name, lanes) in [("slabpool, handle, 1 lane", 1), ("slabpool, handle, 2 lanes", 2)]
            {
                let new = || pairs::slabpool_handle(groups, Some(lanes));
                common::measure(&mut group, name, THREADS, new);
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
