//! Whatever a server does wrong, a crowd that compares frames finds the same faults as a crowd that reads every frame.

mod lives;

use std::collections::VecDeque;
use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};

use super::*;
use crate::costs::recorder::Recorder;
use crate::plan::actions::ActionShares;
use crate::plan::draws::Draws;
use crate::plan::run_plan::{OrderDemand, Plan};
use crate::plan::schedule::Schedule;
use crate::plan::target::SignInKind;
use crate::plan::target::Target;
use crate::wire::frames::{Frames, Whole};

const MEMBERS: u32 = 6;
const PUBLISHERS: u32 = 2;
const RUN: u32 = 7;

fn plan(dialect: Dialect, order: OrderDemand, actions: ActionShares) -> Plan {
    let entrance = Entrance { room: "r".to_owned(), hidden: true, persistence: true };
    let schedule = Schedule::steady(100.0, PUBLISHERS, Duration::ZERO, Duration::from_secs(1)).expect("valid");
    let room = RoomPlan { users: 0..MEMBERS, entrance, schedule, payload_bytes: 120, actions };
    let target = Target {
        server: ([127, 0, 0, 1], 1).into(),
        dialect,
        server_key: String::new(),
        sign_in: SignInKind::Custom,
        account_prefix: String::new(),
        read_buffer_bytes: 1024,
    };
    Plan {
        run: RUN,
        seed: 1,
        target,
        rooms: vec![room],
        order,
        threads: None,
        conduct: None,
        in_flight: 1,
        reads_only: false,
    }
}

