//! The keys of the configuration, read off the declaration of `Settings`.

use std::any::TypeId;
use std::num::NonZeroU16;

use clap::{Arg, Args, Command};

use super::settings::Settings;
use crate::database::{self, DatabaseSettings};

/// The flag that names the configuration file. It is no key of that file.
pub(super) const CONFIG: &str = "config";

/// The number types of `Settings`.
fn number_types() -> [TypeId; 4] {
    [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<usize>(), TypeId::of::<NonZeroU16>()]
}

/// The form of a key's value in the configuration file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Number,
    Boolean,
    /// A string such as `90s`, or a number of seconds.
    Time,
    /// An array of strings.
    List,
}

/// A key of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    arg: Arg,
    /// The section of the file in which the key stands; `None` is the file's beginning.
    pub section: Option<&'static str>,
    /// The key's name inside its section.
    pub name: String,
}

impl Key {
    /// The key with its section, as in `database.nodes`.
    pub fn path(&self) -> String {
        self.section.map_or_else(|| self.name.clone(), |section| format!("{section}.{}", self.name))
    }

    /// The name that is the same everywhere: the flag's, with underscores.
    pub fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    /// The flag, with its dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.arg.get_long().unwrap_or_default())
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        self.arg.get_env().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The help text, without the default.
    pub fn help(&self) -> String {
        self.arg.get_help().map(ToString::to_string).unwrap_or_default()
    }

    /// The heading under which the help lists the key.
    pub fn heading(&self) -> &str {
        self.arg.get_help_heading().unwrap_or("Options")
    }

    /// What stands for the value in the help, such as `ADDR:PORT`. For a list it is that of one element.
    pub fn value_name(&self) -> &str {
        let name = self.arg.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str());
        name.trim_end_matches(",..")
    }

    /// The default; empty if there is none. It has several elements only for a list.
    pub fn default(&self) -> Vec<String> {
        self.arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect()
    }

    /// The values that there are, if they are few.
    pub fn choices(&self) -> Vec<String> {
        let shown = self.arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
        if self.kind() == Kind::Boolean { Vec::new() } else { shown.map(|value| value.get_name().to_owned()).collect() }
    }

    /// The form of its value in the configuration file.
    pub fn kind(&self) -> Kind {
        let of = self.arg.get_value_parser().type_id();
        if self.arg.get_value_delimiter().is_some() {
            Kind::List
        } else if of == TypeId::of::<bool>() {
            Kind::Boolean
        } else if number_types().iter().any(|number| of == *number) {
            Kind::Number
        } else if self.value_name() == "TIME" {
            Kind::Time
        } else {
            Kind::Text
        }
    }

    /// Whether the value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.arg.is_hide_env_values_set()
    }

    /// The declaration, for clap.
    pub(super) fn arg(&self) -> &Arg {
        &self.arg
    }
}

/// All keys, in the order of their declaration; those of a section come together.
pub fn keys() -> Vec<Key> {
    let in_section = DatabaseSettings::augment_args(Command::new("section"));
    let all = Settings::augment_args(Command::new("all"));
    let key = |arg: &Arg| {
        let id = arg.get_id().as_str();
        let is_in_section = in_section.get_arguments().any(|other| other.get_id() == arg.get_id());
        let (section, name) =
            if is_in_section { (Some(database::SECTION), database::name_in_section(id)) } else { (None, id) };
        Key { name: name.to_owned(), section, arg: arg.clone() }
    };
    all.get_arguments().filter(|arg| arg.get_id() != CONFIG).map(key).collect()
}

/// The variable that names the configuration file.
pub(super) fn config_variable() -> String {
    let all = Settings::augment_args(Command::new("all"));
    let config = all.get_arguments().find(|arg| arg.get_id() == CONFIG).and_then(Arg::get_env);
    config.unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(path: &str) -> Key {
        keys().into_iter().find(|key| key.path() == path).unwrap()
    }

    #[test]
    fn every_key_is_declared_whole() {
        let keys = keys();
        assert!(keys.len() > 20, "{}", keys.len());
        for key in &keys {
            let path = key.path();
            assert_eq!(key.flag(), format!("--{}", key.id().replace('_', "-")), "{path}");
            assert_eq!(key.variable(), format!("STENTOR_{}", key.id().to_uppercase()), "{path}");
            assert!(key.help().len() > 10 && !key.help().contains("default"), "{path}: {}", key.help());
            assert_ne!(key.heading(), "Options", "{path}");
            let says_what_then = ["without it", "Key", "File", "User", "password"];
            let clear = !key.default().is_empty() || says_what_then.iter().any(|word| key.help().contains(word));
            assert!(clear, "{path} has no default, and its help does not say what happens without it");
        }
        let paths: BTreeSet<_> = keys.iter().map(Key::path).collect();
        assert_eq!(paths.len(), keys.len(), "no two keys have one name");
        let sections: Vec<_> = keys.iter().map(|key| key.section).collect();
        assert!(sections.is_sorted(), "a file has the keys without a section first: {sections:?}");
    }

    #[test]
    fn forms_are_read_off_the_types() {
        let check = |path: &str, expected: Kind| assert_eq!(key(path).kind(), expected, "{path}");
        check("listen", Kind::List);
        check("store", Kind::Text);
        check("shards", Kind::Number);
        check("password_threads", Kind::Number);
        check("sends_per_second", Kind::Number);
        check("proxy_protocol", Kind::Boolean);
        check("session_ttl", Kind::Time);
        check("admin_host", Kind::List);
        assert_eq!(key("store").choices()[..2], ["embedded", "memory"]);
        assert_eq!(key("admin_host").value_name(), "NAME");
    }

    #[cfg(feature = "scylla")]
    #[test]
    fn the_section_of_the_database_has_names_of_its_own() {
        let check = |path: &str, id: &str, kind: Kind| {
            let key = key(path);
            assert_eq!((key.id(), key.kind(), key.section), (id, kind, Some("database")));
        };
        check("database.nodes", "scylla", Kind::List);
        check("database.keyspace", "keyspace", Kind::Text);
        check("database.replication", "replication", Kind::Number);
        check("database.password_file", "scylla_password_file", Kind::Text);
        check("database.retention_room", "retention_room", Kind::Time);
    }

    #[test]
    fn secrets_are_those_whose_variables_are_hidden() {
        let secrets: Vec<_> = keys().into_iter().filter(Key::is_secret).map(|key| key.id().to_owned()).collect();
        let expected =
            ["session_key", "refresh_key", "previous_session_key", "previous_refresh_key", "scylla_password"];
        assert_eq!(secrets, expected[..if cfg!(feature = "scylla") { 5 } else { 4 }]);
    }
}
