//! Tests of pacing and counting, with sockets that count writes and a clock that is a number.

use std::collections::BTreeMap;

use super::*;
use crate::command::Event;
use crate::fanout::frames::Frames;
use crate::id::{Epoch, Sequence, UserId};
use crate::limits::{
    CHANNELS_MAX, LOGS_BYTES_MAX, PASS_VISITS_MAX, ROOM_MEMBERS_MAX, ROTATION_INTERVAL, WRITE_BYTES_MAX,
};
use crate::message::{Message, MessageCode};
use crate::process_rates::ProcessRates;
use crate::routing::PlacementKey;

const MILLISECOND: i64 = 1_000_000;
const ROTATION: i64 = ROTATION_INTERVAL.as_nanos() as i64;

/// No member is ever too far behind.
const ANY_LAG: Rules = Rules {
    room_members_max: ROOM_MEMBERS_MAX,
    sends_per_second: None,
    work_per_session: None,
    work_per_user: None,
    work_per_address: None,
    process_rates: ProcessRates { openings: None, sign_ins: None, accounts: None, joins: None },
    lag_bytes_max: u64::MAX,
    logs_bytes_max: LOGS_BYTES_MAX,
    pass_visits_max: PASS_VISITS_MAX,
    write_bytes_max: WRITE_BYTES_MAX,
    sessions_per_user_max: None,
    memberships_per_user_max: None,
    channels_max: CHANNELS_MAX,
    placement_key: PlacementKey([0; 16]),
};

/// Sockets that take everything. For each, the bytes and the number of writes.
#[derive(Default)]
struct Sockets(BTreeMap<u32, (Vec<u8>, u32)>);

impl Outlet for Sockets {
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        let (bytes, writes) = self.0.entry(slot).or_default();
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        *writes += 1;
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn wait(&mut self, _: u32) {}
}

/// Runs one slice, and leaves what it reports to the caller.
fn pass(
    subscribers: &mut Subscribers,
    now: Monotonic,
    outlet: &mut impl Outlet,
    rules: &Rules,
    report: &mut PassReport,
) {
    let mut slice = subscribers.begin_slice(now, rules);
    while subscribers.serve_next(&mut slice, outlet, rules, report) {}
}

struct Room {
    channel: ChannelId,
    subscribers: Subscribers,
    sockets: Sockets,
    said: Vec<u8>,
    now: i64,
}

impl Room {
    fn of(members: u32) -> Room {
        let channel = ChannelId::room("lobby").unwrap();
        let mut subscribers = Subscribers::default();
        for slot in 0..members {
            subscribers.subscribe(&channel, Format::Json, slot, Reached::default());
        }
        Room { channel, subscribers, sockets: Sockets::default(), said: Vec::new(), now: 0 }
    }

    fn say(&mut self, number: u32) {
        let mut frames = Frames::default();
        frames.push(&Event::Message(message(&self.channel, number)), Format::ALL.into_iter());
        self.said.extend_from_slice(&frames.of(Format::Json).bytes);
        self.subscribers.append(&self.channel, &frames);
    }

    /// Runs one slice, and advances the clock by the cost of its writes.
    fn slice(&mut self) {
        let before = self.writes();
        pass(&mut self.subscribers, Monotonic(self.now), &mut self.sockets, &ANY_LAG, &mut PassReport::default());
        self.now += i64::from(self.writes() - before) * 6_500;
    }

    /// Runs slices until the passes are done or must wait.
    fn turn(&mut self) {
        loop {
            self.slice();
            if !self.subscribers.is_busy() {
                return;
            }
        }
    }

    fn writes(&self) -> u32 {
        self.sockets.0.values().map(|(_, writes)| writes).sum()
    }

    fn all_have_everything(&self) -> bool {
        self.sockets.0.values().all(|(bytes, _)| *bytes == self.said)
    }
}

