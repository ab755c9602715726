//! The subcommands that call the admin address of a running server, and their flags.

use std::time::Duration;

use clap::Args;

use super::OptionsError;
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
#[derive(Args, Default)]
pub(super) struct DrainFlags {
    /// With `drain`: begin none, but tell how far it is
    #[arg(long)]
    pub status: bool,

    /// With `drain`: how long /readyz is 503 before sessions are closed [default: as the server's --drain-wait]
    #[arg(long, value_name = "TIME")]
    pub wait: Option<Span>,

    /// With `drain`: the time over which sessions are closed [default: as the server's --drain-time]
    #[arg(long, value_name = "TIME")]
    pub time: Option<Span>,
}

impl DrainFlags {
    /// The call of `stentor drain` with these flags.
    pub fn call(&self) -> Result<AdminCall, OptionsError> {
        let length = |given: Option<Span>| -> Option<Duration> { given.map(|Span(time)| time) };
        match (self.status, Terms { wait: length(self.wait), time: length(self.time) }) {
            (false, terms) => Ok(AdminCall::Drain(terms)),
            (true, terms) if terms == Terms::default() => Ok(AdminCall::DrainStatus),
            (true, _) => Err(OptionsError::Invalid("--wait and --time begin a drain; --status begins none".into())),
        }
    }

    /// Refuses the flags for another command.
    pub fn none_given(&self) -> Result<(), OptionsError> {
        if self.status || self.wait.is_some() || self.time.is_some() {
            return Err(OptionsError::Invalid("--status, --wait and --time are for `stentor drain`".into()));
        }
        Ok(())
    }
}
