//! The keys that sign and check one kind of token: the present key, and while a rotation lasts the key before it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::crypto;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};

use super::{HEADER, Payload};
use crate::ascii_json;
use crate::jose;
use crate::keys::RotatingKey;
use crate::options::PreviousKey;

/// Signs with the present key, and checks with it or with the previous one.
pub(super) struct KeyRing {
    present: Key,
    /// The forms of the previous key.
    previous: Vec<Key>,
    /// The second from which on the previous key is not accepted.
    previous_until: i64,
}

/// The key that a token is signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signer {
    Present,
    /// The previous key, which is accepted until this second.
    Previous(i64),
}

struct Key {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl KeyRing {
    /// A ring of these keys.
    pub fn new(keys: &RotatingKey) -> Self {
        let previous = keys.previous.as_ref();
        Self {
            present: Key::new(keys.present.bytes()),
            previous: previous.iter().flat_map(|key| &key.forms).map(|form| Key::new(form.bytes())).collect(),
            previous_until: previous.map_or(i64::MIN, |PreviousKey { until, .. }| *until),
        }
    }

    /// A token with this payload, signed with the present key.
    pub fn sign(&self, payload: &Payload) -> String {
        let payload = ascii_json::write(payload).expect("a payload has only text keys and plain numbers");
        let signed = [HEADER, &payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = crypto::sign(signed.as_bytes(), &self.present.signing, Algorithm::HS256);
        format!("{signed}.{}", signature.expect("HMAC takes keys of any length"))
    }

    /// The payload of a token that a key of these has signed, even if the token has expired. `now` is in seconds.
    pub fn open(&self, token: &str, now: i64) -> Option<Payload> {
        self.open_by(token, now).map(|(payload, _)| payload)
    }

    /// The same, and which key it was.
    pub fn open_by(&self, token: &str, now: i64) -> Option<(Payload, Signer)> {
        if let Some(payload) = self.present.open(token) {
            return Some((payload, Signer::Present));
        }
        let previous = self.previous.iter().filter(|_| now < self.previous_until);
        let payload = previous.into_iter().find_map(|key| key.open(token))?;
        Some((payload, Signer::Previous(self.previous_until)))
    }
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        Self {
            signing: EncodingKey::from_secret(bytes),
            checking: DecodingKey::from_secret(bytes),
            validation: validation(),
        }
    }

    fn open(&self, token: &str) -> Option<Payload> {
        let payload = jsonwebtoken::decode(token, &self.checking, &self.validation).ok()?.claims;
        (!jose::has_critical_extensions(token)).then_some(payload)
    }
}

/// What the library checks besides the signature: the algorithm, and that `exp` exists. `token.rs` checks whether `exp`
/// has passed, because the time is an argument here, and to the second: the library would accept the last second too.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp"]);
    validation.validate_exp = false;
    validation.leeway = 0;
    validation
}