fn message(channel: &ChannelId, number: u32) -> Message {
    Message {
        channel: channel.clone(),
        id: MessageId(uuid::Uuid::from_u128(number.into())),
        sequence: Sequence(number.into()),
        code: MessageCode::Chat,
        sender: UserId(uuid::Uuid::nil()),
        username: "alice".into(),
        content: format!("{{\"n\":{number}}}").into(),
        create_time: Timestamp(0),
        update_time: Timestamp(0),
        persistent: false,
    }
}

/// The end of a batch.
fn end(epoch: u64, batch: u64) -> Reached {
    Reached { epoch: Epoch(epoch), batch: BatchNumber(batch), last: Sequence(batch), told: batch, stored: None }
}

#[test]
fn a_batch_is_the_next_one_or_known_or_shows_a_gap() {
    let lobby = ChannelId::room("lobby").unwrap();
    let mut subscribers = Subscribers::default();
    let mut check = |previous: Option<u64>, reached: Reached, expected: Followed| {
        assert_eq!(subscribers.follow(&lobby, previous.map(BatchNumber), reached), expected, "{reached:?}");
    };
    check(Some(8), end(2, 9), Followed::InOrder);
    subscribers.subscribe(&lobby, Format::Json, 0, end(2, 10));
    let mut check = |previous: Option<u64>, reached: Reached, expected: Followed| {
        assert_eq!(subscribers.follow(&lobby, previous.map(BatchNumber), reached), expected, "{reached:?}");
    };
    check(Some(9), end(2, 10), Followed::Known);
    check(Some(10), end(2, 14), Followed::InOrder);
    check(Some(10), end(2, 14), Followed::Known);
    check(Some(15), end(2, 17), Followed::Gap);
    check(None, end(2, 18), Followed::Gap);
    check(Some(14), end(2, 15), Followed::InOrder);
    check(Some(15), end(2, 17), Followed::InOrder);
    check(Some(30), end(1, 31), Followed::Known);
    check(Some(17), end(3, 18), Followed::Gap);
    check(None, end(3, 1), Followed::Gap);
}

#[test]
fn a_message_into_a_quiet_room_goes_out_at_once() {
    for members in [1, 2, 128, 129, 1000] {
        let mut room = Room::of(members);
        for number in 1..=5 {
            room.say(number);
            room.turn();
            assert!(room.all_have_everything(), "{members} members, message {number}");
            assert_eq!(room.writes(), members * number);
            assert_eq!(room.subscribers.next_due(), None, "nothing is left to wait for");
        }
    }
}

#[test]
fn under_load_rotations_keep_their_interval_and_everybody_gets_everything() {
    let mut room = Room::of(1000);
    let (seconds, messages_per_second) = (1, 1000);
    for number in 0..seconds * messages_per_second {
        room.now = room.now.max(i64::from(number) * MILLISECOND);
        room.say(number);
        room.slice();
    }
    let writes_each = room.writes() / 1000;
    let rotations = seconds * 1000 / (ROTATION / MILLISECOND) as u32;
    assert!((rotations - 2..=rotations + 2).contains(&writes_each), "{writes_each} writes, {rotations} intervals");
    while let Some(due) = room.subscribers.next_due() {
        room.now = room.now.max(due.0);
        room.turn();
    }
    assert!(room.all_have_everything());
    assert_eq!(room.sockets.0.len(), 1000);
}

#[test]
fn what_came_during_a_rotation_waits_for_the_next_one_and_no_longer() {
    let mut room = Room::of(300);
    room.say(1);
    room.slice();
    room.say(2);
    room.turn();
    assert_eq!(room.subscribers.next_due(), Some(Monotonic(ROTATION)));
    assert_eq!(room.writes(), 300, "one rotation, which took the second message along where it still could");
    room.now = ROTATION - 1;
    room.turn();
    assert_eq!(room.writes(), 300);
    room.now = ROTATION;
    room.turn();
    assert_eq!(room.writes(), 300 + 128, "those visited before it came");
    assert!(room.all_have_everything());
    assert_eq!(room.subscribers.next_due(), None);
}

