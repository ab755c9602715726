//! A JWK set (RFC 7517), as providers publish it: the public keys by their ids.
//!
//! Keys for another use, and of kinds and algorithms that are not known here, are left out with a line, as the standard
//! asks for, because providers add keys for other programs. A key that is wrong in itself, and a private key, are errors.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::public_key::{KeyMaterial, PublicKey};

/// The set.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// A key. Members that are not named here are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part.
    d: Option<String>,
}

/// The keys in a text, and a line for each that is left out. `source` names the text in messages. Fails with a line for the
/// operator.
pub(super) fn parse(source: &str, text: &str) -> Result<(Vec<PublicKey>, Vec<String>), String> {
    let set: KeySet = serde_json::from_str(text).map_err(|error| format!("{source} is no JWK set: {error}"))?;
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for (place, jwk) in set.keys.into_iter().enumerate() {
        let name = match &jwk.kid {
            Some(id) => format!("{source}: the key {id:?}"),
            None => format!("{source}: key {} without an id", place + 1),
        };
        if jwk.d.is_some() && jwk.kty != "oct" {
            return Err(format!("{name} is a private key; give the set that the provider publishes"));
        }
        match jwk.strangeness() {
            Some(why) => left_out.push(format!("{name} is left out: {why}")),
            None => {
                let id = jwk.kid.clone();
                let key = jwk.material().and_then(|material| PublicKey::new(id, material, source));
                keys.push(key.map_err(|what| format!("{name}: {what}"))?);
            }
        }
    }
    Ok((keys, left_out))
}

impl Jwk {
    /// Why the key is not for tokens of users here, if it is not.
    fn strangeness(&self) -> Option<String> {
        if let Some(other) = self.r#use.as_deref().filter(|of| *of != "sig") {
            return Some(format!("its use is {other:?}"));
        }
        if self.key_ops.as_ref().is_some_and(|can| !can.iter().any(|operation| operation == "verify")) {
            return Some("its operations do not include \"verify\"".into());
        }
        let expected = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => "RS256",
            ("EC", Some("P-256")) => "ES256",
            ("OKP", Some("Ed25519")) => "EdDSA",
            (kind @ ("EC" | "OKP"), curve) => {
                return Some(format!("its type is {kind:?} and its curve {:?}", curve.unwrap_or_default()));
            }
            (kind, _) => return Some(format!("its type is {kind:?}")),
        };
        // RFC 9864 calls the algorithm of this curve `Ed25519`.
        let is_expected = |alg: &str| alg == expected || (alg == "Ed25519" && expected == "EdDSA");
        let other = self.alg.as_deref().filter(|alg| !is_expected(alg))?;
        Some(format!("its algorithm is {other:?}, and such keys are for {expected} here"))
    }

    fn material(&self) -> Result<KeyMaterial, String> {
        let number = |name: &str, text: &Option<String>| {
            let text = text.as_ref().ok_or_else(|| format!("the member {name:?} is missing"))?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("the member {name:?} is not in base64url"))
        };
        let coordinate = |name: &str, text: &Option<String>| -> Result<[u8; 32], String> {
            number(name, text)?.try_into().map_err(|_| format!("the member {name:?} has not 32 bytes"))
        };
        match self.kty.as_str() {
            "RSA" => Ok(KeyMaterial::Rsa { modulus: number("n", &self.n)?, exponent: number("e", &self.e)? }),
            "EC" => {
                let (x, y) = (coordinate("x", &self.x)?, coordinate("y", &self.y)?);
                // A point of SEC 1 that is not compressed begins with a 4.
                Ok(KeyMaterial::P256([&[4], &x[..], &y[..]].concat()))
            }
            _ => Ok(KeyMaterial::Ed25519(coordinate("x", &self.x)?)),
        }
    }
}
