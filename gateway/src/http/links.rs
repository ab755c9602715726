//! Adds further credentials to the caller's account, and removes them:
//! `POST /v2/account/{link|unlink}/{device|custom|email}` (docs/protocol.md, section 8.3).

use engine::id::UserId;
use storage::account::{Credential, CredentialKind, Linked, Unlinked};

use super::answer::{self, Answer};
use super::authenticate::{Body, proof};
use super::custom_id;
use super::error::{Code, Refusal};
use super::proofs::{checked_email, device_id};
use super::resource_request::ResourceRequest;
use super::services::Services;

/// Lets the caller sign in with this credential too, if no other account has it. Refused if another one has it, if it
/// is malformed, or if the account has the most devices already.
pub async fn link(services: &Services, request: &ResourceRequest, kind: CredentialKind) -> Result<Answer, Refusal> {
    let user = request.user(services)?;
    let proof = proof(services, kind, request.read()?, request.from())?;
    let secret = match proof.password {
        Some(password) => services.passwords.hash(password).await?,
        None => String::new(),
    };
    match services.store_for(user).link(user, proof.credential, secret, services.now()).await? {
        Linked::Done => Ok(answer::done()),
        Linked::Taken => Err(Refusal::already_exists("this belongs to another account")),
        Linked::TooManyDevices => Err(Refusal::invalid("this account has as many devices as may be")),
        Linked::NotFound => Err(Refusal::not_found("account not found")),
    }
}

/// Removes this credential from the caller's account, if another one is left. An account has at most one custom id and
/// one email, so the client need not name these. Refused if none is left, or if the account does not have it.
pub async fn unlink(services: &Services, request: &ResourceRequest, kind: CredentialKind) -> Result<Answer, Refusal> {
    let user = request.user(services)?;
    let named = named(services, kind, request.read()?)?;
    let is_named = named.is_some();
    let credential = match named {
        Some(credential) => credential,
        None => match own(services, user, kind).await? {
            Some(credential) => credential,
            None => return Ok(answer::done()),
        },
    };
    match services.store_for(user).unlink(user, credential, services.now()).await? {
        Unlinked::Done => Ok(answer::done()),
        Unlinked::NotFound if is_named => {
            Err(Refusal::new(Code::PermissionDenied, "this does not belong to this account"))
        }
        // The account's credential was removed or replaced after it was read.
        Unlinked::NotFound => Ok(answer::done()),
        Unlinked::LastCredential => {
            Err(Refusal::new(Code::PermissionDenied, "this is the last way to sign in to this account"))
        }
    }
}

/// The credential to unlink, if the client names it.
fn named(services: &Services, kind: CredentialKind, body: Body) -> Result<Option<Credential>, Refusal> {
    match kind {
        CredentialKind::Custom if body.id.is_empty() => Ok(None),
        CredentialKind::Email if body.email.is_empty() => Ok(None),
        // Unlinking needs no password.
        CredentialKind::Email => Ok(Some(Credential { kind, ident: checked_email(&body.email)? })),
        CredentialKind::Device => Ok(Some(Credential { kind, ident: device_id(body.id)? })),
        CredentialKind::Custom => Ok(Some(custom_id::credential(services, body.id)?.0)),
    }
}

/// The user's only credential of this kind, if there is one.
async fn own(services: &Services, user: UserId, kind: CredentialKind) -> Result<Option<Credential>, Refusal> {
    let account =
        services.store_for(user).account(user).await?.ok_or_else(|| Refusal::not_found("account not found"))?;
    Ok(account.credentials().into_iter().find(|credential| credential.kind == kind))
}
