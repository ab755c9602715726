//! A provider's public keys, from the files that the operator names: PEM or a JWK set.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::public_key::{PublicKey, SignatureAlgorithm};
use super::{IdentityRefusal, jwks, pem};

/// Most keys of a provider, in all files. Providers publish two or three: the present one, the next, the one before.
pub const KEYS_MAX: usize = 64;

/// Longest file of keys.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The keys of a provider.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublicKeys {
    keys: Vec<PublicKey>,
    /// A line for each key that is in the files and cannot be used.
    pub left_out: Vec<String>,
}

impl PublicKeys {
    /// Reads the files. Fails with a line for the operator.
    pub fn read(files: &[PathBuf]) -> Result<Self, String> {
        let mut keys = Self::default();
        for file in files {
            keys.add(Self::parse(&file.display().to_string(), &text_of(file)?)?)?;
        }
        Ok(keys)
    }

    /// The keys in a text. `source` names it in messages. Fails with a line for the operator.
    pub fn parse(source: &str, text: &str) -> Result<Self, String> {
        let (keys, left_out) = match text.trim_start().starts_with('{') {
            true => jwks::parse(source, text)?,
            false => (vec![pem::parse(source, text)?], Vec::new()),
        };
        let mut found = Self::default();
        found.add(Self { keys, left_out })?;
        if found.keys.is_empty() {
            let why = found.left_out.join("; ");
            return Err(format!("{source} has no key that can be used: give one for RS256, ES256 or EdDSA; {why}"));
        }
        Ok(found)
    }

    /// The keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The key that signs tokens with this header. A key without an id is for tokens with any key id that no other key has.
    pub fn choose(&self, id: Option<&str>, algorithm: &str) -> Result<&PublicKey, IdentityRefusal> {
        if let Some(key) = id.and_then(|id| self.with_id(id)) {
            return if key.algorithm.name() == algorithm { Ok(key) } else { Err(IdentityRefusal::Algorithm) };
        }
        let unnamed = |key: &&PublicKey| key.id.is_none() || id.is_none();
        let mut fitting = self.keys.iter().filter(unnamed).filter(|key| key.algorithm.name() == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(IdentityRefusal::AmbiguousKey),
            (None, _) if !SignatureAlgorithm::ALL.iter().any(|known| known.name() == algorithm) => {
                Err(IdentityRefusal::Algorithm)
            }
            (None, _) if id.is_none() => Err(IdentityRefusal::Algorithm),
            (None, _) => Err(IdentityRefusal::UnknownKey),
        }
    }

    fn with_id(&self, id: &str) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id.as_deref() == Some(id))
    }

    fn add(&mut self, others: Self) -> Result<(), String> {
        for key in others.keys {
            let same = |other: &&PublicKey| match &key.id {
                Some(id) => other.id.as_ref() == Some(id),
                None => other.id.is_none() && other.algorithm == key.algorithm,
            };
            if let Some(other) = self.keys.iter().find(same) {
                let next = "give each key an id of its own, in a JWK set, or name one of the two alone";
                return Err(format!("{key} and {other} cannot be told apart: {next}"));
            }
            self.keys.push(key);
        }
        self.left_out.extend(others.left_out);
        if self.keys.len() > KEYS_MAX {
            return Err(format!("a provider has at most {KEYS_MAX} keys here, and there are {}", self.keys.len()));
        }
        Ok(())
    }
}

fn text_of(file: &Path) -> Result<String, String> {
    let name = file.display();
    let failed = |error: std::io::Error| format!("cannot read the keys of identity_keys {name}: {error}");
    let mut text = String::new();
    let bound = FILE_BYTES_MAX as u64 + 1;
    File::open(file).and_then(|opened| opened.take(bound).read_to_string(&mut text)).map_err(failed)?;
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("{name} has more than {FILE_BYTES_MAX} bytes: is it a file of public keys?"));
    }
    Ok(text)
}
