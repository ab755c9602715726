//! Tests of envelopes as the server writes them, byte for byte.

use std::time::Duration;

use super::*;
use crate::command::RateLimit;
use crate::id::GroupId;

const LOBBY: &str = "2...lobby";
const MEMBER: &str = r#"{"user_id":"65aea872-a336-4029-90c9-6f507b75281c","session_id":"56a2c7fa-e654-11f1-9208-379fc0d5299a","username":"alice","persistence":true}"#;
const OTHER: &str = r#"{"user_id":"8764eaba-85b6-4c62-88f1-c205fa39b581","session_id":"56c2bb23-e654-11f1-9208-379fc0d5299a","username":"bob","persistence":true}"#;

fn reply(cid: &str, reply: Reply, expected: &str) {
    let mut out = b"before ".to_vec();
    encode_reply(cid, &reply, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("before {expected}"));
}

fn event(event: Event, expected: &str) {
    let mut out = Vec::new();
    encode_event(&event, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

fn alice() -> Presence {
    presence(ALICE, ALICE_SESSION, "alice", true)
}

fn bob() -> Presence {
    presence(BOB, BOB_SESSION, "bob", true)
}

/// A timestamp from its seconds and its nine fraction digits.
fn nanoseconds(seconds: i64, fraction: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000 + fraction)
}

/// 2026-11-22T09:04:39Z
const SENT: i64 = 1_795_338_279;

fn message(code: MessageCode, content: &str, create_time: Timestamp, update_time: Timestamp) -> Message {
    Message {
        channel: lobby(),
        id: MessageId(parse_uuid(MESSAGE).unwrap()),
        sequence: Sequence(1),
        code,
        sender: user(ALICE),
        username: "alice".into(),
        content: content.into(),
        create_time,
        update_time,
        persistent: true,
    }
}

#[test]
fn plain_answers() {
    reply("1", Reply::Pong, r#"{"cid":"1","pong":{}}"#);
    reply("", Reply::Pong, r#"{"pong":{}}"#);
    reply("6", Reply::Done, r#"{"cid":"6"}"#);
    reply("", Reply::Done, "{}");
    reply("a\"\\\n\u{7}é😀", Reply::Done, r#"{"cid":"a\"\\\n\u0007é😀"}"#);
}

#[test]
fn refusals() {
    reply(
        "7",
        Reply::Refused(Rejection::bad_input("not a member of this channel")),
        r#"{"cid":"7","error":{"code":3,"message":"not a member of this channel"}}"#,
    );
    reply(
        "8",
        Reply::Refused(Rejection::unavailable("message could not be stored")),
        r#"{"cid":"8","error":{"message":"message could not be stored"}}"#,
    );
    reply("", Reply::Refused(Rejection::unavailable("")), r#"{"error":{}}"#);
    reply(
        "9",
        Reply::Refused(Rejection::outcome_unknown("perhaps")),
        r#"{"cid":"9","error":{"message":"perhaps","context":{"outcome":"unknown"}}}"#,
    );
    let slow_down = Rejection::too_fast(RateLimit::WorkPerUser, Duration::from_micros(1_200_001));
    let context = r#""context":{"reason":"work_per_user","retry_after_ms":"1201"}"#;
    let message = slow_down.message.clone();
    reply(
        "9",
        Reply::Refused(slow_down),
        &format!(r#"{{"cid":"9","error":{{"code":3,"message":"{message}",{context}}}}}"#),
    );
}

#[test]
fn joins() {
    let joined = |presences: &[Presence], me| Reply::Joined {
        channel: lobby(),
        presences: presences.to_vec().into(),
        count: None,
        me,
    };
    reply(
        "2",
        joined(&[], alice()),
        &format!(r#"{{"cid":"2","channel":{{"id":"{LOBBY}","self":{MEMBER},"room_name":"lobby"}}}}"#),
    );
    reply(
        "2",
        joined(&[alice()], bob()),
        &format!(
            r#"{{"cid":"2","channel":{{"id":"{LOBBY}","presences":[{MEMBER}],"self":{OTHER},"room_name":"lobby"}}}}"#
        ),
    );
    let direct = Reply::Joined {
        channel: ChannelId::direct(user(BOB), user(ALICE)),
        presences: Vec::new().into(),
        count: None,
        me: alice(),
    };
    reply(
        "9",
        direct,
        r#"{"cid":"9","channel":{"id":"4.65aea872-a336-4029-90c9-6f507b75281c.8764eaba-85b6-4c62-88f1-c205fa39b581.","self":{"user_id":"65aea872-a336-4029-90c9-6f507b75281c","session_id":"56a2c7fa-e654-11f1-9208-379fc0d5299a","username":"alice","persistence":true},"user_id_one":"65aea872-a336-4029-90c9-6f507b75281c","user_id_two":"8764eaba-85b6-4c62-88f1-c205fa39b581"}}"#,
    );
    let group = Reply::Joined {
        channel: ChannelId::group(GroupId(parse_uuid(GROUP).unwrap())),
        presences: Vec::new().into(),
        count: None,
        me: alice(),
    };
    reply(
        "10",
        group,
        r#"{"cid":"10","channel":{"id":"3.801a0c03-a0ac-42af-9ac2-d2b694ccafc6..","self":{"user_id":"65aea872-a336-4029-90c9-6f507b75281c","session_id":"56a2c7fa-e654-11f1-9208-379fc0d5299a","username":"alice","persistence":true},"group_id":"801a0c03-a0ac-42af-9ac2-d2b694ccafc6"}}"#,
    );
}

#[test]
fn gaps() {
    let id = |text: &str| crate::id::parse_uuid(text).map(crate::id::MessageId);
    let (after, before) = (id("01900000-0000-7000-8000-000000000001"), id("01900000-0000-7000-8000-000000000009"));
    for (after, before, expected) in [
        (
            after,
            before,
            r#"{"channel_gap":{"channel_id":"2...lobby","after_message_id":"01900000-0000-7000-8000-000000000001","before_message_id":"01900000-0000-7000-8000-000000000009","room_name":"lobby"}}"#,
        ),
        (None, None, r#"{"channel_gap":{"channel_id":"2...lobby","room_name":"lobby"}}"#),
    ] {
        let mut out = Vec::new();
        crate::wire::json::encode_gap(&lobby(), crate::message::Missed { after, before }, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn presence_events() {
    let changed = |joins: &[Presence], leaves: &[Presence]| Event::Presence {
        channel: lobby(),
        joins: joins.into(),
        leaves: leaves.into(),
        count: None,
    };
    event(
        changed(&[alice()], &[]),
        r#"{"channel_presence_event":{"channel_id":"2...lobby","joins":[{"user_id":"65aea872-a336-4029-90c9-6f507b75281c","session_id":"56a2c7fa-e654-11f1-9208-379fc0d5299a","username":"alice","persistence":true}],"room_name":"lobby"}}"#,
    );
    event(
        changed(&[], &[bob()]),
        r#"{"channel_presence_event":{"channel_id":"2...lobby","leaves":[{"user_id":"8764eaba-85b6-4c62-88f1-c205fa39b581","session_id":"56c2bb23-e654-11f1-9208-379fc0d5299a","username":"bob","persistence":true}],"room_name":"lobby"}}"#,
    );
    // For a presence that is not persistent, `persistence` is left out.
    event(
        changed(&[presence(BOB, BOB_SESSION, "bob", false)], &[alice()]),
        &format!(
            r#"{{"channel_presence_event":{{"channel_id":"2...lobby","joins":[{{"user_id":"8764eaba-85b6-4c62-88f1-c205fa39b581","session_id":"56c2bb23-e654-11f1-9208-379fc0d5299a","username":"bob"}}],"leaves":[{MEMBER}],"room_name":"lobby"}}}}"#
        ),
    );
}

#[test]
fn a_sent_message_and_its_acknowledgement() {
    let at = nanoseconds(SENT, 575_385_013);
    let sent = message(MessageCode::Chat, r#"{"text":"hi"}"#, at, at);
    event(
        Event::Message(sent.clone()),
        r#"{"channel_message":{"channel_id":"2...lobby","message_id":"f4f9926e-0877-4a3f-9db2-d506c0f311d1","code":0,"sender_id":"65aea872-a336-4029-90c9-6f507b75281c","username":"alice","content":"{\"text\":\"hi\"}","create_time":"2026-11-22T09:04:39.575385013Z","update_time":"2026-11-22T09:04:39.575385013Z","persistent":true,"room_name":"lobby"}}"#,
    );
    reply(
        "3",
        Reply::Acknowledged { message: sent, code: MessageCode::Chat },
        r#"{"cid":"3","channel_message_ack":{"channel_id":"2...lobby","message_id":"f4f9926e-0877-4a3f-9db2-d506c0f311d1","code":0,"username":"alice","create_time":"2026-11-22T09:04:39.575385013Z","update_time":"2026-11-22T09:04:39.575385013Z","persistent":true,"room_name":"lobby"}}"#,
    );
}

#[test]
fn an_updated_and_a_removed_message() {
    let created = nanoseconds(SENT, 575_385_000);
    let updated = nanoseconds(SENT + 2, 903_166_639);
    event(
        Event::Message(message(MessageCode::Update, r#"{"text":"hello"}"#, created, updated)),
        r#"{"channel_message":{"channel_id":"2...lobby","message_id":"f4f9926e-0877-4a3f-9db2-d506c0f311d1","code":1,"sender_id":"65aea872-a336-4029-90c9-6f507b75281c","username":"alice","content":"{\"text\":\"hello\"}","create_time":"2026-11-22T09:04:39.575385Z","update_time":"2026-11-22T09:04:41.903166639Z","persistent":true,"room_name":"lobby"}}"#,
    );
    let removed = message(MessageCode::Remove, "{}", created, nanoseconds(SENT + 2, 903_166_000));
    event(
        Event::Message(removed.clone()),
        r#"{"channel_message":{"channel_id":"2...lobby","message_id":"f4f9926e-0877-4a3f-9db2-d506c0f311d1","code":2,"sender_id":"65aea872-a336-4029-90c9-6f507b75281c","username":"alice","content":"{}","create_time":"2026-11-22T09:04:39.575385Z","update_time":"2026-11-22T09:04:41.903166Z","persistent":true,"room_name":"lobby"}}"#,
    );
    // In history a message keeps its own code. Only the acknowledgement says what was done to it.
    reply(
        "5",
        Reply::Acknowledged { message: Message { code: MessageCode::Chat, ..removed }, code: MessageCode::Remove },
        r#"{"cid":"5","channel_message_ack":{"channel_id":"2...lobby","message_id":"f4f9926e-0877-4a3f-9db2-d506c0f311d1","code":2,"username":"alice","create_time":"2026-11-22T09:04:39.575385Z","update_time":"2026-11-22T09:04:41.903166Z","persistent":true,"room_name":"lobby"}}"#,
    );
}

#[test]
fn a_message_that_is_not_kept() {
    // 2026-11-22T09:07:15.036922580Z
    let at = nanoseconds(SENT + 156, 36_922_580);
    let passing = Message {
        id: MessageId(parse_uuid("296788e1-414f-4500-8ec5-9753464cfe20").unwrap()),
        persistent: false,
        ..message(MessageCode::Chat, r#"{"typing":true}"#, at, at)
    };
    event(
        Event::Message(passing),
        r#"{"channel_message":{"channel_id":"2...lobby","message_id":"296788e1-414f-4500-8ec5-9753464cfe20","code":0,"sender_id":"65aea872-a336-4029-90c9-6f507b75281c","username":"alice","content":"{\"typing\":true}","create_time":"2026-11-22T09:07:15.036922580Z","update_time":"2026-11-22T09:07:15.036922580Z","persistent":false,"room_name":"lobby"}}"#,
    );
}

#[test]
fn a_system_message_of_a_group() {
    // 2026-11-22T09:06:07.311572749Z
    let at = nanoseconds(SENT + 88, 311_572_749);
    let kicked = Message {
        channel: ChannelId::group(GroupId(parse_uuid(GROUP).unwrap())),
        id: MessageId(parse_uuid("f43df871-7005-4a96-bd87-7c5bd9b1ad3e").unwrap()),
        sender: user(BOB),
        username: "bob".into(),
        ..message(MessageCode::GroupKick, "{}", at, at)
    };
    event(
        Event::Message(kicked),
        r#"{"channel_message":{"channel_id":"3.801a0c03-a0ac-42af-9ac2-d2b694ccafc6..","message_id":"f43df871-7005-4a96-bd87-7c5bd9b1ad3e","code":6,"sender_id":"8764eaba-85b6-4c62-88f1-c205fa39b581","username":"bob","content":"{}","create_time":"2026-11-22T09:06:07.311572749Z","update_time":"2026-11-22T09:06:07.311572749Z","persistent":true,"group_id":"801a0c03-a0ac-42af-9ac2-d2b694ccafc6"}}"#,
    );
}

#[test]
fn an_item_of_history() {
    let at = nanoseconds(SENT, 726_683_000);
    let stored = Message {
        id: MessageId(parse_uuid("414c2895-3158-4bf5-a6a5-ef2d04db3111").unwrap()),
        sender: user(BOB),
        username: "bob".into(),
        ..message(MessageCode::Chat, r#"{"n": 1}"#, at, at)
    };
    assert_eq!(
        serde_json::to_string(&channel_message(&stored)).unwrap(),
        r#"{"channel_id":"2...lobby","message_id":"414c2895-3158-4bf5-a6a5-ef2d04db3111","code":0,"sender_id":"8764eaba-85b6-4c62-88f1-c205fa39b581","username":"bob","content":"{\"n\": 1}","create_time":"2026-11-22T09:04:39.726683Z","update_time":"2026-11-22T09:04:39.726683Z","persistent":true,"room_name":"lobby"}"#
    );
}

#[test]
fn timestamps() {
    for (seconds, fraction, expected) in [
        (0, 0, "1970-01-01T00:00:00Z"),
        (0, 1, "1970-01-01T00:00:00.000000001Z"),
        (0, 1_000, "1970-01-01T00:00:00.000001Z"),
        (0, 1_000_000, "1970-01-01T00:00:00.001Z"),
        (0, 500_000_000, "1970-01-01T00:00:00.500Z"),
        (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
        (951_782_400, 0, "2000-02-29T00:00:00Z"),
        (951_868_799, 0, "2000-02-29T23:59:59Z"),
        (4_107_542_399, 0, "2100-02-28T23:59:59Z"),
        (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
        (1_735_689_599, 0, "2024-12-31T23:59:59Z"),
        (SENT, 575_385_013, "2026-11-22T09:04:39.575385013Z"),
        (i64::MAX / 1_000_000_000, 854_775_807, "2262-04-11T23:47:16.854775807Z"),
    ] {
        assert_eq!(timestamp(nanoseconds(seconds, fraction)).to_string(), expected);
    }
    assert_eq!(timestamp(Timestamp(i64::MIN)).to_string(), "1677-09-21T00:12:43.145224192Z");
}
