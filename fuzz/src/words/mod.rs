//! The packed words, each with all its transitions, against plain fields.

use arbitrary::Arbitrary;

mod era;
mod ghosts;
mod head;
mod peer;
mod seat;
mod state;

#[derive(Arbitrary, Debug)]
pub enum Script {
    Era(Vec<era::Op>),
    Ghosts(Vec<ghosts::Op>),
    Head(Vec<head::Op>),
    Limits(Vec<peer::Bound>),
    Peer(Vec<peer::Op>),
    Seat(Vec<seat::Op>),
    State(Vec<state::Op>),
    Turn(Vec<peer::TurnOp>),
}

pub type Input = Script;

pub fn run(script: Input) {
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
}
