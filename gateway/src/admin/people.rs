//! The calls about channels and people: each shard is asked, and their answers become one. An answer names the shards that
//! did not answer in time. In a cluster it will name processes in the same way.

use std::time::{Duration, Instant, UNIX_EPOCH};

use engine::id::{ChannelId, SessionId, ShardId};
use engine::limits::{CHANNELS_PAGE_MAX, RATE_WINDOW};
use engine::query::{ChannelOrder, ChannelSeen, ChannelsQuery, SessionSeen};
use engine::wire::websocket::{self, CONTROL_BYTES_MAX, CloseCode};
use hyper::StatusCode;
use serde::Serialize;

use super::answers::Refusal;
use crate::client_network::ClientNetwork;
use crate::http::{Asked, AskedWhom, Inspect, Told, UserFault};
use crate::session::opened_at;

/// How long a shard may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Channels on a page, unless the call says otherwise.
pub const PAGE: usize = 100;

/// What a client reads whose session an operator closes, unless the call says otherwise.
const REASON: &str = "closed by an operator";

/// Longest reason of a close frame, in bytes.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The shards, for questions about channels and people.
pub struct People {
    shards: Vec<flume::Sender<Inspect>>,
}

/// A page of channels.
#[derive(Serialize)]
pub struct Channels {
    by: &'static str,
    channels: Vec<ListedChannel>,
    /// What the next page comes behind; `None` at the end.
    cursor: Option<String>,
    unanswered: Vec<u16>,
}

#[derive(Serialize)]
struct ListedChannel {
    id: String,
    shard: u16,
    members: usize,
    messages_per_second: f64,
}

/// A user's sessions.
#[derive(Serialize)]
pub struct User {
    id: String,
    /// All of them. At most `SESSIONS_LISTED_MAX` of a shard are listed.
    sessions: usize,
    memberships: usize,
    listed: Vec<ListedSession>,
    unanswered: Vec<u16>,
}

#[derive(Serialize)]
struct ListedSession {
    id: String,
    shard: u16,
    since: String,
    /// The client's address, or its network of IPv6; behind a trusted proxy that which the proxy names.
    address: Option<String>,
    memberships: usize,
    channels: Vec<String>,
}

/// How many sessions were closed.
#[derive(Serialize)]
pub struct Disconnected {
    sessions: usize,
    code: u16,
    unanswered: Vec<u16>,
}

/// The answers of shards, in the order of their numbers.
type Answers = Vec<(ShardId, Result<Told, UserFault>)>;

/// The place behind which a page begins.
pub type Place = (u32, ChannelId);

/// Reads a cursor that an earlier page had.
pub fn place_of(cursor: &str) -> Option<Place> {
    let (rank, channel) = cursor.split_once(':')?;
    Some((rank.parse().ok()?, ChannelId::parse(channel).ok()?))
}

/// Reads the order of channels.
pub fn order_of(text: &str) -> Option<ChannelOrder> {
    match text {
        "members" => Some(ChannelOrder::Members),
        "rate" => Some(ChannelOrder::Rate),
        _ => None,
    }
}

impl People {
    /// Asks these shards, in their order.
    pub fn new(shards: Vec<flume::Sender<Inspect>>) -> Self {
        Self { shards }
    }

    /// A page of channels, the greatest first.
    pub fn channels(&self, by: ChannelOrder, below: Option<Place>, limit: usize) -> Channels {
        let limit = limit.clamp(1, CHANNELS_PAGE_MAX);
        // One more than the page says whether another page follows.
        let query = ChannelsQuery { by, below, limit: limit + 1 };
        let (told, unanswered) = self.ask(&Asked::Channels(query));
        let mut all: Vec<(ShardId, ChannelSeen)> = Vec::new();
        for (shard, told) in told {
            if let Ok(Told::Channels(channels)) = told {
                all.extend(channels.into_iter().map(|seen| (shard, seen)));
            }
        }
        all.sort_by(|(_, one), (_, other)| (other.rank, &other.channel).cmp(&(one.rank, &one.channel)));
        let is_more = all.len() > limit;
        all.truncate(limit);
        let cursor = all.last().filter(|_| is_more).map(|(_, last)| format!("{}:{}", last.rank, last.channel));
        let channels = all.into_iter().map(|(shard, seen)| ListedChannel {
            id: seen.channel.to_string(),
            shard: shard.core,
            members: seen.members,
            messages_per_second: f64::from(seen.messages) / RATE_WINDOW.as_secs_f64(),
        });
        let by = match by {
            ChannelOrder::Members => "members",
            ChannelOrder::Rate => "rate",
        };
        Channels { by, channels: channels.collect(), cursor, unanswered }
    }

