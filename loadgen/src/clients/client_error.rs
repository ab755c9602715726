//! Why a client could not do what it was told.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio_tungstenite::tungstenite::Error as SocketError;

use crate::clients::sign_in::SignInError;
use crate::clients::socket::Lost;

/// Connecting, upgrading and joining may each take this long; then the user gives up.
pub const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub enum ClientError {
    #[error(transparent)]
    SignIn(#[from] SignInError),
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the token was refused")]
    Unauthorised,
    #[error("no WebSocket: {0}")]
    Upgrade(#[source] Box<SocketError>),
    #[error("the join was refused with code {code}: {reason}")]
    JoinRefused { code: i32, reason: String },
    #[error("the leave was refused with code {code}: {reason}")]
    LeaveRefused { code: i32, reason: String },
    #[error("{0}")]
    Lost(#[from] Lost),
    #[error("nothing within {} s while {doing}", TIMEOUT.as_secs())]
    TimedOut { doing: &'static str },
}
