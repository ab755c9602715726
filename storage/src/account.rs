//! The types of accounts, as the stores keep them.

use engine::id::{Timestamp, UserId};
use uuid::Uuid;

/// Most devices with which a user may sign in to one account.
pub const DEVICES_MAX: usize = 100;

/// A user's account (docs/protocol.md, section 8.3). Absent texts are empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    pub id: UserId,
    pub username: String,
    pub display_name: String,
    pub avatar_url: String,
    pub lang_tag: String,
    pub location: String,
    pub timezone: String,
    /// A JSON object.
    pub metadata: String,
    pub email: String,
    pub custom_id: String,
    pub devices: Vec<String>,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// The user is banned since then, if set.
    pub disable_time: Option<Timestamp>,
}

/// What other users see of an account. Absent texts are empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    pub id: UserId,
    pub username: String,
    pub display_name: String,
    pub avatar_url: String,
    pub lang_tag: String,
    pub location: String,
    pub timezone: String,
    /// A JSON object.
    pub metadata: String,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl From<Account> for Profile {
    fn from(account: Account) -> Self {
        let Account { id, username, display_name, avatar_url, lang_tag, location, timezone, metadata, .. } = account;
        let (create_time, update_time) = (account.create_time, account.update_time);
        Self {
            id,
            username,
            display_name,
            avatar_url,
            lang_tag,
            location,
            timezone,
            metadata,
            create_time,
            update_time,
        }
    }
}

impl Account {
    /// All credentials that open it.
    pub fn credentials(&self) -> Vec<Credential> {
        let one = |kind, ident: &String| Credential { kind, ident: ident.clone() };
        let devices = self.devices.iter().map(|ident| one(CredentialKind::Device, ident));
        let single = [(CredentialKind::Custom, &self.custom_id), (CredentialKind::Email, &self.email)];
        let single = single.into_iter().filter(|(_, ident)| !ident.is_empty()).map(|(kind, ident)| one(kind, ident));
        devices.chain(single).collect()
    }

    /// Whether one can sign in to this account with the credential. Its secret is not looked at.
    pub fn bears(&self, credential: &Credential) -> bool {
        let ident = &credential.ident;
        match credential.kind {
            CredentialKind::Device => self.devices.contains(ident),
            CredentialKind::Custom => self.custom_id == *ident,
            CredentialKind::Email => self.email == *ident,
        }
    }
}

/// The kind of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CredentialKind {
    Device,
    Custom,
    Email,
}

/// A credential with which a user signs in; unique over all accounts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Credential {
    pub kind: CredentialKind,
    pub ident: String,
}

/// The value that is stored under a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialOwner {
    pub user: UserId,
    /// The password's hash in PHC string form; empty for kinds without one.
    pub secret: String,
}

/// A new account and the credential that opens it: the store creates both or neither.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub account: Account,
    pub credential: Credential,
    pub secret: String,
}

/// The result of a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registered {
    Created,
    /// The credential is taken: this is its owner, whom the caller may sign in.
    Existing(CredentialOwner),
    UsernameTaken,
}

/// The fields of an account that its owner may set; `None` leaves a field unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountChange {
    pub username: Option<String>,
    pub display_name: Option<String>,
    pub avatar_url: Option<String>,
    pub lang_tag: Option<String>,
    pub location: Option<String>,
    pub timezone: Option<String>,
}

impl AccountChange {
    /// Sets the given fields of the record.
    pub fn apply_to(&self, account: &mut Account, update_time: Timestamp) {
        let fields = [
            (&self.username, &mut account.username),
            (&self.display_name, &mut account.display_name),
            (&self.avatar_url, &mut account.avatar_url),
            (&self.lang_tag, &mut account.lang_tag),
            (&self.location, &mut account.location),
            (&self.timezone, &mut account.timezone),
        ];
        for (asked, field) in fields {
            if let Some(text) = asked {
                field.clone_from(text);
            }
        }
        account.update_time = update_time;
    }
}

/// The result of a change to an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    Done,
    UsernameTaken,
    NotFound,
}

/// Tokens that are refused from now on (docs/protocol.md, section 8.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// All tokens that carry this token id, until they would have expired anyway.
    Token { id: Uuid, expires: Timestamp },
    /// All tokens of this user issued before this time.
    User { id: UserId, issued_before: Timestamp },
}

impl Revocation {
    /// The time of a revocation: of a token, until when it would be valid; of a user, before when issued tokens are
    /// refused. A later time refuses more.
    pub(crate) fn time(&self) -> Timestamp {
        match *self {
            Self::Token { expires, .. } => expires,
            Self::User { issued_before, .. } => issued_before,
        }
    }

    /// The same revocation with another time.
    pub fn at(&self, time: Timestamp) -> Self {
        match *self {
            Self::Token { id, .. } => Self::Token { id, expires: time },
            Self::User { id, .. } => Self::User { id, issued_before: time },
        }
    }
}

/// Describes which revocations may be forgotten, because all tokens that they refuse have expired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// Revocations of tokens that have expired by then.
    pub tokens: Timestamp,
    /// Revocations of users whose tokens issued until then have expired.
    pub users: Timestamp,
}

impl Expiry {
    /// Whether the revocation may be forgotten.
    pub fn covers(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Token { expires, .. } => *expires <= self.tokens,
            Revocation::User { issued_before, .. } => *issued_before <= self.users,
        }
    }
}

/// The place from which a store continues to look for expired revocations; its content is the store's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevocationPlace(pub Vec<u8>);

/// The result of adding a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Linked {
    /// The credential opens this account now, or did so already.
    Done,
    /// The credential opens another account.
    Taken,
    /// No such account.
    NotFound,
    TooManyDevices,
}

/// The result of removing a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unlinked {
    Done,
    /// There is no such account, or this credential does not open it.
    NotFound,
    /// No other credential opens the account.
    LastCredential,
}
