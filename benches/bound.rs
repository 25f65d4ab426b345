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
    for (title, contenders) in [
        ("bound/put_new_key", &bound::PUT_NEW_KEY[..]),
        ("bound/put_one_key", &bound::PUT_ONE_KEY),
        ("bound/come_and_go", &bound::COME_AND_GO),
    ] {
        let mut group = criterion.benchmark_group(title);
        for &(name, new) in contenders {
            common::measure(&mut group, name, 1, new);
        }
        group.finish();
    }
    criterion.final_summary();
}
