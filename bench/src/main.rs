//! Stentor beside minimal programs that do the same work: `cargo run --release -p bench -- fanout`.

mod author;
mod bare_loop;
mod checker;
mod client;
mod companion;
mod cpu;
mod dialect;
mod durable;
mod failure;
mod fanout;
mod frames;
mod goals;
mod http;
mod launch;
mod metrics;
mod publisher;
mod received;
mod report;
mod run;
mod search;
mod sends;
mod server;
mod setting;
mod shards;
mod sockets;
mod store;
mod stores;
mod stragglers;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::bare_loop::Sending;
use crate::failure::Failure;

#[derive(Parser)]
#[command(about = "Measures Stentor beside bare loops on the same work, and prints the ratios.")]
struct Bench {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// One message to all members of a large room: how many, how fast, at what cost?
    Fanout(fanout::Options),
    /// The same crowds on one shard and on two: how much more is delivered?
    Shards(shards::Options),
    /// Members that stop reading, read slowly or vanish: what do the others notice, and what is left afterwards?
    Stragglers(stragglers::Options),
    /// Persistent messages: how many are made durable and answered, beside what the store alone commits?
    Durable(durable::Options),
    /// The embedded store alone: what does a message cost in one channel and in a million, and what does a start cost
    /// after a kill?
    Store(store::Options),
    /// The embedded store beside a database: how many messages are stored?
    Stores(stores::Options),
    /// A server to compare with; the other commands start it.
    #[command(hide = true)]
    BareLoop {
        /// Sends the collected messages once per so many milliseconds; 0: each message separately, at once.
        #[arg(long)]
        tick_ms: u64,
    },
    /// A client of a run with several shards; the run starts it.
    #[command(hide = true)]
    CrowdOfShards,
    /// A client of a run with stragglers; the run starts it.
    #[command(hide = true)]
    CrowdOfStragglers,
    /// The store alone, for a durable run; the run starts it.
    #[command(hide = true)]
    StoreAlone,
    /// The driver of a database alone; a run of stores starts it.
    #[command(hide = true)]
    DriverAlone,
}

fn main() -> ExitCode {
    let ended = match Bench::parse().question {
        Question::Fanout(options) => fanout::run(&options),
        Question::Shards(options) => shards::run(&options),
        Question::CrowdOfShards => shards::crowd(),
        Question::Stragglers(options) => stragglers::run(&options),
        Question::CrowdOfStragglers => stragglers::crowd::serve(),
        Question::Durable(options) => durable::run(&options),
        Question::StoreAlone => durable::serve_store_alone(),
        Question::Store(options) => store::run(&options),
        Question::Stores(options) => stores::run(&options),
        Question::DriverAlone => stores::serve_driver_alone(),
        Question::BareLoop { tick_ms } => bare_loop::serve(sending(tick_ms)).map_err(Failure::from),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn sending(tick_ms: u64) -> Sending {
    match tick_ms {
        0 => Sending::Each,
        tick_ms => Sending::PerTick(Duration::from_millis(tick_ms)),
    }
}
