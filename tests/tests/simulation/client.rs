//! A client that trusts nothing: it reads its frames, and checks every promise that a client can check.

use std::collections::{BTreeMap, HashMap, VecDeque};

use engine::id::{ConnectionId, MessageId, SessionId, UserId};
use engine::session::admission::OnLag;
use serde_json::Value;

use crate::inbox::{Heard, Inbox};
use crate::rings::Carriage;
use crate::store::SlowStore;

/// A message as it was shown: its id, code and content.
pub type Shown = (MessageId, i64, String);

/// One stay in a channel.
#[derive(Default, Debug)]
pub struct Stay {
    pub shown: Vec<Shown>,
    /// The sessions that are present, and whether their presence is persistent.
    pub present: BTreeMap<String, bool>,
    /// The number of visible members, in a crowd.
    pub count: Option<u64>,
    pub hidden: bool,
    pub persistent: bool,
    pub gaps: Vec<Gap>,
    /// The store's turn in which the client read that it was in.
    pub since: u64,
    /// The store's turn in which the stay ended.
    pub until: Option<u64>,
    /// Own messages that were acknowledged but not shown, because they are in a gap.
    pub unseen: Vec<MessageId>,
}

/// A gap. `at` is the index in `Stay::shown` of the message after it.
#[derive(Debug)]
pub struct Gap {
    pub at: usize,
    pub after: Option<MessageId>,
    pub before: Option<MessageId>,
}

pub struct Client {
    pub shard: usize,
    pub connection: ConnectionId,
    pub user: UserId,
    pub session: SessionId,
    /// The witness never leaves its rooms and keeps up, so it sees all messages in order.
    pub witness: bool,
    pub hostile: bool,
    pub on_lag: OnLag,
    pub carriage: Carriage,
    /// Channels get other owners.
    pub moves: bool,
    pub reads_one_turn_in: usize,
    /// The client has received a close frame.
    pub closed: bool,
    pub inbox: Inbox,
    /// Requests without an answer: the cid, the kind and the channel.
    pub asked: VecDeque<(String, &'static str, String)>,
    pub next_cid: u64,
    /// The channels that the client is in, according to the answers that it received.
    pub stays: BTreeMap<String, Stay>,
    /// Stays that are over.
    pub past: Vec<(String, Stay)>,
    /// The client's own messages that were acknowledged, by channel.
    pub own: HashMap<String, Vec<MessageId>>,
    /// The number of answers and events received.
    pub frames: u64,
    /// The number of joins and leaves that events of rooms told of.
    pub presences: u64,
    /// How often an event told that a crowd is a room again.
    pub rooms_again: u64,
    /// The number of requests whose outcome is unknown.
    pub unknown: u64,
}

impl Client {
    /// Takes bytes from the socket and checks every whole frame.
    pub fn read(&mut self, bytes: &[u8], store: &SlowStore) {
        self.inbox.take_in(bytes);
        while let Some(heard) = self.inbox.next() {
            assert!(!self.closed, "a close frame is the last");
            match heard {
                Heard::Closed(code) => {
                    assert_eq!(code, 1013);
                    // If batches are lost, a client may have missed more than a gap can tell.
                    let may_close = self.on_lag == OnLag::Close || self.carriage == Carriage::Lossy;
                    assert!(may_close, "it wants to be moved on instead");
                    self.closed = true;
                }
                Heard::Pong => {}
                Heard::Envelope(envelope) => {
                    self.frames += 1;
                    self.hear(&envelope, store);
                }
            }
        }
    }

    fn hear(&mut self, envelope: &Value, store: &SlowStore) {
        if let Some(message) = envelope.get("channel_message") {
            self.hear_message(message, store);
        } else if let Some(event) = envelope.get("channel_presence_event") {
            self.hear_presence(event);
        } else if let Some(gap) = envelope.get("channel_gap") {
            self.hear_gap(gap);
        } else if envelope.get("notifications").is_none() && envelope.get("status_presence_event").is_none() {
            self.hear_answer(envelope, store.turns);
        }
    }

    fn hear_message(&mut self, message: &Value, store: &SlowStore) {
        let channel = text(message, "channel_id");
        let id = id_of(message);
        let code = message["code"].as_i64().expect("the code is always written");
        if code == 0 && message["persistent"] == true {
            assert!(store.durable.contains(&id), "{id} was shown before it was durable");
        }
        let stay =
            self.stays.get_mut(&channel).unwrap_or_else(|| panic!("a message of {channel}, which we are not in"));
        stay.shown.push((id, code, text(message, "content")));
    }

    fn hear_gap(&mut self, gap: &Value) {
        assert_eq!(self.on_lag, OnLag::Skip, "a gap is for those that want it");
        let channel = text(gap, "channel_id");
        let stay = self.stays.get_mut(&channel).unwrap_or_else(|| panic!("a gap of {channel}, which we are not in"));
        let id = |name| gap[name].as_str().map(|id| MessageId(id.parse().expect("ids are UUIDs")));
        let (after, before) = (id("after_message_id"), id("before_message_id"));
        assert!(before.is_none() || after < before);
        stay.gaps.push(Gap { at: stay.shown.len(), after, before });
    }

