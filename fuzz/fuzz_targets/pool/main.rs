//! A pool against a list for each key, as in `tests/model`, whose oracle this is. There
//! scripts are drawn at random; here they follow what has been reached in the pool, and
//! their numbers go up to the largest.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../tests/model/acts.rs"]
mod acts;
#[path = "../../../tests/model/bound.rs"]
mod bound;
#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/model/leasing.rs"]
mod leasing;
#[path = "../../../tests/model/memory.rs"]
mod memory;
#[path = "../../../tests/model/op.rs"]
mod op;
#[path = "../../../tests/model/oracle.rs"]
mod oracle;
#[path = "../../../tests/model/run.rs"]
mod run;
mod script;
#[path = "../../../tests/model/upkeep.rs"]
mod upkeep;
#[path = "../../../tests/model/wire.rs"]
mod wire;

use run::Run;
use script::{Act, Script};

fuzz_target!(|script: Script| {
    let mut run = Run::new(&script.setup);
    for act in &script.acts {
        match act {
            Act::Op(op) => run.step(op),
            Act::Panicking { key, after } => script::panicking(&mut run, *key, *after),
        }
        run.compare();
    }
    run.finish();
});
