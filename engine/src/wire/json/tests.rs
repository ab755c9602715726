//! Tests of what is read, refused and written, case by case; and that reading is the inverse of writing.

use super::*;
use crate::command::{Command, Event, Join, Rejection, Reply};
use crate::id::{ChannelId, MessageId, Sequence, SessionId, Timestamp, UserId, parse_uuid};
use crate::message::{Message, MessageCode, Presence};
use crate::wire::request::{Malformed, Request};

const ALICE: &str = "65aea872-a336-4029-90c9-6f507b75281c";
const ALICE_SESSION: &str = "56a2c7fa-e654-11f1-9208-379fc0d5299a";
const BOB: &str = "8764eaba-85b6-4c62-88f1-c205fa39b581";
const BOB_SESSION: &str = "56c2bb23-e654-11f1-9208-379fc0d5299a";
const MESSAGE: &str = "f4f9926e-0877-4a3f-9db2-d506c0f311d1";
const GROUP: &str = "801a0c03-a0ac-42af-9ac2-d2b694ccafc6";

mod reading;
mod round_trip;
mod writing;

fn lobby() -> ChannelId {
    ChannelId::room("lobby").unwrap()
}

fn join(target: &str, kind: i32, persistence: bool, hidden: bool) -> Command {
    Command::Join(Join { target: target.into(), kind, persistence, hidden })
}

fn send(channel_id: &str, content: &str) -> Command {
    Command::Send { channel_id: channel_id.into(), content: content.into() }
}

fn user(id: &str) -> UserId {
    UserId(parse_uuid(id).unwrap())
}

fn presence(user_id: &str, session: &str, username: &str, persistence: bool) -> Presence {
    Presence {
        user: user(user_id),
        session: SessionId(parse_uuid(session).unwrap()),
        username: username.into(),
        persistence,
    }
}