    fn hear_presence(&mut self, event: &Value) {
        let channel = text(event, "channel_id");
        let stay = self.stays.get_mut(&channel).unwrap_or_else(|| panic!("an event of {channel}, which we are not in"));
        let count = event["presence_count"].as_u64();
        // A crowd's events tell of only some members. When it becomes a room again, the event tells of all members.
        // When batches were lost, an event tells of all members again.
        let reliable = self.carriage == Carriage::Reliable;
        let exact = stay.count.is_none() && count.is_none() && stay.gaps.is_empty() && reliable;
        self.rooms_again += u64::from(stay.count.is_some() && count.is_none());
        stay.count = count;
        let own = |presence: &Value| presence["session_id"] == self.session.to_string();
        for join in event["joins"].as_array().into_iter().flatten() {
            self.presences += 1;
            let (session, persistent) = presence_of(join);
            let before = stay.present.insert(session, persistent);
            // Where many come and go, a session may join again with another presence before its leave is told. And a client
            // is told of its own join before the others are.
            let again = before == Some(persistent) && !own(join);
            assert!(!again || !exact, "joined twice");
        }
        for leave in event["leaves"].as_array().into_iter().flatten() {
            self.presences += 1;
            let session = text(leave, "session_id");
            // In a crowd, or where many come and go, a session may have left as a visible member and joined again as a
            // hidden one before its leave is told. It then receives its own leave. Where its channel gets another owner
            // meanwhile, it may also have joined again as a visible one: then it is told of that join next.
            let own = own(leave);
            assert!(!own || stay.hidden || !reliable || self.moves, "the leaver does not hear that it left: {event}");
            assert!(stay.present.remove(&session).is_some() || !exact || own, "left without having been there");
        }
    }

    fn hear_answer(&mut self, envelope: &Value, turn: u64) {
        let (cid, what, channel) = self.asked.pop_front().expect("an answer without a question");
        assert_eq!(envelope["cid"], cid.as_str(), "answers come in the order of the questions");
        if let Some(joined) = envelope.get("channel") {
            assert!(what == "join" || what == "join hidden");
            let rejoined = self.stays.contains_key(&channel);
            let stay = self.stays.entry(channel).or_default();
            if !rejoined {
                let presences = joined["presences"].as_array().into_iter().flatten();
                stay.present = presences.map(presence_of).collect();
                let lists_itself = stay.present.contains_key(&self.session.to_string());
                assert!(!lists_itself || self.carriage == Carriage::Lossy, "a first join lists the others");
                stay.count = joined["presence_count"].as_u64();
                stay.hidden = what == "join hidden";
                stay.persistent = joined["self"]["persistence"].as_bool().unwrap_or(false);
                stay.since = turn;
            }
        } else if let Some(ack) = envelope.get("channel_message_ack") {
            let id = id_of(ack);
            let code = ack["code"].as_i64().expect("the code is always written");
            if let Some(stay) = self.stays.get_mut(&channel) {
                let own = stay.shown.iter().any(|(shown, shown_code, _)| (*shown, *shown_code) == (id, code));
                assert!(own || self.on_lag == OnLag::Skip, "one's own message comes before its ack");
                let is_told = stay.present.contains_key(&self.session.to_string());
                let is_exact = stay.count.is_none() && stay.gaps.is_empty() && self.carriage == Carriage::Reliable;
                assert!(is_told || stay.hidden || !is_exact, "a member is told of before its first message");
                if !own {
                    stay.unseen.push(id);
                }
            } else {
                // It was a member when it sent. A join of unknown outcome has ended the membership since.
                assert_eq!(self.carriage, Carriage::Lossy, "only members are acknowledged anything");
            }
            if what == "send" {
                self.own.entry(channel).or_default().push(id);
            }
        } else if what == "leave" {
            assert!(envelope.get("error").is_none());
            self.end_stay(channel, turn);
        } else if what != "ping" && envelope["error"]["context"]["outcome"] == "unknown" {
            assert_eq!(self.carriage, Carriage::Lossy, "no answer is lost: {envelope}");
            self.unknown += 1;
            if what != "send" && what != "change" {
                self.end_stay(channel, turn);
            }
        } else {
            assert!(
                matches!(what, "ping" | "status" | "follow" | "unfollow") || envelope.get("error").is_some(),
                "{envelope}"
            );
        }
    }

    /// Ends all stays, because the client goes.
    pub fn end_all_stays(&mut self, turn: u64) {
        while let Some((channel, _)) = self.stays.first_key_value() {
            self.end_stay(channel.clone(), turn);
        }
    }

    fn end_stay(&mut self, channel: String, turn: u64) {
        if let Some(stay) = self.stays.remove(&channel) {
            self.past.push((channel, Stay { until: Some(turn), ..stay }));
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {value}")).to_owned()
}

/// A presence's session, and whether it is persistent.
fn presence_of(presence: &Value) -> (String, bool) {
    (text(presence, "session_id"), presence["persistence"].as_bool().unwrap_or(false))
}

fn id_of(value: &Value) -> MessageId {
    MessageId(text(value, "message_id").parse().expect("ids are UUIDs"))
}
