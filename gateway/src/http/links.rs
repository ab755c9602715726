//! Further ways to sign in to one's account, and taking them away:
//! `POST /v2/account/{link|unlink}/{device|custom|email}` (docs/protocol.md, section 8.3).

use hyper::Request;
use hyper::body::Bytes;
use storage::account::{Credential, CredentialKind, Linked, Unlinked};

use super::answer::{self, Answer};
use super::authenticate::{Body, checked_email, proof};
use super::authorization::bearer;
use super::body;
use super::error::Refusal;
use super::services::Services;

/// Lets the caller sign in with this as well, if it is nobody else's.
pub async fn link(services: &Services, request: &Request<Bytes>, kind: CredentialKind) -> Result<Answer, Refusal> {
    let user = bearer(services, request.headers())?.user;
    let proof = proof(kind, body::read(request.headers(), request.body().clone())?)?;
    let secret = match proof.password {
        Some(password) => services.passwords.hash(password).await?,
        None => String::new(),
    };
    match services.store.link(user, proof.credential, secret, services.now()).await? {
        Linked::Done => Ok(answer::done()),
        Linked::Taken => Err(Refusal::already_exists("this belongs to another account")),
        Linked::TooManyDevices => Err(Refusal::invalid("this account has as many devices as may be")),
        Linked::NotFound => Err(Refusal::not_found("account not found")),
    }
}

/// Takes this way to sign in away from the caller, if another is left.
pub async fn unlink(services: &Services, request: &Request<Bytes>, kind: CredentialKind) -> Result<Answer, Refusal> {
    let user = bearer(services, request.headers())?.user;
    let body: Body = body::read(request.headers(), request.body().clone())?;
    let credential = match kind {
        // Whoever unlinks an email need not know its password any more.
        CredentialKind::Email => Credential { kind, ident: checked_email(&body.email)? },
        CredentialKind::Device | CredentialKind::Custom => proof(kind, body)?.credential,
    };
    match services.store.unlink(user, credential, services.now()).await? {
        Unlinked::Done => Ok(answer::done()),
        Unlinked::NotFound => Err(Refusal::invalid("this does not belong to this account")),
        Unlinked::LastCredential => Err(Refusal::invalid("this is the last way to sign in to this account")),
    }
}
