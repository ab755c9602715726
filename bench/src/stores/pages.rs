//! Pages that the stores return, without the server's own memory: the newest page of a long history, a page deep in it,
//! and the newest page of a channel with one message a year.

use std::path::Path;
use std::time::{Duration, Instant};

use comfy_table::Table;
use engine::id::{ChannelId, MessageId, Sequence, Timestamp};
use engine::message::Message;
use engine::persist::StoreRequest;
use hdrhistogram::Histogram;
use runtime::clock;
use serde::Serialize;
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{PageStart, Store, Write};
use storage_scylla::options::ScyllaOptions;
use storage_scylla::{Scylla, apply_schema};
use uuid::Uuid;

use super::database::Database;
use crate::durable::store_alone::Author;
use crate::failure::Failure;
use crate::received::empty_histogram;
use crate::report;

pub const PAGE_MESSAGES: usize = 100;
/// Messages in one group of writes.
const GROUP: usize = 1_000;
/// Messages in the seldom used channel, one a year.
const YEARS: u64 = 8;
const YEAR_MS: u64 = 366 * 24 * 3600 * 1_000;
/// How long to wait for the database to become reachable.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is written and read.
#[derive(Clone, Copy)]
pub struct Reads {
    pub messages: usize,
    pub pages: usize,
    pub payload: usize,
}

/// How long pages of one kind took in one store.
#[derive(Debug, Serialize)]
pub struct PageTimes {
    store: &'static str,
    page: &'static str,
    p50_ms: f64,
    p99_ms: f64,
}

pub fn measure(reads: Reads, data_in: &Path, database: &Database) -> Result<Vec<PageTimes>, Failure> {
    let directory = tempfile::TempDir::new_in(data_in)?;
    let embedded = Embedded::open(directory.path(), &EmbeddedOptions::default())?;
    let mut options = ScyllaOptions::at(vec![database.node.clone()]);
    let keyspace = format!("bench_{}_pages", std::process::id());
    options.keyspace = keyspace.parse().map_err(Failure::Options)?;
    options.replication = 1;
    apply_schema(&options, clock::wall())?;
    let kept = Scylla::open(options, clock::wall)?;
    let since = Instant::now();
    while let Err(failure) = kept.revocations() {
        if since.elapsed() > PATIENCE {
            return Err(failure.into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut times = Vec::new();
    for (name, store) in [("embedded", &embedded as &dyn Store), ("database", &kept)] {
        eprintln!("pages · {name} is filled with {} messages, and read", reads.messages);
        of_store(name, store, reads, &mut times)?;
    }
    kept.close()?;
    embedded.close()?;
    Ok(times)
}

fn of_store(name: &'static str, store: &dyn Store, reads: Reads, times: &mut Vec<PageTimes>) -> Result<(), Failure> {
    let mut author = Author::of_room(0, reads.payload);
    let (mut ids, mut channel) = (Vec::with_capacity(reads.messages), None);
    while ids.len() < reads.messages {
        let count = GROUP.min(reads.messages - ids.len());
        let messages = (0..count).map(|_| author.write()).collect::<Result<Vec<_>, _>>()?;
        ids.extend(messages.iter().map(|message| message.id));
        channel = messages.last().map(|message| message.channel.clone()).or(channel);
        insert(store, messages)?;
    }
    let Some(channel) = channel else { return Ok(()) };
    let sparse = ChannelId::room("sparse").map_err(|_| Failure::Options("a short name".into()))?;
    insert(store, seldom_used(&sparse, author.write()?))?;

    let mut page = |kind, channel: &ChannelId, place: &mut dyn FnMut(usize) -> PageStart, expected| {
        let mut latency_us = empty_histogram();
        for number in 0..reads.pages {
            let place = place(number);
            let begun = Instant::now();
            let found = store.messages(channel, place, PAGE_MESSAGES)?.len();
            latency_us.saturating_record(begun.elapsed().as_micros() as u64);
            if found != expected {
                return Err(Failure::Options(format!("a {kind} page of {found} messages, of {expected} expected")));
            }
        }
        times.push(PageTimes::of(name, kind, &latency_us));
        Ok(())
    };
    page("newest", &channel, &mut |_| PageStart::Newest, PAGE_MESSAGES)?;
    // Pages from everywhere but the newest one, in an order that no cache helps with, and the same for both stores.
    let deep = ids.len() - PAGE_MESSAGES;
    let mut before = |number: usize| PageStart::Before(ids[PAGE_MESSAGES + number.wrapping_mul(7_919) % deep]);
    page("deep", &channel, &mut before, PAGE_MESSAGES)?;
    page("sparse", &sparse, &mut |_| PageStart::Newest, YEARS as usize)
}

/// One message a year, the last of them now.
fn seldom_used(channel: &ChannelId, last: Message) -> Vec<Message> {
    let now_ms = (last.id.0.as_u128() >> 80) as u64;
    let year = |number: u64| {
        let ms = now_ms - (YEARS - number) * YEAR_MS;
        let id = u128::from(ms) << 80 | last.id.0.as_u128() & ((1 << 80) - 1);
        let (id, create_time) = (MessageId(Uuid::from_u128(id)), Timestamp((ms * 1_000_000) as i64));
        let channel = channel.clone();
        Message { channel, id, sequence: Sequence(number), create_time, update_time: create_time, ..last.clone() }
    };
    (1..=YEARS).map(year).collect()
}

fn insert(store: &dyn Store, messages: Vec<Message>) -> Result<(), Failure> {
    let writes: Vec<_> = messages.into_iter().map(|message| Write::Request(StoreRequest::Insert(message))).collect();
    for written in store.commit(&writes)? {
        written?;
    }
    Ok(())
}

impl PageTimes {
    fn of(store: &'static str, page: &'static str, latency_us: &Histogram<u64>) -> Self {
        let quantile_ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1e3;
        Self { store, page, p50_ms: quantile_ms(0.5), p99_ms: quantile_ms(0.99) }
    }
}

pub fn table(times: &[PageTimes]) -> Table {
    let header = [&format!("page of {PAGE_MESSAGES}"), "p50 ms", "p99 ms"];
    let cells = |times: &PageTimes| {
        report::row(format!("{}, {}", times.page, times.store), [times.p50_ms, times.p99_ms].map(Some))
    };
    report::table(header, times.iter().map(cells))
}
