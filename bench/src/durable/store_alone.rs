//! The embedded store behind its bridge, without sockets and rooms: the most that can be committed.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::id::{ChannelId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::message_id::MessageIds;
use engine::persist::{StoreReceipt, StoreRequest, Ticket};
use storage::bridge::{Bridge, StoreQueue};
use storage::embedded::{Embedded, EmbeddedOptions};
use uuid::Uuid;

use super::{Answers, StoreAlone};
use crate::checker;
use crate::companion;
use crate::dialect::USERNAME;
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
    let mut author = Author::new(options.rooms, options.payload);
    let mut sent_at = HashMap::new();
    let mut latency_us = empty_histogram();
    let start = Instant::now();
    let duration = Duration::from_secs_f64(options.secs);
    let mut tickets = 0;
    let mut last = start;
    loop {
        while start.elapsed() < duration && sent_at.len() < options.in_flight && end.has_room() {
            let message = author.write()?;
            tickets += 1;
            sent_at.insert(tickets, Instant::now());
            end.try_send(Ticket(tickets), StoreRequest::Insert(message))
                .map_err(|error| Failure::Faulty(format!("{error:?}")))?;
        }
        if sent_at.is_empty() {
            return Ok(Answers::of(options.in_flight, last.duration_since(start).as_secs_f64(), &latency_us));
        }
        // Takes all receipts that have come before it sends new requests: a shard takes its receipts in the same way.
        let mut receipt = Some(wait_for(end.receive()).ok_or_else(|| Failure::faulty("the store has stopped"))?);
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

/// Writes the same messages as the publishers, in all rooms in turn.
pub struct Author {
    rooms: Vec<(ChannelId, MessageIds)>,
    padding: String,
    username: Arc<str>,
    written: u32,
}

impl Author {
    fn new(rooms: usize, content_bytes: usize) -> Author {
        Author::of(0..rooms, content_bytes)
    }

    /// Writes in one room only.
    pub fn of_room(number: usize, content_bytes: usize) -> Author {
        Author::of(number..number + 1, content_bytes)
    }

    fn of(rooms: std::ops::Range<usize>, content_bytes: usize) -> Author {
        let room = |number| ChannelId::room(&format!("durable-{number:04}")).expect("a short name");
        Author {
            rooms: rooms.map(|number| (room(number), MessageIds::after(None))).collect(),
            padding: checker::padding(content_bytes),
            username: USERNAME.into(),
            written: 0,
        }
    }

    pub fn write(&mut self) -> Result<Message, Failure> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp(since_epoch.as_nanos() as i64);
        let count = self.rooms.len();
        let (channel, ids) = &mut self.rooms[self.written as usize % count];
        let id = ids.next(now, u64::from(self.written)).map_err(|_| Failure::faulty("ids ran ahead of the clock"))?;
        let content = checker::content(self.written, now.0.cast_unsigned(), &self.padding);
        let message = Message {
            channel: channel.clone(),
            id,
            sequence: Sequence(u64::from(self.written) / count as u64 + 1),
            code: MessageCode::Chat,
            sender: UserId(Uuid::from_u128(1)),
            username: self.username.clone(),
            content: content.into(),
            create_time: now,
            update_time: now,
            persistent: true,
        };
        self.written += 1;
        Ok(message)
    }
}

/// Runs one future on this thread. The thread sleeps while it waits.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park();
    }
}
