//! Events as the bytes that subscribers receive: WebSocket frames, encoded once per format.

use std::borrow::Cow;

use crate::command::{Event, News, Reply};
use crate::fanout::log::{Mark, Position, Run};
use crate::id::{ChannelId, Timestamp};
use crate::message::{MessageCode, Missed, Presence};
use crate::presence_list::SharedPresences;
use crate::wire::{Around, json, protobuf, websocket};

/// The format of a connection's envelopes. A new format needs a variant here and an arm in `encoding`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Format {
    Json = 0,
    Protobuf = 1,
    /// Without `presence_count`, which Nakama's schema does not have: its strictest readers refuse a frame with it.
    JsonWithoutCounts = 2,
    ProtobufWithoutCounts = 3,
}

/// How the bytes of an envelope are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Json,
    Protobuf,
}

impl Format {
    /// How many formats there are: the length of tables that are indexed by `format as usize`.
    pub const COUNT: usize = 4;
    /// All formats in the order of their discriminants, so that `format as usize` is the index.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Json, Self::Protobuf, Self::JsonWithoutCounts, Self::ProtobufWithoutCounts];

    /// How its envelopes are written.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Json | Self::JsonWithoutCounts => Encoding::Json,
            Self::Protobuf | Self::ProtobufWithoutCounts => Encoding::Protobuf,
        }
    }

    /// The same, but without the counts of members that crowds are told.
    pub fn without_counts(self) -> Self {
        match self.encoding() {
            Encoding::Json => Self::JsonWithoutCounts,
            Encoding::Protobuf => Self::ProtobufWithoutCounts,
        }
    }

    fn has_counts(self) -> bool {
        matches!(self, Self::Json | Self::Protobuf)
    }
}

/// The answer, as this format has it.
fn reply_in(format: Format, reply: &Reply) -> Cow<'_, Reply> {
    match reply {
        Reply::Joined { channel, presences, count: Some(_), me } if !format.has_counts() => Cow::Owned(Reply::Joined {
            channel: channel.clone(),
            presences: presences.clone(),
            count: None,
            me: me.clone(),
        }),
        reply => Cow::Borrowed(reply),
    }
}

/// The event, as this format has it. Crowds are told their counts once a second, so a copy is no cost.
fn event_in(format: Format, event: &Event) -> Cow<'_, Event> {
    match event {
        Event::Presence { channel, joins, leaves, count: Some(_) } if !format.has_counts() => {
            let (joins, leaves) = (joins.clone(), leaves.clone());
            Cow::Owned(Event::Presence { channel: channel.clone(), joins, leaves, count: None })
        }
        event => Cow::Borrowed(event),
    }
}

/// The frame of an answer to the request with this `cid`.
pub fn reply(format: Format, cid: &str, reply: &Reply) -> Vec<u8> {
    let reply = &*reply_in(format, reply);
    frame(format, |out| json::encode_reply(cid, reply, out), |out| protobuf::encode_reply(cid, reply, out))
}

/// Answers with fewer presences than this copy them: they are some KB.
const SHARED_LIST_MIN: usize = 16;

/// The frame of an answer with a long list of presences, which it shares with the answers to others.
pub struct ListedFrame {
    /// The frame's header, and its payload up to the list.
    front: Vec<u8>,
    presences: SharedPresences,
    back: Vec<u8>,
    encoding: Encoding,
}

impl ListedFrame {
    /// The frame of this answer, if it has such a list.
    pub fn of(format: Format, cid: &str, reply: &Reply) -> Option<Self> {
        let Reply::Joined { channel, presences, count, me } = reply else { return None };
        if presences.len() < SHARED_LIST_MIN {
            return None;
        }
        let (encoding, count) = (format.encoding(), count.filter(|_| format.has_counts()));
        let (around, header) = match encoding {
            Encoding::Json => (json::around_list as Surround, websocket::front_of_text_frame as FrontOf),
            Encoding::Protobuf => (protobuf::around_list as Surround, websocket::front_of_binary_frame as FrontOf),
        };
        let Around { front, back } = around(cid, channel, presences, count, me);
        let front = header(&front, list_bytes(encoding, presences).len() + back.len());
        Some(Self { front, presences: presences.clone(), back, encoding })
    }

    /// The frame's bytes, in three parts.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.front, list_bytes(self.encoding, &self.presences), &self.back]
    }
}

type Surround = fn(&str, &ChannelId, &SharedPresences, Option<u32>, &Presence) -> Around;
type FrontOf = fn(&[u8], usize) -> Vec<u8>;

