//! Whatever is done to a managed pool, by callers, peers and the clock: its promises hold
//! after each step, and nothing is left at the end.
//!
//! Time is tokio's, paused, and the pool's manual clock; both are turned together.
#![cfg(feature = "tokio")]

mod acts;
mod laws;
mod peer;
mod script;
mod world;

use proptest::prelude::*;

use script::{Act, Ending, Setup, ending, script, setup};
use world::World;

/// More of them on request, as proptest has it.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let cases = match asked {
        true => ProptestConfig::default().cases,
        false if cfg!(miri) => 4,
        false => 128,
    };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn play(setup: &Setup, script: &[Act], ending: Ending) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(setup);
        for act in script {
            world.act(act).await;
            world.check(act);
        }
        world.end(ending).await;
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn promises_hold_whatever_is_done(setup in setup(), script in script(), ending in ending()) {
        play(&setup, &script, ending);
    }
}
