//! The one table of errors for HTTP clients: a gRPC code, its HTTP status, and a text for people
//! (docs/protocol.md, section 1.9).

use std::borrow::Cow;
use std::time::Duration;

use engine::command::RateLimit;
use engine::counters::COSTLY_KINDS;
use engine::id::UserId;
use engine::persist::Lasting;
use engine::process_rates::ProcessRate;
use engine::query::Undone;
use engine::social::group::{GroupAct, GroupRefusal};
use hyper::StatusCode;
use storage::Failure;

use super::sign_in_refusals::SignInRefusal;
use crate::log_limit;
use crate::password::PasswordFailure;
use crate::token::TokenRefusal;

/// A refused request. Nothing has changed, unless the message says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
    /// The user whom it concerns, for the log, where the request names none.
    pub about: Option<UserId>,
    /// Why a sign-in is refused, where the code does not say it.
    pub cause: Option<SignInRefusal>,
}

/// The gRPC codes that clients know, and codes for refusals of HTTP itself that gRPC has no code for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The outcome is unknown: the request may have been carried out or not.
    Unknown,
    InvalidArgument,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    Unimplemented,
    Internal,
    Unavailable,
    Unauthenticated,
    HeadTooLarge,
    UnknownEncoding,
    BodyTooLarge,
    /// The body gave way to others.
    TooManyBodies,
    /// The queue for hashes of passwords is full.
    TooManyPasswords,
    /// The answer gave way to answers that others have not read.
    TooManyAnswers,
    /// The user, the network or all clients together have asked for too much. After so many seconds the client may try again.
    OverBudget {
        limit: RateLimit,
        wait_seconds: u64,
    },
    /// The request comes from a page whose origin the operator has not named.
    ForeignOrigin,
}

