//! SIGHUP: the configuration is read again. What can change while the server runs changes at once, and the log names the
//! rest, which needs a restart. A wrong configuration changes nothing.

use std::sync::Arc;

use crate::config;
use crate::keys::{KeysError, SigningKeys};
use crate::live::{LIVE_KEYS, LiveOptions};
use crate::logging::Logging;
use crate::options::{Options, OptionsError, REFRESH_KEY_FILE, SESSION_KEY_FILE};
use crate::token::Tokens;

/// Reads the configuration again and compares it with what is in force.
pub struct Reloader {
    in_force: Options,
    live: LiveOptions,
    /// The signing keys and what signs by them, once the server has them.
    signing: Option<(SigningKeys, Arc<Tokens>)>,
    /// The process's log.
    logging: Option<Arc<Logging>>,
}

/// The keys whose values differ from those in force.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Changes {
    applied: Vec<String>,
    /// Keys that need a restart.
    left: Vec<String>,
}

impl Reloader {
    /// `options` are those of the start.
    pub fn new(options: Options, live: LiveOptions) -> Self {
        Self { in_force: options, live, signing: None, logging: None }
    }

    /// The options in force.
    pub fn options(&self) -> &Options {
        &self.in_force
    }

    /// From now on the levels of the log are those of the configuration after each reload, also if an operator's call has set
    /// others.
    pub fn follow_log_levels(&mut self, logging: Arc<Logging>) {
        self.logging = Some(logging);
    }

    /// From now on the signing keys are read again, too. `keys` are those of `tokens`.
    pub fn follow_keys(&mut self, keys: SigningKeys, tokens: Arc<Tokens>) {
        self.signing = Some((keys, tokens));
    }

    /// Reads flags, environment and file again, and says in the log what came of it.
    pub fn reload(&mut self) {
        self.take(Options::from_process());
    }

