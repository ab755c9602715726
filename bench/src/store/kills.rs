//! The server on a filled store, killed and started again: how long until it answers the first send, and how much does
//! it write meanwhile? Half of the rounds are killed under load, half as soon as the server has answered.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Options;
use crate::cpu;
use crate::dialect::Persistence;
use crate::failure::Failure;
use crate::launch::{Budgets, Launch};
use crate::report;
use crate::sends::FAST_PUBLISHERS;
use crate::sends::publishers::Publishers;
use crate::server::Server;

/// Sends in flight under load, in as many rooms as there are publishers.
const IN_FLIGHT: usize = 4096;
const PUBLISHERS: usize = 128;
/// The time under load, from a start's first answer to the kill.
const LOAD: Duration = Duration::from_secs(3);
/// Longer than publishers wait after the server is killed.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
pub struct Round {
    pub number: usize,
    pub loaded: bool,
    /// From the start of the process to the first acknowledged send.
    pub first_ack_ms: f64,
    pub acknowledged: u64,
    /// MiB that the process wrote in its whole life.
    pub mib_written: f64,
}

pub fn run(options: &Options, data: &Path) -> Result<Vec<Round>, Failure> {
    let budgets = Budgets::Off(FAST_PUBLISHERS);
    let launch =
        Launch { store: "embedded".into(), persistence: Persistence::Kept, budgets, ..options.setting.launch(1)? };
    let mut rounds = Vec::new();
    for number in 1..=options.kills {
        let start = Instant::now();
        let server = Server::start_on(data, &launch)?;
        let answered = Publishers::join(&server, 1, 1, options.payload)?.send_for(1, Duration::ZERO)?;
        let first_ack = start.elapsed();
        let loaded = number % 2 == 1;
        let mut publishers = match loaded {
            true => Publishers::join(&server, PUBLISHERS, PUBLISHERS, options.payload)?,
            false => Publishers::join(&server, 0, 1, options.payload)?,
        };
        let after = if loaded { LOAD } else { Duration::ZERO };
        let killed = std::thread::spawn(move || {
            std::thread::sleep(after);
            let written = cpu::bytes_written(server.pid());
            drop(server);
            written
        });
        if loaded {
            // Returns when the connections end.
            let _ = publishers.send_for(IN_FLIGHT, after + REST);
        }
        let written = killed.join().map_err(|_| Failure::Faulty("the thread that kills has failed".into()))??;
        let round = Round {
            number,
            loaded,
            first_ack_ms: first_ack.as_secs_f64() * 1e3,
            acknowledged: answered.messages + publishers.acknowledged(),
            mib_written: written as f64 / f64::from(1 << 20),
        };
        eprintln!(
            "kill {number} · first ack after {:.0} ms, {} acks, {:.0} MiB written",
            round.first_ack_ms, round.acknowledged, round.mib_written
        );
        rounds.push(round);
    }
    Ok(rounds)
}

pub fn print(rounds: &[Round]) {
    if rounds.is_empty() {
        return;
    }
    println!("\n{}", Budgets::Off(FAST_PUBLISHERS));
    let cells = |round: &Round| {
        let killed = if round.loaded { "under load" } else { "at once" };
        let figures = [round.first_ack_ms, round.acknowledged as f64, round.mib_written];
        report::row(format!("{}, killed {killed}", round.number), figures.map(Some))
    };
    let header = "start | first ack after ms | acks | MiB written";
    println!("\n{}", report::table(header, rounds.iter().map(cells)));
}
