//! SIGHUP: the configuration is read again. What can change while the server runs changes at once, and the log names the
//! rest, which needs a restart. A wrong configuration changes nothing.

use crate::config;
use crate::live::{LIVE_KEYS, LiveOptions};
use crate::options::{Options, OptionsError};

/// Reads the configuration again and compares it with what is in force.
#[derive(Debug)]
pub struct Reloader {
    in_force: Options,
    live: LiveOptions,
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
        Self { in_force: options, live }
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
        let Changes { applied, left } = self.apply(options);
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

    fn apply(&mut self, read: Options) -> Changes {
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
        changes.left.extend(self.changed_secrets(&read));
        self.in_force.configuration.file.clone_from(&read.configuration.file);
        self.in_force.admin_hosts = read.admin_hosts;
        self.in_force.server_key = read.server_key;
        self.in_force.trusted_proxies = read.trusted_proxies;
        // Without listeners that have TLS there is no certificate to change.
        if let (Some(in_force), Some(read)) = (&mut self.in_force.tls, read.tls) {
            *in_force = read;
        }
        self.live.set(&self.in_force);
        changes
    }

    /// Files of secrets that have the same path and another content.
    fn changed_secrets(&self, read: &Options) -> Vec<String> {
        let old = &self.in_force;
        let contents = [
            ("session_key_file", old.session_key == read.session_key),
            ("refresh_key_file", old.refresh_key == read.refresh_key),
            ("database.password_file", old.database == read.database),
        ];
        let is_same_file = |path: &str| {
            let values = |options: &Options| {
                let setting = options.configuration.settings.iter().find(|setting| setting.key.path() == path);
                setting.map(|setting| setting.values.clone()).unwrap_or_default()
            };
            !values(read).is_empty() && values(read) == values(old)
        };
        let changed = contents.into_iter().filter(|(path, same)| !same && is_same_file(path));
        changed.map(|(path, _)| format!("{path} (its content)")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    fn reloader(arguments: &[&str]) -> Reloader {
        let options = options(arguments);
        Reloader::new(options.clone(), LiveOptions::new(&options))
    }

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let mut reloader = reloader(&["--server-key", "old", "--shards", "1"]);
        let before = reloader.live.sha256.load_full();
        let new = ["--server-key", "new", "--shards", "2", "--trusted-proxies", "::1", "--admin-host", "a"];
        let changes = reloader.apply(options(&new));
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
        let again = reloader.apply(options(&new));
        assert_eq!((again.applied, again.left), (vec![], vec!["shards".to_owned()]), "it still needs a restart");
    }

    #[test]
    fn a_wrong_configuration_changes_nothing() {
        let mut reloader = reloader(&["--server-key", "old"]);
        reloader.take(Err(OptionsError::Invalid("wrong".into())));
        assert_eq!(**reloader.live.server_key.load(), "old");
    }

    #[test]
    fn another_key_in_the_same_file_needs_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let arguments = ["--session-key-file", path.to_str().unwrap()];
        std::fs::write(&path, "key-of-the-start-0123456789").unwrap();
        let mut reloader = reloader(&arguments);
        assert_eq!(reloader.apply(options(&arguments)), Changes::default());
        std::fs::write(&path, "key-of-later-0123456789").unwrap();
        assert_eq!(reloader.apply(options(&arguments)).left, ["session_key_file (its content)"]);
    }
}
