//! Messages that expire: no reader sees them, and their room on the disk is given back.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use engine::id::{ChannelId, GroupId, MessageId, Sequence};
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite};
use storage::embedded::{Clock, Embedded, EmbeddedOptions};
use storage::retention::Retention;
use storage::{PageStart, Store, Write, Written};
use tempfile::TempDir;
use uuid::Uuid;

const HOUR_MS: u64 = 3_600_000;
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// When the tests begin.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// Bytes of messages in the test of the disk: more than two memtables.
const MESSAGES: u64 = 16_000;
const CONTENT_BYTES: usize = 5_000;

struct World {
    now: Arc<AtomicU64>,
    store: Option<Embedded>,
    directory: TempDir,
}

impl World {
    fn begin() -> Self {
        let mut world = Self { now: Arc::new(AtomicU64::new(BEGIN_MS)), store: None, directory: scratch() };
        world.open(Retention { room: Some(KEPT), ..Retention::default() });
        world
    }

    fn open(&mut self, retention: Retention) {
        self.store = None;
        let now = self.now.clone();
        let clock: Clock = Arc::new(move || now.load(Ordering::Acquire));
        let options = EmbeddedOptions { retention, ..options() };
        self.store = Some(Embedded::open_by(self.directory.path(), &options, &clock).unwrap());
    }

    fn store(&self) -> &Embedded {
        self.store.as_ref().unwrap()
    }

    fn pass(&self, hours: u64) {
        self.now.fetch_add(hours * HOUR_MS, Ordering::AcqRel);
    }
}

/// The id of the message with this number that was made at this hour.
fn id(hour: u64, number: u64) -> MessageId {
    MessageId(Uuid::from_u128(u128::from(BEGIN_MS + hour * HOUR_MS) << 80 | 7 << 76 | 2 << 62 | u128::from(number)))
}

fn said(channel: &ChannelId, hour: u64, number: u64, content: &str) -> Write {
    let mut message = message(channel, 1, 7);
    (message.id, message.sequence, message.content) = (id(hour, number), Sequence(number), content.into());
    Write::Request(StoreWrite::Insert(message))
}

fn pages(store: &dyn Store, channel: &ChannelId) -> [Vec<u64>; 4] {
    let starts = [PageStart::Oldest, PageStart::Newest, PageStart::After(id(0, 0)), PageStart::Before(id(999, 0))];
    starts.map(|start| {
        let mut found: Vec<_> =
            store.messages(channel, start, 100).unwrap().iter().map(|message| message.sequence.0).collect();
        found.sort_unstable();
        found
    })
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_below(&entry.path()),
            // A journal is longer than what is written in it, and keeps it until it is full.
            false if entry.path().extension().is_some_and(|end| end == "jnl") => 0,
            // Another thread may have removed it.
            false => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

#[test]
fn no_read_sees_what_has_expired_and_each_kind_of_channel_has_its_time() {
    let world = World::begin();
    let (lobby, group) = (room("lobby"), ChannelId::group(GroupId(Uuid::from_u128(5))));
    for (hour, number) in [(0, 1), (0, 2), (6, 3), (12, 4)] {
        commit(world.store(), &[said(&lobby, hour, number, "{}"), said(&group, hour, number, "{}")]);
    }
    assert_eq!(pages(world.store(), &lobby), [(); 4].map(|()| vec![1, 2, 3, 4]));
    world.pass(25);
    assert_eq!(pages(world.store(), &lobby), [(); 4].map(|()| vec![3, 4]));
    assert_eq!(world.store().message(&lobby, id(0, 2)).unwrap(), None);
    assert!(world.store().message(&lobby, id(6, 3)).unwrap().is_some());
    let update = |channel: &ChannelId| {
        let remove = StoreWrite::Remove { channel: channel.clone(), id: id(0, 1), sender: user(7) };
        commit(world.store(), &[Write::Request(remove)]).remove(0)
    };
    assert!(
        !matches!(update(&lobby), Written::Receipt(StoreReceipt::Removed(_))),
        "an expired message cannot be changed"
    );
    assert!(matches!(update(&group), Written::Receipt(StoreReceipt::Removed(_))));
    world.pass(999);
    assert_eq!(pages(world.store(), &lobby), [const { Vec::<u64>::new() }; 4]);
    assert_eq!(pages(world.store(), &group), [(); 4].map(|()| vec![2, 3, 4]));
    let head = Some(ChannelHead { id: id(12, 4), sequence: Sequence(4) });
    assert_eq!(world.store().head(&lobby).unwrap(), head, "the head never moves back");
}

#[test]
fn expired_messages_give_their_room_back_and_reading_costs_the_same() {
    let mut world = World::begin();
    let (lobby, quiet) = (room("lobby"), room("quiet"));
    let mut state = 1_u64;
    let mut content = || {
        let mut text = String::with_capacity(CONTENT_BYTES);
        while text.len() < CONTENT_BYTES {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += &format!("{state:016x}");
        }
        text
    };
    commit(world.store(), &[said(&quiet, 0, 1, "a word"), said(&quiet, 0, 2, "the last word")]);
    for first in (1..=MESSAGES).step_by(100) {
        let group: Vec<_> = (first..first + 100).map(|number| said(&lobby, 0, number, &content())).collect();
        commit(world.store(), &group);
    }
    commit(world.store(), &[said(&lobby, 20, MESSAGES + 1, "kept")]);
    let before = bytes_below(world.directory.path());
    assert!(before > 20 << 20, "{before} bytes");

    world.pass(30);
    let cost = |world: &World| {
        let rows = world.store().rows_read();
        assert_eq!(pages(world.store(), &lobby), [(); 4].map(|()| vec![MESSAGES + 1]));
        assert_eq!(pages(world.store(), &quiet), [const { Vec::<u64>::new() }; 4]);
        world.store().rows_read() - rows
    };
    assert!(cost(&world) < 20, "no expired row is looked at");
    let deadline = Instant::now() + Duration::from_secs(60);
    while bytes_below(world.directory.path()) > before / 20 {
        assert!(Instant::now() < deadline, "{} of {before} bytes are left", bytes_below(world.directory.path()));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(cost(&world) < 20);
    let heads =
        |world: &World| [&lobby, &quiet].map(|channel| world.store().head(channel).unwrap().unwrap().sequence.0);
    assert_eq!(heads(&world), [MESSAGES + 1, 2]);

    // What is gone does not come back when messages are kept for longer.
    world.open(Retention::default());
    assert_eq!(heads(&world), [MESSAGES + 1, 2]);
    assert_eq!(pages(world.store(), &lobby)[0], [MESSAGES + 1]);
    let rest = world.store().messages(&quiet, PageStart::Oldest, 9).unwrap();
    assert!(
        rest.iter().all(|message| message.content.is_empty()),
        "the last message of a channel loses its text: {rest:?}"
    );
}
