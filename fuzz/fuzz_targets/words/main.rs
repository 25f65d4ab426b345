//! The packed words, each with all its transitions, against plain fields.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[path = "../../../src/core/mod.rs"]
#[allow(dead_code, reason = "the target uses a part of it")]
mod core;
#[path = "../../../src/managed"]
#[allow(dead_code, reason = "the target uses a part of it")]
mod managed {
    pub mod limits;
    pub mod turn;
    pub mod word;
}
#[path = "../../../src/sync.rs"]
#[allow(dead_code, unused_imports, reason = "the target uses a part of it")]
mod sync;

mod era;
mod ghosts;
mod head;
mod peer;
mod seat;
mod state;

#[derive(Arbitrary, Debug)]
enum Script {
    Era(Vec<era::Op>),
    Ghosts(Vec<ghosts::Op>),
    Head(Vec<head::Op>),
    Limits(Vec<peer::Bound>),
    Peer(Vec<peer::Op>),
    Seat(Vec<seat::Op>),
    State(Vec<state::Op>),
    Turn(Vec<peer::TurnOp>),
}

fuzz_target!(|script: Script| {
    match script {
        Script::Era(ops) => era::run(&ops),
        Script::Ghosts(ops) => ghosts::run(&ops),
        Script::Head(ops) => head::run(&ops),
        Script::Limits(bounds) => peer::run_limits(&bounds),
        Script::Peer(ops) => peer::run(&ops),
        Script::Seat(ops) => seat::run(&ops),
        Script::State(ops) => state::run(&ops),
        Script::Turn(ops) => peer::run_turn(&ops),
    }
});
