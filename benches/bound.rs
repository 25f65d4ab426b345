//! Insertion: into a full pool, which closes a connection for each it takes, and of
//! connections that come and go below the bound.
//!
//! ```text
//! cargo bench --bench bound
//! ```
//!
//! The contenders are described in `common/bound.rs`.

mod common;

use common::bound;

fn main() {
    let mut criterion = common::criterion();
    for (title, threads, contenders) in [
        ("bound/put_new_key", 1, &bound::PUT_NEW_KEY[..]),
        ("bound/put_new_key, 2 threads", 2, &bound::PUT_NEW_KEY),
        ("bound/put_one_key", 1, &bound::PUT_ONE_KEY),
        ("bound/come_and_go", 1, &bound::COME_AND_GO),
    ] {
        let mut group = criterion.benchmark_group(title);
        for &(name, new) in contenders {
            common::measure(&mut group, name, threads, new);
        }
        group.finish();
    }
    criterion.final_summary();
}