#[test]
fn a_member_that_comes_and_goes_between_two_rotations_upsets_nothing() {
    let mut room = Room::of(300);
    room.say(1);
    room.slice();
    room.say(2);
    room.turn();
    let key = room.subscribers.audience(&room.channel, Format::Json).unwrap();
    for index in [0, 150, 297] {
        room.subscribers.unsubscribe(key, index);
    }
    room.subscribers.subscribe(&room.channel, Format::Json, 300, Reached::default());
    room.say(3);
    room.now = ROTATION;
    room.turn();
    assert!(!room.subscribers.is_busy());
    let whole = room.sockets.0.values().filter(|(bytes, _)| *bytes == room.said).count();
    assert_eq!(whole, 297, "all who were there throughout");
    assert!(room.said.ends_with(&room.sockets.0[&300].0), "who came later has the end");
}

#[test]
fn an_audience_that_ends_while_it_waits_is_not_waited_for() {
    let mut room = Room::of(200);
    room.say(1);
    room.slice();
    room.say(2);
    room.turn();
    assert!(room.subscribers.next_due().is_some());
    let key = room.subscribers.audience(&room.channel, Format::Json).unwrap();
    for _ in 0..200 {
        room.subscribers.unsubscribe(key, 0);
    }
    assert_eq!(room.subscribers.next_due(), None);
    assert!(!room.subscribers.is_busy());
}

/// Sockets that take at most this many bytes per write.
struct Narrow(usize);

impl Outlet for Narrow {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        Ok(pieces.iter().map(|piece| piece.len()).sum::<usize>().min(self.0))
    }

    fn wait(&mut self, _: u32) {}
}

fn said(accepted: Timestamp) -> Frames {
    let mut frames = Frames::default();
    for code in [MessageCode::Chat, MessageCode::Update] {
        frames.push(
            &Event::Message(Message {
                channel: ChannelId::room("lobby").unwrap(),
                id: MessageId(uuid::Uuid::from_u128(7)),
                sequence: Sequence(1),
                code,
                sender: UserId(uuid::Uuid::from_u128(1)),
                username: "somebody".into(),
                content: "{}".into(),
                create_time: accepted,
                update_time: accepted,
                persistent: false,
            }),
            Format::ALL.into_iter(),
        );
    }
    frames
}

#[test]
fn counts_each_message_of_each_member_once_however_it_is_cut() {
    const MEMBERS: u32 = 300;
    let channel = ChannelId::room("lobby").unwrap();
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    let places: Vec<_> =
        (0..MEMBERS).map(|slot| subscribers.subscribe(&channel, Format::Json, slot, Reached::default())).collect();
    let frames = said(Timestamp(1_000_000));
    let bytes = frames.of(Format::Json).bytes.len();
    subscribers.now = Timestamp(2_000_000);
    subscribers.append(&channel, &frames);
    // The sockets of the first slice take all but the last byte, the others take all.
    pass(&mut subscribers, Monotonic(0), &mut Narrow(bytes - 1), &ANY_LAG, &mut report);
    subscribers.passed(Timestamp(3_000_000));
    assert_eq!(subscribers.counters.deliveries, 0, "an unfinished frame is no delivery");
    let blocked = std::mem::take(&mut report.blocked);
    blocked.iter().for_each(|(slot, key)| subscribers.park(*key, places[*slot as usize].1));
    let levels = subscribers.levels();
    assert_eq!((levels.parked, levels.lag_bytes), (PASS_VISITS_MAX, 1));
    while subscribers.is_busy() {
        subscribers.invariants();
        pass(&mut subscribers, Monotonic(0), &mut Narrow(usize::MAX), &ANY_LAG, &mut report);
        subscribers.passed(Timestamp(5_000_000));
    }
    for (slot, key) in blocked {
        subscribers.advance(key, places[slot as usize].1, 1);
        subscribers.unpark(key, places[slot as usize].1);
    }
    let counters = &subscribers.counters;
    assert_eq!(counters.deliveries, u64::from(MEMBERS) * 2);
    assert_eq!(counters.delivery_bytes, u64::from(MEMBERS) * bytes as u64);
    assert_eq!(counters.pass_writes, u64::from(MEMBERS));
    assert_eq!((counters.passes.count(), counters.passes.sum), (1, 3000), "one round, by the end of its last slice");
    assert_eq!((counters.latency.count(), counters.latency.sum), (1, 4000));
    assert_eq!(
        subscribers.levels(),
        SubscriberLevels { subscriptions: MEMBERS as usize, parked: 0, lag_bytes: 0, log_bytes: 0 }
    );
}

