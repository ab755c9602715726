//! The database's driver without the server: the same rows, batched by the same rule. Each room has a lane. The rows
//! that wait in it are sent as one batch when no batch is under way, or when the batch is full.

use std::sync::Arc;
use std::time::Instant;

use engine::message::Message;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::database::Database;
use crate::author::RoomsAuthor;
use crate::companion::{self, Companion};
use crate::failure::Failure;
use crate::launch::Launch;
use crate::received::empty_histogram;
use crate::sends::{Answers, Work};

/// The same numbers as in the server's store.
const BATCH_ROWS_MAX: usize = 128;
const BATCHES_MAX: usize = 2;
const CONNECTIONS: usize = 2;
const WORKER_THREADS: usize = 2;

/// What the driver alone has to do, and where.
#[derive(Serialize, Deserialize)]
struct DriverAlone {
    node: String,
    keyspace: String,
    work: Work,
}

/// Runs the driver in a separate process on the server's cores.
pub fn run(database: &Database, work: Work, launch: &Launch) -> Result<Answers, Failure> {
    let length = work.length();
    let alone = DriverAlone { node: database.node.clone(), keyspace: database.new_keyspace(launch)?, work };
    Ok(Companion::start("driver-alone", &alone, launch, &launch.server_cpus)?.hear(length)?)
}

/// Writes for the given time, and answers with the result.
pub fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()?;
    let answers = runtime.block_on(drive(&companion::options()?))?;
    Ok(companion::answer(&answers)?)
}

/// What all rooms share.
struct Driver {
    session: Session,
    put_message: PreparedStatement,
    set_head: PreparedStatement,
    end: Instant,
}

async fn drive(DriverAlone { node, keyspace, work }: &DriverAlone) -> Result<Answers, Failure> {
    let profile = ExecutionProfile::builder().consistency(Consistency::LocalQuorum).build();
    let connections = std::num::NonZeroUsize::MIN.saturating_add(CONNECTIONS - 1);
    let session = SessionBuilder::new()
        .known_node(node)
        .default_execution_profile_handle(profile.into_handle())
        .pool_size(PoolSize::PerHost(connections))
        .use_keyspace(keyspace, true)
        .build()
        .await
        .map_err(Failure::faulty)?;
    let put = "INSERT INTO messages (channel_id, bucket, message_id, seq, code, sender_id, username, content, create_ns, \
               update_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
    let head = "UPDATE messages USING TIMESTAMP ? SET head_id = ?, head_seq = ?, fill_rows = ?, fill_bytes = ? WHERE \
                channel_id = ? AND bucket = ?";
    let (put_message, set_head) =
        (session.prepare(put).await.map_err(Failure::faulty)?, session.prepare(head).await.map_err(Failure::faulty)?);
    let begun = Instant::now();
    let end = begun + work.length();
    let driver = Arc::new(Driver { session, put_message, set_head, end });
    let mut rooms = JoinSet::new();
    for number in 0..work.rooms {
        // The shares of all rooms add up to the requested number in flight.
        let share = work.in_flight / work.rooms + usize::from(number < work.in_flight % work.rooms);
        let author = RoomsAuthor::new(number..number + 1, work.payload);
        rooms.spawn(room(driver.clone(), author, share));
    }
    assert_eq!(rooms.len(), work.rooms, "each room has a lane");
    let (mut latency_us, mut last) = (empty_histogram(), begun);
    while let Some(done) = rooms.join_next().await {
        let (of_room, until) = done.map_err(Failure::faulty)??;
        for us in of_room {
            latency_us.saturating_record(us);
        }
        last = last.max(until);
    }
    Ok(Answers::of(work.in_flight, (last - begun).as_secs_f64(), &latency_us))
}

/// One room's lane: how long each message took, and when the last one was acknowledged.
async fn room(driver: Arc<Driver>, mut author: RoomsAuthor, share: usize) -> Result<(Vec<u64>, Instant), Failure> {
    let (mut took, mut last, mut bucket) = (Vec::new(), Instant::now(), None);
    let (mut waiting, mut under_way, mut written) = (Vec::new(), JoinSet::new(), 0);
    for _ in 0..share {
        waiting.push((author.write(), Instant::now()));
    }
    loop {
        while !waiting.is_empty()
            && (under_way.is_empty() || (waiting.len() >= BATCH_ROWS_MAX && under_way.len() < BATCHES_MAX))
        {
            let rest = waiting.split_off(waiting.len().min(BATCH_ROWS_MAX));
            let batch = std::mem::replace(&mut waiting, rest);
            let bucket = *bucket.get_or_insert_with(|| (batch[0].0.id.0.as_u128() >> 80) as i64);
            written += batch.len();
            under_way.spawn(write(driver.clone(), batch, bucket, written));
        }
        let Some(done) = under_way.join_next().await else {
            assert_eq!(took.len(), written, "each message that was written is timed");
            return Ok((took, last));
        };
        last = Instant::now();
        for since in done.map_err(Failure::faulty)?? {
            took.push((last - since).as_micros() as u64);
            if last < driver.end {
                waiting.push((author.write(), last));
            }
        }
    }
}

async fn write(
    driver: Arc<Driver>,
    messages: Vec<(Message, Instant)>,
    bucket: i64,
    written: usize,
) -> Result<Vec<Instant>, Failure> {
    let mut batch = Batch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    let mut values = Vec::with_capacity(messages.len() + 1);
    for (message, _) in &messages {
        batch.append_statement(driver.put_message.clone());
        values.push(row(message, bucket));
    }
    if let Some((message, _)) = messages.last() {
        batch.append_statement(driver.set_head.clone());
        let bytes = written * (100 + message.content.len() + message.username.len());
        values.push(vec![
            big(message.create_time.0 / 1_000),
            CqlValue::Uuid(message.id.0),
            big(message.sequence.0 as i64),
            CqlValue::Int(written as i32),
            big(bytes as i64),
            CqlValue::Text(message.channel.as_str().into()),
            big(bucket),
        ]);
    }
    driver.session.batch(&batch, values).await.map_err(Failure::faulty)?;
    Ok(messages.into_iter().map(|(_, since)| since).collect())
}

fn row(message: &Message, bucket: i64) -> Vec<CqlValue> {
    vec![
        CqlValue::Text(message.channel.as_str().into()),
        big(bucket),
        CqlValue::Uuid(message.id.0),
        big(message.sequence.0 as i64),
        CqlValue::Int(message.code as i32),
        CqlValue::Uuid(message.sender.0),
        CqlValue::Text((*message.username).into()),
        CqlValue::Text((*message.content).into()),
        big(message.create_time.0),
        big(message.update_time.0),
        CqlValue::Int(0),
        big(message.create_time.0 / 1_000),
    ]
}

fn big(number: i64) -> CqlValue {
    CqlValue::BigInt(number)
}
