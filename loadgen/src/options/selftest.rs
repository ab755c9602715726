//! `loadgen selftest`: the flags of a room, and how often the proxy commits a fault.

use std::num::NonZeroU32;

use clap::Args;

use super::room::RoomArguments;
use super::{OptionsError, RunOptions};

#[derive(Args)]
pub struct SelftestArguments {
    /// The proxy adds a fault to one delivery in this many
    #[arg(long, value_name = "N", default_value = "500")]
    one_in: NonZeroU32,
    #[command(flatten)]
    room: RoomArguments,
}

/// The checked options of a self-test.
pub struct SelftestOptions {
    pub one_in: u64,
    /// The run into which each kind of fault is put.
    pub run: RunOptions,
}

impl TryFrom<SelftestArguments> for SelftestOptions {
    type Error = OptionsError;

    fn try_from(raw: SelftestArguments) -> Result<Self, OptionsError> {
        Ok(Self { one_in: u64::from(raw.one_in.get()), run: raw.room.try_into()? })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};

    #[test]
    fn a_self_test_is_a_small_room_unless_it_is_told_otherwise() {
        let parse = |line: &str| {
            let Ok(Arguments { command: Command::Selftest(raw) }) = Arguments::try_parse_from(line.split(' ')) else {
                panic!("{line} is no self-test")
            };
            SelftestOptions::try_from(raw).expect("valid")
        };
        let options = parse("loadgen selftest --addr 127.0.0.1:9");
        let plan = &options.run.plan;
        assert_eq!((options.one_in, plan.users(), plan.messages(), plan.rooms[0].payload_bytes), (500, 24, 600, 160));
        let options = parse("loadgen selftest --users 7 --one-in 3 --secs 1 --payload 300");
        assert_eq!((options.one_in, options.run.plan.users(), options.run.plan.messages()), (3, 7, 200));
    }
}
