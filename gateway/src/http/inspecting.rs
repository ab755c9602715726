//! What operators ask of one shard: its channels, a user's sessions, and to close sessions. A task of each shard puts the
//! questions to it, one after another, and a question that must look at much is put in parts, one in a turn.

use std::fmt;
use std::rc::Rc;

use engine::id::{SessionId, ShardId, UserId};
use engine::query::{ChannelSeen, ChannelsQuery, Disconnect, Disconnected, SessionsQuery, SessionsSeen, Whom};

use super::erasing::{UserFault, find, id_of};
use super::services::Services;

/// A question for one shard.
pub struct Inspect {
    pub asked: Asked,
    /// Gets the answer. The operator's side may have ended meanwhile.
    pub answer: flume::Sender<(ShardId, Result<Told, UserFault>)>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Asked {
    Channels(ChannelsQuery),
    /// The sessions of the user with this id or name.
    User(String),
    /// Close sessions. The frame is the last that each client receives.
    Disconnect {
        whom: AskedWhom,
        frame: Vec<u8>,
    },
}

/// Whose sessions are to be closed.
#[derive(Clone, Debug)]
pub enum AskedWhom {
    /// The user with this id or name.
    User(String),
    Session(SessionId),
}

impl fmt::Display for AskedWhom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(named) => write!(f, "user {named:?}"),
            Self::Session(id) => write!(f, "session {id}"),
        }
    }
}

/// What a shard answers.
#[derive(Debug)]
pub enum Told {
    Channels(Vec<ChannelSeen>),
    User(UserId, SessionsSeen),
    /// So many sessions were closed.
    Disconnected(usize),
}

/// Answers operators for this shard until the server stops.
pub async fn run(services: Rc<Services>, shard: ShardId, questions: flume::Receiver<Inspect>) {
    while let Ok(Inspect { asked, answer }) = questions.recv_async().await {
        let told = told(&services, asked).await;
        let _ = answer.try_send((shard, told));
    }
}

async fn told(services: &Services, asked: Asked) -> Result<Told, UserFault> {
    let queries = services.channel_queries();
    Ok(match asked {
        Asked::Channels(query) => Told::Channels(queries.inspect(query).await),
        Asked::User(text) => {
            let user = user_meant(services, &text).await?;
            Told::User(user, queries.inspect(SessionsQuery { user }).await)
        }
        Asked::Disconnect { whom, frame } => {
            let whom = match whom {
                AskedWhom::User(text) => Whom::User(user_meant(services, &text).await?),
                AskedWhom::Session(session) => Whom::Session(session),
            };
            let mut all = 0;
            let mut next_slot = Some(0);
            while let Some(from_slot) = next_slot {
                let part = Disconnect { whom, from_slot, frame: frame.clone() };
                let Disconnected { closed, next_slot: next } = queries.inspect(part).await;
                all += closed;
                next_slot = next;
            }
            Told::Disconnected(all)
        }
    })
}

/// The user that the text means. A user's sessions are known by the id, so an id that is said to be one counts also while the
/// store is away, or if no account has it.
async fn user_meant(services: &Services, text: &str) -> Result<UserId, UserFault> {
    match (find(services, text).await, id_of(text)) {
        (Err(UserFault::Failed(_) | UserFault::Unknown(_)), Some(id)) => Ok(id),
        (found, _) => found,
    }
}
