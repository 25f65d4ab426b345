//! A pool against a list for each key, as in `tests/model`, whose oracle this is. There
//! scripts are drawn at random; here they follow what has been reached in the pool, and
//! their numbers go up to the largest.

mod script;

use crate::run::Run;
use script::{Act, Script};

pub type Input = Script;

pub fn run(script: Input) {
    let mut run = Run::new(&script.setup);
    for act in &script.acts {
        match act {
            Act::Op(op) => run.step(op),
            Act::Panicking { key, after } => script::panicking(&mut run, *key, *after),
        }
        run.compare();
    }
    run.finish();
}
