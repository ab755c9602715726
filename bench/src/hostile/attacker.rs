//! The process of the attackers: it prepares one attack, waits for the order, and attacks until it is told to stop.

use std::net::SocketAddr;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attack::{Tally, Target};
use super::list::find;
use crate::failure::Failure;
use crate::{companion, cpu};

/// The attackers may share a core with the bystander, who must find it free at once.
const NICENESS: i32 = 19;

#[derive(Serialize, Deserialize)]
pub struct Options {
    pub server: SocketAddr,
    /// Where the server answers calls over gRPC.
    pub grpc: SocketAddr,
    pub room: String,
    pub attack: String,
    pub length: Duration,
}

#[derive(Serialize, Deserialize)]
pub enum Order {
    Begin,
    Stop,
}

/// The answer when all is prepared, with nothing in it, and at the end; or why there is none.
pub type Answer = Result<Tally, String>;

/// Runs the process.
pub fn serve() -> Result<(), Failure> {
    let options = companion::options()?;
    cpu::raise_descriptor_limit();
    rustix::process::nice(NICENESS)?;
    match run(options) {
        Ok(()) => Ok(()),
        Err(failure) => Ok(companion::answer(&Answer::Err(failure.to_string()))?),
    }
}

fn run(options: Options) -> Result<(), Failure> {
    let Options { server, grpc, room, attack, length } = options;
    let target = Target { server, grpc, room, length };
    let mut attack = (find(&attack)?.make)();
    attack.prepare(&target)?;
    companion::answer(&Answer::Ok(Tally::default()))?;
    let Some(Order::Begin) = companion::next_order()? else { return Ok(()) };
    let (orders, mut tally) = (companion::orders::<Order>(), Tally::default());
    while matches!(orders.try_recv(), Err(TryRecvError::Empty)) {
        attack.turn(&target, &mut tally)?;
    }
    Ok(companion::answer(&Answer::Ok(tally))?)
}
