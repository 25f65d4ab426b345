//! Get and release on one thread: slabpool by handle and by key, and what could be used
//! in its place.
//!
//! ```text
//! cargo bench --bench get_release
//! ```
//!
//! The contenders are described in `common/pairs.rs`. They come one after the other, a
//! few seconds each, in which the machine may change its pace: `--bench ratios` says
//! more about which is faster, and by how much.

mod common;

use common::pairs;

fn main() {
    let mut criterion = common::criterion();

    let mut group = criterion.benchmark_group("get_release/one_group");
    for (name, new) in pairs::BY_GROUP {
        common::measure(&mut group, name, 1, || new(1));
    }
    group.finish();

    for (title, contenders) in
        [("get_release/u64_keys", pairs::BY_NUMBER), ("get_release/60_byte_keys", pairs::BY_PEER)]
    {
        let mut group = criterion.benchmark_group(title);
        for (name, new) in contenders {
            common::measure(&mut group, name, 1, new);
        }
        group.finish();
    }
    criterion.final_summary();
}
