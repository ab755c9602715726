//! A public key of a provider, and how it signs.

use std::fmt;
use std::ops::RangeInclusive;

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};

/// Sizes of an RSA key, in bits. A shorter one can be broken; the library verifies no longer one.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// Greatest exponent of an RSA key. All common keys have 65,537. The work of a check grows with it.
const RSA_EXPONENT_MAX: u64 = u32::MAX as u64;

/// How a key signs. Each kind of key has one algorithm here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureAlgorithm {
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    /// The name by which tokens choose the key. A key from a PEM file has none.
    pub id: Option<String>,
    pub algorithm: SignatureAlgorithm,
    pub material: KeyMaterial,
    /// The file that the key is from.
    pub source: String,
}

/// The numbers of a key, in big-endian bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyMaterial {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point of P-256, by SEC 1.
    P256(Vec<u8>),
    Ed25519([u8; 32]),
}

impl SignatureAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name in the header of a token, and in a JWK.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn of_library(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl PublicKey {
    /// A key of these numbers. Fails if they are no key that can be trusted, with what is wrong.
    pub(super) fn new(id: Option<String>, material: KeyMaterial, source: &str) -> Result<Self, String> {
        let algorithm = match &material {
            KeyMaterial::Rsa { modulus, exponent } => {
                check_rsa(modulus, exponent)?;
                SignatureAlgorithm::Rs256
            }
            KeyMaterial::P256(_) => SignatureAlgorithm::Es256,
            KeyMaterial::Ed25519(_) => SignatureAlgorithm::EdDsa,
        };
        let key = Self { id, algorithm, material, source: source.to_owned() };
        (DEFAULT_PROVIDER.verifier_factory)(&algorithm.of_library(), &key.decoding_key())
            .map_err(|_| format!("its numbers are no key for {}", algorithm.name()))?;
        Ok(key)
    }

    pub(super) fn decoding_key(&self) -> DecodingKey {
        match &self.material {
            KeyMaterial::Rsa { modulus, exponent } => DecodingKey::from_rsa_raw_components(modulus, exponent),
            KeyMaterial::P256(point) => DecodingKey::from_ec_der(point),
            KeyMaterial::Ed25519(point) => DecodingKey::from_ed_der(point),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "the key {id:?} for {} in {}", self.algorithm.name(), self.source),
            None => write!(f, "the key for {} in {}", self.algorithm.name(), self.source),
        }
    }
}

/// Checks that a key of RSA is neither weak nor so large that a check takes long.
fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    let bits = bits(modulus);
    if !RSA_BITS.contains(&bits) {
        return Err(format!(
            "an RSA key has {} to {} bits here, and this one has {bits}",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let exponent_value = (self::bits(exponent) <= 64)
        .then(|| exponent.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte)));
    let good = exponent_value.is_some_and(|value| (3..=RSA_EXPONENT_MAX).contains(&value));
    if good && odd(exponent) && odd(modulus) { Ok(()) } else { Err("its numbers are no key for RS256".into()) }
}

/// The length of a number in bits, without zeros in front.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let rest = &number[zeros..];
    rest.first().map_or(0, |first| rest.len() * 8 - first.leading_zeros() as usize)
}