#[test]
fn a_slice_ends_when_it_has_written_enough_bytes() {
    const MEMBERS: u32 = 300;
    let channel = ChannelId::room("lobby").unwrap();
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    for slot in 0..MEMBERS {
        subscribers.subscribe(&channel, Format::Json, slot, Reached::default());
    }
    let frames = said(Timestamp(1_000_000));
    let mut owed = 0;
    while owed < PASS_BYTES_MAX / 10 {
        subscribers.append(&channel, &frames);
        owed += frames.of(Format::Json).bytes.len();
    }
    let visits = (PASS_BYTES_MAX - WRITE_BYTES_MAX + 1).div_ceil(owed) as u64;
    assert!(visits < PASS_VISITS_MAX as u64);
    let mut slices = 0;
    while subscribers.is_busy() {
        subscribers.invariants();
        pass(&mut subscribers, Monotonic(0), &mut Narrow(usize::MAX), &ANY_LAG, &mut report);
        slices += 1;
        assert_eq!(subscribers.counters.pass_writes, u64::from(MEMBERS).min(slices * visits));
    }
    assert_eq!(subscribers.counters.delivery_bytes, u64::from(MEMBERS) * owed as u64);
}

/// Sockets that take everything, and the visits that asked them to wait.
#[derive(Default)]
struct Wide {
    bytes: Vec<usize>,
    waits: Vec<u32>,
}

impl Outlet for Wide {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        self.bytes.push(pieces.iter().map(|piece| piece.len()).sum());
        Ok(self.bytes[self.bytes.len() - 1])
    }

    fn wait(&mut self, slot: u32) {
        self.waits.push(slot);
    }
}

#[test]
fn a_visit_writes_no_more_than_its_bound_and_waits_with_the_rest() {
    let channel = ChannelId::room("lobby").unwrap();
    let (mut subscribers, mut report, mut sockets) = (Subscribers::default(), PassReport::default(), Wide::default());
    let (key, index) = subscribers.subscribe(&channel, Format::Json, 5, Reached::default());
    let frames = said(Timestamp(1_000_000));
    subscribers.append(&channel, &frames);
    let bytes = frames.of(Format::Json).bytes.len();
    let rules = Rules { write_bytes_max: bytes - 1, ..ANY_LAG };
    pass(&mut subscribers, Monotonic(0), &mut sockets, &rules, &mut report);
    assert_eq!((&sockets.bytes[..], &sockets.waits[..]), (&[bytes - 1][..], &[5][..]));
    assert_eq!(report.blocked, [(5, key)], "it waits like a connection whose socket is full");
    subscribers.advance(key, index, 1);
    subscribers.unpark(key, index);
    subscribers.append(&channel, &frames);
    let rules = Rules { write_bytes_max: bytes, ..ANY_LAG };
    pass(&mut subscribers, Monotonic(ROTATION), &mut sockets, &rules, &mut report);
    assert_eq!((&sockets.bytes[..], &sockets.waits[..]), (&[bytes - 1, bytes][..], &[5][..]), "all fits in one visit");
}

