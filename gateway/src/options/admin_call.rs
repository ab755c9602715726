//! The calls that subcommands make to the admin address of a running server.

use std::time::Duration;

use super::span::Span;
use crate::drain::Terms;

/// A call to the admin address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminCall {
    /// How the server is.
    Status,
    /// Begin a drain.
    Drain(Terms),
    /// How far the drain is.
    DrainStatus,
}

impl AdminCall {
    /// The call of `stentor drain` with these flags.
    pub fn of_drain(status: bool, wait: Option<Span>, time: Option<Span>) -> Self {
        let length = |given: Option<Span>| -> Option<Duration> { given.map(|Span(time)| time) };
        if status { Self::DrainStatus } else { Self::Drain(Terms { wait: length(wait), time: length(time) }) }
    }
}
