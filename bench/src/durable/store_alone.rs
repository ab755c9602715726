//! The embedded store behind its bridge, without sockets and rooms: the most that can be committed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use engine::persist::{StoreReceipt, StoreWrite, Ticket};
use storage::bridge::{Bridge, StoreQueue};
use storage::embedded::{Embedded, EmbeddedOptions};

use serde::{Deserialize, Serialize};

use crate::author::RoomsAuthor;
use crate::companion::{self, Companion};
use crate::failure::Failure;
use crate::launch::Launch;
use crate::received::empty_histogram;
use crate::sends::{Answers, Work};

/// What the store alone has to do, and where.
#[derive(Serialize, Deserialize)]
struct StoreAlone {
    data: PathBuf,
    work: Work,
}

/// Writes the same messages as the publishers in a separate process on the server's cores.
pub fn run(work: Work, launch: &Launch) -> Result<Answers, Failure> {
    let directory = launch.data_directory()?;
    let (length, alone) = (work.length(), StoreAlone { data: directory.path().into(), work });
    Ok(Companion::start("store-alone", &alone, launch, &launch.server_cpus)?.hear(length)?)
}

/// Commits for the given time with as many requests in flight as requested, as far as the bridge takes them, and
/// answers with the result.
pub fn serve() -> Result<(), Failure> {
    let StoreAlone { data, work } = companion::options()?;
    let store = Embedded::open(&data, &EmbeddedOptions::default())?;
    let (bridge, ends) = Bridge::start(Arc::new(store), 1)?;
    let end = ends.into_iter().next().ok_or_else(|| Failure::faulty("a bridge for one shard has an end for it"))?;
    let answers = drive(&work, &end)?;
    drop(end);
    bridge.stop()?;
    Ok(companion::answer(&answers)?)
}

fn drive(work: &Work, end: &StoreQueue) -> Result<Answers, Failure> {
    let mut author = RoomsAuthor::new(0..work.rooms, work.payload);
    // It only parks this thread until a receipt comes.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut sent_at = HashMap::new();
    let mut latency_us = empty_histogram();
    let start = Instant::now();
    let duration = work.length();
    let mut tickets = 0;
    let mut last = start;
    loop {
        while start.elapsed() < duration && sent_at.len() < work.in_flight && end.has_room() {
            let message = author.write();
            tickets += 1;
            sent_at.insert(tickets, Instant::now());
            end.try_send(Ticket(tickets), StoreWrite::Insert(message))
                .map_err(|error| Failure::Faulty(format!("{error:?}")))?;
        }
        if sent_at.is_empty() {
            assert_eq!(latency_us.len(), tickets, "each message is answered and timed");
            return Ok(Answers::of(work.in_flight, last.duration_since(start).as_secs_f64(), &latency_us));
        }
        // Takes all receipts that have come before it sends new requests: a shard takes its receipts in the same way.
        let mut receipt =
            Some(runtime.block_on(end.receive()).ok_or_else(|| Failure::faulty("the store has stopped"))?);
        last = Instant::now();
        while let Some((ticket, outcome)) = receipt {
            if outcome != Ok(StoreReceipt::Inserted) {
                return Err(Failure::Faulty(format!("{outcome:?}")));
            }
            let sent = sent_at.remove(&ticket.0).ok_or_else(|| Failure::faulty("a ticket was answered twice"))?;
            latency_us.saturating_record(last.duration_since(sent).as_micros() as u64);
            receipt = end.try_receive();
        }
    }
}
