//! The calls that subcommands make to the admin address of a running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::commands::ChannelOrder;
use super::span::Span;
use crate::drain::Terms;
use crate::log_levels::LogLevels;

/// A call to the admin address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminCall {
    /// How the server is.
    Status,
    /// Begin a drain.
    Drain(Terms),
    /// How far the drain is.
    DrainStatus,
    /// Which log lines are written.
    LogLevel,
    /// Write these log lines.
    SetLogLevel(LogLevels),
    /// Begin a backup in this directory, a whole path, with the signing keys or without.
    Backup { directory: PathBuf, keys: bool },
    /// How the newest backup is.
    BackupStatus,
    /// Begin to erase the user with this id or name.
    Erase { user: String },
    /// How the newest erasure is.
    ErasureStatus,
    /// A page of channels. Without a limit, of as many as the server wants; without a cursor, the first.
    Channels { by: ChannelOrder, limit: Option<u16>, cursor: Option<String> },
    /// The sessions of the user with this id or name.
    User { user: String },
    /// Close the sessions of this user, or this session.
    Disconnect { user: Option<String>, session: Option<Uuid>, reason: Option<String> },
}

impl AdminCall {
    /// The call of `stentor log-level` with this argument.
    pub fn of_log_level(levels: Option<LogLevels>) -> Self {
        levels.map_or(Self::LogLevel, Self::SetLogLevel)
    }

    /// The call of `stentor drain` with these flags.
    pub fn of_drain(status: bool, wait: Option<Span>, time: Option<Span>) -> Self {
        let length = |given: Option<Span>| -> Option<Duration> { given.map(|Span(time)| time) };
        if status { Self::DrainStatus } else { Self::Drain(Terms { wait: length(wait), time: length(time) }) }
    }

    /// The call of `stentor backup` with this directory, which may be relative to the directory in which this runs. Fails
    /// if there is no such directory any more.
    pub fn of_backup(directory: &Path, keys: bool) -> Result<Self, String> {
        let whole = std::path::absolute(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self::Backup { directory: whole, keys })
    }
}
