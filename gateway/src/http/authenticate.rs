//! Signing in, and signing up: `POST /v2/account/authenticate/{device|custom|email}` (docs/protocol.md, section 8.1).

use engine::id::UserId;
use serde::Deserialize;
use storage::account::{Account, Credential, CredentialKind, CredentialOwner, Registered, Registration};
use uuid::Uuid;

use super::account::is_username;
use super::answer::{self, Answer};
use super::authorization::basic;
use super::body::null_is_empty;
use super::error::Refusal;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::session_body::{GivenVars, SessionBody, banned, checked_vars};
use crate::client_network::ClientNetwork;
use crate::password::GivenPassword;
use crate::token::Vars;

/// Longest id of a device, or custom id.
pub const ID_BYTES_MAX: usize = 128;
const DEVICE_ID_BYTES_MIN: usize = 10;
const CUSTOM_ID_BYTES_MIN: usize = 6;
const EMAIL_BYTES_MIN: usize = 10;
/// Longest email, in bytes of UTF-8.
pub const EMAIL_BYTES_MAX: usize = 255;
const PASSWORD_BYTES_MIN: usize = 8;

/// How often a random name is tried. Two of 52^10 names are equal once in a while; eight times in a row they never are.
const USERNAME_TRIES: usize = 8;

/// Signs in the user that these credentials belong to, or creates an account for them. Refused if the credentials are
/// malformed or wrong, or if no account has them and none is to be created.
pub async fn authenticate(
    services: &Services,
    request: &ResourceRequest,
    kind: CredentialKind,
) -> Result<Answer, Refusal> {
    basic(services, request.headers())?;
    let query = Query::parse(request.uri().query())?;
    let body: Body = request.read()?;
    let vars = checked_vars(body.vars.clone())?;
    let username = chosen_username(&query)?;
    let create = query.boolean("create")?.unwrap_or(true);
    let signed_in = match kind {
        CredentialKind::Email if body.email.is_empty() => {
            let username = username.ok_or_else(|| Refusal::invalid("email or username is needed"))?;
            let text = checked_password(body.password)?;
            by_username(services, GivenPassword { text, account: username, from: request.from() }).await?
        }
        kind => {
            let proof = proof(kind, body, request.from())?;
            match services.store.credential(proof.credential.clone()).await? {
                Some(owner) => existing(services, owner, proof.password).await?,
                None if create => register(services, proof, username).await?,
                None => return Err(no_account(services, proof.password).await?),
            }
        }
    };
    services.answered().count_sign_in();
    Ok(answer::json(&session_of(services, &signed_in, vars)))
}

/// The user that has signed in.
struct SignedIn {
    user: UserId,
    username: String,
    created: bool,
}