#[test]
fn a_message_counts_as_brought_round_when_the_rotation_after_it_ends() {
    let channel = ChannelId::room("lobby").unwrap();
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    for slot in 0..400 {
        subscribers.subscribe(&channel, Format::Json, slot, Reached::default());
    }
    let mut slices = |subscribers: &mut Subscribers, count: usize, monotonic: Monotonic, ended: Timestamp| {
        for _ in 0..count {
            pass(subscribers, monotonic, &mut Narrow(usize::MAX), &ANY_LAG, &mut report);
            subscribers.passed(ended);
        }
        let counters = &subscribers.counters;
        (counters.passes.count(), counters.latency.count(), counters.latency.sum)
    };
    subscribers.append(&channel, &said(Timestamp(1_000_000)));
    assert_eq!(slices(&mut subscribers, 2, Monotonic(0), Timestamp(4_000_000)), (0, 0, 0));
    subscribers.append(&channel, &said(Timestamp(2_000_000)));
    assert_eq!(slices(&mut subscribers, 2, Monotonic(0), Timestamp(5_000_000)), (1, 1, 4000));
    assert!(!subscribers.is_busy(), "the 256 who were visited before the second came have to wait");
    assert_eq!(slices(&mut subscribers, 1, Monotonic(ROTATION), Timestamp(7_000_000)), (1, 1, 4000));
    subscribers.append(&channel, &said(Timestamp(7_000_000)));
    assert_eq!(slices(&mut subscribers, 1, Monotonic(ROTATION), Timestamp(8_000_000)), (2, 2, 4000 + 6000));
}

#[test]
fn one_slice_serves_as_many_small_audiences_as_it_has_visits() {
    let (mut subscribers, mut sockets) = (Subscribers::default(), Sockets::default());
    let audiences = 2 * PASS_VISITS_MAX as u32 + 1;
    for slot in 0..audiences {
        let channel = ChannelId::room(&format!("room {slot}")).unwrap();
        subscribers.subscribe(&channel, Format::Json, slot, Reached::default());
        subscribers.append(&channel, &said(Timestamp(1_000_000)));
    }
    for written in [PASS_VISITS_MAX, 2 * PASS_VISITS_MAX, audiences as usize] {
        assert!(subscribers.is_busy());
        pass(&mut subscribers, Monotonic(0), &mut sockets, &ANY_LAG, &mut PassReport::default());
        subscribers.passed(Timestamp(3_000_000));
        assert_eq!(sockets.0.len(), written);
        assert_eq!(subscribers.counters.passes.count(), written as u64, "each rotation is counted");
    }
    assert!(!subscribers.is_busy());
    assert!(sockets.0.values().all(|&(_, writes)| writes == 1));
}

#[test]
fn a_message_overtakes_other_events_of_other_rooms_and_these_go_on() {
    let (mut subscribers, mut sockets) = (Subscribers::default(), Sockets::default());
    let crowd = 4 * PASS_VISITS_MAX as u32;
    let channel = |slot: u32| ChannelId::room(&format!("room {slot}")).unwrap();
    let came = |channel: ChannelId| {
        let mut frames = Frames::default();
        let event = Event::Presence { channel, joins: Vec::new(), leaves: Vec::new(), count: Some(1) };
        frames.push(&event, Format::ALL.into_iter());
        frames
    };
    for slot in 0..crowd {
        subscribers.subscribe(&channel(slot), Format::Json, slot, Reached::default());
        subscribers.append(&channel(slot), &came(channel(slot)));
    }
    // The last of them is owed a message behind its event. A large room is owed a message, too.
    let (talking, large) = (crowd - 1, ChannelId::room("large").unwrap());
    for slot in crowd..2 * crowd {
        subscribers.subscribe(&large, Format::Json, slot, Reached::default());
    }
    subscribers.append(&channel(talking), &said(Timestamp(1_000_000)));
    subscribers.append(&large, &said(Timestamp(1_000_000)));
    subscribers.invariants();
    pass(&mut subscribers, Monotonic(0), &mut sockets, &ANY_LAG, &mut PassReport::default());
    subscribers.invariants();
    let written = |sockets: &Sockets, slots: std::ops::Range<u32>| sockets.0.range(slots).count();
    assert!(sockets.0.contains_key(&talking), "it waits in line with the rooms that are owed messages");
    let unhurried = PASS_VISITS_MAX / UNHURRIED_PART;
    assert_eq!(written(&sockets, 0..talking), unhurried, "the others have their part of the slice");
    assert_eq!(written(&sockets, crowd..2 * crowd), PASS_VISITS_MAX - unhurried - 1);
    let mut slices = 1;
    while subscribers.is_busy() {
        pass(&mut subscribers, Monotonic(0), &mut sockets, &ANY_LAG, &mut PassReport::default());
        subscribers.invariants();
        slices += 1;
    }
    assert_eq!(sockets.0.len(), 2 * crowd as usize);
    // The last slice finds the entry that the talking room had in the other queue.
    assert_eq!(slices, 2 * crowd as usize / PASS_VISITS_MAX + 1, "no slice ends before its last visit");
    assert!(sockets.0.values().all(|&(_, writes)| writes == 1), "what an audience is owed comes in one write");
}

