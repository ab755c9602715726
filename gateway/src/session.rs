//! What a session's bytes mean. Turns frames into commands for the shard, and every error of the client into the
//! matching close code (docs/protocol.md, section 1.3).

use engine::counters::SessionEnd;
use engine::fanout::frames::{Encoding, Format};
use engine::id::{ConnectionId, SessionId, Timestamp};
use engine::session::home::CloseMode;
use engine::shard::{Input, Shard};
use engine::wire::request::{Malformed, Request};
use engine::wire::websocket::{self, Assembly, CloseCode, Decoded, Incoming, MESSAGE_BYTES_MAX, Violation};
use engine::wire::{json, protobuf};
use uuid::{Builder, Uuid};

/// The result of reading the bytes that were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All whole frames were taken: read on.
    Hungry,
    /// For now the shard takes no more requests from this connection.
    Full,
    /// The session is ending: later bytes are ignored.
    Over,
}

/// Reads the frames at the front of `bytes`, and charges the connection for them. Returns how many bytes were taken, and
/// how to go on.
///
/// The remaining bytes are an unfinished frame, or frames that must wait. The caller passes them again, in front of the
/// next bytes.
pub fn take_in(
    bytes: &mut [u8],
    assembly: &mut Assembly,
    connection: ConnectionId,
    format: Format,
    shard: &mut Shard,
    now: Timestamp,
) -> (usize, Progress) {
    let (mut taken, mut silent_frames) = (0, 0);
    let progress = loop {
        if !shard.accepts(connection) {
            break Progress::Full;
        }
        match websocket::decode(&mut bytes[taken..], assembly, MESSAGE_BYTES_MAX) {
            Ok(Decoded::Incomplete { .. }) => {
                // Bytes that complete no frame are looked at again with the next ones.
                silent_frames += usize::from(taken == 0);
                break Progress::Hungry;
            }
            Ok(Decoded::Frame { consumed, incoming }) => {
                debug_assert!(consumed > 0, "a frame has a header");
                taken += consumed;
                match input_of(incoming, connection, format, shard, now) {
                    Some(input) => shard.step(input, now),
                    None => silent_frames += 1,
                }
            }
            Err(violation) => {
                shard.step(violated(connection, violation), now);
                break Progress::Over;
            }
        }
    };
    shard.charge_received(connection, taken, silent_frames);
    (taken, progress)
}

fn input_of(
    incoming: Incoming<'_>,
    connection: ConnectionId,
    format: Format,
    shard: &mut Shard,
    now: Timestamp,
) -> Option<Input> {
    match (incoming, format.encoding()) {
        (Incoming::Text(text), Encoding::Json) => Some(asked(json::decode(&text), connection, shard, now)),
        (Incoming::Binary(bytes), Encoding::Protobuf) => Some(asked(protobuf::decode(&bytes), connection, shard, now)),
        (Incoming::Binary(_), Encoding::Json) => {
            Some(misunderstood(connection, "binary frame on a JSON session: send text frames"))
        }
        (Incoming::Text(_), Encoding::Protobuf) => {
            Some(misunderstood(connection, "text frame on a protobuf session: send binary frames"))
        }
        (Incoming::Ping(payload), _) => {
            let mut frame = Vec::new();
            websocket::pong_frame(&mut frame, payload);
            Some(Input::Pong { connection, frame })
        }
        // The socket table has already recorded that the client is alive.
        (Incoming::Pong(_) | Incoming::Fragment, _) => None,
        (Incoming::Close { code, .. }, _) => {
            let mut frame = Vec::new();
            websocket::close_frame(&mut frame, code, "");
            Some(Input::Close { connection, frame, close_mode: CloseMode::AfterAnswers, end: SessionEnd::Client })
        }
    }
}

/// The command in a client's envelope. A malformed envelope ends the session, after its last answer.
fn asked(read: Result<Request, Malformed>, connection: ConnectionId, shard: &mut Shard, now: Timestamp) -> Input {
    match read {
        Ok(Request { cid, command }) => Input::Request { connection, cid, command },
        Err(malformed) => {
            if let Some(refusal) = last_answer(connection, &malformed) {
                shard.step(refusal, now);
            }
            misunderstood(connection, &malformed.to_string())
        }
    }
}

fn last_answer(connection: ConnectionId, malformed: &Malformed) -> Option<Input> {
    let (cid, rejection) = malformed.last_answer()?;
    Some(Input::Refuse { connection, cid: cid.to_owned(), rejection })
}

fn misunderstood(connection: ConnectionId, reason: &str) -> Input {
    close(connection, CloseCode::NORMAL, reason, CloseMode::AfterAnswers, SessionEnd::Misunderstood)
}

fn violated(connection: ConnectionId, violation: Violation) -> Input {
    let (code, reason) = (violation.close_code(), violation.reason());
    close(connection, code, reason, CloseMode::AfterAnswers, SessionEnd::Misunderstood)
}

/// A new session's id: a UUID of version 7, which begins with the time (RFC 9562, section 5.7). So the server need not keep
/// when each session began.
pub fn new_id(now: Timestamp) -> SessionId {
    let random = Uuid::new_v4().into_bytes();
    let millis = u64::try_from(now.milliseconds()).unwrap_or(0);
    let [.., a, b, c, d, e, f, g, h, i, j] = random;
    SessionId(Builder::from_unix_timestamp_millis(millis, &[a, b, c, d, e, f, g, h, i, j]).into_uuid())
}

/// When the session with this id began, in milliseconds since the Unix epoch.
pub fn opened_at(SessionId(id): SessionId) -> u64 {
    id.as_u64_pair().0 >> 16
}

/// Closes a session with a code and a reason. `end` is what is counted.
pub fn close(connection: ConnectionId, code: CloseCode, reason: &str, close_mode: CloseMode, end: SessionEnd) -> Input {
    let mut frame = Vec::new();
    websocket::close_frame(&mut frame, Some(code), reason);
    Input::Close { connection, frame, close_mode, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_when_its_session_began_and_no_two_are_equal() {
        let at = |millis: i64| Timestamp(millis * 1_000_000);
        let (one, other) = (new_id(at(1_700_000_000_123)), new_id(at(1_700_000_000_123)));
        assert_eq!((opened_at(one), opened_at(other)), (1_700_000_000_123, 1_700_000_000_123));
        assert!(one != other && one.0.get_version_num() == 7);
        assert!(new_id(at(1_700_000_000_124)).0 > one.0.max(other.0), "ids are in the order of time");
    }
}
