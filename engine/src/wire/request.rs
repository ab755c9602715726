//! The result of reading an envelope, the same for all formats.

use std::fmt;

use crate::command::{Command, Rejection, RejectionCode};

/// A well formed envelope of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for this request, which the answer repeats; empty if the client gave none.
    pub cid: String,
    pub command: Command,
}

/// An envelope that ends the session (docs/protocol.md, section 1.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// The envelope is not valid in the session's format or in this protocol. The text says what is wrong, and where.
    Syntax(String),
    MissingPayload {
        cid: String,
    },
    /// A payload that only a server may send, by its name on the wire.
    ServerPayload {
        cid: String,
        name: &'static str,
    },
}

impl Malformed {
    /// The error to send before closing, and the `cid` of the request it answers; `None` if not even the `cid` could be
    /// read.
    pub fn last_answer(&self) -> Option<(&str, Rejection)> {
        let rejection = |code, message: String| Rejection::new(code, message);
        match self {
            Self::Syntax(_) => None,
            Self::MissingPayload { cid } => {
                Some((cid, rejection(RejectionCode::MissingPayload, "the envelope has no payload".into())))
            }
            Self::ServerPayload { cid, name } => Some((
                cid,
                rejection(RejectionCode::UnrecognizedPayload, format!("{name} is sent by servers, not by clients")),
            )),
        }
    }
}

/// The reason for the close frame.
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(reason) => write!(f, "malformed envelope: {reason}"),
            Self::MissingPayload { .. } => f.write_str("malformed envelope: no payload"),
            Self::ServerPayload { name, .. } => write!(f, "malformed envelope: {name} is not for clients to send"),
        }
    }
}