#[test]
fn what_came_in_a_rotation_that_turns_out_to_be_the_last_is_not_counted_with_what_comes_later() {
    let channel = ChannelId::room("lobby").unwrap();
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    let places: Vec<_> =
        (0..129).map(|slot| subscribers.subscribe(&channel, Format::Json, slot, Reached::default())).collect();
    let mut slice = |subscribers: &mut Subscribers, ended: Timestamp| {
        pass(subscribers, Monotonic(0), &mut Narrow(usize::MAX), &ANY_LAG, &mut report);
        subscribers.passed(ended);
        (subscribers.counters.latency.count(), subscribers.counters.latency.sum)
    };
    subscribers.append(&channel, &said(Timestamp(1_000_000)));
    assert_eq!(slice(&mut subscribers, Timestamp(2_000_000)), (0, 0));
    subscribers.append(&channel, &said(Timestamp(2_000_000)));
    // All but one leave, so that no more visits are owed than the rotation has left.
    for (key, _) in &places[1..] {
        subscribers.unsubscribe(*key, 0);
    }
    assert_eq!(slice(&mut subscribers, Timestamp(3_000_000)), (1, 2000));
    assert!(!subscribers.is_busy());
    subscribers.append(&channel, &said(Timestamp(90_000_000)));
    assert_eq!(slice(&mut subscribers, Timestamp(91_000_000)), (2, 3000));
}

/// The sums of `levels`, found by looking at every member.
fn levels_by_walking(subscribers: &Subscribers) -> (usize, usize) {
    let members = || subscribers.audiences.iter().flat_map(|(_, audience)| &audience.members);
    (members().count(), members().filter(|member| member.parked).count())
}

#[test]
fn how_things_stand_costs_no_more_with_more_channels() {
    let mut subscribers = Subscribers::default();
    let channels = |count: u32| (0..count).map(|number| ChannelId::room(&format!("room-{number}")).unwrap());
    let mut places = Vec::new();
    for (slot, channel) in channels(50_000).enumerate() {
        places.push(subscribers.subscribe(&channel, Format::Json, slot as u32, Reached::default()));
        let frames = said(Timestamp(0));
        subscribers.append(&channel, &frames);
    }
    assert_eq!(subscribers.lag(), (0, 0), "nobody is parked, and nobody is looked at");
    assert_eq!(subscribers.levels().subscriptions, 50_000);

    let bytes = said(Timestamp(0)).of(Format::Json).bytes.len() as u64;
    for parked in [1, 100, 50_000] {
        places[..parked].iter().for_each(|(key, index)| subscribers.park(*key, *index));
        let visits = parked.min(LEVELS_VISITS_MAX);
        assert_eq!(subscribers.lag(), (bytes, visits));
        let levels = subscribers.levels();
        assert_eq!((levels.subscriptions, levels.parked, levels.lag_bytes), (50_000, parked, bytes));
    }
    for (place, (key, index)) in places.into_iter().enumerate() {
        match place % 2 {
            0 => {
                subscribers.unsubscribe(key, index);
            }
            _ => {
                subscribers.advance(key, index, bytes as usize);
                subscribers.unpark(key, index);
            }
        }
        if place % 5_000 == 0 {
            let SubscriberLevels { subscriptions, parked, .. } = subscribers.levels();
            assert_eq!((subscriptions, parked), levels_by_walking(&subscribers));
        }
    }
    let levels = subscribers.levels();
    assert_eq!((levels.subscriptions, levels.parked, levels.lag_bytes), (25_000, 0, 0));
}

