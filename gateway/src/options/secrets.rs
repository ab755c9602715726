//! Secrets: as text under their name, or in a file whose path stands under `NAME_file`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::OptionsError;
use super::values::Moment;

/// Shortest signing key: 128 bits, half of HMAC-SHA256's output. A shorter key would be too weak.
const KEY_BYTES_MIN: usize = 16;

/// Key material that is not shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the key as it is: any bytes, of any length.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bare key. Whatever the caller makes of it must not be shown in logs.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A random key has as many bytes as HMAC-SHA256 returns; a longer key would add nothing.
pub(crate) const KEY_BYTES: usize = 32;

/// A key that signs no tokens any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreviousKey {
    /// The key. If a file has 64 hexadecimal digits, it may be a key of the data directory, which is the number that they
    /// write, or an operator's own, which is the digits. So it is taken in both forms.
    pub forms: Vec<Secret>,
    /// The second since the Unix epoch from which on it is not accepted.
    pub until: i64,
}

impl PreviousKey {
    /// The key in this text, until this second.
    pub fn new(text: Secret, until: i64) -> Self {
        let number = from_hex(text.bytes()).map(Secret::new);
        Self { forms: [text].into_iter().chain(number).collect(), until }
    }
}

/// The bytes of a key that is written in hexadecimal digits.
pub(crate) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// A secret that is given as text, or in the file that `read` reads.
pub(crate) fn secret<T>(
    name: &str,
    text: Option<T>,
    path: Option<PathBuf>,
    read: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<Option<T>, OptionsError> {
    match (text, path) {
        (Some(_), Some(_)) => {
            Err(OptionsError::Invalid(format!("{name} and {name}_file are both given; give one of them")))
        }
        (None, Some(path)) => read(&path)
            .map(Some)
            .map_err(|error| OptionsError::Invalid(format!("cannot read {name}_file {}: {error}", path.display()))),
        (text, None) => Ok(text),
    }
}

/// A signing key, if one is given. Fails if it is too short.
pub(super) fn signing_key(
    name: &str,
    text: Option<String>,
    path: Option<PathBuf>,
) -> Result<Option<Secret>, OptionsError> {
    // Editors and `echo` end a file with a newline that is not part of the key.
    let read = |path: &Path| Ok(std::fs::read(path)?.trim_ascii_end().to_vec());
    match secret(name, text.map(String::into_bytes), path, read)? {
        Some(bytes) if bytes.len() < KEY_BYTES_MIN => Err(OptionsError::Invalid(format!(
            "{name} has {} bytes; give at least {KEY_BYTES_MIN}, made at random",
            bytes.len()
        ))),
        bytes => Ok(bytes.map(Secret::new)),
    }
}

/// The key before a signing key, with its end. Fails if one is given without the other, or if the key is the present one.
pub(super) fn previous_key(
    name: &str,
    text: Option<String>,
    path: Option<PathBuf>,
    until: Option<Moment>,
    present: Option<&Secret>,
) -> Result<Option<PreviousKey>, OptionsError> {
    let name = format!("previous_{name}");
    match (signing_key(&name, text, path)?, until) {
        (None, None) => Ok(None),
        (Some(key), Some(_)) if Some(&key) == present => {
            Err(OptionsError::Invalid(format!("{name} is the present key; give the key that was in use before it")))
        }
        (Some(key), Some(Moment(until))) => Ok(Some(PreviousKey::new(key, until))),
        (Some(_), None) => Err(OptionsError::Invalid(format!(
            "{name} has no end: say until when its tokens are accepted with {name}_until, such as 2026-12-31T18:00:00Z"
        ))),
        (None, Some(_)) => Err(OptionsError::Invalid(format!("{name}_until is given, and {name} is not"))),
    }
}
