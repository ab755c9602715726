//! What must hold before the body of a request is read: who may send it, and how large it may be. Everything here is
//! known from the request's head.
//!
//! A resource that is not in the table reads no body. What comes as one is thrown away as it arrives.

use engine::limits::USERNAME_BYTES_MAX;
use hyper::Method;
use storage::group::GROUP_NAME_BYTES_MAX;
use storage::object::{OBJECT_NAME_BYTES_MAX, OBJECT_VALUE_BYTES_MAX};

use super::account::{AVATAR_URL_BYTES_MAX, PROFILE_BYTES_MAX};
use super::groups::DESCRIPTION_BYTES_MAX;
use super::objects::NAMED_MAX;
use super::proofs::{EMAIL_BYTES_MAX, ID_BYTES_MAX};
use super::route::{DELETION, Route};
use crate::identity::IDENTITY_TOKEN_BYTES_MAX;
use crate::token::{TOKEN_BYTES_MAX, VARS_BYTES_MAX};

/// How many times longer a text may be in JSON: `\u0041` has six bytes for one.
const ESCAPED: usize = 6;
/// How many times longer a text may be in JSON whose writer escapes everything but ASCII, as many do.
const ESCAPED_TO_ASCII: usize = 3;
/// Names of members, punctuation and blanks.
const PUNCTUATION_BYTES: usize = 512;

/// A sign-in, or what is linked: an id or an email, a password, and `vars`.
const CREDENTIALS_BYTES_MAX: usize = 16 * 1024;
/// A password has no bound of its own: it may have this many bytes beside the longest of all others.
const PASSWORD_BYTES: usize = 1024;
const _: () = assert!(
    ESCAPED * (ID_BYTES_MAX + EMAIL_BYTES_MAX + VARS_BYTES_MAX) + PASSWORD_BYTES + PUNCTUATION_BYTES
        <= CREDENTIALS_BYTES_MAX
);

// A token of an identity provider has no character that JSON escapes.
const _: () =
    assert!(IDENTITY_TOKEN_BYTES_MAX + ESCAPED_TO_ASCII * VARS_BYTES_MAX + PUNCTUATION_BYTES <= CREDENTIALS_BYTES_MAX);

/// The longest refresh token, and `vars`.
const REFRESH_BYTES_MAX: usize = 24 * 1024;
const _: () = assert!(TOKEN_BYTES_MAX + ESCAPED_TO_ASCII * VARS_BYTES_MAX + PUNCTUATION_BYTES <= REFRESH_BYTES_MAX);

/// The longest session token and the longest refresh token.
const LOGOUT_BYTES_MAX: usize = 36 * 1024;
const _: () = assert!(2 * TOKEN_BYTES_MAX + PUNCTUATION_BYTES <= LOGOUT_BYTES_MAX);

/// The texts of an account.
const ACCOUNT_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(ESCAPED * (USERNAME_BYTES_MAX + PROFILE_BYTES_MAX) + PUNCTUATION_BYTES <= ACCOUNT_BYTES_MAX);

/// The texts of a group.
const GROUP_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(
    ESCAPED * (GROUP_NAME_BYTES_MAX + DESCRIPTION_BYTES_MAX + AVATAR_URL_BYTES_MAX) + PUNCTUATION_BYTES
        <= GROUP_BYTES_MAX
);

/// Storage objects to be written: the longest value and its names, or several that are shorter. Nakama takes as much.
const OBJECTS_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(
    ESCAPED_TO_ASCII * (OBJECT_VALUE_BYTES_MAX + 2 * OBJECT_NAME_BYTES_MAX) + PUNCTUATION_BYTES <= OBJECTS_BYTES_MAX
);

/// Names of storage objects, to be read or deleted: as many as a request may name, each of 600 bytes with its punctuation.
const OBJECT_IDS_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(NAMED_MAX * 600 <= OBJECT_IDS_BYTES_MAX);

/// The terms on which a resource reads a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyTerms {
    pub sender: Sender,
    /// The body's largest size, compressed or not.
    pub bytes_max: usize,
}

/// Who may send a body, as the head proves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// A client program, with the server key.
    Program,
    /// A user, with a session token.
    User,
}

impl BodyTerms {
    /// The terms of a resource; `None` if it reads no body.
    pub fn of(route: &Route, method: &Method) -> Option<Self> {
        let (sender, bytes_max) = match (route, method) {
            (Route::Authenticate(_), &Method::POST) => (Sender::Program, CREDENTIALS_BYTES_MAX),
            (Route::Refresh, &Method::POST) => (Sender::Program, REFRESH_BYTES_MAX),
            (Route::Logout, &Method::POST) => (Sender::User, LOGOUT_BYTES_MAX),
            (Route::Link(_) | Route::Unlink(_), &Method::POST) => (Sender::User, CREDENTIALS_BYTES_MAX),
            (Route::Account, &Method::PUT) => (Sender::User, ACCOUNT_BYTES_MAX),
            (Route::Groups, &Method::POST) | (Route::Group(_), &Method::PUT) => (Sender::User, GROUP_BYTES_MAX),
            (Route::Objects, &Method::PUT) => (Sender::User, OBJECTS_BYTES_MAX),
            (Route::Objects, &Method::POST) => (Sender::User, OBJECT_IDS_BYTES_MAX),
            (Route::Collection(Some(name)), &Method::PUT) if name == DELETION => (Sender::User, OBJECT_IDS_BYTES_MAX),
            _ => return None,
        };
        Some(Self { sender, bytes_max })
    }
}