/// One member that reads nothing is in many rooms, and each room has as many bytes for it as a member may be behind.
#[test]
fn a_connection_that_reads_nothing_in_many_rooms_holds_bounded_memory() {
    const SLOT: u32 = 3;
    let rules = Rules { lag_bytes_max: 1024 * 1024, logs_bytes_max: 16 * 1024 * 1024, ..ANY_LAG };
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    let frames = said(Timestamp(0));
    let mut many = Frames::default();
    while many.of(Format::Json).bytes.len() < 100 * 1024 {
        many.push(&Event::Message(message(&ChannelId::room("lobby").unwrap(), 1)), Format::ALL.into_iter());
    }
    let mut places = BTreeMap::new();
    let mut let_go = 0;
    for number in 0..600_u32 {
        let channel = ChannelId::room(&format!("room-{number}")).unwrap();
        let (key, index) = subscribers.subscribe(&channel, Format::Json, SLOT, Reached::default());
        places.insert(key, index);
        subscribers.append(&channel, &frames);
        pass(&mut subscribers, Monotonic(0), &mut Narrow(0), &rules, &mut report);
        subscribers.append(&channel, &many);
        while subscribers.is_busy() {
            pass(&mut subscribers, Monotonic(0), &mut Narrow(0), &rules, &mut report);
        }
        pass(&mut subscribers, Monotonic(ROTATION * i64::from(number)), &mut Narrow(0), &rules, &mut report);
        for (_, key) in report.lagging.drain(..) {
            if let Some(index) = places.remove(&key) {
                subscribers.unsubscribe(key, index);
                let_go += 1;
            }
        }
        assert!(subscribers.levels().log_bytes <= rules.logs_bytes_max, "{}", subscribers.levels().log_bytes);
    }
    assert!(let_go > 50, "{let_go} were too far behind for the memory that was left");
    for (key, index) in places {
        subscribers.unsubscribe(key, index);
    }
    assert_eq!(subscribers.levels(), SubscriberLevels::default());
}

#[test]
fn parked_members_of_quiet_channels_are_judged_when_logs_fill_the_memory() {
    let rules = Rules { lag_bytes_max: 1024 * 1024, logs_bytes_max: 8 * 1024 * 1024, ..ANY_LAG };
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    let mut many = Frames::default();
    while many.of(Format::Json).bytes.len() < 200 * 1024 {
        many.push(&Event::Message(message(&ChannelId::room("lobby").unwrap(), 1)), Format::ALL.into_iter());
    }
    let mut places = BTreeMap::new();
    for slot in 0..40 {
        let channel = ChannelId::room(&format!("room-{slot}")).unwrap();
        let (key, index) = subscribers.subscribe(&channel, Format::Json, slot, Reached::default());
        places.insert(key, index);
        subscribers.append(&channel, &many);
        while subscribers.is_busy() {
            pass(&mut subscribers, Monotonic(0), &mut Narrow(0), &rules, &mut report);
        }
    }
    report.lagging.clear();
    assert!(subscribers.levels().log_bytes > rules.logs_bytes_max * 3 / 4, "{}", subscribers.levels().log_bytes);
    // No channel has anything to deliver.
    for _ in 0..2 * places.len() {
        subscribers.judge_parked(&rules, &mut report);
        for (_, key) in report.lagging.drain(..) {
            if let Some(index) = places.remove(&key) {
                subscribers.unsubscribe(key, index);
            }
        }
        subscribers.invariants();
    }
    let log_bytes = subscribers.levels().log_bytes;
    assert!(log_bytes < rules.logs_bytes_max, "{log_bytes} bytes are left");
    assert!(subscribers.lag_allowed(&rules) > 200 * 1024, "those who are left are not too far behind");
    assert!(places.len() > 10, "{} are left", places.len());
}

