//! Nakama's envelopes in protobuf, as far as a load client reads and writes them. Fields that are not declared here are
//! skipped.
//!
//! What arrives is read into slices of the frame. Lists that are not needed are read into elements without size.

use std::collections::BTreeMap;

use prost::Message;
use tokio_tungstenite::tungstenite::Bytes;

use super::{Entrance, Heard, Kind, Request, Unreadable, asked, retry_after};

/// A frame from the server. Only the payloads that are needed here are declared; a frame has one of them.
#[derive(Message)]
struct Envelope {
    #[prost(bytes = "bytes", tag = "1")]
    cid: Bytes,
    #[prost(message, optional, tag = "2")]
    channel: Option<JoinedChannel>,
    #[prost(message, optional, tag = "5")]
    channel_message: Option<ChannelMessage>,
    #[prost(message, optional, tag = "6")]
    channel_message_ack: Option<ChannelMessageAck>,
    #[prost(message, optional, tag = "10")]
    channel_presence_event: Option<ChannelPresenceEvent>,
    #[prost(message, optional, tag = "11")]
    error: Option<Error>,
    #[prost(message, optional, tag = "1000")]
    channel_gap: Option<ChannelGap>,
}

#[derive(Message)]
struct JoinedChannel {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(message, repeated, tag = "2")]
    presences: Vec<Uninspected>,
    #[prost(uint32, optional, tag = "1000")]
    presence_count: Option<u32>,
}

#[derive(Message)]
struct ChannelMessage {
    #[prost(bytes = "bytes", tag = "2")]
    message_id: Bytes,
    /// A wrapper message, in which 0 is encoded as an empty one.
    #[prost(message, optional, tag = "3")]
    code: Option<i32>,
    #[prost(bytes = "bytes", tag = "6")]
    content: Bytes,
}

#[derive(Message)]
struct ChannelMessageAck {
    #[prost(bytes = "bytes", tag = "2")]
    message_id: Bytes,
}

#[derive(Message)]
struct ChannelPresenceEvent {
    #[prost(message, repeated, tag = "2")]
    joins: Vec<Uninspected>,
    #[prost(message, repeated, tag = "3")]
    leaves: Vec<Uninspected>,
    #[prost(uint32, optional, tag = "1000")]
    presence_count: Option<u32>,
}

#[derive(Message)]
struct Error {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(bytes = "bytes", tag = "2")]
    message: Bytes,
    #[prost(btree_map = "string, string", tag = "3")]
    context: BTreeMap<String, String>,
}

#[derive(Message)]
struct ChannelGap {
    #[prost(bytes = "bytes", tag = "2")]
    after_message_id: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    before_message_id: Bytes,
}

/// An element of a list whose length alone is needed. It has no size, so a list of thousands needs no memory.
#[derive(Message)]
struct Uninspected {}

/// Reads one envelope and passes its meaning to `hear`. An envelope has exactly one meaning.
pub fn read(frame: &Bytes, hear: impl FnOnce(Heard<'_>)) -> Result<(), Unreadable> {
    let envelope = Envelope::decode(frame.clone()).map_err(|_| Unreadable)?;
    let request = Request::of_cid(text(&envelope.cid)?);
    hear(if let Some(push) = &envelope.channel_message {
        let kind = Kind::of_code(push.code.unwrap_or_default()).ok_or(Unreadable)?;
        Heard::Message { id: named(&push.message_id)?, kind, content: text(&push.content)? }
    } else if let Some(event) = &envelope.channel_presence_event {
        let [joins, leaves] = [&event.joins, &event.leaves].map(|list| list.len() as u64);
        Heard::Presences { joins, leaves, present: event.presence_count }
    } else if let Some(ack) = &envelope.channel_message_ack {
        Heard::Accepted { request, id: named(&ack.message_id)? }
    } else if let Some(error) = &envelope.error {
        let of = |name| error.context.get(name).map_or("", String::as_str);
        let retry_after = retry_after(of("reason"), of("retry_after_ms"));
        Heard::Refused { request, code: error.code, reason: text(&error.message)?, retry_after }
    } else if let Some(JoinedChannel { id, presences, presence_count }) = &envelope.channel {
        let presences = presences.len() as u64;
        Heard::Joined { request, channel_id: Some(named(id)?), presences, present: *presence_count }
    } else if let Some(gap) = &envelope.channel_gap {
        let [after, before] = [text(&gap.after_message_id)?, text(&gap.before_message_id)?];
        Heard::Gap { after: (!after.is_empty()).then_some(after), before: (!before.is_empty()).then_some(before) }
    } else if envelope.cid.is_empty() {
        Heard::Other
    } else {
        Heard::Done { request }
    });
    Ok(())
}

fn text(bytes: &Bytes) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable)
}

/// A name that must be present. In protobuf a missing field looks like an empty one.
fn named(bytes: &Bytes) -> Result<&str, Unreadable> {
    if bytes.is_empty() { Err(Unreadable) } else { text(bytes) }
}

