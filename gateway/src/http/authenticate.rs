//! Signing in, and signing up: `POST /v2/account/authenticate/{device|custom|email}` (docs/protocol.md, section 8.1).

use engine::id::{NetworkKey, UserId};
use engine::process_rates::ProcessRate;
use serde::Deserialize;
use storage::account::{Account, Credential, CredentialKind, CredentialOwner, Registered, Registration};
use uuid::Uuid;

use super::account::is_username;
use super::answer::{self, Answer};
use super::authorization::basic;
use super::body::null_is_empty;
use super::custom_id;
use super::error::{Code, Refusal};
use super::new_names::WantedName;
use super::proofs::{Proof, checked_email, checked_password, device_id};
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::session_body::{GivenVars, SessionBody, banned, checked_vars};
use super::sign_in_refusals::SignInRefusal;
use crate::client_network::ClientNetwork;
use crate::identity::VouchedUser;
use crate::password::GivenPassword;
use crate::sign_in::{Access, SignInTerms};
use crate::token::Vars;

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
            let proof = proof(services, kind, body, request.from())?;
            let network = request.from().key();
            match services.store_for(network).credential(proof.credential.clone()).await? {
                Some(owner) => existing(services, network, owner, proof.password).await?,
                None if create => register(services, &services.sign_in_terms(), proof, username, network).await?,
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

/// What proves who the client is. Refused if it is malformed, if a provider's token is not good, or if the operator lets no
/// client sign in so.
pub(super) fn proof(
    services: &Services,
    kind: CredentialKind,
    body: Body,
    from: ClientNetwork,
) -> Result<Proof, Refusal> {
    let (ident, password) = match kind {
        CredentialKind::Custom => return custom_id::proof(services, body.id),
        CredentialKind::Device => (device_id(body.id)?, None),
        CredentialKind::Email => (checked_email(&body.email)?, Some(checked_password(body.password)?)),
    };
    let password = password.map(|text| GivenPassword { text, account: ident.clone(), from });
    Ok(Proof { credential: Credential { kind, ident }, password, vouched: None })
}

/// Signs in with a username and the password of the account's email. Never creates an account.
async fn by_username(services: &Services, password: GivenPassword) -> Result<SignedIn, Refusal> {
    let network = password.from.key();
    let store = services.store_for(network);
    let Some(user) = store.user_by_username(&password.account).await? else {
        return Err(no_account(services, Some(password)).await?);
    };
    let email = store.account(user).await?.map(|account| account.email).unwrap_or_default();
    let credential = Credential { kind: CredentialKind::Email, ident: email };
    match store.credential(credential).await? {
        Some(owner) if owner.user == user => existing(services, network, owner, Some(password)).await,
        _ => {
            services.passwords.check(password, None).await?;
            Err(wrong_password())
        }
    }
}

/// Signs in to an account that already exists.
async fn existing(
    services: &Services,
    network: NetworkKey,
    owner: CredentialOwner,
    password: Option<GivenPassword>,
) -> Result<SignedIn, Refusal> {
    if let Some(password) = password
        && !services.passwords.check(password, Some(owner.secret)).await?
    {
        return Err(wrong_password().about(owner.user));
    }
    let account = services.store_for(network).account(owner.user).await?;
    let account = account.ok_or_else(|| Refusal::not_found("account not found"))?;
    if account.disable_time.is_some() {
        return Err(banned().about(account.id));
    }
    Ok(SignedIn { user: account.id, username: account.username, created: false })
}

/// Makes an account for credentials that open none. Refused if the operator lets no such client have one.
async fn register(
    services: &Services,
    terms: &SignInTerms,
    proof: Proof,
    chosen: Option<String>,
    network: NetworkKey,
) -> Result<SignedIn, Refusal> {
    let may_create = match terms.creation {
        Access::Open => true,
        Access::Provider => proof.vouched.is_some(),
        Access::Closed => false,
    };
    if !may_create {
        let reason = "no account has these credentials, and this server makes none for them";
        return Err(Refusal::new(Code::PermissionDenied, reason));
    }
    services.let_in(ProcessRate::Accounts, network)?;
    let secret = match &proof.password {
        Some(password) => services.passwords.hash(password.clone()).await?,
        None => String::new(),
    };
    let wanted = WantedName::of(proof.vouched.and_then(|user| user.name), chosen);
    for username in wanted.tries() {
        let account = new_account(services, &proof.credential, username.clone());
        let user = account.id;
        let registration = Registration { account, credential: proof.credential.clone(), secret: secret.clone() };
        match services.store_for(network).register(registration).await? {
            Registered::Created => {
                services.answered().count_account();
                return Ok(SignedIn { user, username, created: true });
            }
            // Another request created an account with the same credential first.
            Registered::Existing(owner) => return existing(services, network, owner, proof.password).await,
            Registered::UsernameTaken => {}
        }
    }
    Err(Refusal::already_exists("username is taken"))
}

/// The user for whom the identity provider speaks, and the user's name. Makes the account if there is none.
pub(super) async fn vouched_user(
    services: &Services,
    terms: &SignInTerms,
    vouched: VouchedUser,
    network: NetworkKey,
) -> Result<(UserId, String), Refusal> {
    let credential = Credential { kind: CredentialKind::Custom, ident: vouched.custom_id.clone() };
    let signed_in = match services.store_for(network).credential(credential.clone()).await? {
        Some(owner) => existing(services, network, owner, None).await?,
        None => {
            let proof = Proof { credential, password: None, vouched: Some(vouched) };
            register(services, terms, proof, None, network).await?
        }
    };
    services.answered().count_sign_in();
    Ok((signed_in.user, signed_in.username))
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

/// The answer for an unknown account. It takes as long as the answer for a wrong password.
async fn no_account(services: &Services, password: Option<GivenPassword>) -> Result<Refusal, Refusal> {
    if let Some(password) = password {
        services.passwords.check(password, None).await?;
    }
    Ok(Refusal::not_found("account not found"))
}

fn wrong_password() -> Refusal {
    Refusal::unauthenticated("wrong password").because(SignInRefusal::WrongPassword)
}

fn session_of(services: &Services, signed_in: &SignedIn, vars: Vars) -> SessionBody {
    let pair = services.tokens.issue(signed_in.user, &signed_in.username, vars, services.now());
    SessionBody { created: signed_in.created, token: pair.session, refresh_token: pair.refresh }
}
