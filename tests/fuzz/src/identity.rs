//! Parsers of what comes from an identity provider: files of public keys, and tokens.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use engine::id::Timestamp;
use gateway::identity::keys::PublicKeys;
use gateway::identity::public_key::{KeyMaterial, PublicKey};
use gateway::identity::{self, CUSTOM_ID_BYTES_MAX, IdentityProvider, ProviderTerms};
use serde_json::{Value, json};

/// The public keys of a provider that exists only here.
const KEYS: &str = r#"{"keys":[
{"kty":"EC","x":"RyQuMayxX5rJ4AZuhNio8OrGhq89G0OxGnMcL2KdZk8","y":"6EeV61v7vcyb1v8ud5dAqaxciF80HG3_NobWGQ71-h4","crv":"P-256","kid":"ES256","alg":"ES256","use":"sig"},
{"crv":"Ed25519","x":"luA5jLpzJQbDFHD74sAhlflPJtqePISUFPpcjmsH8sE","kty":"OKP","kid":"EdDSA","alg":"EdDSA","use":"sig"},
{"kty":"RSA","n":"12NFTujv60kynnu1qT5vTQMc-yy9ug5Mn-iupk-zN9LOK3vg3h41ZAYcV1siMf8aFiuFWEraXjS9O_klQPH9MH8v0687v0B_1dHfn1SQEhrxUtZDF05Ref7Ds5PLgrigw3s6Ih4pqZPfZZ-4fIWanbMgb9hjulDZq-u_wFZ42fmqsLJKFGyknL75hFDjeoHMI10c-1fbqA4g4LSwXUZUjLvzCixCxPVEG6fLqHpJk70KaCmhwOx6J9eR4HWL1s4K6P3fyVUaIKpDR1TMIwDbGG6TO2LMpnqegcAJoXibLFA6ZwPaLuU6zXuHWJXQ3eNznv2OrRx2-8lbbol6IhMdeQ","e":"AQAB","kid":"RS256","alg":"RS256","use":"sig"},
{"kty":"oct","kid":"secret","k":"AAAA"}]}"#;

const PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERyQuMayxX5rJ4AZuhNio8OrGhq89
G0OxGnMcL2KdZk/oR5XrW/u9zJvW/y53l0CprFyIXzQcbf82htYZDvX6Hg==
-----END PUBLIC KEY-----
";

const OLD_PEM: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEA12NFTujv60kynnu1qT5vTQMc+yy9ug5Mn+iupk+zN9LOK3vg3h41
ZAYcV1siMf8aFiuFWEraXjS9O/klQPH9MH8v0687v0B/1dHfn1SQEhrxUtZDF05R
ef7Ds5PLgrigw3s6Ih4pqZPfZZ+4fIWanbMgb9hjulDZq+u/wFZ42fmqsLJKFGyk
nL75hFDjeoHMI10c+1fbqA4g4LSwXUZUjLvzCixCxPVEG6fLqHpJk70KaCmhwOx6
J9eR4HWL1s4K6P3fyVUaIKpDR1TMIwDbGG6TO2LMpnqegcAJoXibLFA6ZwPaLuU6
zXuHWJXQ3eNznv2OrRx2+8lbbol6IhMdeQIDAQAB
-----END RSA PUBLIC KEY-----
";

/// Tokens of that provider, good until the year 2100.
const TOKENS: [&str; 2] = [
    "eyJhbGciOiJFUzI1NiIsImtpZCI6IkVTMjU2In0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJzdWIiOiJhbm4iLCJhdWQiOlsiY2hhdCJdLCJleHAiOjQxMDI0NDQ4MDAsIm5iZiI6MX0.0KiR3oyMfQLtUXreI1STX9dKm2Gqbb5YzsniHmsHYKD6jCbbSeS5I8IzePEt6qRsJnCqG2QmBqQEsc9ysE6OMQ",
    "eyJhbGciOiJFZERTQSIsImtpZCI6IkVkRFNBIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJzdWIiOiJhbm4iLCJhdWQiOlsiY2hhdCJdLCJleHAiOjQxMDI0NDQ4MDAsIm5iZiI6MX0.RIbOqAFHJwrLyoi8-pkDL2d7XpNrfKVFjVVuBXwDbQT1abzAfyJLXND-_aTvOT8s77hMTeBZFqb089BJLzXvCA",
];

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

static PROVIDER: LazyLock<IdentityProvider> = LazyLock::new(|| {
    let terms = ProviderTerms {
        issuer: "https://id.example".into(),
        audiences: vec!["chat".into()],
        key_files: Vec::new(),
        name_claim: "name".into(),
        clock_skew: Duration::from_secs(30),
    };
    IdentityProvider::with_keys(terms, PublicKeys::parse("keys", KEYS).expect("good keys"))
});

/// Keys that are read can be written as a JWK set, and are the same when they are read again.
pub fn public_keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keys = match PublicKeys::parse("keys", text) {
        Ok(keys) => keys,
        Err(line) => return assert!(!line.is_empty()),
    };
    assert!(!keys.keys().is_empty());
    let Some(set) = keys.keys().iter().map(jwk).collect::<Option<Vec<Value>>>() else { return };
    let again = PublicKeys::parse("keys", &json!({ "keys": set }).to_string()).expect("keys that were read before");
    assert_eq!(again.keys(), keys.keys());
    assert!(again.left_out.is_empty());
}

/// The key as a JWK, unless it is a point in a form that a JWK does not have.
fn jwk(key: &PublicKey) -> Option<Value> {
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let mut jwk = match &key.material {
        KeyMaterial::Rsa { modulus, exponent } => json!({"kty": "RSA", "n": text(modulus), "e": text(exponent)}),
        KeyMaterial::P256(point) if point.len() == 65 => {
            json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
        }
        KeyMaterial::P256(_) => return None,
        KeyMaterial::Ed25519(point) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(point)}),
    };
    jwk["kid"] = key.id.as_deref().into();
    Some(jwk)
}

/// A token is accepted only whole and unchanged, for the user that it names.
pub fn identity_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match PROVIDER.check(text, NOW) {
        Ok(user) => {
            assert!(TOKENS.contains(&text), "{text}");
            assert_eq!((user.subject.as_str(), user.custom_id.as_str()), ("ann", "https://id.example ann"));
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
    let _ = identity::is_token(text);
    let id = identity::custom_id("https://id.example", text);
    assert!(id.len() <= CUSTOM_ID_BYTES_MAX && id.contains(' '));
}

/// Sets, and keys as PEM.
pub fn public_keys_seeds() -> Vec<Vec<u8>> {
    [KEYS, PEM, OLD_PEM].map(|text| text.as_bytes().to_vec()).into()
}

/// Good tokens, and texts that begin like one.
pub fn identity_token_seeds() -> Vec<Vec<u8>> {
    TOKENS.into_iter().chain(["eyJhbGciOiJub25lIn0.e30.", "a.b.c"]).map(|text| text.as_bytes().to_vec()).collect()
}
