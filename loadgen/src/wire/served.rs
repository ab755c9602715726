//! The server's side of the protocols, as far as the bare server needs it: the clients' requests, and the shortest
//! answers that our clients accept.

use serde::Deserialize;
use serde_json::json;

use super::asked::Asked;
use super::{Dialect, Frame, plain, protobuf};

#[derive(Deserialize)]
struct JsonAsked {
    #[serde(default)]
    cid: String,
    channel_join: Option<JsonJoin>,
    channel_message_send: Option<JsonSend>,
}

#[derive(Deserialize)]
struct JsonJoin {
    target: String,
}

#[derive(Deserialize)]
struct JsonSend {
    channel_id: String,
    content: String,
}

/// A channel's id is the name of its room.
impl Dialect {
    /// The request in a client's frame. A plain server has one room, and repeats there every frame that contains a
    /// content.
    pub fn asked(&self, frame: &Frame) -> Asked {
        match (self, frame) {
            (Self::Json, Frame::Text(text)) => json_asked(text).unwrap_or(Asked::Other),
            (Self::Protobuf, Frame::Binary(bytes)) => protobuf::asked(bytes).unwrap_or(Asked::Other),
            (Self::Plain(_), Frame::Text(text)) if plain::carries_content(text.as_bytes()) => {
                Asked::Send { cid: String::new(), room: String::new(), content: text.as_str().to_owned() }
            }
            _ => Asked::Other,
        }
    }

    /// Whether a connection is in the room from the beginning, without a request.
    pub fn joins_by_connecting(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    pub fn joined(&self, cid: &str, room: &str) -> Option<Vec<u8>> {
        match self {
            Self::Json => Some(json!({ "cid": cid, "channel": { "id": room } }).to_string().into_bytes()),
            Self::Protobuf => Some(protobuf::joined(cid, room)),
            Self::Plain(plain) => plain.welcome.as_ref().map(|welcome| welcome.clone().into_bytes()),
        }
    }

    pub fn accepted(&self, cid: &str, id: &str) -> Option<Vec<u8>> {
        match self {
            Self::Json => {
                Some(json!({ "cid": cid, "channel_message_ack": { "message_id": id } }).to_string().into_bytes())
            }
            Self::Protobuf => Some(protobuf::accepted(cid, id)),
            Self::Plain(_) => None,
        }
    }

    /// A message as members receive it, as long as the real server's messages were, if its shortest form allows that.
    pub fn pushed(&self, id: &str, content: &str, bytes: usize) -> Vec<u8> {
        match self {
            Self::Json => {
                let push = |padding: usize| {
                    let sender = ".".repeat(padding);
                    let members = json!({ "message_id": id, "code": 0, "sender_id": sender, "content": content });
                    json!({ "channel_message": members }).to_string().into_bytes()
                };
                padded(bytes, push)
            }
            Self::Protobuf => padded(bytes, |padding| protobuf::pushed(id, content, padding)),
            Self::Plain(_) => content.as_bytes().to_vec(),
        }
    }

    pub fn speaks_text(&self) -> bool {
        !matches!(self, Self::Protobuf)
    }
}

fn json_asked(text: &str) -> Option<Asked> {
    let JsonAsked { cid, channel_join, channel_message_send } = serde_json::from_str(text).ok()?;
    if let Some(JsonJoin { target }) = channel_join {
        return Some(Asked::Join { cid, room: target });
    }
    channel_message_send.map(|JsonSend { channel_id, content }| Asked::Send { cid, room: channel_id, content })
}

/// The output of `write` with as much padding as it needs to have this many bytes.
fn padded(bytes: usize, write: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let least = write(0);
    let (shortest, padding) = (least.len(), bytes.saturating_sub(least.len()));
    let written = if padding == 0 { least } else { write(padding) };
    debug_assert!(written.len() >= shortest + padding, "the padding is in the message");
    written
}

#[cfg(test)]
mod tests {
    use super::super::{Entrance, Heard, Kind, Plain, Request, Scratch};
    use super::*;
    use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

    fn frame(message: Message) -> Frame {
        match message {
            Message::Text(text) => Frame::Text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
            other => panic!("{other:?}"),
        }
    }

    fn answer(dialect: &Dialect, bytes: Vec<u8>) -> Frame {
        if dialect.speaks_text() {
            Frame::Text(Utf8Bytes::try_from(bytes).expect("text"))
        } else {
            Frame::Binary(Bytes::from(bytes))
        }
    }

    #[test]
    fn both_sides_understand_each_other() {
        let entrance = Entrance { room: "lobby".into(), hidden: true, persistence: false };
        for dialect in [Dialect::Json, Dialect::Protobuf] {
            let join = frame(dialect.join(&entrance, 3).expect("a join"));
            assert_eq!(dialect.asked(&join), Asked::Join { cid: "join".into(), room: "lobby".into() });
            let send = frame(dialect.send(3, 7, "lobby", "{\"a\":1}"));
            let expected = Asked::Send { cid: "7".into(), room: "lobby".into(), content: "{\"a\":1}".into() };
            assert_eq!(dialect.asked(&send), expected);

            let check = |bytes: Option<Vec<u8>>, expected: Heard<'_>| {
                let frame = answer(&dialect, bytes.expect("an answer"));
                let mut heard = 0;
                let read = dialect.read(&frame, &mut Scratch::default(), |found| {
                    assert_eq!(found, expected);
                    heard += 1;
                });
                assert_eq!((read, heard), (Ok(()), 1));
            };
            let join = Some(Request::Join);
            check(
                dialect.joined("join", "lobby"),
                Heard::Joined { request: join, channel_id: Some("lobby"), presences: 0, present: None },
            );
            check(dialect.accepted("7", "m"), Heard::Accepted { request: Some(Request::Publish(7)), id: "m" });
            let push = dialect.pushed("m", "{\"a\":1}", 400);
            assert!(push.len().abs_diff(400) <= 2, "{dialect:?}: {}", push.len());
            check(Some(push), Heard::Message { id: "m", kind: Kind::New, content: "{\"a\":1}" });
        }
    }

    #[test]
    fn a_plain_server_repeats_contents_and_nothing_else() {
        let plain = Plain { url: String::new(), greeting: None, welcome: Some("hi".into()), send: String::new() };
        let dialect = Dialect::Plain(plain);
        let text = |text: &str| Frame::Text(text.to_owned().into());
        assert_eq!(dialect.asked(&text("hello")), Asked::Other);
        let said = "x {\"r\":1,\"p\":2}";
        let expected = Asked::Send { cid: String::new(), room: String::new(), content: said.into() };
        assert_eq!(dialect.asked(&text(said)), expected);
        assert_eq!(dialect.joined("", ""), Some(b"hi".to_vec()));
        assert_eq!(dialect.pushed("", said, 400), said.as_bytes());
    }
}
