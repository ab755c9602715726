//! The token of admin calls. It is made at random at the first start and kept in a file, for the operator's programs to
//! read. An operator may also bring a file with a token of their own.

use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::keys::{KeysError, make_file, random_key};
use crate::options::{Options, Secret};

/// Shortest token: 128 bits in hexadecimal digits have twice as many characters, and a long random word is as good.
const TOKEN_BYTES_MIN: usize = 16;
/// Longest token, so that it fits a request's head with room to spare.
const TOKEN_BYTES_MAX: usize = 512;

/// A token, in a form that is compared in constant time: its keyed hash, and the key.
pub struct AdminToken {
    key: Secret,
    hash: Vec<u8>,
}

/// The token could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "cannot read the token of admin calls {path}: {source}; check that this user may read the file, or name another with --admin-token-file"
    )]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "cannot make the token of admin calls {path}: {source}; check that this user may write there, or name another file with --admin-token-file"
    )]
    NotMade { path: PathBuf, source: io::Error },
    #[error(
        "the token of admin calls in {path} is no token; write {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} letters and digits into the file, or delete it: \
         then the server makes a new one"
    )]
    Damaged { path: PathBuf },
    #[error(transparent)]
    Key(#[from] KeysError),
}

impl AdminToken {
    /// The token of this server. A file that is missing is made. If there is no file, because the memory store has no
    /// directory, the token is random and no operator knows it.
    pub fn obtain(options: &Options) -> Result<Self, TokenError> {
        let Some(path) = options.admin_token_path() else {
            tracing::info!(
                "admin calls that need a token are refused: the memory store keeps no token; name a file with \
                 --admin-token-file"
            );
            return Self::of(random_key()?.bytes());
        };
        if !path.exists() {
            let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
            let token = random_key()?;
            let made = make_file(directory.unwrap_or(Path::new(".")), &path, token.bytes());
            made.map_err(|source| TokenError::NotMade { path: path.clone(), source })?;
            tracing::info!(file = %path.display(), "made the token of admin calls");
        }
        Self::of(read(&path)?.as_bytes())
    }

    fn of(token: &[u8]) -> Result<Self, TokenError> {
        let key = random_key()?;
        let hash = hash(&key, token).finalize().into_bytes().to_vec();
        Ok(Self { key, hash })
    }

    /// Whether this is the token. The time that this takes does not depend on where they differ.
    pub fn is(&self, given: &str) -> bool {
        hash(&self.key, given.as_bytes()).verify_slice(&self.hash).is_ok()
    }
}

/// Reads the token from a file.
pub fn read(path: &Path) -> Result<String, TokenError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    let token = text.trim_ascii();
    let is_token = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len());
    if !is_token || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Damaged { path: path.to_owned() });
    }
    Ok(token.to_owned())
}

fn hash(key: &Secret, token: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length").chain_update(token)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::options::tests::options;

    #[test]
    fn made_once_kept_private_and_compared_whole() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let options = options(&["--data", data.to_str().unwrap()]);
        let first = AdminToken::obtain(&options).unwrap();
        let path = data.join("admin.token");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = read(&path).unwrap();
        assert_eq!(token.len(), 64);
        let second = AdminToken::obtain(&options).unwrap();
        for admin_token in [&first, &second] {
            assert!(admin_token.is(&token));
            for wrong in
                ["", "x", &token[1..], &token[..63], &format!("{token}0"), &token.to_uppercase().replace('A', "B")]
            {
                assert!(!admin_token.is(wrong), "{wrong}");
            }
        }
    }

    #[test]
    fn an_operator_s_own_token_counts_and_a_damaged_one_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let options = options(&["--store", "memory", "--admin-token-file", path.to_str().unwrap()]);
        fs::write(&path, "a-token-of-our-own\n").unwrap();
        assert!(AdminToken::obtain(&options).unwrap().is("a-token-of-our-own"));
        for content in ["", "short", "with a blank in the middle", &"x".repeat(513)] {
            fs::write(&path, content).unwrap();
            let error = AdminToken::obtain(&options).err().unwrap().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains("is no token"), "{error}");
        }
    }

    #[test]
    fn the_memory_store_keeps_none_unless_a_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let arguments = ["--store", "memory", "--data", data.to_str().unwrap()];
        let token = AdminToken::obtain(&options(&arguments)).unwrap();
        assert!(!token.is("") && !data.exists());
        let path = directory.path().join("token");
        let token =
            AdminToken::obtain(&options(&[&arguments[..], &["--admin-token-file", path.to_str().unwrap()]].concat()));
        assert!(token.unwrap().is(&read(&path).unwrap()) && !data.exists());
    }
}
