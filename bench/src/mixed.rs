//! A room in which every second member uses protobuf, beside a room of the same size that only uses JSON: how much does
//! the second format cost?
//!
//! Messages of the mixed room have a slightly larger content, so that a delivery has as many bytes on average in both
//! rooms. So the comparison shows the cost of a second encoding and a second log, and not the gain of smaller frames.

use std::fmt;
use std::io;

use clap::Args;
use engine::command::Event;
use engine::fanout::frames::{Format, Frames};
use engine::id::{ChannelId, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::checker;
use crate::client::{Failure, Formats, Shape};
use crate::cpu;
use crate::dialect::{ROOM, USERNAME};
use crate::filled_server::{FilledServer, Offers};
use crate::goals::{self, Bound, Goal, ratio, shown};
use crate::report::{self, median};
use crate::run::{Patience, Run};
use crate::search::Search;
use crate::server::{Kind, Launch};
use crate::setting::{Runs, Setting};

/// The first rate offered to a room. The search continues from there.
const START_DELIVERIES_PER_SECOND: f64 = 4e6;
/// The least share of the JSON room's deliveries that the mixed room should reach.
const SHARE_MIN: f64 = 0.9;

#[derive(Args, Debug)]
pub struct Options {
    /// Members of the room.
    #[arg(long, default_value_t = 5000)]
    members: usize,
    #[command(flatten)]
    runs: Runs,
    #[command(flatten)]
    setting: Setting,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    Options(String),
    #[error(transparent)]
    World(#[from] io::Error),
    #[error(transparent)]
    Measuring(#[from] Failure),
    #[error("the room that speaks {0} carried no rate at all")]
    NothingCarried(Speech),
}

/// The formats that a measured room uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speech {
    Json,
    Both,
}

impl Speech {
    const ALL: [Speech; 2] = [Speech::Json, Speech::Both];

    fn formats(self) -> Formats {
        match self {
            Speech::Json => Formats::Json,
            Speech::Both => Formats::Both,
        }
    }
}

impl fmt::Display for Speech {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Speech::Json => "JSON",
            Speech::Both => "JSON and protobuf",
        })
    }
}

/// The most that a room carried in one round.
#[derive(Serialize)]
struct Carried {
    speech: Speech,
    round: usize,
    content_bytes: usize,
    run: Run,
}

pub fn run(options: &Options) -> Result<(), Error> {
    options.runs.check().map_err(Error::Options)?;
    if options.members < 2 {
        return Err(Error::Options("--members must be above one".into()));
    }
    let launch = Launch { stentor: Some(options.setting.stentor()?), ..options.setting.launch_apart()? };
    cpu::pin_to(&[launch.client_cpu()])?;
    let mut all: Vec<Carried> = Vec::new();
    for round in 0..options.runs.repeat {
        for speech in Speech::ALL {
            let before = all.iter().rev().find(|carried| carried.speech == speech);
            let near = before.map(|carried| carried.run.deliveries_per_second);
            let content_bytes = content_bytes(speech, options.runs.payload);
            let run = most(options, &launch, speech, content_bytes, near)?.ok_or(Error::NothingCarried(speech))?;
            all.push(Carried { speech, round, content_bytes, run });
        }
    }
    print(options, &all)?;
    Ok(())
}

/// The content size that makes a delivery in this room as large, on average, as a delivery of `payload` in JSON.
fn content_bytes(speech: Speech, payload: usize) -> usize {
    let saved = frame_bytes(Format::Json, payload) - frame_bytes(Format::Protobuf, payload);
    match speech {
        Speech::Json => payload,
        Speech::Both => payload + saved / 2,
    }
}

