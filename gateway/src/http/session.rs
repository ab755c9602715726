//! Renews tokens, and logs out: `POST /v2/account/session/refresh`, `POST /v2/session/logout`
//! (docs/protocol.md, section 8.2).

use engine::id::UserId;
use engine::session::shared_budgets::{Payer, Purse};
use serde::Deserialize;
use storage::account::Revocation;

use super::answer::{self, Answer};
use super::authorization::{basic, bearer};
use super::body::null_is_empty;
use super::costs;
use super::error::{Code, Refusal};
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::session_body::{GivenVars, SessionBody, banned, checked_vars};
use crate::revocations::{Cut, Issue};
use crate::token::{Claims, TokenRefusal};

/// How often a cutoff is stored until it is later than all tokens. Once is enough, unless the store is slower than it
/// should be, or several shards log out the same user at the same moment.
const CUTOFF_TRIES: usize = 8;

/// Issues new tokens for a refresh token, with the user's present name.
pub async fn refresh(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    basic(services, request.headers())?;
    let body: RefreshBody = request.read()?;
    if body.token.is_empty() {
        return Err(Refusal::invalid("token is missing"));
    }
    let claims = services.tokens.check_refresh(&body.token, services.now())?;
    services.afford(Payer { user: Some(claims.user), ..request.payer() }, Purse::Tokens, costs::REFRESH)?;
    let vars = match checked_vars(body.vars)? {
        vars if vars.is_empty() => claims.vars.clone(),
        vars => vars,
    };
    let account = services.store.of(claims.user).account(claims.user).await?;
    let account = account.ok_or_else(|| Refusal::unauthenticated("the account of this token is gone"))?;
    if account.disable_time.is_some() {
        return Err(banned());
    }
    // The store took time to answer, and the tokens may have been logged out since they were checked.
    if services.tokens.is_logged_out(&claims) {
        return Err(TokenRefusal::LoggedOut.into());
    }
    let pair = services.tokens.renew(&claims, &account.username, vars, services.now());
    Ok(answer::json(&SessionBody { created: false, token: pair.session, refresh_token: pair.refresh }))
}

/// Refuses the given tokens from now on. If no token is given, refuses all tokens of the caller.
pub async fn logout(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = bearer(services, request.headers())?;
    let body: LogoutBody = request.read()?;
    let now = services.now();
    let mut given = Vec::new();
    if !body.token.is_empty() {
        given.push(own(&caller, services.tokens.check_session(&body.token, now))?);
    }
    if !body.refresh_token.is_empty() {
        given.push(own(&caller, services.tokens.check_refresh(&body.refresh_token, now))?);
    }
    given.dedup_by_key(|claims| claims.token);
    if given.is_empty() {
        log_out_everywhere(services, caller.user, Some(caller.issue())).await?;
    }
    for claims in given {
        let expires = services.tokens.last_expiry(&claims, now);
        revoke(services, Revocation::Token { id: claims.token, expires }).await?;
    }
    Ok(answer::done())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RefreshBody {
    #[serde(deserialize_with = "null_is_empty")]
    token: String,
    vars: Option<GivenVars>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LogoutBody {
    #[serde(deserialize_with = "null_is_empty")]
    token: String,
    #[serde(alias = "refreshToken", deserialize_with = "null_is_empty")]
    refresh_token: String,
}

fn own(caller: &Claims, given: Result<Claims, TokenRefusal>) -> Result<Claims, Refusal> {
    match given {
        Ok(claims) if claims.user == caller.user => Ok(claims),
        _ => Err(Refusal::invalid("the token to log out is not a valid one of the caller")),
    }
}

/// Stores the revocation first and then puts it in force, so that a logout that was answered still holds after a
/// restart.
async fn revoke(services: &Services, revocation: Revocation) -> Result<(), Refusal> {
    check_room(services, &revocation)?;
    services.store.revoke(revocation).await?;
    services.tokens.revocations().add(revocation, services.now());
    Ok(())
}

/// Refuses all tokens that the user has when this returns. `seen` is one of them, if the caller knows one.
pub async fn log_out_everywhere(services: &Services, user: UserId, seen: Option<Issue>) -> Result<(), Refusal> {
    let revocations = services.tokens.revocations();
    let mut cut = Cut::Late;
    for _ in 0..CUTOFF_TRIES {
        let cutoff = revocations.next_cutoff(user, seen, services.now());
        let revocation = Revocation::User { id: user, issued_before: cutoff };
        check_room(services, &revocation)?;
        services.store.revoke(revocation).await?;
        cut = revocations.cut(user, cutoff, services.now());
        if cut == Cut::InForce {
            return Ok(());
        }
    }
    match cut {
        // If a later logout of the same user overtook this one, this one counts as just before it.
        Cut::InForce | Cut::Overtaken => Ok(()),
        Cut::Late => Err(Refusal::new(Code::Unavailable, "the store is too slow to log out everywhere, try again")),
    }
}

fn check_room(services: &Services, revocation: &Revocation) -> Result<(), Refusal> {
    if services.tokens.revocations().has_room(revocation, services.now()) {
        return Ok(());
    }
    Err(Refusal::new(Code::Unavailable, "too many logouts within the lifetime of tokens, try again later"))
}
