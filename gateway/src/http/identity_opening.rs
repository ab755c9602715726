//! Openings of WebSockets with a token of the identity provider, if the operator lets these tokens open sockets. The user's
//! account must be looked up, or made, and a shard does not wait for the store. So the connection leaves the shard's table
//! with its opening, and comes back with the user.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use engine::command::RateLimit;
use engine::id::NetworkKey;
use engine::process_rates::ProcessRate;
use engine::session::shared_budgets::{Payer, Purse};

use super::answer::{BUDGET_SPREAD_SECONDS, UNAVAILABLE_RETRY_SECONDS, retry_after_seconds};
use super::authenticate::vouched_user;
use super::costs;
use super::error::{Code, Refusal};
use super::returns::Returned;
use super::services::Services;
use crate::identity::IdentityRefusal;
use crate::peer::Peer;
use crate::sockets::beyond_rate;
use crate::tls::TlsConnection;
use crate::token::TokenRefusal;
use crate::upgrade::{Admitted, UpgradeRefusal};

/// A connection whose opening has a token of the provider.
pub struct IdentityOpening {
    pub descriptor: OwnedFd,
    /// What secures the connection.
    pub tls: Option<Box<TlsConnection>>,
    pub peer: Peer,
    /// The opening, and what came after it.
    pub bytes: Vec<u8>,
    pub token: String,
    /// Whose budget pays for the sign-in.
    pub network: NetworkKey,
}

/// Finds the user of the token, and gives the connection back with the answer. Drops it if the server stops meanwhile.
pub async fn admit(services: Rc<Services>, opening: IdentityOpening) {
    let IdentityOpening { descriptor, tls, peer, bytes, token, network } = opening;
    let admitted = match services.connections.enter() {
        Some(_entered) => admitted(&services, &token, network).await,
        None => Err(unavailable()),
    };
    if services.connections.are_open() {
        services.returns.put(Returned { descriptor, tls, peer, bytes, admitted: Some(admitted) });
    }
}

async fn admitted(services: &Services, token: &str, network: NetworkKey) -> Result<Admitted, UpgradeRefusal> {
    let terms = services.sign_in_terms();
    let provider = terms.direct_provider().ok_or(UpgradeRefusal::Token(TokenRefusal::Invalid))?;
    services
        .afford(Payer { user: None, network: Some(network) }, Purse::Requests, costs::CHANGE)
        .map_err(|refusal| of(&refusal))?;
    let vouched = provider.check(token, services.now()).map_err(|refusal| {
        UpgradeRefusal::Token(match refusal {
            IdentityRefusal::Expired => TokenRefusal::Expired,
            _ => TokenRefusal::Invalid,
        })
    })?;
    services.let_in(ProcessRate::Openings, network).map_err(|refusal| of(&refusal))?;
    let expires = vouched.expires;
    let (user, username) = vouched_user(services, &terms, vouched, network).await.map_err(|refusal| of(&refusal))?;
    Ok(Admitted { user, username: username.into(), expires })
}

/// What the client of an opening is told whose sign-in is refused.
fn of(refusal: &Refusal) -> UpgradeRefusal {
    match refusal.code {
        Code::OverBudget { limit: RateLimit::Process(_), wait_seconds } => beyond_rate(wait_seconds),
        Code::OverBudget { wait_seconds, .. } => UpgradeRefusal::OverBudget {
            retry_after_seconds: retry_after_seconds(wait_seconds..=wait_seconds + BUDGET_SPREAD_SECONDS),
        },
        Code::PermissionDenied | Code::NotFound | Code::AlreadyExists => UpgradeRefusal::NotAdmitted,
        _ => unavailable(),
    }
}

fn unavailable() -> UpgradeRefusal {
    UpgradeRefusal::Unavailable { retry_after_seconds: retry_after_seconds(UNAVAILABLE_RETRY_SECONDS) }
}