/// The credentials that a client sends to prove who it is.
pub(super) struct Proof {
    pub credential: Credential,
    /// For emails only.
    pub password: Option<GivenPassword>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Body {
    #[serde(deserialize_with = "null_is_empty")]
    pub id: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub email: String,
    #[serde(deserialize_with = "null_is_empty")]
    password: String,
    vars: Option<GivenVars>,
}

fn chosen_username(query: &Query) -> Result<Option<String>, Refusal> {
    match query.text("username")? {
        None | Some("") => Ok(None),
        Some(name) if is_username(name) => Ok(Some(name.to_owned())),
        Some(_) => Err(Refusal::invalid("username must be at most 128 bytes without control characters")),
    }
}

pub(super) fn proof(kind: CredentialKind, body: Body, from: ClientNetwork) -> Result<Proof, Refusal> {
    let (ident, password) = match kind {
        CredentialKind::Device => (checked_id(body.id, DEVICE_ID_BYTES_MIN)?, None),
        CredentialKind::Custom => (checked_id(body.id, CUSTOM_ID_BYTES_MIN)?, None),
        CredentialKind::Email => (checked_email(&body.email)?, Some(checked_password(body.password)?)),
    };
    let password = password.map(|text| GivenPassword { text, account: ident.clone(), from });
    Ok(Proof { credential: Credential { kind, ident }, password })
}

fn checked_id(id: String, bytes_min: usize) -> Result<String, Refusal> {
    if !(bytes_min..=ID_BYTES_MAX).contains(&id.len()) {
        return Err(Refusal::invalid(format!("id must be {bytes_min} to {ID_BYTES_MAX} bytes long")));
    }
    if has_blanks(&id) {
        return Err(Refusal::invalid("id must not contain blanks or control characters"));
    }
    Ok(id)
}

pub(super) fn checked_email(email: &str) -> Result<String, Refusal> {
    // Lowercase letters may be longer than the others: of `İ`, by half. The bound is that of what is stored.
    let email = email.to_lowercase();
    if !(EMAIL_BYTES_MIN..=EMAIL_BYTES_MAX).contains(&email.len()) {
        return Err(Refusal::invalid(format!("email must be {EMAIL_BYTES_MIN} to {EMAIL_BYTES_MAX} bytes long")));
    }
    if has_blanks(&email) || !is_email_shaped(&email) {
        return Err(Refusal::invalid("email must look like name@example.com, without blanks"));
    }
    Ok(email)
}

/// Requires some text, an at sign, some text, a dot, some text. Only an email to the address could tell more.
fn is_email_shaped(email: &str) -> bool {
    let domain = email.split_once('@').filter(|(name, _)| !name.is_empty()).map(|(_, domain)| domain);
    let parts = domain.and_then(|domain| domain.rsplit_once('.'));
    parts.is_some_and(|(before, after)| !before.is_empty() && !after.is_empty())
}

fn checked_password(password: String) -> Result<String, Refusal> {
    if password.len() < PASSWORD_BYTES_MIN {
        return Err(Refusal::invalid(format!("password must be at least {PASSWORD_BYTES_MIN} bytes long")));
    }
    Ok(password)
}

fn has_blanks(text: &str) -> bool {
    text.chars().any(|character| character.is_ascii_whitespace() || character.is_ascii_control())
}

/// Signs in with a username and the password of the account's email. Never creates an account.
async fn by_username(services: &Services, password: GivenPassword) -> Result<SignedIn, Refusal> {
    let Some(user) = services.store.user_by_username(&password.account).await? else {
        return Err(no_account(services, Some(password)).await?);
    };
    let email = services.store.account(user).await?.map(|account| account.email).unwrap_or_default();
    let credential = Credential { kind: CredentialKind::Email, ident: email };
    match services.store.credential(credential).await? {
        Some(owner) if owner.user == user => existing(services, owner, Some(password)).await,
        _ => {
            services.passwords.check(password, None).await?;
            Err(wrong_password())
        }
    }
}

/// Signs in to an account that already exists.
async fn existing(
    services: &Services,
    owner: CredentialOwner,
    password: Option<GivenPassword>,
) -> Result<SignedIn, Refusal> {
    if let Some(password) = password
        && !services.passwords.check(password, Some(owner.secret)).await?
    {
        return Err(wrong_password());
    }
    let account = services.store.account(owner.user).await?.ok_or_else(|| Refusal::not_found("account not found"))?;
    if account.disable_time.is_some() {
        return Err(banned());
    }
    Ok(SignedIn { user: account.id, username: account.username, created: false })
}

async fn register(services: &Services, proof: Proof, chosen: Option<String>) -> Result<SignedIn, Refusal> {
    let secret = match &proof.password {
        Some(password) => services.passwords.hash(password.clone()).await?,
        None => String::new(),
    };
    for _ in 0..USERNAME_TRIES {
        let username = chosen.clone().unwrap_or_else(random_username);
        let account = new_account(services, &proof.credential, username.clone());
        let user = account.id;
        let registration = Registration { account, credential: proof.credential.clone(), secret: secret.clone() };
        match services.store.register(registration).await? {
            Registered::Created => return Ok(SignedIn { user, username, created: true }),
            // Another request created an account with the same credential first.
            Registered::Existing(owner) => return existing(services, owner, proof.password).await,
            Registered::UsernameTaken if chosen.is_some() => break,
            Registered::UsernameTaken => {}
        }
    }
    Err(Refusal::already_exists("username is taken"))
}

fn new_account(services: &Services, credential: &Credential, username: String) -> Account {
    let now = services.now();
    let ident_of = |kind| if credential.kind == kind { credential.ident.clone() } else { String::new() };
    let device = ident_of(CredentialKind::Device);
    Account {
        id: UserId(Uuid::new_v4()),
        username,
        display_name: String::new(),
        avatar_url: String::new(),
        lang_tag: "en".into(),
        location: String::new(),
        timezone: String::new(),
        metadata: "{}".into(),
        email: ident_of(CredentialKind::Email),
        custom_id: ident_of(CredentialKind::Custom),
        devices: if device.is_empty() { Vec::new() } else { vec![device] },
        create_time: now,
        update_time: now,
        disable_time: None,
    }
}

/// Ten letters, drawn from the randomness of an id.
fn random_username() -> String {
    const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 10;
    // The low 62 bits of an id of version 4 are random; ten letters take 57.
    let mut random = Uuid::new_v4().as_u128() & ((1 << 62) - 1);
    let mut letter = || {
        let index = (random % 52) as usize;
        random /= 52;
        char::from(LETTERS[index])
    };
    std::iter::repeat_with(&mut letter).take(LENGTH).collect()
}

/// The answer for an unknown account. It takes as long as the answer for a wrong password.
async fn no_account(services: &Services, password: Option<GivenPassword>) -> Result<Refusal, Refusal> {
    if let Some(password) = password {
        services.passwords.check(password, None).await?;
    }
    Ok(Refusal::not_found("account not found"))
}

fn wrong_password() -> Refusal {
    Refusal::unauthenticated("wrong password")
}

fn session_of(services: &Services, signed_in: &SignedIn, vars: Vars) -> SessionBody {
    let pair = services.tokens.issue(signed_in.user, &signed_in.username, vars, services.now());
    SessionBody { created: signed_in.created, token: pair.session, refresh_token: pair.refresh }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails() {
        for email in ["a@example.com", "A.b+c@mail.example.org", "ä@exämple.de"] {
            assert_eq!(checked_email(email).unwrap(), email.to_lowercase());
        }
        for email in ["", "a@b.c", "aaaaaaaaaa", "@example.com", "a@.exampleX.", "a@examplecom", "a b@example.com"] {
            assert!(checked_email(email).is_err(), "{email}");
        }
        assert!(checked_email(&format!("{}@example.com", "a".repeat(243))).is_ok());
        assert!(checked_email(&format!("{}@example.com", "a".repeat(244))).is_err());
        // `İ` has two bytes, and three in lowercase.
        assert!(checked_email(&format!("{}@example.com", "İ".repeat(120))).is_err());
        let stored = checked_email(&format!("{}@example.com", "İ".repeat(81))).unwrap();
        assert_eq!(
            (stored.len(), checked_email(&stored).unwrap()),
            (255, stored.clone()),
            "it signs in as it is shown"
        );
    }

    #[test]
    fn random_usernames_are_ten_letters() {
        let (one, other) = (random_username(), random_username());
        assert!(one.len() == 10 && one.chars().all(|letter| letter.is_ascii_alphabetic()), "{one}");
        assert_ne!(one, other);
    }
}
