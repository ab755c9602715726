//! Fills a room with messages from one publisher, as fast as the server accepts them. With one publisher, their order
//! is known.

use std::time::Duration;

use futures_util::SinkExt;
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::base::clock;
use crate::base::content::{self, Content, ScheduleSlot};
use crate::clients::client::{self, Way};
use crate::clients::client_error::ClientError;
use crate::clients::socket::{self, Socket};
use crate::plan::lives::ReadingMode;
use crate::plan::target::Target;
use crate::wire::{Entrance, Heard, Request, Scratch, Speaker};

/// How many messages may be sent but not answered yet: a server accepts that many from one session without a pause.
const UNANSWERED_MAX: u32 = 64;
/// A server that answers nothing for this long is taken not to answer at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// The publisher's user number; the readers' numbers follow it.
pub const PUBLISHER: u32 = 0;

#[derive(Debug, Error)]
pub enum FillError {
    #[error("the room cannot be filled: {0}")]
    Client(#[from] ClientError),
    #[error("the room cannot be filled: message {number} was refused with code {code}: {reason}")]
    Refused { number: u32, code: i32, reason: String },
    #[error("the room cannot be filled: the server sends what cannot be read")]
    Unreadable,
    #[error("the room cannot be filled: no answer for {} s, after {answered} messages", PATIENCE.as_secs())]
    Silent { answered: u32 },
}

/// A member that stays in the room and reads what comes, until it is dropped.
pub struct Member(JoinHandle<()>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A publisher in the room.
pub struct Filler {
    socket: Socket,
    scratch: Scratch,
    channel_id: String,
}

/// What is to be sent.
pub struct Filling {
    pub run: u32,
    pub messages: u32,
    pub payload_bytes: usize,
}

impl Filler {
    pub async fn enter(target: &Target, token: &str, entrance: &Entrance) -> Result<Self, FillError> {
        let speaker = Speaker { user: PUBLISHER, room: &entrance.room };
        let mut socket =
            client::connect(target, token, speaker, Way { source: None, reading_mode: ReadingMode::Prompt }).await?;
        let channel_id = client::enter(&mut socket, &target.dialect, entrance, PUBLISHER).await?;
        let channel_id = channel_id.unwrap_or_else(|| entrance.room.clone());
        Ok(Self { socket, scratch: Scratch::default(), channel_id })
    }

    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// Sends all messages and reports the progress. Returns the messages' ids in the order of their numbers.
    pub async fn fill(
        &mut self,
        target: &Target,
        filling: &Filling,
        mut tell: impl FnMut(u32),
    ) -> Result<Vec<String>, FillError> {
        let mut ids = Vec::with_capacity(filling.messages as usize);
        let mut sent = 0;
        while (ids.len() as u32) < filling.messages {
            let answered = ids.len() as u32;
            while sent < filling.messages && sent - answered < UNANSWERED_MAX {
                let content =
                    Content { slot: ScheduleSlot { publisher: PUBLISHER, number: sent }, intended_ns: clock::now_ns() };
                let mut text = String::new();
                content::write(&mut text, filling.run, content, filling.payload_bytes);
                let message = target.dialect.send(PUBLISHER, sent, &self.channel_id, &text);
                self.socket.send(message).await.map_err(|error| ClientError::from(socket::broken(error)))?;
                sent += 1;
            }
            let hearing = tokio::time::timeout(PATIENCE, self.hear(target, &mut ids)).await;
            hearing.unwrap_or(Err(FillError::Silent { answered }))?;
            tell(ids.len() as u32);
        }
        Ok(ids)
    }

    /// Receives one frame. The answers of a session come in the order of its requests.
    async fn hear(&mut self, target: &Target, ids: &mut Vec<String>) -> Result<(), FillError> {
        let Some(frame) = client::next_frame(&mut self.socket).await.map_err(ClientError::from)? else { return Ok(()) };
        let mut refused = None;
        let read = target.dialect.read(&frame, &mut self.scratch, |heard| match heard {
            Heard::Accepted { request: Some(Request::Publish(_)), id } => ids.push(id.to_owned()),
            Heard::Refused { request: Some(Request::Publish(number)), code, reason } => {
                refused = Some(FillError::Refused { number, code, reason: reason.to_owned() });
            }
            // The publisher receives its own messages, as every member does.
            _ => {}
        });
        read.map_err(|_| FillError::Unreadable)?;
        refused.map_or(Ok(()), Err)
    }

    /// Stays in the room, so that the room is not empty.
    pub fn stay(mut self) -> Member {
        Member(tokio::spawn(async move { while client::next_frame(&mut self.socket).await.is_ok() {} }))
    }
}