#[test]
fn frames_of_another_node_are_encoded_for_those_who_listen() {
    let channel = ChannelId::room("lobby").unwrap();
    let event = Event::Message(message(&channel, 1));
    let mut encoded = Frames::default();
    encoded.push(&event, Format::ALL.into_iter());
    for format in Format::ALL {
        let mut subscribers = Subscribers::default();
        let (key, _) = subscribers.subscribe(&channel, format, 0, Reached::default());
        subscribers.append(&channel, &Frames::of_events(std::slice::from_ref(&event)));
        assert_eq!(subscribers.end(key).0, encoded.of(format).bytes.len() as u64, "{format:?}");
        subscribers.invariants();
    }
}

#[test]
fn a_high_backlog_ends_with_the_last_member() {
    let channel = ChannelId::room("lobby").unwrap();
    let (mut subscribers, mut report) = (Subscribers::default(), PassReport::default());
    let places: Vec<_> =
        (0..2).map(|slot| subscribers.subscribe(&channel, Format::Json, slot, Reached::default())).collect();
    let mut many = Frames::default();
    while many.of(Format::Json).bytes.len() as u64 <= BACKLOG_BYTES_HIGH {
        many.push(&Event::Message(message(&channel, 1)), Format::ALL.into_iter());
    }
    subscribers.append(&channel, &many);
    let one_visit = Rules { pass_visits_max: 1, ..ANY_LAG };
    pass(&mut subscribers, Monotonic(0), &mut Narrow(usize::MAX), &one_visit, &mut report);
    assert_eq!(report.backlogs, [(channel.clone(), Backlog::High)]);
    for (key, _) in places {
        subscribers.unsubscribe(key, 0);
    }
    assert_eq!(subscribers.take_turned_backlogs(), [(channel, Backlog::Low)]);
}

#[test]
fn a_table_of_channels_is_given_back_when_they_are_gone() {
    let mut subscribers = Subscribers::default();
    let places: Vec<_> = (0..50_000_u32)
        .map(|slot| {
            let channel = ChannelId::room(&format!("room-{slot}")).unwrap();
            subscribers.subscribe(&channel, Format::Json, slot, Reached::default())
        })
        .collect();
    assert!(subscribers.channels.capacity() >= 50_000);
    for (key, index) in places {
        subscribers.unsubscribe(key, index);
    }
    assert!(subscribers.channels.capacity() <= 2 * 1024, "{}", subscribers.channels.capacity());
}

/// When a session in a thousand channels ends, and others in these channels do too, removing each audience must not
/// look at all other audiences in the queue.
#[test]
fn audiences_that_go_while_their_pass_waits_are_passed_over() {
    const CHANNELS: u32 = 20_000;
    let (mut subscribers, mut sockets) = (Subscribers::default(), Sockets::default());
    let frames = said(Timestamp(0));
    let mut places = Vec::new();
    for slot in 0..CHANNELS {
        let channel = ChannelId::room(&format!("room-{slot}")).unwrap();
        places.push((channel.clone(), subscribers.subscribe(&channel, Format::Json, slot, Reached::default())));
        subscribers.append(&channel, &frames);
    }
    for (channel, (key, index)) in places.drain(..) {
        subscribers.unsubscribe(key, index);
        assert!(!subscribers.listens(&channel));
    }
    assert_eq!(subscribers.active.len(), CHANNELS as usize, "nobody has gone through the line");
    // The keys are used again, and old entries in the queue are not mistaken for the new audience.
    let lobby = ChannelId::room("lobby").unwrap();
    let (key, _) = subscribers.subscribe(&lobby, Format::Json, 7, Reached::default());
    pass(&mut subscribers, Monotonic(0), &mut sockets, &ANY_LAG, &mut PassReport::default());
    subscribers.passed(Timestamp(0));
    assert_eq!((sockets.0.len(), subscribers.counters.passes.count()), (0, 0), "there is nothing to bring round");
    assert!(!subscribers.is_busy());
    assert!(subscribers.active.capacity() <= LINE_KEPT);
    subscribers.append(&lobby, &frames);
    pass(&mut subscribers, Monotonic(0), &mut sockets, &ANY_LAG, &mut PassReport::default());
    assert_eq!(sockets.0.keys().copied().collect::<Vec<_>>(), [7]);
    assert_eq!(subscribers.channel_of(key), &lobby);
}