/// The bytes of a delivery whose content has so many bytes.
fn frame_bytes(format: Format, content_bytes: usize) -> usize {
    let time = Timestamp(1_795_338_279_575_385_013);
    let message = Message {
        channel: ChannelId::room(ROOM).expect("a short name of letters"),
        id: MessageId(Uuid::from_u128(1)),
        sequence: Sequence(1),
        code: MessageCode::Chat,
        sender: UserId(Uuid::from_u128(2)),
        username: USERNAME.into(),
        content: checker::content(0, 0, &checker::padding(content_bytes)).into(),
        create_time: time,
        update_time: time,
        persistent: false,
    };
    let mut frames = Frames::default();
    frames.push(&Event::Message(message), [format].into_iter());
    frames.of(format).bytes.len()
}

/// The run with the most deliveries per second among those that were carried.
fn most(
    options: &Options,
    launch: &Launch,
    speech: Speech,
    content_bytes: usize,
    near: Option<f64>,
) -> Result<Option<Run>, Failure> {
    let shape = || Shape { members: options.members, publishers: 1, content_bytes };
    let mut offers = Offers::new(|| FilledServer::open(Kind::Stentor, shape(), speech.formats(), launch));
    let duration = options.runs.length();
    let offer = |deliveries: f64| {
        let run = offers.offer(deliveries / options.members as f64, duration, Patience::Limited)?;
        let said = match &run {
            Ok(run) if run.carried() => format!("p99 {:.0} ms", run.latency_p99_ms),
            Ok(_) => "not carried".into(),
            Err(failure) => failure.to_string(),
        };
        eprintln!("{:<17} · {:.2} M/s offered · {said}", speech.to_string(), deliveries / 1e6);
        Ok(run.ok().filter(Run::carried))
    };
    let search = near.map_or(Search::from(START_DELIVERIES_PER_SECOND), Search::near);
    search.most(offer, |run| run.deliveries_per_second)
}

fn print(options: &Options, all: &[Carried]) -> io::Result<()> {
    println!("{}\n{}, commit {}", report::command(), cpu::machine(), report::commit());
    println!(
        "One room of {} members, one shard, memory store, messages passed on and not kept; medians of {} rounds.",
        options.members, options.runs.repeat
    );
    let of = |speech, figure: &dyn Fn(&Run) -> f64| {
        median(all.iter().filter(|carried| carried.speech == speech).map(|carried| figure(&carried.run)).collect())
    };
    println!(
        "\n| the room speaks | most M deliveries/s | bytes a delivery | CPU µs a delivery | p99 ms | of the server's core, % | of the client's, % |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for speech in Speech::ALL {
        let figures: [&dyn Fn(&Run) -> f64; 6] = [
            &|run| run.deliveries_per_second / 1e6,
            &|run| run.wire_bytes_per_delivery,
            &|run| run.cpu_us_per_delivery,
            &|run| run.latency_p99_ms,
            &|run| run.core_share * 100.0,
            &|run| run.client_share * 100.0,
        ];
        println!("| {speech} | {} |", figures.map(|figure| shown(of(speech, figure))).join(" | "));
    }
    let share = |figure: &dyn Fn(&Run) -> f64| ratio(of(Speech::Both, figure), of(Speech::Json, figure));
    let goals = [
        Goal::new(
            "most deliveries/s, mixed ÷ JSON",
            share(&|run| run.deliveries_per_second),
            Bound::AtLeast(SHARE_MIN),
        ),
        Goal::new("bytes a delivery, mixed ÷ JSON", share(&|run| run.wire_bytes_per_delivery), Bound::AtLeast(0.98)),
    ];
    goals::print(&goals);
    options.setting.keep(&serde_json::json!({
        "command": report::command(), "machine": cpu::machine(), "commit": report::commit(), "members": options.members,
        "rounds": all, "goals": goals,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_as_large_in_both_rooms() {
        for payload in [60, 100, 500, 2000] {
            let mixed = content_bytes(Speech::Both, payload);
            let mean = (frame_bytes(Format::Json, mixed) + frame_bytes(Format::Protobuf, mixed)) as f64 / 2.0;
            let json = frame_bytes(Format::Json, content_bytes(Speech::Json, payload)) as f64;
            assert!((mean - json).abs() <= 4.0, "{payload}: {mean} beside {json}");
        }
    }
}
