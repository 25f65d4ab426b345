//! Get and release in other shapes than one pair after the other: keys of which some are
//! hot, several leases at a time, leases that end on another thread.
//!
//! ```text
//! cargo bench --bench shapes
//! ```
//!
//! The contenders are described in `common/shapes.rs`. They come one after the other:
//! `--bench ratios` says more about which is faster, and by how much.

mod common;

use common::shapes::{BY_CHOICE, HANDED_OVER, HOLDING, Order};
use common::zipf::Spread;

/// Keys, of which each has two connections.
const KEYS: [usize; 2] = [1_000, 100_000];

fn main() {
    let mut criterion = common::criterion();
    for (keys, threads) in KEYS.into_iter().flat_map(|keys| [(keys, 1), (keys, 2)]) {
        for spread in [Spread::Uniform, Spread::Zipf] {
            let title = format!("shapes/{spread:?}, {keys} keys, {threads} threads");
            let mut group = criterion.benchmark_group(title);
            for (name, new) in BY_CHOICE {
                common::measure(&mut group, name, threads, || new(keys, spread, threads));
            }
            group.finish();
        }
    }
    for (at_once, order) in [2, 16].into_iter().flat_map(|n| [(n, Order::Lifo), (n, Order::Fifo)]) {
        let mut group = criterion.benchmark_group(format!("shapes/{at_once} held, {order:?}"));
        for (name, new) in HOLDING {
            common::measure(&mut group, name, 1, || new(at_once, order));
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("shapes/handed over");
    for (name, new) in HANDED_OVER {
        common::measure(&mut group, name, 2, new);
    }
    group.finish();
    criterion.final_summary();
}
