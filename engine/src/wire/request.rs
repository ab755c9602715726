//! What reading an envelope comes to, in whatever format it was written.

use std::fmt;

use crate::command::{Command, Rejection, RejectionCode};

/// A well formed envelope of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for this request, to be given back in the answer; empty if it gave none.
    pub cid: String,
    pub command: Command,
}

/// An envelope that ends the session (docs/protocol.md, section 1.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Not of the session's format, or not of this protocol; with what and where.
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
    /// The error to deliver before closing, and the `cid` it answers, where the envelope could be read that far.
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

/// The reason to give in the close frame.
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(reason) => write!(f, "malformed envelope: {reason}"),
            Self::MissingPayload { .. } => f.write_str("malformed envelope: no payload"),
            Self::ServerPayload { name, .. } => write!(f, "malformed envelope: {name} is not for clients to send"),
        }
    }
}