    fn take(&mut self, read: Result<Options, OptionsError>) {
        let options = match read {
            Ok(options) => options,
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("SIGHUP: the configuration is wrong, and nothing changes: {line}");
                }
                return;
            }
        };
        config::start_warnings(&options).iter().for_each(|line| tracing::warn!("{line}"));
        let Changes { applied, left } = match self.apply(options) {
            Ok(changes) => changes,
            Err(error) => return tracing::error!("SIGHUP: {error}; nothing changes"),
        };
        if applied.is_empty() && left.is_empty() {
            tracing::info!("SIGHUP: the configuration was read again, and nothing in it has changed");
        }
        if !applied.is_empty() {
            tracing::info!(
                "SIGHUP: the configuration was read again; these keys have new values: {}",
                applied.join(", ")
            );
        }
        if !left.is_empty() {
            tracing::warn!("SIGHUP: these keys have changed and need a restart: {}", left.join(", "));
        }
    }

    /// Fails, and changes nothing, if a signing key cannot be read or made.
    fn apply(&mut self, read: Options) -> Result<Changes, KeysError> {
        let keys = self.read_keys(&read)?;
        let (files, secrets) = (self.changed_files(&read, keys.as_ref()), self.changed_secrets(&read));
        let mut changes = Changes::default();
        let settings = self.in_force.configuration.settings.iter_mut();
        for (old, new) in settings.zip(&read.configuration.settings).filter(|(old, new)| old.values != new.values) {
            let path = new.key.path();
            if LIVE_KEYS.contains(&path.as_str()) {
                changes.applied.push(path);
                old.clone_from(new);
            } else {
                changes.left.push(path);
            }
        }
        changes.applied.extend(files);
        changes.left.extend(secrets);
        self.in_force.configuration.file.clone_from(&read.configuration.file);
        self.in_force.admin_hosts = read.admin_hosts;
        self.in_force.server_key = read.server_key;
        self.in_force.session_key = read.session_key;
        self.in_force.refresh_key = read.refresh_key;
        self.in_force.previous_session_key = read.previous_session_key;
        self.in_force.previous_refresh_key = read.previous_refresh_key;
        self.in_force.sign_in = read.sign_in;
        self.in_force.trusted_proxies = read.trusted_proxies;
        self.in_force.allowed_origins = read.allowed_origins;
        self.in_force.process_rates = read.process_rates;
        self.in_force.client_limits = read.client_limits;
        // Without listeners that have TLS there is no certificate to change.
        if let (Some(in_force), Some(read)) = (&mut self.in_force.tls, read.tls) {
            *in_force = read;
        }
        self.in_force.log_level = read.log_level;
        if let Some(logging) = &self.logging {
            logging.set_levels(&self.in_force.log_level);
        }
        self.live.set(&self.in_force);
        if let (Some(keys), Some((in_force, tokens))) = (keys, &mut self.signing) {
            tokens.set_keys(&keys);
            *in_force = keys;
        }
        Ok(changes)
    }

    /// The signing keys by these options. The directory that may hold them is still that of the start.
    fn read_keys(&self, read: &Options) -> Result<Option<SigningKeys>, KeysError> {
        let Some((keys, _)) = &self.signing else { return Ok(None) };
        let options = Options { data: self.in_force.data.clone(), store: self.in_force.store, ..read.clone() };
        keys.obtain_again(&options).map(Some)
    }

    /// Files that change what is in force: they have the same path as before, and another content.
    fn changed_files(&self, read: &Options, keys: Option<&SigningKeys>) -> Vec<String> {
        let old = &self.in_force;
        let same_keys = |of: fn(&SigningKeys) -> &_| {
            let in_force = self.signing.as_ref().map(|(keys, _)| keys);
            in_force.zip(keys).is_none_or(|(old, new): (&SigningKeys, &SigningKeys)| of(old) == of(new))
        };
        let previous = |of: fn(&Options) -> &_| of(old) == of(read);
        let contents = [
            ("identity_keys", old.sign_in.provider == read.sign_in.provider),
            ("session_key_file", old.session_key == read.session_key),
            ("refresh_key_file", old.refresh_key == read.refresh_key),
            ("previous_session_key_file", previous(|options| &options.previous_session_key)),
            ("previous_refresh_key_file", previous(|options| &options.previous_refresh_key)),
        ];
        let changed = contents.into_iter().filter(|(path, same)| !same && self.is_same_value(path, read));
        let mut changed: Vec<String> = changed.map(|(path, _)| format!("{path} (its content)")).collect();
        for (file, given, same) in [
            (SESSION_KEY_FILE, &read.session_key, same_keys(|keys| &keys.session.present)),
            (REFRESH_KEY_FILE, &read.refresh_key, same_keys(|keys| &keys.refresh.present)),
        ] {
            if given.is_none() && !same {
                changed.push(format!("{file} in the data directory (its content)"));
            }
        }
        changed
    }

    /// Files of secrets that have the same path and another content, and need a restart.
    fn changed_secrets(&self, read: &Options) -> Vec<String> {
        let path = "database.password_file";
        let changed = self.in_force.database != read.database && self.is_same_value(path, read);
        changed.then(|| format!("{path} (its content)")).into_iter().collect()
    }

    /// Whether a key has a value, and the same one as before.
    fn is_same_value(&self, path: &str, read: &Options) -> bool {
        let values = |options: &Options| {
            let setting = options.configuration.settings.iter().find(|setting| setting.key.path() == path);
            setting.map(|setting| setting.values.clone()).unwrap_or_default()
        };
        !values(read).is_empty() && values(read) == values(&self.in_force)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::id::{Timestamp, UserId};
    use uuid::Uuid;

    use super::*;
    use crate::options::tests::options;
    use crate::token::TokenRefusal;

    fn reloader(arguments: &[&str]) -> Reloader {
        let options = options(arguments);
        Reloader::new(options.clone(), LiveOptions::new(&options))
    }

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let mut reloader = reloader(&["--server-key", "old", "--shards", "1"]);
        let before = reloader.live.sha256.load_full();
        let new = ["--server-key", "new", "--shards", "2", "--trusted-proxies", "::1", "--admin-host", "a"];
        let changes = reloader.apply(options(&new)).unwrap();
        assert_eq!(changes.applied, ["admin_host", "trusted_proxies", "server_key"]);
        assert_eq!(changes.left, ["shards"]);
        assert_eq!(**reloader.live.server_key.load(), "new");
        assert_eq!(**reloader.live.admin_hosts.load(), ["a"]);
        assert!(reloader.live.trusted_proxies.load().trust("::1".parse().unwrap()));
        assert_ne!(before, reloader.live.sha256.load_full());
        // The shards are still those of the start, so the hash is that of a server with one shard.
        let in_force =
            options(&["--server-key", "new", "--shards", "1", "--trusted-proxies", "::1", "--admin-host", "a"]);
        assert_eq!(**reloader.live.sha256.load(), config::toml::sha256(&in_force.configuration));
        let again = reloader.apply(options(&new)).unwrap();
        assert_eq!((again.applied, again.left), (vec![], vec!["shards".to_owned()]), "it still needs a restart");
    }

    #[test]
    fn who_is_let_in_changes() {
        let mut reloader = reloader(&["--joins-per-second", "5"]);
        let new = ["--joins-per-second", "9", "--openings-per-second", "7", "--allowed-origin", "https://a.example"];
        let changes = reloader.apply(options(&new)).unwrap();
        assert_eq!(changes.applied, ["allowed_origin", "openings_per_second", "joins_per_second"]);
        assert!(changes.left.is_empty(), "{:?}", changes.left);
        assert_eq!(**reloader.live.process_rates.load(), options(&new).process_rates);
        let foreign = [b"https://b.example".as_slice()];
        assert!(!reloader.live.allowed_origins.load().allow(foreign.into_iter()));
    }

    #[test]
    fn what_each_client_may_do_changes() {
        let mut reloader = reloader(&["--work-per-user", "70"]);
        let new = ["--work-per-address", "50", "--sends-per-second", "3", "--memberships-per-user", "9"];
        let changes = reloader.apply(options(&new)).unwrap();
        assert_eq!(changes.applied, ["sends_per_second", "work_per_user", "work_per_address", "memberships_per_user"]);
        assert!(changes.left.is_empty(), "{:?}", changes.left);
        assert_eq!(**reloader.live.client_limits.load(), options(&new).client_limits);
        assert_eq!(reloader.apply(options(&["--room-members-max", "9"])).unwrap().left, ["room_members_max"]);
    }

    #[test]
    fn a_wrong_configuration_changes_nothing() {
        let mut reloader = reloader(&["--server-key", "old"]);
        reloader.take(Err(OptionsError::Invalid("wrong".into())));
        assert_eq!(**reloader.live.server_key.load(), "old");
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000_000)
    }

    /// A reloader of a server that has its tokens.
    fn with_tokens(arguments: &[&str]) -> (Reloader, Arc<Tokens>) {
        let mut reloader = reloader(arguments);
        let keys = SigningKeys::obtain(reloader.options()).unwrap();
        let life = Duration::from_secs(3600);
        let tokens = Arc::new(Tokens::new(&keys, life, life, &[], at(0)));
        reloader.follow_keys(keys, tokens.clone());
        (reloader, tokens)
    }

    fn token(tokens: &Tokens) -> String {
        tokens.issue(UserId(Uuid::from_u128(7)), "ann", Default::default(), at(100)).session
    }

    #[test]
    fn another_key_in_the_same_file_signs_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let data = directory.path().join("data");
        let arguments =
            ["--session-key-file", path.to_str().unwrap(), "--data", data.to_str().unwrap(), "--shards", "1"];
        std::fs::write(&path, "key-of-the-start-0123456789").unwrap();
        let (mut reloader, tokens) = with_tokens(&arguments);
        let old = token(&tokens);
        assert_eq!(reloader.apply(options(&arguments)).unwrap(), Changes::default());
        assert!(tokens.check_session(&old, at(101)).is_ok());
        std::fs::write(&path, "key-of-later-0123456789").unwrap();
        assert_eq!(reloader.apply(options(&arguments)).unwrap().applied, ["session_key_file (its content)"]);
        assert_eq!(tokens.check_session(&old, at(101)), Err(TokenRefusal::Invalid));
        assert!(tokens.check_session(&token(&tokens), at(101)).is_ok());
    }

    /// The key of the data directory is set aside, the server makes another, and the old one is accepted for a while.
    #[test]
    fn a_key_of_the_data_directory_is_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let plain = ["--data", data.to_str().unwrap(), "--shards", "1"];
        let (mut reloader, tokens) = with_tokens(&plain);
        let old = token(&tokens);
        std::fs::rename(data.join("session.key"), data.join("session.old.key")).unwrap();
        let set_aside = data.join("session.old.key");
        let until = ["--previous-session-key-until", "1970-01-01T00:03:20Z", "--previous-session-key-file"];
        let changes = reloader.apply(options(&[&plain, &until[..], &[set_aside.to_str().unwrap()]].concat())).unwrap();
        let expected = [
            "previous_session_key_file",
            "previous_session_key_until",
            "session.key in the data directory (its content)",
        ];
        assert_eq!((changes.applied, changes.left), (expected.map(str::to_owned).to_vec(), vec![]));
        assert!(tokens.check_session(&old, at(199)).is_ok(), "until the end");
        assert_eq!(tokens.check_session(&old, at(200)), Err(TokenRefusal::Invalid), "and no longer");
        assert!(tokens.check_session(&token(&tokens), at(200)).is_ok());
    }

    #[test]
    fn a_key_that_cannot_be_read_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let plain = ["--data", directory.path().to_str().unwrap(), "--shards", "1"];
        let (mut reloader, tokens) = with_tokens(&plain);
        let old = token(&tokens);
        std::fs::write(directory.path().join("session.key"), "damaged").unwrap();
        assert!(reloader.apply(options(&[&plain[..], &["--server-key", "new"]].concat())).is_err());
        assert_eq!(**reloader.live.server_key.load(), "defaultkey");
        assert!(tokens.check_session(&old, at(101)).is_ok());
    }

    #[test]
    fn the_memory_store_keeps_its_keys() {
        let (mut reloader, tokens) = with_tokens(&["--store", "memory"]);
        let old = token(&tokens);
        assert_eq!(reloader.apply(options(&["--store", "memory"])).unwrap(), Changes::default());
        assert!(tokens.check_session(&old, at(101)).is_ok());
    }
}
