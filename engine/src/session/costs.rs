//! What the requests of sessions cost, in work of a shard. The figures are rounded: they must hold within a factor of two
//! or three on an ordinary core, so that a budget means what it says.
//!
//! A write to a socket takes about 6.5 µs, and each request has an answer. What a message costs its readers is not
//! counted: it is what the room is for, a turn's messages share the writes, and `--sends-per-second` bounds it.

use crate::budget::Work;
use crate::command::{Command, Join};
use crate::limits::CROWD_LIST_MAX;

/// To open a session.
pub const OPENING: Work = Work::micros(50);
/// The server's part of a TLS handshake: most of it is the signature, which costs three times as much with an RSA key.
pub const TLS_HANDSHAKE: Work = Work::micros(400);
/// To refuse a request because its session or user is beyond the budget.
pub const REFUSAL: Work = Work::micros(5);
/// A request that needs no other part of the server: its frame is read, and the answer is written.
pub const PING: Work = Work::micros(10);
/// A frame that is no request: a pong of WebSocket, or a part of a message.
pub const SILENT_FRAME: Work = Work::micros(1);
/// A message, an update or a removal: its way to the channel's owner, to the store and back.
const MESSAGE: Work = Work::micros(20);
/// To join a room: its owner tells the members.
const JOIN: Work = Work::micros(50);
/// To join a channel that the store decides about.
const JOIN_BY_STORE: Work = Work::micros(80);
/// To leave a channel.
const LEAVE: Work = Work::micros(30);
/// To show a status. The connections that are told are charged when they are told.
const STATUS: Work = Work::micros(30);
/// To follow users.
const FOLLOW: Work = Work::micros(50);
/// For each user that a request to follow names: the store looks the user up.
const FOLLOWED: Work = Work::micros(20);
/// For each user that a request to unfollow names.
const UNFOLLOWED: Work = Work::micros(1);
/// For each connection that is told of a status, up to `TOLD_MAX` of them.
pub const TOLD: Work = Work::micros(7);
/// Connections whose telling is charged to the user who shows a status. Others decide who follows a user, so they could
/// use up the user's budget. What a turn tells is bounded in any case.
pub const TOLD_MAX: usize = 256;

/// What a connection sends at once is charged by its length if it is longer: to unmask and read it.
pub const RECEIVED_BYTES_FREE: usize = 4096;
/// The work of one turn for sockets that have something or have room again: the requests that are read, by what they are
/// charged with, and late writes. It takes a part of this time, because the requests of a turn share much of their work.
/// Beyond it the other sockets wait for the next turn.
pub const TURN_WORK_MAX: Work = Work::micros(40_000);
/// The part of it for requests that were read before and had to wait.
pub const HELD_BACK_TURN_WORK_MAX: Work = Work::micros(20_000);

/// Longer answers are charged by their length.
pub const ANSWER_BYTES_FREE: usize = 1024;

/// Presences that are listed in a microsecond.
const LISTED_IN_A_MICROSECOND: usize = 2;

/// How often the same work is done again for such a list, at the channel's owner and for sessions of other shards, which are
/// not known here. It counts as work of the turn, so that owners are not asked for too much at once.
pub const LISTED_ELSEWHERE: usize = 3;

/// What it costs to tell a joining member who is there, in a room that so many sessions of this shard are in. Above
/// `members_max` visible members a room is a crowd, and lists few of them.
pub fn listed(sessions: usize, members_max: usize) -> Work {
    let listed = if sessions > members_max { CROWD_LIST_MAX } else { sessions };
    Work::micros((listed / LISTED_IN_A_MICROSECOND) as u64)
}

/// One more write to a socket.
const WRITE: Work = Work::micros(7);
/// Subscriptions of a connection that are looked at in a microsecond: once when its socket is full, once when it has room.
const LOOKED_AT_IN_A_MICROSECOND: usize = 8;

/// What it cost to write what a connection is owed after its socket was full. No session is charged; the turn ends earlier.
pub fn late_write(writes: usize, bytes: usize, subscriptions: usize) -> Work {
    WRITE.times(writes) + Work::bytes(bytes) + Work::micros((subscriptions / LOOKED_AT_IN_A_MICROSECOND) as u64)
}

/// What is known of a command's cost before its work begins.
pub fn cost_of(command: &Command) -> Work {
    match command {
        Command::Join(Join { kind: 2 | 3, .. }) => JOIN_BY_STORE,
        Command::Join(_) => JOIN,
        Command::Leave { .. } => LEAVE,
        Command::Send { .. } | Command::Update { .. } | Command::Remove { .. } => MESSAGE,
        Command::StatusFollow { user_ids, usernames } => FOLLOW + FOLLOWED.times(user_ids.len() + usernames.len()),
        Command::StatusUnfollow { user_ids } => PING + UNFOLLOWED.times(user_ids.len()),
        Command::StatusUpdate { .. } => STATUS,
        Command::Ping | Command::Pong | Command::Rpc | Command::Unsupported(_) => PING,
    }
}

/// Whether a command is refused beyond the budget. A client whose ping is refused closes the connection. What gives
/// something up is never refused, so that a client can always make itself cheaper.
pub fn may_be_refused(command: &Command) -> bool {
    !matches!(command, Command::Ping | Command::Pong | Command::Leave { .. } | Command::StatusUnfollow { .. })
}
