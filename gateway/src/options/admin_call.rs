//! The subcommands that call the admin address of a running server, and their flags.

use std::time::Duration;

use clap::Args;

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

// A doc comment here would be printed by `--help`.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainFlags {
    /// Begin no drain, but tell how far it is
    #[arg(long, conflicts_with_all = ["wait", "time"])]
    status: bool,

    /// How long /readyz is 503 before sessions are closed; without it, the server's --drain-wait
    #[arg(long, value_name = "TIME")]
    wait: Option<Span>,

    /// The time over which sessions are closed; without it, the server's --drain-time
    #[arg(long, value_name = "TIME")]
    time: Option<Span>,
}

impl DrainFlags {
    /// The call of `stentor drain` with these flags.
    pub fn call(&self) -> AdminCall {
        let length = |given: Option<Span>| -> Option<Duration> { given.map(|Span(time)| time) };
        if self.status {
            AdminCall::DrainStatus
        } else {
            AdminCall::Drain(Terms { wait: length(self.wait), time: length(self.time) })
        }
    }
}
