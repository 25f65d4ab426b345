//! Whatever is done to a pool, on one thread and by a clock that is turned by hand,
//! a list for each key would have done the same.

mod acts;
mod bound;
#[path = "../common/mod.rs"]
mod common;
mod leasing;
mod memory;
mod op;
mod oracle;
mod run;
mod script;
mod upkeep;
mod wire;

use proptest::prelude::*;

use run::Run;
use script::{script, setup};

/// More of them on request, as proptest has it.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let cases = match asked {
        true => ProptestConfig::default().cases,
        false if cfg!(miri) => 4,
        false => 1_000,
    };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pool_does_what_a_list_for_each_key_does(setup in setup(), script in script()) {
        let mut run = Run::new(&setup);
        for op in &script {
            run.step(op);
            run.compare();
        }
        run.finish();
    }
}