    /// The sessions of the user with this id or name.
    pub fn user(&self, text: &str) -> Result<User, Refusal> {
        let (told, unanswered) = self.ask(&Asked::User(text.to_owned()));
        let mut user = User { id: String::new(), sessions: 0, memberships: 0, listed: Vec::new(), unanswered };
        for (shard, told) in told {
            match told.map_err(refused)? {
                Told::User(id, seen) => {
                    user.id = id.to_string();
                    user.sessions += seen.sessions;
                    user.memberships += seen.memberships;
                    user.listed.extend(seen.listed.into_iter().map(|session| listed(shard, session)));
                }
                Told::Channels(_) | Told::Disconnected(_) => {}
            }
        }
        if user.id.is_empty() { Err(no_shard()) } else { Ok(user) }
    }

    /// Closes the sessions of a user, or one session, and says how many.
    pub fn disconnect(&self, whom: AskedWhom, reason: Option<&str>) -> Result<Disconnected, Refusal> {
        let code = CloseCode::POLICY_VIOLATION;
        let mut frame = Vec::new();
        websocket::close_frame(&mut frame, Some(code), reason.unwrap_or(REASON));
        let (told, unanswered) = self.ask(&Asked::Disconnect { whom, frame });
        let mut sessions = 0;
        let mut answered = false;
        for (_, told) in told {
            if let Told::Disconnected(closed) = told.map_err(refused)? {
                (sessions, answered) = (sessions + closed, true);
            }
        }
        if answered { Ok(Disconnected { sessions, code: code.0, unanswered }) } else { Err(no_shard()) }
    }

    /// The answers of the shards that answer in time, and the numbers of the others.
    fn ask(&self, asked: &Asked) -> (Answers, Vec<u16>) {
        let deadline = Instant::now() + PATIENCE;
        let (answer, answers) = flume::bounded(self.shards.len());
        for shard in &self.shards {
            // Full: the shard has not taken the last question.
            let _ = shard.try_send(Inspect { asked: asked.clone(), answer: answer.clone() });
        }
        drop(answer);
        let mut told = Vec::new();
        while let Ok(one) = answers.recv_deadline(deadline) {
            told.push(one);
        }
        told.sort_by_key(|(shard, _)| shard.core);
        let has_answered = |number: &u16| told.iter().any(|(shard, _)| shard.core == *number);
        let unanswered = (0..self.shards.len() as u16).filter(|number| !has_answered(number)).collect();
        (told, unanswered)
    }
}

fn listed(shard: ShardId, session: SessionSeen) -> ListedSession {
    let since = UNIX_EPOCH + Duration::from_millis(opened_at(session.session));
    ListedSession {
        id: session.session.to_string(),
        shard: shard.core,
        since: humantime::format_rfc3339_millis(since).to_string(),
        address: session.network.map(|network| ClientNetwork::of_key(network).to_string()),
        memberships: session.memberships,
        channels: session.channels.iter().map(ToString::to_string).collect(),
    }
}

/// The session with this id, as a call names it.
pub fn session_of(text: &str) -> Option<AskedWhom> {
    engine::id::parse_uuid(text).map(|id| AskedWhom::Session(SessionId(id)))
}

/// Whether a close frame holds this reason.
pub fn fits_a_close_frame(reason: &str) -> bool {
    reason.len() <= REASON_BYTES_MAX
}

fn refused(fault: UserFault) -> Refusal {
    let (status, name, next) = match fault {
        UserFault::Unknown(_) => {
            (StatusCode::NOT_FOUND, "user_unknown", "give the user's id, or the username as it is written")
        }
        UserFault::Ambiguous { .. } => (StatusCode::CONFLICT, "user_ambiguous", "say which of the two is meant"),
        UserFault::Failed(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "store_failed", "id: and the id need no store, names do; try again")
        }
    };
    Refusal::new(status, name, fault.to_string(), next)
}

fn no_shard() -> Refusal {
    let next = "GET /metrics tells which shards are up";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_answer", "no shard has answered within a second", next)
}
