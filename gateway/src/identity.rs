//! An identity provider: another program that knows the users and signs tokens which say who they are. The operator names
//! its issuer, the audience that this server is, and its public keys (docs/identity.md).
//!
//! A token is a JSON Web Token of RS256, ES256 or EdDSA. The algorithm belongs to the key, and the token's header only has to
//! agree: a public key is never taken for the secret of an HMAC. `iss`, `sub`, `aud` and `exp` are required. What is cheap
//! is checked first, and the signature last.

mod claims;
mod jwks;
pub mod keys;
mod pem;
pub mod public_key;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use engine::id::Timestamp;
use jsonwebtoken::crypto;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use self::claims::Claims;
use self::keys::PublicKeys;
use self::public_key::PublicKey;
use crate::jose;

/// Longest token of a provider. Many have 1 to 3 KiB; those with very long lists of groups do not fit a request head either.
pub const IDENTITY_TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Longest custom id, and so the longest form of issuer and subject that is kept as it is.
pub const CUSTOM_ID_BYTES_MAX: usize = 128;

/// How far the provider's clock may differ, at most.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// What an operator says of a provider, before its keys are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderTerms {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub key_files: Vec<PathBuf>,
    /// The claim that names a new account.
    pub name_claim: String,
    /// How far the provider's clock may differ.
    pub clock_skew: Duration,
}

/// A provider with its public keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityProvider {
    terms: ProviderTerms,
    keys: PublicKeys,
}

/// The user of a good token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VouchedUser {
    /// The provider's own name for the user, which never changes: `sub`.
    pub subject: String,
    /// The custom id of the user's account here.
    pub custom_id: String,
    /// The text of the name claim, if there is one.
    pub name: Option<String>,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires: i64,
    /// Where the key that signed the token comes from, for people.
    pub key: String,
}

/// Why a provider's token is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityRefusal {
    #[error("it is longer than {IDENTITY_TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is no signed JSON Web Token, or its claims have wrong types")]
    Malformed,
    #[error("its algorithm is not the one of the key")]
    Algorithm,
    #[error("its header has critical extensions")]
    Critical,
    #[error("no key has its key id")]
    UnknownKey,
    #[error("it names no key, and several fit")]
    AmbiguousKey,
    #[error("its issuer is another one")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it has no subject")]
    Subject,
    #[error("it has no end")]
    NoExpiry,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("its signature is wrong")]
    Signature,
}

/// The members of a token's header that decide how it is read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

impl IdentityProvider {
    /// Reads the provider's key files. Fails with a line for the operator.
    pub fn read(terms: ProviderTerms) -> Result<Self, String> {
        let keys = PublicKeys::read(&terms.key_files)?;
        Ok(Self::with_keys(terms, keys))
    }

    /// A provider with these keys.
    pub fn with_keys(terms: ProviderTerms, keys: PublicKeys) -> Self {
        jose::choose_cryptography();
        Self { terms, keys }
    }

    /// A line for each key in the files that cannot be used.
    pub fn left_out(&self) -> &[String] {
        &self.keys.left_out
    }

    /// The user for whom the token speaks, if it is good now. Otherwise says why it is not.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<VouchedUser, IdentityRefusal> {
        if token.len() > IDENTITY_TOKEN_BYTES_MAX {
            return Err(IdentityRefusal::TooLong);
        }
        let [head, payload, signature] = parts(token).ok_or(IdentityRefusal::Malformed)?;
        let header: Header = json(head).ok_or(IdentityRefusal::Malformed)?;
        if jose::has_critical_extensions(token) {
            return Err(IdentityRefusal::Critical);
        }
        let key = self.keys.choose(header.kid.as_deref(), &header.alg)?;
        let claims: Claims = json(payload).ok_or(IdentityRefusal::Malformed)?;
        let claims = claims.checked(&self.terms, seconds(now))?;
        let signed = &token[..head.len() + 1 + payload.len()];
        match crypto::verify(signature, signed.as_bytes(), &key.decoding_key(), key.algorithm.of_library()) {
            Ok(true) => Ok(self.vouched(claims, key)),
            Ok(false) | Err(_) => Err(IdentityRefusal::Signature),
        }
    }

    fn vouched(&self, claims: claims::Checked, key: &PublicKey) -> VouchedUser {
        VouchedUser {
            custom_id: custom_id(&self.terms.issuer, &claims.subject),
            subject: claims.subject,
            name: claims.name,
            expires: claims.expires,
            key: key.to_string(),
        }
    }
}

/// Whether a text has the form of a signed JSON Web Token: three parts, of which the first is a header with an algorithm.
pub fn is_token(text: &str) -> bool {
    parts(text).is_some_and(|[head, ..]| json::<Header>(head).is_some())
}

/// The custom id of a provider's user: the issuer, a blank, and the subject. If that is too long it is a blank, `sha256`, a
/// blank, and the hash of it. Custom ids of clients have no blank, and no issuer has one, so no two users have one id.
pub fn custom_id(issuer: &str, subject: &str) -> String {
    let plain = format!("{issuer} {subject}");
    if plain.len() <= CUSTOM_ID_BYTES_MAX {
        return plain;
    }
    Sha256::digest(plain).iter().fold(" sha256 ".to_owned(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

fn parts(token: &str) -> Option<[&str; 3]> {
    let mut parts = token.split('.');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn seconds(time: Timestamp) -> i64 {
    time.0.div_euclid(1_000_000_000)
}

#[cfg(test)]
pub(crate) mod tests;
