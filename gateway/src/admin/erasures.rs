//! The users that operators have the server erase, one at a time.

use std::time::Instant;

use engine::id::UserId;
use hyper::StatusCode;
use serde::Serialize;

use super::answers::Refusal;
use crate::http::{Erasure, UserFault};

/// Hands requests to a shard, and knows how the newest is.
pub struct Erasures {
    asked: flume::Sender<Erasure>,
    newest: Option<Newest>,
}

struct Newest {
    user: String,
    begun: Instant,
    answer: flume::Receiver<Result<UserId, UserFault>>,
    ended: Option<Ended>,
}

struct Ended {
    outcome: Result<UserId, UserFault>,
    seconds: u64,
}

/// How the newest erasure is.
#[derive(Serialize)]
pub struct ErasureStatus {
    state: &'static str,
    /// The id or the name that was given.
    user: Option<String>,
    /// The user's id, once everything is gone.
    id: Option<String>,
    elapsed_seconds: u64,
    error: Option<String>,
}

impl Erasures {
    /// No user has been erased.
    pub fn new(asked: flume::Sender<Erasure>) -> Self {
        Self { asked, newest: None }
    }

    /// How the newest erasure is.
    pub fn status(&mut self) -> ErasureStatus {
        let none = ErasureStatus { state: "none", user: None, id: None, elapsed_seconds: 0, error: None };
        let Some(Newest { user, begun, answer, ended }) = &mut self.newest else { return none };
        if ended.is_none() {
            let seconds = begun.elapsed().as_secs();
            let outcome = match answer.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(flume::TryRecvError::Empty) => None,
                Err(flume::TryRecvError::Disconnected) => {
                    Some(Err(UserFault::Failed("the server is stopping; begin anew".into())))
                }
            };
            *ended = outcome.map(|outcome| Ended { outcome, seconds });
        }
        let status = ErasureStatus { user: Some(user.clone()), ..none };
        match ended {
            None => ErasureStatus { state: "running", elapsed_seconds: begun.elapsed().as_secs(), ..status },
            Some(Ended { outcome: Ok(id), seconds }) => {
                ErasureStatus { state: "done", id: Some(id.0.to_string()), elapsed_seconds: *seconds, ..status }
            }
            Some(Ended { outcome: Err(error), seconds }) => {
                ErasureStatus { state: "failed", error: Some(error.to_string()), elapsed_seconds: *seconds, ..status }
            }
        }
    }

    /// Begins to erase the user with this id or name. Refuses while another user is being erased.
    pub fn begin(&mut self, user: &str) -> Result<(), Refusal> {
        let busy = || {
            let next = "GET /v1/erase tells how it is";
            Refusal::new(StatusCode::CONFLICT, "erasure_running", "a user is being erased", next)
        };
        if self.status().state == "running" {
            return Err(busy());
        }
        let (answer, answered) = flume::bounded(1);
        let asked = self.asked.try_send(Erasure { user: user.to_owned(), answer });
        asked.map_err(|_| busy())?;
        self.newest = Some(Newest { user: user.to_owned(), begun: Instant::now(), answer: answered, ended: None });
        Ok(())
    }
}
