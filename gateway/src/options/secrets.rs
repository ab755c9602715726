//! Secrets: as text under their name, or in a file whose path stands under `NAME_file`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::OptionsError;

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
