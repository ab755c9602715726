//! A public key as PEM: `PUBLIC KEY` (RFC 7468), as `openssl pkey -pubout` writes it, or `RSA PUBLIC KEY` (PKCS #1).

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use spki::der::Document;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::public_key::{KeyMaterial, PublicKey};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// How every PEM block begins.
const BEGINNING: &str = "-----BEGIN ";

/// The one key in a text. `source` names the text. Fails with a line for the operator.
pub(super) fn parse(source: &str, text: &str) -> Result<PublicKey, String> {
    let failed = |what: &str| format!("{source}: {what}");
    match text.matches(BEGINNING).count() {
        0 => return Err(failed("this is neither a public key as PEM nor a JWK set")),
        1 => {}
        _ => return Err(failed("there is more than one PEM block; give each key a file, or give a JWK set")),
    }
    // The text of a certificate has lines in front of the block.
    let block = &text[text.find(BEGINNING).unwrap_or_default()..];
    let label = block[BEGINNING.len()..].split("-----").next().unwrap_or_default();
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        "CERTIFICATE" => return Err(failed("this is a certificate; take its key: openssl x509 -pubkey -noout")),
        label if label.contains("PRIVATE KEY") => {
            let next = "keep it with the provider alone, and give its public key: openssl pkey -pubout";
            return Err(failed(&format!("this is a private key; {next}")));
        }
        label => return Err(failed(&format!("a PEM block is called {label:?}; give a PUBLIC KEY"))),
    }
    let (_, document) = Document::from_pem(block.trim_end()).map_err(|error| failed(&format!("wrong PEM: {error}")))?;
    let material = if label == "PUBLIC KEY" { of_info(document.as_bytes()) } else { of_rsa(document.as_bytes()) };
    material.and_then(|material| PublicKey::new(None, material, source)).map_err(|what| failed(&what))
}

/// The key in a `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
fn of_info(bytes: &[u8]) -> Result<KeyMaterial, String> {
    let info = SubjectPublicKeyInfoRef::try_from(bytes).map_err(|error| format!("this is no public key: {error}"))?;
    let key = info.subject_public_key.as_bytes().ok_or("this is no public key")?;
    match info.algorithm.oid {
        RSA => of_rsa(key),
        ELLIPTIC_CURVE if info.algorithm.parameters_oid() == Ok(P256) => Ok(KeyMaterial::P256(key.to_vec())),
        ELLIPTIC_CURVE => Err("the curve of this key is not P-256, which ES256 needs".into()),
        ED25519 => match key.try_into() {
            Ok(point) => Ok(KeyMaterial::Ed25519(point)),
            Err(_) => Err("an Ed25519 key has 32 bytes".into()),
        },
        other => Err(format!("this is a key of the kind {other}; give one of RSA, P-256 or Ed25519")),
    }
}

/// The key in an `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn of_rsa(bytes: &[u8]) -> Result<KeyMaterial, String> {
    let numbers = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(bytes);
    let (modulus, exponent) = numbers.map_err(|error| format!("this is no RSA key: {error}"))?;
    Ok(KeyMaterial::Rsa { modulus, exponent })
}