fn list_bytes(encoding: Encoding, presences: &SharedPresences) -> &[u8] {
    match encoding {
        Encoding::Json => json::list_bytes(presences),
        Encoding::Protobuf => protobuf::list_bytes(presences),
    }
}

/// The frame of an event of a channel, for one subscriber.
pub fn event(format: Format, event: &Event) -> Vec<u8> {
    let event = &*event_in(format, event);
    frame(format, |out| json::encode_event(event, out), |out| protobuf::encode_event(event, out))
}

/// The frame that tells a reader what it missed of a channel.
pub fn gap(format: Format, channel: &ChannelId, missed: Missed) -> Vec<u8> {
    frame(format, |out| json::encode_gap(channel, missed, out), |out| protobuf::encode_gap(channel, missed, out))
}

/// The frame of news that belong to no channel.
pub fn news(format: Format, news: &News) -> Vec<u8> {
    frame(format, |out| json::encode_news(news, out), |out| protobuf::encode_news(news, out))
}

fn frame(format: Format, json: impl FnOnce(&mut Vec<u8>), protobuf: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(format, &mut bytes, json, protobuf);
    bytes
}

/// Appends a frame, whose payload one of the two closures appends.
fn write(format: Format, out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>), protobuf: impl FnOnce(&mut Vec<u8>)) {
    match format.encoding() {
        Encoding::Json => websocket::text_frame(out, json),
        Encoding::Protobuf => websocket::binary_frame(out, protobuf),
    }
}

/// About what a presence takes in a frame.
const PRESENCE_BYTES: usize = 150;

/// Whole frames end to end: the same events in each format that was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frames {
    runs: [Run; Format::COUNT],
    /// Whether the events themselves are kept. They cross to other nodes, which encode them in the formats that they need.
    keeps: bool,
    events: Vec<Event>,
    /// How many of the events are messages.
    messages: u64,
    accepted: Option<Timestamp>,
}

impl Frames {
    /// Frames without an event yet, which keep the events if they are to cross to other nodes.
    pub fn keeping(keeps: bool) -> Self {
        Self { keeps, ..Self::default() }
    }

    /// Encodes an event, once for each of these formats.
    pub fn push(&mut self, event: &Event, formats: impl Iterator<Item = Format>) {
        if self.keeps {
            self.events.push(event.clone());
        }
        if let Event::Message(message) = event {
            self.messages += 1;
            // A removal carries the removed message's own times, not the time of the removal.
            if message.code != MessageCode::Remove {
                self.accepted.get_or_insert(message.update_time);
            }
        }
        for format in formats {
            let Run { bytes, marks } = &mut self.runs[format as usize];
            if let Event::Message(message) = event
                && !matches!(message.code, MessageCode::Update | MessageCode::Remove)
            {
                marks.push(Mark { at: Position(bytes.len() as u64), id: message.id });
            }
            let event = &*event_in(format, event);
            write(format, bytes, |out| json::encode_event(event, out), |out| protobuf::encode_event(event, out));
        }
    }

    /// Frames of events that were encoded in no format yet.
    pub fn of_events(events: &[Event]) -> Self {
        let mut frames = Self::keeping(true);
        events.iter().for_each(|event| frames.push(event, std::iter::empty()));
        frames
    }

    /// The events, if they were kept.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The kept events, encoded in these formats. They are not kept any further.
    pub fn encoded(&self, formats: impl Iterator<Item = Format> + Clone) -> Self {
        let mut frames = Self::default();
        for event in &self.events {
            frames.push(event, formats.clone());
        }
        frames
    }

    /// Whether the frames hold events that are encoded in no format.
    pub fn awaits_encoding(&self) -> bool {
        !self.events.is_empty() && self.runs.iter().all(|run| run.bytes.is_empty())
    }

    /// The frames in one format. Empty if the frames were not encoded for it.
    pub fn of(&self, format: Format) -> &Run {
        &self.runs[format as usize]
    }