impl Code {
    /// The code in the body.
    pub fn number(self) -> u8 {
        match self {
            Self::Unknown => 2,
            Self::InvalidArgument | Self::HeadTooLarge | Self::UnknownEncoding | Self::BodyTooLarge => 3,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied | Self::ForeignOrigin => 7,
            Self::OverBudget { .. } => 8,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable | Self::TooManyBodies | Self::TooManyPasswords | Self::TooManyAnswers => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// The HTTP status with which this code is answered. Several codes may share one.
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::BodyTooLarge => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::PermissionDenied | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unknown | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::TooManyBodies | Self::TooManyPasswords | Self::TooManyAnswers => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::OverBudget { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// The place among `COSTLY_KINDS` of a refusal before the work that the request would cost.
    pub fn costly_kind(self) -> Option<usize> {
        match self {
            Self::BodyTooLarge => Some(0),
            Self::TooManyBodies => Some(1),
            Self::TooManyPasswords => Some(2),
            Self::OverBudget { limit: RateLimit::Process(ProcessRate::SignIns), .. } => Some(5),
            Self::OverBudget { limit: RateLimit::Process(ProcessRate::Accounts), .. } => Some(6),
            Self::ForeignOrigin => Some(7),
            Self::OverBudget { .. } => Some(3),
            Self::TooManyAnswers => Some(4),
            _ => None,
        }
    }
}

const _: () = assert!(COSTLY_KINDS.len() == 8);

impl Refusal {
    /// A refusal with this code. The client reads the message.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), about: None, cause: None }
    }

    /// The same refusal, with the user whom it concerns.
    pub fn about(self, user: UserId) -> Self {
        Self { about: Some(user), ..self }
    }

    /// The same refusal, with the reason for which a sign-in is refused.
    pub fn because(self, cause: SignInRefusal) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// Why a sign-in was refused with this.
    pub fn of_sign_in(&self) -> SignInRefusal {
        if let Some(cause) = self.cause {
            return cause;
        }
        match self.code {
            Code::NotFound => SignInRefusal::NoAccount,
            Code::AlreadyExists => SignInRefusal::Taken,
            Code::PermissionDenied => SignInRefusal::Closed,
            Code::ForeignOrigin => SignInRefusal::Origin,
            Code::OverBudget { limit: RateLimit::Process(ProcessRate::SignIns), .. } => SignInRefusal::SignInRate,
            Code::OverBudget { limit: RateLimit::Process(_), .. } => SignInRefusal::AccountRate,
            Code::OverBudget { .. } => SignInRefusal::OverBudget,
            Code::Unauthenticated => SignInRefusal::ServerKey,
            Code::InvalidArgument | Code::HeadTooLarge | Code::UnknownEncoding | Code::BodyTooLarge => {
                SignInRefusal::Malformed
            }
            Code::Unknown
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::TooManyBodies
            | Code::TooManyPasswords
            | Code::TooManyAnswers => SignInRefusal::Unavailable,
        }
    }

    /// A refusal with the code `InvalidArgument`: the same request will be refused again.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// A refusal with the code `NotFound`: what the request names is not there, or is hidden from the caller.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// A refusal with the code `AlreadyExists`: what the request wants belongs to another account or group.
    pub fn already_exists(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// The store failed during a write. If the client repeats the request, it may be done twice.
    pub fn outcome_unknown() -> Self {
        Self::new(Code::Unknown, "the outcome is unknown: the store failed while it wrote, and this may be done or not")
    }

    /// Nothing was done, because the server was started only to read.
    pub fn read_only() -> Self {
        Self::new(Code::Unavailable, "the server is read-only: nothing was done")
    }

    /// The user or the network has asked for too much, and is within the budget again after this time without requests.
    pub fn over_budget(limit: RateLimit, debt: Duration) -> Self {
        Self::new(Code::OverBudget { limit, wait_seconds: seconds_rounded_up(debt) }, limit.text())
    }

    /// A refusal with the code `Unauthenticated`: no valid credential or token came with the request.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }
}

/// The least whole seconds in which this time has passed.
pub fn seconds_rounded_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A change of a group was refused. A user who may not delete a group is not told whether the group exists.
pub fn group_refused(act: &GroupAct, refusal: GroupRefusal) -> Refusal {
    match refusal {
        GroupRefusal::NotFound | GroupRefusal::NotSuperadmin if *act == GroupAct::Delete => {
            Refusal::invalid("no such group, or not a superadmin of it")
        }
        GroupRefusal::NotFound => Refusal::not_found("no such group, or nothing that the caller may do there"),
        GroupRefusal::NotSuperadmin => Refusal::invalid("only a superadmin may do this"),
        GroupRefusal::Full => Refusal::invalid("the group is full"),
        GroupRefusal::LastSuperadmin => {
            Refusal::invalid("the last superadmin cannot leave while others are members: promote another member first")
        }
        GroupRefusal::UnknownUser => Refusal::invalid("one of the users does not exist"),
        GroupRefusal::TooManyGroups => Refusal::invalid("one of the users is in as many groups as a user may be in"),
    }
}

/// A channel's owner could not make a change.
impl From<Undone> for Refusal {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::NothingDone => Self::new(Code::Unavailable, "this cannot be done now: nothing was done, try again"),
            Undone::Never(Lasting::ReadOnly) => Self::read_only(),
            Undone::Never(Lasting::Damaged) => Self::new(Code::Internal, "the store has failed"),
            Undone::OutcomeUnknown => Self::outcome_unknown(),
        }
    }
}

/// The store could not do the request. The client learns whether to try again, and the log gets the reason, unless it has
/// got many.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(reason) => {
                log_limit::warn!(%reason, "the store refused a request for now");
                Self::new(Code::Unavailable, "the store is busy, try again")
            }
            // The store has already logged this once.
            Failure::Full(_) => Self::new(Code::Unavailable, "the server's disk is full: nothing was done"),
            Failure::ReadOnly(_) => Self::read_only(),
            Failure::Unknown(reason) => {
                log_limit::warn!(%reason, "it is unknown whether the store has done a request");
                Self::outcome_unknown()
            }
            Failure::Broken(reason) => {
                log_limit::error!(%reason, "the store failed while it did a request");
                Self::outcome_unknown()
            }
            failure => {
                log_limit::error!(%failure, "the store failed a request");
                Self::new(Code::Internal, "the store has failed")
            }
        }
    }
}

impl From<PasswordFailure> for Refusal {
    fn from(failure: PasswordFailure) -> Self {
        match failure {
            PasswordFailure::Busy => {
                Self::new(Code::TooManyPasswords, "too many sign-ins with a password at once, try again")
            }
            PasswordFailure::Broken(reason) => {
                log_limit::error!(%reason, "a password could not be checked");
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::sync::Arc;

    use super::*;
    use crate::log_limit::LINES_MAX;

    #[test]
    fn requests_that_fail_write_few_lines() {
        let mut log = tempfile::tempfile().unwrap();
        let lines = tracing_subscriber::fmt().with_writer(Arc::new(log.try_clone().unwrap())).finish();
        tracing::subscriber::with_default(lines, || {
            for _ in 0..1000 {
                let _ = Refusal::from(Failure::Passing("slow".into()));
                let _ = Refusal::from(Failure::Broken("torn".into()));
            }
        });
        let mut text = String::new();
        log.rewind().unwrap();
        log.read_to_string(&mut text).unwrap();
        for reason in ["slow", "torn"] {
            let count = text.lines().filter(|line| line.contains(reason)).count() as u64;
            // The test may run through the end of an interval.
            assert!((1..=2 * LINES_MAX).contains(&count), "{count} lines: {text}");
        }
    }
}
