//! The cost of a pass without its writes: over members that have messages to get, and over members that have none. Its
//! limit is a plain loop over the same table with the same outlet. A socket write costs thousands of nanoseconds for
//! each member.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::command::Event;
use engine::fanout::frames::{Format, Frames};
use engine::fanout::subscribers::{AudienceKey, Gone, Outlet, PassReport, Subscribers};
use engine::id::{ChannelId, MessageId, Monotonic, Sequence, Timestamp, UserId};
use engine::limits::Rules;
use engine::message::{Message, MessageCode};
use engine::parcel::Reached;
use uuid::Uuid;

const ROOMS: [usize; 3] = [100, 1000, 15_000];

/// An outlet that takes every write and discards it.
struct Sink;

impl Outlet for Sink {
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        black_box(slot);
        Ok(black_box(pieces).iter().map(|piece| piece.len()).sum())
    }

    fn wait(&mut self, _: u32) {}
}

fn frames(channel: &ChannelId) -> Frames {
    let message = Message {
        channel: channel.clone(),
        id: MessageId(Uuid::nil()),
        sequence: Sequence(1),
        code: MessageCode::Chat,
        sender: UserId(Uuid::nil()),
        username: "alice".into(),
        content: format!(r#"{{"text":"{}"}}"#, "x".repeat(89)).into(),
        create_time: Timestamp(0),
        update_time: Timestamp(0),
        persistent: false,
    };
    let mut frames = Frames::default();
    frames.push(&Event::Message(message), Format::ALL.into_iter());
    frames
}

struct Room {
    channel: ChannelId,
    key: AudienceKey,
    members: usize,
    subscribers: Subscribers,
    frames: Frames,
}

impl Room {
    fn of(members: usize) -> Room {
        let channel = ChannelId::room("lobby").expect("a room's name");
        let mut subscribers = Subscribers::default();
        let mut key = None;
        for slot in 0..members as u32 {
            key = Some(subscribers.subscribe(&channel, Format::Json, slot, Reached::default()).0);
        }
        let frames = frames(&channel);
        Room { channel, key: key.expect("a member is in it"), members, subscribers, frames }
    }

    /// Appends a message to the log.
    fn say(&mut self) {
        self.subscribers.append(&self.channel, &self.frames);
    }

    /// Advances every member's cursor to the end, as if the message had been written outside the pass.
    fn serve_apart(&mut self) {
        let bytes = self.frames.of(Format::Json).bytes.len();
        (0..self.members as u32).for_each(|index| self.subscribers.advance(self.key, index, bytes));
    }

    fn pass(&mut self) -> Duration {
        let start = Instant::now();
        let mut findings = PassReport::default();
        let rules = Rules { lag_bytes_max: u64::MAX, ..Rules::default() };
        while self.subscribers.is_busy() {
            let mut slice = self.subscribers.begin_slice(Monotonic(0), &rules);
            while self.subscribers.serve_next(&mut slice, &mut Sink, &rules, &mut findings) {}
        }
        start.elapsed()
    }
}

fn pass(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pass");
    for members in ROOMS {
        group.throughput(Throughput::Elements(members as u64));
        let mut room = Room::of(members);
        group.bench_function(BenchmarkId::new("busy", members), |bencher| {
            bencher.iter_custom(|times| {
                let pass = |_| {
                    room.say();
                    room.pass()
                };
                (0..times).map(pass).sum()
            });
        });
        group.bench_function(BenchmarkId::new("idle", members), |bencher| {
            bencher.iter_custom(|times| {
                let pass = |_| {
                    room.say();
                    room.serve_apart();
                    room.pass()
                };
                (0..times).map(pass).sum()
            });
        });
        let log = room.frames.of(Format::Json).bytes.to_vec();
        let mut table: Vec<(u64, u32)> = (0..members as u32).map(|slot| (0, slot)).collect();
        let mut end = 0;
        group.bench_function(BenchmarkId::new("plain loop, busy", members), |bencher| {
            bencher.iter(|| {
                end += log.len() as u64;
                plain_loop(&mut table, &log, end);
            });
        });
        group.bench_function(BenchmarkId::new("plain loop, idle", members), |bencher| {
            bencher.iter(|| plain_loop(&mut table, &log, end));
        });
    }
    group.finish();
}

/// The log holds the most that any member has to get, and ends at `end`.
fn plain_loop(table: &mut [(u64, u32)], log: &[u8], end: u64) {
    let base = end.saturating_sub(log.len() as u64);
    for (cursor, slot) in black_box(table) {
        if *cursor < end {
            let owed = &log[(*cursor - base) as usize..];
            *cursor += Sink.write(*slot, &[owed]).unwrap_or(0) as u64;
        }
    }
}

criterion_group!(benches, pass);
criterion_main!(benches);
