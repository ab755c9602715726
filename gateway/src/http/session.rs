//! Renews tokens, and logs out: `POST /v2/account/session/refresh`, `POST /v2/session/logout`
//! (docs/protocol.md, section 8.2).

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
use crate::revocations::{CutoffOutcome, Issue, Maker, Room};
use crate::token::{Claims, TokenRefusal};

/// How often a cutoff is stored until it is later than all tokens. Once is enough, unless the store is slower than it
/// should be, or several shards log out the same user at the same moment.
const CUTOFF_TRIES: usize = 8;

/// Issues new tokens for a refresh token, with the user's present name. Refused if the token is not valid, or if the
/// user's account is gone or banned.
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
    let account = services.store_for(claims.user).account(claims.user).await?;
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
    let (now, maker) = (services.now(), Maker { user: caller.user, site: request.from().site().key() });
    let mut given = Vec::new();
    if !body.token.is_empty() {
        given.push(own(&caller, services.tokens.check_session(&body.token, now))?);
    }
    if !body.refresh_token.is_empty() {
        given.push(own(&caller, services.tokens.check_refresh(&body.refresh_token, now))?);
    }
    given.dedup_by_key(|claims| claims.token);
    if given.is_empty() {
        log_out_everywhere(services, maker, Some(caller.issue())).await?;
    }
    for claims in given {
        revoke(services, &claims, maker).await?;
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

/// Refuses a token of the maker, or all of the maker's tokens if there is no room for one. Stores the revocation first and
/// then puts it in force, so that a logout that was answered still holds after a restart.
async fn revoke(services: &Services, claims: &Claims, maker: Maker) -> Result<(), Refusal> {
    let (revocations, now) = (services.tokens.revocations(), services.now());
    match revocations.room_for_token(claims.token, maker, now) {
        Room::Token => {}
        Room::Cutoff => return log_out_everywhere(services, maker, Some(claims.issue())).await,
        Room::Full => return Err(too_many_logouts()),
    }
    let (id, expires) = (claims.token, services.tokens.last_expiry(claims, now));
    services.store_for(maker.user).revoke(Revocation::Token { id, expires }).await?;
    revocations.add_token(id, expires, maker, services.now());
    Ok(())
}

/// Refuses all tokens that the maker has when this returns. `seen` is one of them, if the caller knows one.
pub async fn log_out_everywhere(services: &Services, maker: Maker, seen: Option<Issue>) -> Result<(), Refusal> {
    let revocations = services.tokens.revocations();
    let mut cut = CutoffOutcome::Late;
    for _ in 0..CUTOFF_TRIES {
        let now = services.now();
        if !revocations.has_room_for_cutoff(maker, now) {
            return Err(too_many_logouts());
        }
        let cutoff = revocations.next_cutoff(maker.user, seen, now);
        services.store_for(maker.user).revoke(Revocation::User { id: maker.user, issued_before: cutoff }).await?;
        cut = revocations.cut(maker, cutoff, services.now());
        if cut == CutoffOutcome::InForce {
            return Ok(());
        }
    }
    match cut {
        // If a later logout of the same user overtook this one, this one counts as just before it.
        CutoffOutcome::InForce | CutoffOutcome::Overtaken => Ok(()),
        CutoffOutcome::Late => {
            Err(Refusal::new(Code::Unavailable, "the store is too slow to log out everywhere, try again"))
        }
    }
}

/// The answer to a logout that finds no room.
pub fn too_many_logouts() -> Refusal {
    let reason = "too many logouts from this network within the lifetime of tokens, try again later";
    Refusal::new(Code::Unavailable, reason)
}
