//! The embedded store behind its bridge, without sockets and rooms: the most that can be committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::persist::{StoreReceipt, StoreRequest, Ticket};
use storage::bridge::{Bridge, StoreQueue};
use storage::embedded::{Embedded, EmbeddedOptions};

use super::{Answers, StoreAlone};
use crate::author::RoomsAuthor;
use crate::companion;
use crate::failure::Failure;
use crate::received::empty_histogram;

/// Commits for the given time with as many requests in flight as requested, as far as the bridge takes them, and prints
/// the result.
pub fn serve() -> Result<(), Failure> {
    let options: StoreAlone = companion::options()?;
    let store = Embedded::open(&options.data, &EmbeddedOptions::default())?;
    let (bridge, ends) = Bridge::start(Arc::new(store), 1)?;
    let end = ends.into_iter().next().ok_or_else(|| Failure::faulty("a bridge for one shard has an end for it"))?;
    let answers = drive(&options, &end)?;
    drop(end);
    bridge.stop()?;
    Ok(companion::answer(&answers)?)
}

fn drive(options: &StoreAlone, end: &StoreQueue) -> Result<Answers, Failure> {
    let mut author = RoomsAuthor::new(0..options.rooms, options.payload);
    // It only parks this thread until a receipt comes.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut sent_at = HashMap::new();
    let mut latency_us = empty_histogram();
    let start = Instant::now();
    let duration = Duration::from_secs_f64(options.secs);
    let mut tickets = 0;
    let mut last = start;
    loop {
        while start.elapsed() < duration && sent_at.len() < options.in_flight && end.has_room() {
            let message = author.write();
            tickets += 1;
            sent_at.insert(tickets, Instant::now());
            end.try_send(Ticket(tickets), StoreRequest::Insert(message))
                .map_err(|error| Failure::Faulty(format!("{error:?}")))?;
        }
        if sent_at.is_empty() {
            return Ok(Answers::of(options.in_flight, last.duration_since(start).as_secs_f64(), &latency_us));
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
