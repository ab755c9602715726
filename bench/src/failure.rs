//! Why a command of the bench ended without a result.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;

use crate::frames::IllegalFrame;

/// How long the members of a room may take to join.
pub const OPENING_TIME_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Error)]
pub enum Failure {
    /// Options that cannot be measured.
    #[error("{0}")]
    Options(String),
    #[error(transparent)]
    World(#[from] io::Error),
    #[error("the server closed connection {connection}: {reason}")]
    Closed { connection: usize, reason: String },
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("the server sent {0}")]
    Illegal(#[from] IllegalFrame),
    #[error("only {joined} of {asked} connections had joined after {OPENING_TIME_MAX:?}")]
    OpeningTooSlow { joined: usize, asked: usize },
    #[error("the store: {0}")]
    Store(#[from] storage::Failure),
    /// A measurement that does not count, because of what was found.
    #[error("{0}")]
    Faulty(String),
    #[error("not every goal was met; see above")]
    Goals,
}

impl Failure {
    pub fn faulty(found: impl ToString) -> Failure {
        Failure::Faulty(found.to_string())
    }
}

/// Names what was tried when the world failed.
pub fn world(tried: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::World(io::Error::new(error.kind(), format!("{tried}: {error}")))
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::World(errno.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::World(error.into())
    }
}
