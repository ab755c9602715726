//! Why a measurement ended before its time.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::frames::IllegalFrame;

/// How long the members of a room may take to join.
pub const OPENING_TIME_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Error)]
pub enum Failure {
    #[error("{tried}: {source}")]
    World { tried: &'static str, source: io::Error },
    #[error("the server closed connection {connection}: {reason}")]
    Closed { connection: usize, reason: String },
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("connection {connection}: {source}")]
    Illegal { connection: usize, source: IllegalFrame },
    #[error("only {joined} of {asked} connections had joined after {OPENING_TIME_MAX:?}")]
    OpeningTooSlow { joined: usize, asked: usize },
}

/// Names what was tried when the world failed.
pub fn world(tried: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::World { tried, source }
}