    /// The size of all runs; of events that are not encoded yet, about what one format of them will take.
    pub fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.bytes.len()).sum();
        let texts = |event: &Event| match event {
            Event::Message(message) => message.content.len() + message.username.len(),
            Event::Presence { joins, leaves, .. } => (joins.len() + leaves.len()) * PRESENCE_BYTES,
        };
        let events = self.events.iter().filter(|_| runs == 0).map(|event| size_of::<Event>() + texts(event));
        runs + events.sum::<usize>()
    }

    /// How many channel messages the frames hold. Other events are not counted.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// When the channel's owner accepted the oldest of the messages.
    pub fn accepted(&self) -> Option<Timestamp> {
        self.accepted
    }

    /// Whether there is no byte in any format, and no kept event.
    pub fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.bytes.is_empty()) && self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SessionId, UserId};

    fn event() -> Event {
        let channel = ChannelId::room("lobby").unwrap();
        Event::Presence { channel, joins: Vec::<Presence>::new(), leaves: Vec::new(), count: Some(7) }
    }

    #[test]
    fn what_nobody_listens_in_is_not_encoded() {
        for format in Format::ALL {
            let mut frames = Frames::default();
            frames.push(&event(), [format].into_iter());
            for other in Format::ALL {
                let Run { bytes, marks } = frames.of(other);
                assert_eq!((bytes.capacity() > 0, marks.capacity()), (other == format, 0), "{format:?}, {other:?}");
            }
        }
    }

    #[test]
    fn a_format_without_counts_differs_in_the_count_alone() {
        let mut frames = Frames::default();
        frames.push(&event(), Format::ALL.into_iter());
        let text = |format| String::from_utf8_lossy(&frames.of(format).bytes[2..]).into_owned();
        let (with, without) = (text(Format::Json), text(Format::Json.without_counts()));
        assert_eq!(with.replace(",\"presence_count\":7", ""), without);
        assert!(with != without && !without.contains("count"), "{without}");
        let [with, without] = [Format::Protobuf, Format::Protobuf.without_counts()].map(|format| frames.of(format));
        assert!(with.bytes.len() > without.bytes.len());
        let Event::Presence { channel, joins, leaves, .. } = event() else { panic!("another event") };
        let uncounted = super::event(Format::Json, &Event::Presence { channel, joins, leaves, count: None });
        assert_eq!(uncounted, frames.of(Format::JsonWithoutCounts).bytes);
    }

    #[test]
    fn kept_events_are_encoded_later_as_they_would_have_been_at_once() {
        let formats = [Format::Protobuf, Format::JsonWithoutCounts];
        let (mut at_once, mut kept) = (Frames::default(), Frames::keeping(true));
        at_once.push(&event(), formats.into_iter());
        kept.push(&event(), formats.into_iter());
        let later = Frames::of_events(&[event()]);
        assert_eq!(later.encoded(formats.into_iter()), at_once);
        assert_eq!((kept.of(Format::Protobuf), kept.events()), (at_once.of(Format::Protobuf), later.events()));
        assert_eq!([at_once.awaits_encoding(), kept.awaits_encoding(), later.awaits_encoding()], [false, false, true]);
        assert!(!later.is_empty() && later.bytes() > 0 && Frames::default().is_empty());
    }

    #[test]
    fn an_answer_that_shares_its_list_has_the_same_bytes() {
        let presence = |number: u128| {
            let id = uuid::Uuid::from_u128(number);
            Presence { user: UserId(id), session: SessionId(id), username: "ada".into(), persistence: true }
        };
        let answer = |presences: usize, count| Reply::Joined {
            channel: ChannelId::room("lobby").unwrap(),
            presences: (0..presences as u128).map(presence).collect(),
            count,
            me: presence(7),
        };
        for format in Format::ALL {
            for (presences, count) in [(SHARED_LIST_MIN, None), (100, Some(7)), (2_000, Some(70_000))] {
                let answer = answer(presences, count);
                let shared = ListedFrame::of(format, "1", &answer).expect("the list is long");
                assert_eq!(shared.parts().concat(), reply(format, "1", &answer), "{format:?} with {presences}");
            }
            assert!(ListedFrame::of(format, "1", &answer(SHARED_LIST_MIN - 1, None)).is_none());
            assert!(ListedFrame::of(format, "1", &Reply::Done).is_none());
        }
    }

    #[test]
    fn each_format_has_its_kind_of_frame() {
        let mut frames = Frames::default();
        frames.push(&event(), Format::ALL.into_iter());
        let (json, protobuf) = (&frames.of(Format::Json).bytes, &frames.of(Format::Protobuf).bytes);
        assert_eq!((json[0], protobuf[0]), (0x81, 0x82), "text and binary, whole");
        assert_eq!((json.len(), protobuf.len()), (2 + usize::from(json[1]), 2 + usize::from(protobuf[1])));
    }
}
