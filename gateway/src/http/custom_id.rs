//! Sign-ins with a custom id. The id is the client's own word, or the token of the identity provider, which gives the id of
//! the user for whom it speaks.

use storage::account::{Credential, CredentialKind};

use super::error::{Code, Refusal};
use super::proofs::{Proof, checked_id};
use super::services::Services;
use super::sign_in_refusals::SignInRefusal;
use crate::identity::{self, IdentityProvider, VouchedUser};
use crate::sign_in::Access;

const CUSTOM_ID_BYTES_MIN: usize = 6;

/// The credential in a sign-in, or in what is linked. Refused if the operator lets no client, or not this one, sign in so.
pub(super) fn proof(services: &Services, id: String) -> Result<Proof, Refusal> {
    let terms = services.sign_in_terms();
    if terms.custom == Access::Closed {
        return Err(closed("sign-ins with a custom id are closed on this server"));
    }
    let (credential, vouched) = credential(services, id)?;
    if terms.custom == Access::Provider && vouched.is_none() {
        return Err(closed("a custom id signs in here only as a token of the identity provider"));
    }
    Ok(Proof { credential, password: None, vouched })
}

/// The credential that is meant, and the user for whom a provider speaks.
pub(super) fn credential(services: &Services, id: String) -> Result<(Credential, Option<VouchedUser>), Refusal> {
    let terms = services.sign_in_terms();
    let kind = CredentialKind::Custom;
    match terms.provider.as_ref().filter(|_| identity::is_token(&id)) {
        Some(provider) => {
            let user = vouched(services, provider, &id)?;
            Ok((Credential { kind, ident: user.custom_id.clone() }, Some(user)))
        }
        None => Ok((Credential { kind, ident: checked_id(id, CUSTOM_ID_BYTES_MIN)? }, None)),
    }
}

fn vouched(services: &Services, provider: &IdentityProvider, token: &str) -> Result<VouchedUser, Refusal> {
    provider.check(token, services.now()).map_err(|refusal| {
        let reason = format!("the identity provider's token is not good: {refusal}");
        Refusal::unauthenticated(reason).because(SignInRefusal::ProviderToken)
    })
}

fn closed(reason: &'static str) -> Refusal {
    Refusal::new(Code::PermissionDenied, reason)
}