/// A client's request: a name for the answer, and one of the payloads.
#[derive(Message)]
struct Asked {
    #[prost(string, tag = "1")]
    cid: String,
    #[prost(oneof = "Payload", tags = "3, 4, 7, 8, 9")]
    payload: Option<Payload>,
}

#[derive(prost::Oneof)]
enum Payload {
    #[prost(message, tag = "3")]
    Join(Join),
    #[prost(message, tag = "4")]
    Leave(Leave),
    #[prost(message, tag = "7")]
    Send(Send),
    #[prost(message, tag = "8")]
    Update(Update),
    #[prost(message, tag = "9")]
    Remove(Remove),
}

#[derive(Message)]
struct Join {
    #[prost(string, tag = "1")]
    target: String,
    #[prost(int32, tag = "2")]
    r#type: i32,
    #[prost(message, optional, tag = "3")]
    persistence: Option<bool>,
    #[prost(message, optional, tag = "4")]
    hidden: Option<bool>,
}

#[derive(Message)]
struct Leave {
    #[prost(string, tag = "1")]
    channel_id: String,
}

#[derive(Message)]
struct Send {
    #[prost(string, tag = "1")]
    channel_id: String,
    #[prost(string, tag = "2")]
    content: String,
}

#[derive(Message)]
struct Update {
    #[prost(string, tag = "1")]
    channel_id: String,
    #[prost(string, tag = "2")]
    message_id: String,
    #[prost(string, tag = "3")]
    content: String,
}

#[derive(Message)]
struct Remove {
    #[prost(string, tag = "1")]
    channel_id: String,
    #[prost(string, tag = "2")]
    message_id: String,
}

