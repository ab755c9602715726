//! From a command to an action: all checks of a request that need nothing but the request and its session.
//!
//! The order of the checks is the protocol's (docs/protocol.md, sections 2.1 to 2.6), because it decides which error a
//! client sees.

use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, Join, Rejection, RejectionCode};
use crate::fanout::frames::Format;
use crate::id::{ChannelId, GroupId, MessageId, NetworkKey, ROOM_NAME_BYTES_MAX, SessionId, UserId, parse_uuid};
use crate::limits::{STATUS_BYTES_MAX, USERNAME_BYTES_MAX};
use crate::message::Presence;
use crate::parcel::{ChannelAction, MessageAction};
use crate::session::shared_budgets::Payer;
use crate::social::text::is_plain_text;
use crate::wire::json::is_json_object;

/// The session at the other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub user: UserId,
    pub session: SessionId,
    pub username: Arc<str>,
    pub format: Format,
    pub on_lag: OnLag,
    /// The network from which it was opened, which pays for the session beside its user if networks have budgets.
    pub network: Option<NetworkKey>,
}

impl Session {
    /// The session's presence in a channel that it has joined with this `persistence`.
    pub fn presence(&self, persistence: bool) -> Presence {
        Presence { user: self.user, session: self.session, username: self.username.clone(), persistence }
    }

    /// To whose budgets the session's work is charged.
    pub fn payer(&self) -> Payer {
        Payer { user: Some(self.user), network: self.network }
    }
}

/// Why a user may not open one more session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpeningRefusal {
    /// The user has as many sessions on this shard as one user may have.
    TooManySessions,
    /// The user's budget is used up, for this time at least.
    OverBudget { retry_after: Duration },
}

/// What the server does with a session that reads too slowly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLag {
    /// Closes the session, with the reason.
    Close,
    /// Moves the session to the newest message, and tells it what it missed.
    Skip,
}

/// What a command asks for, as far as it can be known without looking at any state.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// A request to the channel's owner.
    ChannelRequest(ChannelId, ChannelAction),
    /// Follow those of these users that exist.
    Follow {
        ids: Vec<UserId>,
        usernames: Vec<String>,
    },
    Unfollow(Vec<UserId>),
    /// Show this status to followers; `None`: be visible to them no more.
    Show(Option<Arc<str>>),
    Pong,
    /// Nothing to do and nothing to answer.
    Nothing,
}

/// Checks a command by itself, without any state but its session. A rejection says which rule of the protocol the
/// command breaks.
pub fn admit(command: Command, session: &Session) -> Result<Admitted, Rejection> {
    match command {
        Command::Join(join) => admit_join(join, session),
        Command::Leave { channel_id } => Ok(Admitted::ChannelRequest(channel(&channel_id)?, ChannelAction::Leave)),
        Command::Send { channel_id, content } => {
            let channel = channel(&channel_id)?;
            let action = MessageAction::Send { content: checked_content(content)? };
            Ok(Admitted::ChannelRequest(channel, ChannelAction::Message(action)))
        }
        Command::Update { channel_id, message_id, content } => {
            let id = message(&message_id)?;
            let channel = channel(&channel_id)?;
            let action = MessageAction::Update { id, content: checked_content(content)? };
            Ok(Admitted::ChannelRequest(channel, ChannelAction::Message(action)))
        }
        Command::Remove { channel_id, message_id } => {
            let id = message(&message_id)?;
            let action = MessageAction::Remove { id };
            Ok(Admitted::ChannelRequest(channel(&channel_id)?, ChannelAction::Message(action)))
        }
        Command::StatusFollow { user_ids, usernames } => admit_follow(&user_ids, usernames, session),
        Command::StatusUnfollow { user_ids } => Ok(Admitted::Unfollow(users(&user_ids)?)),
        Command::StatusUpdate { status: Some(status) } if status.len() > STATUS_BYTES_MAX => {
            Err(Rejection::bad_input(format!("a status has at most {STATUS_BYTES_MAX} bytes")))
        }
        Command::StatusUpdate { status: Some(status) } if !is_plain_text(&status) => {
            Err(Rejection::bad_input("a status has no control characters except tab, line feed and carriage return"))
        }
        Command::StatusUpdate { status } => Ok(Admitted::Show(status.map(Into::into))),
        Command::Ping => Ok(Admitted::Pong),
        Command::Pong => Ok(Admitted::Nothing),
        Command::Rpc => Err(Rejection::new(RejectionCode::RuntimeFunctionNotFound, "this server has no such function")),
        Command::Unsupported(name) => {
            Err(Rejection::new(RejectionCode::UnrecognizedPayload, format!("this server does not offer {name}")))
        }
    }
}

fn admit_join(join: Join, session: &Session) -> Result<Admitted, Rejection> {
    let target = join.target.as_str();
    if target.is_empty() {
        return Err(Rejection::bad_input("target is missing: name a room, a user id or a group id"));
    }
    let channel = match join.kind {
        0 | 1 => room(target)?,
        2 => match parse_uuid(target).filter(|user| !user.is_nil()) {
            None => return Err(Rejection::bad_input("target of a direct chat must be a user id")),
            Some(user) => ChannelId::direct(session.user, UserId(user)),
        },
        3 => match parse_uuid(target) {
            None => return Err(Rejection::bad_input("target of a group chat must be a group id")),
            Some(group) => ChannelId::group(GroupId(group)),
        },
        kind => return Err(Rejection::bad_input(format!("type {kind} is none of 1 (room), 2 (direct), 3 (group)"))),
    };
    let presence = session.presence(join.persistence);
    Ok(Admitted::ChannelRequest(channel, ChannelAction::Join { presence, hidden: join.hidden, format: session.format }))
}

/// Leaves out the session's own user, because a session follows its own user anyway.
fn admit_follow(user_ids: &[String], usernames: Vec<String>, session: &Session) -> Result<Admitted, Rejection> {
    let mut ids = users(user_ids)?;
    if usernames.iter().any(String::is_empty) {
        return Err(Rejection::bad_input("a username is empty"));
    }
    ids.retain(|&user| user != session.user);
    let possible = |name: &String| name.len() <= USERNAME_BYTES_MAX && **name != *session.username;
    Ok(Admitted::Follow { ids, usernames: usernames.into_iter().filter(possible).collect() })
}

fn users(ids: &[String]) -> Result<Vec<UserId>, Rejection> {
    let user = |id: &String| parse_uuid(id).map(UserId);
    let users: Option<Vec<UserId>> = ids.iter().map(user).collect();
    users.ok_or_else(|| Rejection::bad_input("a user id is not a UUID"))
}

fn room(name: &str) -> Result<ChannelId, Rejection> {
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Rejection::bad_input("a room's name must not contain control characters"));
    }
    ChannelId::room(name)
        .map_err(|_| Rejection::bad_input(format!("a room's name must have 1 to {ROOM_NAME_BYTES_MAX} bytes")))
}

fn channel(id: &str) -> Result<ChannelId, Rejection> {
    ChannelId::parse(id)
        .map_err(|_| Rejection::bad_input("not a channel id: use the id from the answer to channel_join"))
}

fn message(id: &str) -> Result<MessageId, Rejection> {
    parse_uuid(id).map(MessageId).ok_or_else(|| Rejection::bad_input("not a message id: use the id from the ack"))
}

fn checked_content(content: String) -> Result<Arc<str>, Rejection> {
    if is_json_object(&content) {
        Ok(content.into())
    } else {
        Err(Rejection::bad_input("content must be a string that holds a JSON object"))
    }
}