/// The bytes of the message with this index, as members of the room receive it; `id_ending` may change its id.
fn message(plan: &Plan, actions: &Actions, index: u32, id_ending: &str) -> Vec<u8> {
    let RoomPlan { schedule, payload_bytes, .. } = &plan.rooms[0];
    let slot = schedule.slot(index);
    let mut content = String::new();
    content::write(&mut content, RUN, Content { slot, intended_ns: schedule.due_ns(index) }, *payload_bytes);
    let (code, about) = match actions.of(slot.number) {
        Action::Say => (0, index),
        Action::Update { target } => {
            (1, schedule.index(ScheduleSlot { number: target, ..slot }).expect("an earlier message"))
        }
        Action::Remove { target } => {
            (2, schedule.index(ScheduleSlot { number: target, ..slot }).expect("an earlier message"))
        }
    };
    let id = format!("id-{about}{id_ending}");
    match (&plan.target.dialect, code) {
        (dialect, 0) => dialect.pushed(&id, &content, 0),
        (_, 2) => format!(r#"{{"channel_message":{{"message_id":"{id}","code":2,"content":"{{}}"}}}}"#).into_bytes(),
        (_, code) => {
            let content = serde_json::Value::from(content);
            format!(r#"{{"channel_message":{{"message_id":"{id}","code":{code},"content":{content}}}}}"#).into_bytes()
        }
    }
}

/// What one member receives, frame by frame: all messages in order, except for the faults.
fn speech(plan: &Plan, actions: &Actions, draws: &mut Draws) -> Vec<u8> {
    let kind = if plan.target.dialect.speaks_text() { Data::Text } else { Data::Binary };
    let written = |payload| Whole { opcode: OpCode::Data(kind), payload }.written();
    let mut order: Vec<u32> = (0..plan.rooms[0].schedule.messages()).collect();
    // Every second member has no faults.
    let faults = if draws.below(2) == 0 { 0 } else { draws.below(4) };
    let mut changed = None;
    let mut other_id = None;
    for _ in 0..faults {
        let at = draws.below(order.len() as u64 - 1) as usize;
        match draws.below(5) {
            0 => drop(order.remove(at)),
            1 => order.insert(at, order[at]),
            2 => order.swap(at, at + 1),
            3 => changed = Some(at),
            _ => other_id = Some(at),
        }
    }
    let mut bytes = Vec::new();
    for (at, index) in order.into_iter().enumerate() {
        if draws.below(20) == 0 {
            let other = plan.target.dialect.accepted("9", "id-9").expect("a dialect with answers");
            bytes.extend(written(other));
        }
        let mut payload = message(plan, actions, index, if other_id == Some(at) { "x" } else { "" });
        if changed == Some(at) {
            let at = draws.below(payload.len() as u64) as usize;
            payload[at] ^= 1;
        }
        bytes.extend(written(payload));
    }
    bytes
}

/// A crowd, and the bytes that each member has read but not yet handled.
struct Listeners {
    crowd: Crowd,
    ledger: Rc<Ledger>,
    unread: Vec<Vec<u8>>,
    compares: bool,
    recognised_bytes: usize,
}

impl Listeners {
    fn new(plan: &Plan, compares: bool) -> Self {
        let ledger = Rc::new(Ledger::new(plan.clone().into(), Rc::new(Recorder::new(Default::default()))));
        ledger.begin(0);
        // The measured time has passed; what arrives now must count all the same.
        ledger.book().window = 0..u64::MAX;
        let users: Vec<u32> = (0..MEMBERS).collect();
        let crowd = Crowd::new(ledger.clone(), 0, &users);
        Self { crowd, ledger, unread: vec![Vec::new(); users.len()], compares, recognised_bytes: 0 }
    }

    fn read(&mut self, member_slot: usize, bytes: &[u8]) {
        let unread = &mut self.unread[member_slot];
        unread.extend_from_slice(bytes);
        loop {
            if self.compares {
                let recognised = self.crowd.recognise(member_slot, unread);
                unread.drain(..recognised);
                self.recognised_bytes += recognised;
            }
            let mut frames = Frames::of_server();
            frames.take_in(unread);
            let Some(whole) = frames.next().expect("frames") else { return };
            unread.drain(..whole.written().len());
            let frame = match whole.opcode {
                OpCode::Data(Data::Text) => {
                    Frame::Text(Utf8Bytes::try_from(Bytes::from(whole.payload)).expect("ASCII"))
                }
                _ => Frame::Binary(whole.payload.into()),
            };
            self.crowd.hear(member_slot, &frame);
        }
    }

    /// All results, without the times of arrival.
    fn found(&self) -> String {
        let mut figures = self.ledger.figures();
        self.crowd.settle(&Answers::default(), 0, &mut figures);
        let (delivered, delivery) = (self.ledger.gauges().progress(), figures.delivery.percentiles().count);
        (figures.last_delivery_ns, figures.delivery, figures.lag) = Default::default();
        let last_members: Vec<_> = figures.reach.drain().map(|(room, reach)| (room, reach.count())).collect();
        format!("{delivered:?} {delivery} {last_members:?} {:?} {figures:?}", self.ledger.book().figures.samples)
    }
}

/// Gives both kinds of crowds the same bytes. Returns the part of the bytes that was recognised.
fn check(seed: u64, dialect: Dialect, order: OrderDemand, shares: ActionShares) -> f64 {
    let name = format!("seed {seed}, {dialect:?}, {order:?}");
    let (plan, actions) = (plan(dialect, order, shares), Actions::new(shares));
    let mut draws = Draws::new(seed, 1, 1);
    let mut speeches: Vec<VecDeque<u8>> = (0..MEMBERS).map(|_| speech(&plan, &actions, &mut draws).into()).collect();
    let total: usize = speeches.iter().map(VecDeque::len).sum();
    let (mut comparing, mut reading) = (Listeners::new(&plan, true), Listeners::new(&plan, false));
    while speeches.iter().any(|speech| !speech.is_empty()) {
        let member_slot = draws.below(MEMBERS.into()) as usize;
        let longest = [20, 400, 4_000][draws.below(3) as usize];
        let length = draws.below(longest).min(speeches[member_slot].len() as u64) as usize;
        let bytes: Vec<u8> = speeches[member_slot].drain(..length).collect();
        comparing.read(member_slot, &bytes);
        reading.read(member_slot, &bytes);
    }
    assert_eq!(comparing.found(), reading.found(), "{name}");
    assert!(comparing.ledger.gauges().progress().delivered > 300, "{name}");
    comparing.recognised_bytes as f64 / total as f64
}

#[test]
fn comparing_finds_what_reading_finds() {
    let none = ActionShares::default();
    let some = ActionShares { updates: 10, removals: 10 };
    let mut recognised = Vec::new();
    for seed in 0..60 {
        for order in [OrderDemand::Room, OrderDemand::Publisher] {
            recognised.push(check(seed, Dialect::Json, order, none));
            recognised.push(check(seed, Dialect::Json, order, some));
            recognised.push(check(seed, Dialect::Protobuf, order, none));
        }
    }
    // One member of six reads every frame; the others read only the faulty frames and those after them.
    let share = recognised.iter().sum::<f64>() / recognised.len() as f64;
    assert!(share > 0.5, "{share}");
}

/// All members but one receive everything right, before that member or after it. The fault of that one member is found.
#[test]
fn one_member_among_many_who_got_it_right_is_found() {
    let shares = ActionShares::default();
    for dialect in [Dialect::Json, Dialect::Protobuf] {
        let (plan, actions) = (plan(dialect, OrderDemand::Room, shares), Actions::new(shares));
        let kind = if plan.target.dialect.speaks_text() { Data::Text } else { Data::Binary };
        let frame = |index, ending| {
            Whole { opcode: OpCode::Data(kind), payload: message(&plan, &actions, index, ending) }.written()
        };
        let messages = plan.rooms[0].schedule.messages();
        let all: Vec<Vec<u8>> = (0..messages).map(|index| frame(index, "")).collect();
        let last = all.len() - 1;
        for at in [1, 2, last / 2, last - 1] {
            let mut dropped = all.clone();
            dropped.remove(at);
            let mut doubled = all.clone();
            doubled.insert(at, all[at].clone());
            let mut swapped = all.clone();
            swapped.swap(at, at + 1);
            let mut corrupt = all.clone();
            let middle = corrupt[at].len() - 40;
            corrupt[at][middle] ^= 1;
            let mut renamed = all.clone();
            renamed[at] = frame(at as u32, "x");
            for (what, speech, expected) in [
                ("dropped", dropped, [1, 0, 0, 0]),
                ("doubled", doubled, [0, 1, 0, 0]),
                ("swapped", swapped, [0, 0, 1, 0]),
                ("corrupt", corrupt, [1, 0, 0, 1]),
                ("under another id", renamed, [0, 0, 0, 1]),
            ] {
                // The others receive each message just before that member, or have received all of them.
                for ahead in [0, all.len()] {
                    let mut listeners = Listeners::new(&plan, true);
                    let mut said = speech.iter();
                    for round in 0..all.len() + ahead + 2 {
                        if let Some(frame) = all.get(round) {
                            (1..MEMBERS as usize).for_each(|member_slot| listeners.read(member_slot, frame));
                        }
                        if round >= ahead {
                            said.by_ref().take(1).for_each(|frame| listeners.read(0, frame));
                        }
                    }
                    assert_eq!(said.len(), 0);
                    let most = all.concat().len() * MEMBERS as usize;
                    assert!(listeners.recognised_bytes > most / 2, "most of it is compared");
                    let mut figures = listeners.ledger.figures();
                    listeners.crowd.settle(&Answers::default(), 0, &mut figures);
                    let out_of_order = figures.out_of_order + figures.tally.out_of_order;
                    let found = [figures.tally.missing, figures.duplicates, out_of_order, figures.corrupt];
                    assert_eq!(found, expected, "message {at} {what}, {:?}", plan.target.dialect);
                }
            }
        }
    }
}

/// One user of a room with a listener beside it; what the user hears is given as whole frames of JSON.
fn heard(frames: &[String], sent: u32) -> Figures {
    let plan = plan(Dialect::Json, OrderDemand::Room, ActionShares::default());
    let listeners = Listeners::new(&plan, false);
    for number in 0..sent {
        listeners.crowd.sending(0, Due { number, intended_ns: 0 });
    }
    for frame in frames {
        listeners.crowd.hear(0, &Frame::Text(frame.clone().into()));
    }
    let mut figures = listeners.ledger.figures();
    listeners.crowd.settle(&Answers::default(), 0, &mut figures);
    figures
}

fn refusal(cid: &str, context: &str) -> String {
    format!(r#"{{"cid":"{cid}","error":{{"code":3,"message":"no"{context}}}}}"#)
}

#[test]
fn a_refusal_for_its_speed_is_told_from_others() {
    let too_fast = r#","context":{"reason":"work_per_user","retry_after_ms":"5"}"#;
    let frames = [refusal("0", too_fast), refusal("1", ""), refusal("2", r#","context":{"outcome":"unknown"}"#)];
    let figures = heard(&frames, 3);
    assert_eq!((figures.refused_too_fast, figures.stray_answers), (1, 0));
    assert!(figures.samples.into_texts().iter().all(|text| text.contains("was refused: code 3, no")));
}

#[test]
fn an_answer_without_a_request_is_a_stray_one() {
    let ack = |cid: &str| format!(r#"{{"cid":"{cid}","channel_message_ack":{{"message_id":"id-9"}}}}"#);
    for (frames, sent, stray) in [
        (vec![ack("0")], 1, 0),
        (vec![ack("0"), ack("0")], 1, 1),
        (vec![ack("0")], 0, 1),
        (vec![ack("+0")], 1, 1),
        (vec![ack("join")], 1, 1),
        (vec![ack("999999")], 1, 1),
        (vec![refusal("7", "")], 1, 1),
        (vec![refusal("0", ""), ack("0")], 1, 1),
    ] {
        assert_eq!(heard(&frames, sent).stray_answers, stray, "{frames:?} after {sent}");
    }
}

#[test]
fn what_is_no_message_of_the_run_is_foreign_or_corrupt() {
    let push = |id: &str, code: u32, content: &str| {
        let members = serde_json::json!({"message_id": id, "code": code, "content": content});
        serde_json::json!({ "channel_message": members }).to_string()
    };
    let written = |run: u32, publisher: u32, number: u32| {
        let mut text = String::new();
        let slot = ScheduleSlot { publisher, number };
        content::write(&mut text, run, Content { slot, intended_ns: 0 }, 100);
        text
    };
    let faults = |frame: String| {
        let figures = heard(&[frame], 0);
        (figures.foreign, figures.corrupt)
    };
    assert_eq!(faults(push("a", 0, &written(RUN, 0, 0))), (0, 0));
    assert_eq!(faults(push("a", 0, &written(RUN + 1, 0, 0))), (1, 0), "another run");
    assert_eq!(faults(push("a", 3, "{}")), (1, 0), "the server's own event");
    assert_eq!(faults(push("a", 0, "{}")), (0, 1), "somebody else's talk");
    assert_eq!(faults(push("a", 0, &written(RUN, MEMBERS, 0))), (0, 1), "a user of another room");
    assert_eq!(faults(push("a", 0, &written(RUN, PUBLISHERS, 0))), (0, 1), "a member that publishes nothing");
    assert_eq!(faults(push("a", 0, &written(RUN, 0, 50))), (0, 1), "more than was planned");
    assert_eq!(faults(push("a", 1, &written(RUN, 0, 0))), (0, 1), "an update that nobody planned");
    assert_eq!(faults("{\"channel_message\":".to_owned()), (0, 1), "half a frame");
    assert_eq!(faults(r#"{"channel_gap":{"channel_id":"c"}}"#.to_owned()), (0, 1), "a gap without having asked");
}

#[test]
fn a_member_of_a_visible_room_must_hear_of_every_member() {
    let mut visible = plan(Dialect::Json, OrderDemand::Room, ActionShares::default());
    visible.rooms[0].entrance.hidden = false;
    let presences = |count: usize| vec!["{}"; count].join(",");
    for (listed, announced, incomplete) in [(2, 4, 5), (6, 0, 5), (2, 3, 6), (0, 0, 6)] {
        let listeners = Listeners::new(&visible, false);
        let joined = format!(r#"{{"cid":"join","channel":{{"id":"2...r","presences":[{}]}}}}"#, presences(listed));
        assert!(listeners.crowd.hear(0, &Frame::Text(joined.into())).is_some(), "the answer is handed on");
        let event = format!(r#"{{"channel_presence_event":{{"joins":[{}],"leaves":[{{}}]}}}}"#, presences(announced));
        listeners.crowd.hear(0, &Frame::Text(event.into()));
        let mut figures = listeners.ledger.figures();
        listeners.crowd.settle(&Answers::default(), 0, &mut figures);
        let found = figures.presence;
        assert_eq!((found.frames, found.joins, found.leaves), (1, announced as u64, 1));
        assert_eq!(found.incomplete_members, incomplete, "{listed} listed and {announced} announced");
    }
}

#[test]
fn a_connection_that_ends_is_counted_once_and_described() {
    let plan = plan(Dialect::Json, OrderDemand::Room, ActionShares::default());
    let listeners = Listeners::new(&plan, false);
    let closed = Lost::Closed { code: 1013, reason: "too slow".to_owned() };
    assert_eq!(listeners.crowd.lost(3, &closed), Parting::Lost, "no member of such a room may be closed");
    assert_eq!(listeners.crowd.lost(4, &Lost::Ended), Parting::Lost);
    let figures = listeners.ledger.figures();
    assert_eq!((figures.disconnected, listeners.ledger.gauges().progress().disconnected), (2, 2));
    let texts = figures.samples.into_texts();
    assert!(texts[0].starts_with("user 3 was disconnected") && texts[0].contains("too slow"), "{texts:?}");
}
