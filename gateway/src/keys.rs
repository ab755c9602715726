//! The keys that sign tokens. The options give them, or the server makes them at random on its first start and keeps
//! them in the data directory. So tokens stay valid after a restart, and no two installations share a key.
//!
//! A key file is always complete or absent. The server writes and syncs a temporary file, and then links it to its
//! final name. Linking fails if another process has created the file first; then the server uses that process's key.
//!
//! A key can be replaced while the server runs (docs/identity.md). The previous key is given by the options, and is
//! accepted until a time that they say.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::options::{
    KEY_BYTES, Options, PreviousKey, REFRESH_KEY_FILE, SESSION_KEY_FILE, Secret, StoreKind, from_hex,
};

/// The keys of session tokens and of refresh tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigningKeys {
    pub session: RotatingKey,
    pub refresh: RotatingKey,
}

/// A key, and the key that it has replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RotatingKey {
    /// Signs all tokens.
    pub present: Secret,
    /// Is accepted for a while.
    pub previous: Option<PreviousKey>,
}

/// The keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot read or write the signing key {path}: {source}; check that this user may write the data directory")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the signing key {path} is damaged; restore it from a backup, or delete it: then all users must sign in again"
    )]
    Damaged { path: PathBuf },
    #[error("the memory store keeps no signing keys; give them with --session-key-file and --refresh-key-file")]
    NoFile,
    #[error("the operating system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
}

impl SigningKeys {
    /// Two keys that have replaced none.
    pub fn new(session: Secret, refresh: Secret) -> Self {
        let first = |present| RotatingKey { present, previous: None };
        Self { session: first(session), refresh: first(refresh) }
    }

    /// The keys for this server. With the memory store nothing is written: the keys end with the process, like
    /// everything that they give access to. Fails if a key file cannot be read or written, or is damaged.
    pub fn obtain(options: &Options) -> Result<Self, KeysError> {
        Self::given_or(options, |name| match options.store {
            StoreKind::Memory => random_key(),
            StoreKind::Embedded | StoreKind::Scylla => obtain_file(&options.data, name),
        })
    }

    /// The keys for a server that runs with these and has read its options again. A key file that is missing is made anew.
    pub fn obtain_again(&self, options: &Options) -> Result<Self, KeysError> {
        match options.store {
            StoreKind::Memory => Self::given_or(options, |name| {
                let kept = if name == SESSION_KEY_FILE { &self.session } else { &self.refresh };
                Ok(kept.present.clone())
            }),
            StoreKind::Embedded | StoreKind::Scylla => Self::obtain(options),
        }
    }

    /// The keys of a server, for another program beside it. Nothing is written, and a key that is nowhere is an error.
    pub fn existing(options: &Options) -> Result<Self, KeysError> {
        Self::given_or(options, |name| match options.store {
            StoreKind::Memory => Err(KeysError::NoFile),
            StoreKind::Embedded | StoreKind::Scylla => kept_key(&options.data, name),
        })
    }

    fn given_or(options: &Options, kept: impl Fn(&str) -> Result<Secret, KeysError>) -> Result<Self, KeysError> {
        let key = |given: &Option<Secret>, previous: &Option<PreviousKey>, name: &str| {
            let present = given.clone().map_or_else(|| kept(name), Ok)?;
            Ok(RotatingKey { present, previous: previous.clone() })
        };
        Ok(Self {
            session: key(&options.session_key, &options.previous_session_key, SESSION_KEY_FILE)?,
            refresh: key(&options.refresh_key, &options.previous_refresh_key, REFRESH_KEY_FILE)?,
        })
    }
}

/// A key of 32 random bytes.
pub(crate) fn random_key() -> Result<Secret, KeysError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeysError::NoRandomness)?;
    Ok(Secret::new(bytes))
}

/// The key in the file of this name, which is made if it is missing.
pub(crate) fn obtain_file(directory: &Path, name: &str) -> Result<Secret, KeysError> {
    make_key(directory, name)?;
    kept_key(directory, name)
}

/// Makes the key's file, unless it is there.
fn make_key(directory: &Path, name: &str) -> Result<(), KeysError> {
    let path = directory.join(name);
    if path.exists() {
        return Ok(());
    }
    make_file(directory, &path, random_key()?.bytes()).map_err(|source| KeysError::File { path, source })
}

fn kept_key(directory: &Path, name: &str) -> Result<Secret, KeysError> {
    let path = directory.join(name);
    let failed = |source| KeysError::File { path: path.clone(), source };
    let text = std::fs::read(&path).map_err(failed)?;
    from_hex(text.trim_ascii()).map(Secret::new).ok_or(KeysError::Damaged { path })
}

/// Creates the file with these bytes in hexadecimal digits, complete and on disk, unless it already exists. Creates its
/// directory too.
pub(crate) fn make_file(directory: &Path, path: &Path, key: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    file.write_all(format!("{hex}\n").as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::options::tests::options;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let options = options(&["--data", data.to_str().unwrap()]);
        let first = SigningKeys::obtain(&options).unwrap();
        let second = SigningKeys::obtain(&options).unwrap();
        assert_eq!(first.session, second.session);
        assert_eq!(first.refresh, second.refresh);
        assert_ne!(first.session, first.refresh);
        let names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        for name in ["session.key", "refresh.key"] {
            assert_eq!(std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn the_memory_store_touches_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let options = options(&["--data", data.to_str().unwrap(), "--store", "memory"]);
        let keys = SigningKeys::obtain(&options).unwrap();
        assert_ne!(keys.session, keys.refresh);
        assert!(!data.exists());
    }

    #[test]
    fn given_keys_are_used_and_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let arguments = [
            "--data",
            data.to_str().unwrap(),
            "--session-key",
            "0123456789abcdef",
            "--refresh-key",
            "fedcba9876543210",
        ];
        let keys = SigningKeys::obtain(&options(&arguments)).unwrap();
        assert_eq!(keys.session.present.bytes(), b"0123456789abcdef");
        assert_eq!(keys.refresh.present.bytes(), b"fedcba9876543210");
        assert!(!data.exists());
    }

    #[test]
    fn a_damaged_key_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["", "0123", &"zz".repeat(32), &"00".repeat(33)] {
            std::fs::write(directory.path().join("session.key"), content).unwrap();
            let error = SigningKeys::obtain(&options(&["--data", directory.path().to_str().unwrap()])).unwrap_err();
            assert!(error.to_string().contains("session.key is damaged"), "{content:?}: {error}");
        }
    }
}