pub fn join(entrance: &Entrance) -> Vec<u8> {
    let Entrance { room, hidden, persistence } = entrance;
    let join = Join { target: room.clone(), r#type: 1, persistence: Some(*persistence), hidden: Some(*hidden) };
    bytes(Request::Join, Payload::Join(join))
}

pub fn leave(channel_id: &str) -> Vec<u8> {
    bytes(Request::Leave, Payload::Leave(Leave { channel_id: channel_id.to_owned() }))
}

pub fn send(number: u32, channel_id: &str, content: &str) -> Vec<u8> {
    let [channel_id, content] = [channel_id, content].map(str::to_owned);
    bytes(Request::Publish(number), Payload::Send(Send { channel_id, content }))
}

pub fn update(number: u32, channel_id: &str, message_id: &str, content: &str) -> Vec<u8> {
    let [channel_id, message_id, content] = [channel_id, message_id, content].map(str::to_owned);
    bytes(Request::Publish(number), Payload::Update(Update { channel_id, message_id, content }))
}

pub fn remove(number: u32, channel_id: &str, message_id: &str) -> Vec<u8> {
    let [channel_id, message_id] = [channel_id, message_id].map(str::to_owned);
    bytes(Request::Publish(number), Payload::Remove(Remove { channel_id, message_id }))
}

fn bytes(request: Request, payload: Payload) -> Vec<u8> {
    Asked { cid: request.cid().into_owned(), payload: Some(payload) }.encode_to_vec()
}

/// The request in a client's envelope.
pub fn asked(frame: &Bytes) -> Option<asked::Asked> {
    let Asked { cid, payload } = Asked::decode(frame.clone()).ok()?;
    match payload? {
        Payload::Join(join) => Some(asked::Asked::Join { cid, room: join.target }),
        Payload::Send(send) => Some(asked::Asked::Send { cid, room: send.channel_id, content: send.content }),
        _ => None,
    }
}

pub fn joined(cid: &str, channel_id: &str) -> Vec<u8> {
    let channel = JoinedChannel { id: shared(channel_id), ..JoinedChannel::default() };
    Envelope { cid: shared(cid), channel: Some(channel), ..Envelope::default() }.encode_to_vec()
}

pub fn accepted(cid: &str, message_id: &str) -> Vec<u8> {
    let ack = ChannelMessageAck { message_id: shared(message_id) };
    Envelope { cid: shared(cid), channel_message_ack: Some(ack), ..Envelope::default() }.encode_to_vec()
}

/// A message whose sender id is padding.
pub fn pushed(message_id: &str, content: &str, padding: usize) -> Vec<u8> {
    let push = ChannelMessage { message_id: shared(message_id), code: Some(0), content: shared(content) };
    let mut bytes = push.encode_to_vec();
    prost::encoding::string::encode(SENDER_ID, &".".repeat(padding), &mut bytes);
    let mut envelope = Vec::with_capacity(bytes.len() + 8);
    prost::encoding::bytes::encode(CHANNEL_MESSAGE, &bytes, &mut envelope);
    envelope
}

/// Fields that are written here but never read.
const CHANNEL_MESSAGE: u32 = 5;
const SENDER_ID: u32 = 4;

fn shared(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A field of bytes, text or a message in wire format. All values here are shorter than 128 bytes.
    fn field(tag: u32, value: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        prost::encoding::encode_varint(u64::from(tag << 3 | 2), &mut field);
        field.push(u8::try_from(value.len()).expect("a short value"));
        field.extend_from_slice(value);
        field
    }

    fn number(tag: u32, value: u64) -> Vec<u8> {
        let mut field = Vec::new();
        prost::encoding::encode_varint(u64::from(tag << 3), &mut field);
        prost::encoding::encode_varint(value, &mut field);
        field
    }

    fn check(frame: Vec<u8>, expected: Heard<'_>) {
        let mut heard = 0;
        let read = read(&Bytes::from(frame), |found| {
            assert_eq!(found, expected);
            heard += 1;
        });
        assert_eq!((read, heard), (Ok(()), 1));
    }

    #[test]
    fn reads_messages_of_every_kind() {
        for (code, kind) in [(0, Kind::New), (1, Kind::Update), (2, Kind::Removal), (5, Kind::Event)] {
            // The wrapper around a 0 is empty, but present.
            let code = if code == 0 { Vec::new() } else { number(1, code) };
            let members = [
                field(1, b"2...lobby"),
                field(2, b"f4f9"),
                field(3, &code),
                field(5, b"alice"),
                field(6, br#"{"text":"hi"}"#),
                field(7, &number(1, 1_795_000_000)),
                field(10, b"lobby"),
            ];
            let expected = Heard::Message { id: "f4f9", kind, content: r#"{"text":"hi"}"# };
            check(field(5, &members.concat()), expected);
        }
    }

    #[test]
    fn reads_answers() {
        let named = |cid: &str, payload: Vec<u8>| [field(1, cid.as_bytes()), payload].concat();
        check(
            named("3", field(6, &[field(1, b"2...x"), field(2, b"f4")].concat())),
            Heard::Accepted { request: Some(Request::Publish(3)), id: "f4" },
        );
        check(
            named("other", field(11, &[number(1, 3), field(2, b"no")].concat())),
            Heard::Refused { request: None, code: 3, reason: "no", retry_after: None },
        );
        let entry = |name: &[u8], value: &[u8]| field(3, &[field(1, name), field(2, value)].concat());
        let context = [entry(b"reason", b"sends_per_second"), entry(b"retry_after_ms", b"250")].concat();
        check(
            named("7", field(11, &[number(1, 3), field(2, b"too fast"), context].concat())),
            Heard::Refused {
                request: Some(Request::Publish(7)),
                code: 3,
                reason: "too fast",
                retry_after: Some(Duration::from_millis(250)),
            },
        );
        let presence = field(2, &field(3, b"alice"));
        let channel = [field(1, b"2...x"), presence.clone(), presence, number(1000, 7)].concat();
        check(
            named("join", field(2, &channel)),
            Heard::Joined { request: Some(Request::Join), channel_id: Some("2...x"), presences: 2, present: Some(7) },
        );
        check(named("leave", Vec::new()), Heard::Done { request: Some(Request::Leave) });
    }

    #[test]
    fn reads_events() {
        let event = [field(1, b"2...x"), field(2, b""), field(2, b""), field(3, b""), number(1000, 9)].concat();
        check(field(10, &event), Heard::Presences { joins: 2, leaves: 1, present: Some(9) });
        let gap = [field(1, b"2...x"), field(3, b"b")].concat();
        check(field(1000, &gap), Heard::Gap { after: None, before: Some("b") });
        check(field(23, b""), Heard::Other);
    }

    #[test]
    fn refuses_what_is_no_envelope() {
        for frame in [
            vec![0x0a],
            vec![0xff; 8],
            number(5, 1),
            field(1, b"\xff"),
            field(5, &field(6, b"{}")),
            field(5, &[field(2, b"f4"), field(6, b"\xff")].concat()),
            field(5, &[field(2, b"f4"), field(3, &number(1, 10))].concat()),
        ] {
            let refused = read(&Bytes::from(frame.clone()), |heard| panic!("{frame:?} is {heard:?}"));
            assert_eq!(refused, Err(Unreadable), "{frame:?}");
        }
    }

    #[test]
    fn writes_what_a_client_says() {
        let entrance = Entrance { room: "lobby".into(), hidden: false, persistence: true };
        let join_members = [field(1, b"lobby"), number(2, 1), field(3, &number(1, 1)), field(4, b"")].concat();
        for (written, cid, payload) in [
            (join(&entrance), "join", field(3, &join_members)),
            (leave("2...x"), "leave", field(4, &field(1, b"2...x"))),
            (send(7, "2...x", "{}"), "7", field(7, &[field(1, b"2...x"), field(2, b"{}")].concat())),
            (
                update(8, "2...x", "f4", "{}"),
                "8",
                field(8, &[field(1, b"2...x"), field(2, b"f4"), field(3, b"{}")].concat()),
            ),
            (remove(9, "2...x", "f4"), "9", field(9, &[field(1, b"2...x"), field(2, b"f4")].concat())),
        ] {
            assert_eq!(written, [field(1, cid.as_bytes()), payload].concat(), "{cid}");
        }
    }
}
