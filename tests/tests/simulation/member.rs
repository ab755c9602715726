//! A user's session in a simulation of people. It records what it receives, and detects when one of its stays in a
//! channel has ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::command::Command;
use engine::fanout::frames::Format;
use engine::id::{ChannelId, ConnectionId, MessageId, SessionId, UserId};
use engine::session::home::Visibility;
use serde_json::Value;
use uuid::Uuid;

use crate::inbox::{Heard, Inbox};
use crate::registry::Registry;
use crate::rings::Carriage;

/// One stay in a channel.
#[derive(Debug)]
pub struct Stay {
    pub shown: Vec<MessageId>,
    pub ended: Ended,
}

/// How a stay ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Present,
    /// The user left, or the session ended.
    Left,
    /// Another user's act ended the stay.
    Removed,
}

/// A request without an answer.
pub struct Asked {
    cid: String,
    what: &'static str,
    channel: String,
    command: Command,
}

pub struct Member {
    pub shard: usize,
    pub connection: ConnectionId,
    pub user: UserId,
    pub session: SessionId,
    pub lasting: bool,
    pub carriage: Carriage,
    /// The session has received a close frame.
    pub closed: bool,
    /// The number of requests whose outcome is unknown because an answer was lost.
    pub unknown: usize,
    inbox: Inbox,
    pub asked: VecDeque<Asked>,
    next_cid: u64,
    stays: BTreeMap<String, Vec<MessageId>>,
    pub past: Vec<(String, Stay)>,
    pub notified: BTreeSet<Uuid>,
    pub followed: BTreeSet<UserId>,
    pub statuses: BTreeMap<SessionId, (UserId, String)>,
    /// The status that the session shows to its user's followers.
    pub shows: Option<String>,
}

impl Member {
    pub fn new(
        shard: usize,
        connection: ConnectionId,
        user: UserId,
        session: SessionId,
        lasting: bool,
        format: Format,
        visibility: Visibility,
    ) -> Self {
        Self {
            shard,
            connection,
            user,
            session,
            lasting,
            carriage: Carriage::Reliable,
            closed: false,
            unknown: 0,
            inbox: Inbox::of(format),
            asked: VecDeque::new(),
            next_cid: 0,
            stays: BTreeMap::new(),
            past: Vec::new(),
            notified: BTreeSet::new(),
            followed: BTreeSet::new(),
            statuses: BTreeMap::new(),
            shows: (visibility == Visibility::Online).then(String::new),
        }
    }

    pub fn ask(&mut self, what: &'static str, channel: &ChannelId, command: &Command) -> String {
        self.next_cid += 1;
        let cid = self.next_cid.to_string();
        self.asked.push_back(Asked { cid: cid.clone(), what, channel: channel.to_string(), command: command.clone() });
        cid
    }

    /// Takes bytes from the socket, and takes in every whole frame.
    pub fn read(&mut self, bytes: &[u8], registry: &Registry) {
        self.inbox.take_in(bytes);
        while let Some(heard) = self.inbox.next() {
            assert!(!self.closed, "a close frame is the last");
            match heard {
                Heard::Envelope(envelope) => self.hear(&envelope, registry),
                Heard::Pong => panic!("no member pings"),
                Heard::Closed(code) => {
                    assert_eq!((code, self.carriage), (1013, Carriage::Lossy), "everybody keeps up here");
                    self.closed = true;
                }
            }
        }
    }

    fn hear(&mut self, envelope: &Value, registry: &Registry) {
        if let Some(message) = envelope.get("channel_message") {
            self.hear_message(message, registry);
        } else if let Some(event) = envelope.get("channel_presence_event") {
            let channel = text(event, "channel_id");
            assert!(self.stays.contains_key(&channel), "an event of {channel}, which {} is not in", self.user);
        } else if let Some(list) = envelope.get("notifications") {
            for notification in list["notifications"].as_array().into_iter().flatten() {
                let id = text(notification, "id").parse().expect("ids are UUIDs");
                assert!(self.notified.insert(id), "a notification came twice");
            }
        } else if let Some(event) = envelope.get("status_presence_event") {
            self.hear_status(event, registry);
        } else {
            self.hear_answer(envelope, registry);
        }
    }

    fn hear_message(&mut self, message: &Value, registry: &Registry) {
        let channel = text(message, "channel_id");
        let id = MessageId(text(message, "message_id").parse().expect("ids are UUIDs"));
        assert!(registry.durable.contains(&id), "{id} was shown before it was durable");
        let user = self.user;
        let shown = self.stays.get_mut(&channel);
        shown.unwrap_or_else(|| panic!("a message of {channel}, which {user} is not in")).push(id);
        let code = message["code"].as_i64().expect("the code is always written");
        if matches!(code, 5 | 6 | 8) && text(message, "sender_id") == self.user.to_string() {
            self.end_stay(&channel, Ended::Removed);
        }
    }

