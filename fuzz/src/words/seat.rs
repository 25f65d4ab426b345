//! The mark of a seat, its alarm, and its ticket at home.

use arbitrary::Arbitrary;

use crate::core::seat::{Alarm, GENERATION_ONE, Mark, Seat};
use crate::core::tagged::NIL;
use crate::core::ticket::AT_HOME;

#[derive(Arbitrary, Debug)]
pub enum Op {
    Fill {
        serial: u64,
        generation: u32,
    },
    /// The connection that is there, or another one.
    Doom(Option<u64>),
    Request(u32),
    Reset,
    LeaveHome,
    GoHome,
    SetDepth(Option<u32>),
}

pub fn run(ops: &[Op]) {
    let seat = Seat::default();
    let (mut whose, mut of, mut doomed) = (0_u64, 0_u32, false);
    let (mut alarm, mut at_home, mut deep) = (Alarm::UNSET, true, None);
    for op in ops {
        match *op {
            Op::Fill { serial, generation } => {
                // They rise by this, and begin with 0.
                let generation = generation / GENERATION_ONE * GENERATION_ONE;
                seat.mark.set(serial, generation);
                (whose, of, doomed) = (serial, generation, false);
            }
            Op::Doom(serial) => {
                let serial = serial.unwrap_or(whose);
                seat.mark.doom(serial);
                doomed |= serial as u32 == whose as u32;
            }
            Op::Request(tick) => {
                assert_eq!(seat.alarm.request(tick), tick < alarm);
                alarm = alarm.min(tick);
            }
            Op::Reset => {
                seat.alarm.reset();
                alarm = Alarm::UNSET;
            }
            Op::LeaveHome => {
                assert_eq!(seat.ticket.leave_home(), at_home);
                at_home = false;
            }
            Op::GoHome => {
                seat.ticket.go_home();
                at_home = true;
            }
            Op::SetDepth(depth) => {
                seat.ticket.set_depth(depth);
                deep = depth.filter(|&depth| depth > 0);
            }
        }
        let mark = seat.mark.get();
        assert_eq!((Mark::serial(mark), Mark::is_doomed(mark)), (whose as u32, doomed));
        assert_eq!(Mark::is_of(mark, of), !doomed);
        assert!(!Mark::is_of(mark, of.wrapping_add(GENERATION_ONE)));
        assert_eq!(seat.alarm.tick(), alarm);
        assert_eq!(seat.ticket.below(), if at_home { AT_HOME } else { NIL });
        assert_eq!(seat.ticket.depth(), deep);
    }
}
