//! The one table of what HTTP clients are refused with: a gRPC code, its HTTP status, and a text for people
//! (docs/protocol.md, section 1.9).

use std::borrow::Cow;

use engine::group::{GroupAct, GroupRefusal};
use engine::parcel::Finding;
use hyper::StatusCode;
use storage::Failure;

use crate::password::PasswordFailure;
use crate::token::TokenRefusal;

/// A request refused: nothing has changed, unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
}

/// Codes of gRPC, as clients know them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// The outcome is unknown: the request may have been carried out or not.
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unknown | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn already_exists(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// The store failed while it wrote. A client that repeats the request may do it twice.
    pub fn outcome_unknown() -> Self {
        Self::new(Code::Unknown, "the outcome is unknown: the store failed while it wrote, and this may be done or not")
    }

    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }
}

/// A change of a group was refused. Whoever may not delete a group is not told whether there is one.
pub fn group_refused(act: &GroupAct, refusal: GroupRefusal) -> Refusal {
    match refusal {
        GroupRefusal::NotFound | GroupRefusal::NotSuperadmin if *act == GroupAct::Delete => {
            Refusal::invalid("no such group, or not a superadmin of it")
        }
        GroupRefusal::NotFound => Refusal::not_found("no such group, or nothing that the caller may do there"),
        GroupRefusal::NotSuperadmin => Refusal::invalid("only a superadmin may do this"),
        GroupRefusal::Full => Refusal::invalid("the group is full"),
        GroupRefusal::LastSuperadmin => {
            Refusal::invalid("the last superadmin cannot leave while others are members: promote somebody first")
        }
        GroupRefusal::UnknownUser => Refusal::invalid("one of the users does not exist"),
        GroupRefusal::TooManyGroups => Refusal::invalid("one of the users is in as many groups as anybody may be"),
    }
}

/// What else a channel's owner may answer to a change that was asked of it.
pub fn undone(finding: Finding) -> Refusal {
    match finding {
        Finding::Failed => Refusal::new(Code::Unavailable, "there is too much to do, try again"),
        Finding::OutcomeUnknown => Refusal::outcome_unknown(),
        other => unreachable!("{other:?} answers no change"),
    }
}

/// The store could not do it. Clients learn whether to try again, the log learns why.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(reason) => {
                tracing::warn!(%reason, "the store refused a request for now");
                Self::new(Code::Unavailable, "the store is busy, try again")
            }
            // The log has been told once, by the store.
            Failure::Full(_) => Self::new(Code::Unavailable, "the server's disk is full: nothing was done"),
            Failure::Unknown(reason) => {
                tracing::warn!(%reason, "it is unknown whether the store has done a request");
                Self::outcome_unknown()
            }
            Failure::Broken(reason) => {
                tracing::error!(%reason, "the store failed while it did a request");
                Self::outcome_unknown()
            }
            failure => {
                tracing::error!(%failure, "the store failed a request");
                Self::new(Code::Internal, "the store has failed")
            }
        }
    }
}

impl From<PasswordFailure> for Refusal {
    fn from(failure: PasswordFailure) -> Self {
        match failure {
            PasswordFailure::Busy => {
                Self::new(Code::Unavailable, "too many sign-ins with a password at once, try again")
            }
            PasswordFailure::Broken(reason) => {
                tracing::error!(%reason, "a password could not be checked");
                Self::new(Code::Internal, "the password could not be checked")
            }
        }
    }
}

impl From<TokenRefusal> for Refusal {
    fn from(refusal: TokenRefusal) -> Self {
        Self::unauthenticated(match refusal {
            TokenRefusal::Invalid => "token invalid",
            TokenRefusal::Expired => "token expired",
            TokenRefusal::LoggedOut => "token logged out",
        })
    }
}