    fn hear_status(&mut self, event: &Value, registry: &Registry) {
        let presences = |name: &str| event[name].as_array().cloned().unwrap_or_default();
        let (joins, leaves) = (presences("joins"), presences("leaves"));
        for left in &leaves {
            let (session, user, status) = status_of(left);
            let known = self.statuses.remove(&session);
            assert!(known.is_none_or(|known| known == (user, status)), "what leaves is what came");
        }
        for joined in &joins {
            let (session, user, status) = status_of(joined);
            assert!(registry.may_see(self.user, &status), "{} sees {status:?} of {user}, who blocks it", self.user);
            self.statuses.insert(session, (user, status));
        }
    }

    fn hear_answer(&mut self, envelope: &Value, registry: &Registry) {
        let Asked { cid, what, channel, command } = self.asked.pop_front().expect("an answer without a question");
        assert_eq!(envelope["cid"], cid.as_str(), "answers come in the order of the questions");
        let refused = envelope.get("error").is_some();
        if envelope["error"]["context"]["outcome"] == "unknown" && envelope.to_string().contains("was lost") {
            assert_eq!(self.carriage, Carriage::Lossy, "no answer is lost: {envelope}");
            self.unknown += 1;
            if what == "join" {
                self.end_stay(&channel, Ended::Left);
            }
        }
        match (what, command) {
            ("join", _) if !refused => {
                let presences = envelope["channel"]["presences"].as_array().into_iter().flatten();
                let own = self.session.to_string();
                // The answer to a first join lists the other members. The session's own presence is listed only if the
                // session was a member already.
                if !presences.into_iter().any(|presence| presence["session_id"] == own.as_str()) {
                    self.end_stay(&channel, Ended::Removed);
                    self.stays.insert(channel, Vec::new());
                } else {
                    assert!(self.stays.contains_key(&channel), "it is in {channel} without knowing");
                }
            }
            ("leave", _) => {
                assert!(!refused);
                self.end_stay(&channel, Ended::Left);
            }
            ("send", _) if !refused => {
                let id = MessageId(text(&envelope["channel_message_ack"], "message_id").parse().expect("a UUID"));
                // The acknowledgement may have waited for an answer of another channel, and the stay may have ended
                // meanwhile.
                let past = self.past.iter().filter(|(of, _)| *of == channel).flat_map(|(_, stay)| &stay.shown);
                let shown = self.stays.get(&channel).into_iter().flatten().chain(past);
                let own = shown.copied().any(|shown| shown == id);
                // It was a member when it sent. A join of unknown outcome may have ended the membership since.
                let is_out = self.carriage == Carriage::Lossy && !self.stays.contains_key(&channel);
                assert!(own || is_out, "one's own message comes before its ack");
            }
            ("follow", Command::StatusFollow { user_ids, .. }) if !refused => {
                let user = UserId(user_ids[0].parse().expect("a UUID"));
                if user != self.user {
                    self.followed.insert(user);
                    self.statuses.retain(|_, (of, _)| *of != user);
                }
                for presence in envelope["status"]["presences"].as_array().into_iter().flatten() {
                    let (session, of, status) = status_of(presence);
                    assert_eq!(of, user);
                    assert!(registry.may_see(self.user, &status), "{} finds {status:?} of {of}", self.user);
                    self.statuses.insert(session, (of, status));
                }
            }
            ("unfollow", Command::StatusUnfollow { user_ids }) => {
                let user = UserId(user_ids[0].parse().expect("a UUID"));
                if self.followed.remove(&user) {
                    self.statuses.retain(|_, (of, _)| *of != user);
                }
            }
            ("status", Command::StatusUpdate { status }) if !refused => self.shows = status,
            _ => assert!(refused, "{envelope}"),
        }
    }

    fn end_stay(&mut self, channel: &str, ended: Ended) {
        if let Some(shown) = self.stays.remove(channel) {
            self.past.push((channel.to_owned(), Stay { shown, ended }));
        }
    }

    /// Ends the session. Returns all its stays.
    pub fn end(&mut self) -> Vec<(String, Stay)> {
        while let Some((channel, shown)) = self.stays.pop_first() {
            self.past.push((channel, Stay { shown, ended: Ended::Left }));
        }
        std::mem::take(&mut self.past)
    }

    /// Once the world is quiet, ends all stays: those of present members as `Present`; the others were ended by other
    /// users without a message.
    pub fn end_stays(&mut self, is_present: impl Fn(&ChannelId) -> bool) {
        while let Some((channel, shown)) = self.stays.pop_first() {
            let id = ChannelId::parse(&channel).expect("channels have ids");
            let ended = if is_present(&id) { Ended::Present } else { Ended::Removed };
            self.past.push((channel, Stay { shown, ended }));
        }
    }

    /// Whether the session is in this channel, as far as it knows.
    pub fn is_in(&self, channel: &ChannelId) -> bool {
        self.stays.contains_key(channel.as_str())
    }

    /// Whether the session must have received every change of the statuses that this user shows.
    pub fn hears_of(&self, user: UserId) -> bool {
        self.followed.contains(&user) || (self.lasting && user == self.user)
    }
}

fn status_of(presence: &Value) -> (SessionId, UserId, String) {
    let id = |name| text(presence, name).parse::<Uuid>().expect("ids are UUIDs");
    (SessionId(id("session_id")), UserId(id("user_id")), text(presence, "status"))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {value}")).to_owned()
}
