//! Stentor beside minimal programs that do the same work: `cargo run --release -p bench -- fanout`.

mod accounts;
mod asker;
mod author;
mod bare_loop;
mod bystander;
mod calls;
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
mod grpc_client;
mod hostile;
mod http;
mod kept_connection;
mod launch;
mod logouts;
mod metrics;
mod pairs;
mod publisher;
mod received;
mod reconnects;
mod report;
mod run;
mod search;
mod sends;
mod server;
mod session;
mod setting;
mod shards;
mod sign_ins;
mod skimmer;
mod sockets;
mod store;
mod stores;
mod stragglers;
mod tls;
mod watch;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Peers that ask for too much: what does a bystander notice of each attack?
    Hostile(hostile::Options),
    /// A room of thousands is cut and comes back: how soon, and what do those notice who were never cut?
    Reconnects(reconnects::Options),
    /// Persistent messages: how many are made durable and answered, beside what the store alone commits?
    Durable(durable::Options),
    /// A call of the API over REST and over gRPC: how many a second, and at what cost?
    Calls(calls::Options),
    /// Sign-ins of new and known accounts, by device and by email: how many a second, and at what cost?
    SignIns(sign_ins::Options),
    /// A million logouts in the table of refused tokens: what memory do they take, and what does a check cost beside them?
    Logouts(logouts::Options),
    /// The embedded store alone: what does a message cost in one channel and in a million, and what does a start cost
    /// after a kill?
    Store(store::Options),
    /// The embedded store beside a database: how many messages are stored?
    Stores(stores::Options),
    /// A server to compare with: it sends each message separately, at once. The fan-out starts it.
    #[command(hide = true)]
    BareLoop,
    /// A server to compare with: it sends the collected messages once a tick. The fan-out starts it.
    #[command(hide = true)]
    BatchingLoop,
    /// The same under TLS, but for the publisher.
    #[command(hide = true)]
    TlsLoop {
        #[arg(long)]
        tls_cert: PathBuf,
        #[arg(long)]
        tls_key: PathBuf,
    },
    /// A client of a run with several shards; the run starts it.
    #[command(hide = true)]
    CrowdOfShards,
    /// A client of a run with stragglers; the run starts it.
    #[command(hide = true)]
    CrowdOfStragglers,
    /// The attackers of a hostile run; the run starts it.
    #[command(hide = true)]
    Attackers,
    /// A client process of a run with reconnects; the run starts it.
    #[command(hide = true)]
    CrowdOfReconnects,
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
        Question::Hostile(options) => hostile::run(&options),
        Question::Attackers => hostile::attacker::serve(),
        Question::Reconnects(options) => reconnects::run(&options),
        Question::CrowdOfReconnects => reconnects::generator::serve(),
        Question::Durable(options) => durable::run(&options),
        Question::StoreAlone => durable::serve_store_alone(),
        Question::Store(options) => store::run(&options),
        Question::Stores(options) => stores::run(&options),
        Question::Calls(options) => calls::run(&options),
        Question::SignIns(options) => sign_ins::run(&options),
        Question::Logouts(options) => logouts::run(&options),
        Question::DriverAlone => stores::serve_driver_alone(),
        Question::BareLoop => bare_loop::serve(Sending::Each, None),
        Question::BatchingLoop => bare_loop::serve(Sending::PerTick, None),
        Question::TlsLoop { tls_cert, tls_key } => tls::server_config(&tls_cert, &tls_key)
            .map_err(Failure::from)
            .and_then(|config| bare_loop::serve(Sending::PerTick, Some(config))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The benchmarks themselves run for minutes, on a machine that does nothing else.
    #[test]
    fn documented_commands_are_understood() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md"));
        let page = page.expect("the page is in the tree");
        let lines = page.lines().filter_map(|line| line.strip_prefix("    cargo run --release -p bench -- "));
        let mut understood = 0;
        for line in lines {
            let words = ["bench"].into_iter().chain(line.split_whitespace());
            if let Err(error) = Bench::try_parse_from(words) {
                panic!("{line}: {error}");
            }
            understood += 1;
        }
        assert!(understood >= 8, "{understood} commands");
    }
}
