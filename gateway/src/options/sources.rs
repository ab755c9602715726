//! Where values come from. A flag wins over the environment, the environment over the file, and the file over the default.
//!
//! Mistakes in the environment and in the file are collected, so that one run tells all of them. Values are read with the
//! parsers of the flags, whatever their source.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};

use super::OptionsError;
use super::commands::{self, CommandLine};
use super::declared::{CONFIG, Key, Kind, config_variable, keys};
use super::file::{self, Written};
use super::nearest::nearest;

/// What all variables of Stentor's begin with.
const PREFIX: &str = "STENTOR_";

/// Where a value came from. A later variant wins over an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// There is no value.
    NotGiven,
    Default,
    /// A line of the configuration file, from 1.
    File(usize),
    Environment,
    Flag,
}

/// A key with its value, before it is parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: Key,
    /// The elements of a list, or one value. Empty if there is none.
    pub values: Vec<OsString>,
    pub source: Source,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.key.path(), self.source)
    }
}

/// All keys with their values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// In the order of `keys`.
    pub settings: Vec<Setting>,
    /// Whether a secret stands in the file as text, even if another source wins.
    pub file_has_secrets: bool,
}

impl Configuration {
    /// Where the value of the first key stands that this text names: a line of the file, or a variable.
    pub(super) fn place_of_first_key(&self, text: &str) -> Option<String> {
        let mut words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let setting = words.find_map(|word| self.settings.iter().find(|setting| setting.key.id() == word))?;
        match setting.source {
            Source::File(line) => Some(format!("{}:{line}", self.file.as_ref()?.display())),
            Source::Environment => Some(setting.key.variable()),
            Source::NotGiven | Source::Default | Source::Flag => None,
        }
    }

    /// The files that have a secret each.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let is_path = |setting: &&Setting| {
            let of = setting.key.id().strip_suffix("_file");
            of.is_some_and(|of| self.settings.iter().any(|other| other.key.is_secret() && other.key.id() == of))
        };
        let paths = self.settings.iter().filter(is_path).flat_map(|setting| &setting.values).map(PathBuf::from);
        self.file.iter().filter(|_| self.file_has_secrets).cloned().chain(paths).collect()
    }
}

/// Reads the command line, then the environment and the file if the command needs the configuration. The first argument
/// is the program's name. Returns values that `CommandLine` can be made of.
pub(super) fn resolve(
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> Result<(ArgMatches, Configuration), OptionsError> {
    let command = commands::command_line().mut_args(|arg| arg.env(Resettable::<clap::builder::OsStr>::Reset));
    let flags = command.clone().try_get_matches_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => commands::help(arguments).unwrap_or(error),
        _ => error,
    })?;
    let keys = keys();
    let reads = CommandLine::from_arg_matches(&flags)?.reads_configuration();
    let environment = if reads { environment } else { &[] };
    let file = if reads { config_file(&flags, environment) } else { None };
    let mut mistakes = misspelt(environment, &keys);
    let (written, of_file) = file.as_deref().map(|path| file::read(path, &keys)).unwrap_or_default();
    mistakes.extend(of_file);
    let file_has_secrets = written.iter().any(|written| keys[written.key].is_secret());
    let mut settings = layered(keys, &flags, environment, written);
    mistakes.extend(settings.iter().filter_map(|setting| mistake(setting, file.as_deref())));
    if !mistakes.is_empty() {
        return Err(OptionsError::Mistakes(mistakes));
    }
    keep_strongest_secrets(&mut settings);
    // What is not given by a flag takes the place of the default, so that clap parses it like a flag's value.
    let command = settings.iter().filter(|setting| setting.source < Source::Flag).fold(command, |command, setting| {
        command.mut_arg(setting.key.id(), |arg| arg.default_values(setting.values.clone()))
    });
    let matches = command.try_get_matches_from(arguments)?;
    Ok((matches, Configuration { file, settings, file_has_secrets }))
}

fn config_file(flags: &ArgMatches, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let variable = config_variable();
    let by_variable = || environment.iter().find(|(name, _)| *name == *variable).map(|(_, path)| path.into());
    flags.get_one::<PathBuf>(CONFIG).cloned().or_else(by_variable)
}

/// Each key with the value of its strongest source.
fn layered(
    keys: Vec<Key>,
    flags: &ArgMatches,
    environment: &[(OsString, OsString)],
    written: Vec<Written>,
) -> Vec<Setting> {
    let mut written: BTreeMap<usize, Written> = written.into_iter().map(|written| (written.key, written)).collect();
    let setting = |(place, key): (usize, Key)| {
        let by_flag = flags.value_source(key.id()) == Some(ValueSource::CommandLine);
        let flag = by_flag.then(|| flags.get_raw(key.id()).into_iter().flatten().map(OsStr::to_owned).collect());
        let variable = environment.iter().find(|(name, _)| *name == *key.variable());
        let variable = variable.map(|(_, value)| elements(&key, value));
        let (values, source) = if let Some(values) = flag {
            (values, Source::Flag)
        } else if let Some(values) = variable {
            (values, Source::Environment)
        } else if let Some(Written { line, values, .. }) = written.remove(&place) {
            (values, Source::File(line))
        } else {
            let values: Vec<OsString> = key.default().into_iter().map(OsString::from).collect();
            let source = if values.is_empty() { Source::NotGiven } else { Source::Default };
            (values, source)
        };
        Setting { key, values, source }
    };
    keys.into_iter().enumerate().map(setting).collect()
}

/// A variable's value, split if the key is a list.
fn elements(key: &Key, value: &OsStr) -> Vec<OsString> {
    match (key.kind(), value.to_str()) {
        (Kind::List, Some(text)) => text.split(',').map(OsString::from).collect(),
        _ => vec![value.to_owned()],
    }
}

/// A secret has two forms: its text under `KEY`, and the path of its file under `KEY_file`. The strongest source of
/// either form decides: what weaker sources say in the other form does not count.
fn keep_strongest_secrets(settings: &mut [Setting]) {
    for text in 0..settings.len() {
        let id_of_path = format!("{}_file", settings[text].key.id());
        let path = settings.iter().position(|setting| setting.key.id() == id_of_path);
        let Some(path) = path.filter(|_| settings[text].key.is_secret()) else { continue };
        let strength = |place: usize| match settings[place].source {
            Source::File(_) => Source::File(0),
            source => source,
        };
        let weaker = match strength(text).cmp(&strength(path)) {
            std::cmp::Ordering::Less => text,
            std::cmp::Ordering::Greater => path,
            std::cmp::Ordering::Equal => continue,
        };
        settings[weaker].values.clear();
        settings[weaker].source = Source::NotGiven;
    }
}

/// What is wrong with a value of the environment or the file. Flags have been parsed before.
fn mistake(setting: &Setting, file: Option<&Path>) -> Option<String> {
    let Setting { key, values, source } = setting;
    let place = match source {
        Source::Environment => key.variable(),
        Source::File(line) => format!("{}:{line}: {}", file?.display(), key.path()),
        Source::NotGiven | Source::Default | Source::Flag => return None,
    };
    let arg = key.arg().clone().env(Resettable::<clap::builder::OsStr>::Reset);
    let arg = arg.default_values(Vec::<clap::builder::OsStr>::new());
    let command = clap::Command::new("value").no_binary_name(true).disable_help_flag(true).arg(arg);
    let flags = values.iter().map(|value| {
        let mut flag = OsString::from(format!("{}=", key.flag()));
        flag.push(value);
        flag
    });
    let error = command.try_get_matches_from(flags).err()?;
    let shown: Vec<String> = values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let shown = if key.is_secret() { String::new() } else { format!(" is {:?}", shown.join(",")) };
    Some(format!("{place}{shown}; {}", advice(&error)))
}

/// What to write instead of a value, from clap's error.
fn advice(error: &clap::Error) -> String {
    if let Some(parser) = std::error::Error::source(error) {
        return parser.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(choices)) if !choices.is_empty() => format!("write one of {}", choices.join(", ")),
        _ => "write another value".to_owned(),
    }
}

/// A line for each variable that begins like one of Stentor's and is none.
fn misspelt(environment: &[(OsString, OsString)], keys: &[Key]) -> Vec<String> {
    let right: Vec<String> = keys.iter().map(Key::variable).chain([config_variable()]).collect();
    let names = environment.iter().filter_map(|(name, _)| name.to_str()?.strip_prefix(PREFIX));
    let wrong = names.filter(|name| !is_of_others(name) && !right.iter().any(|right| right[PREFIX.len()..] == **name));
    let line = |name: &str| match nearest(name, right.iter().map(|right| &right[PREFIX.len()..])) {
        Some(meant) => format!("there is no variable {PREFIX}{name}; did you mean {PREFIX}{meant}?"),
        None => format!(
            "there is no variable {PREFIX}{name}; `stentor --help` lists all, and {PREFIX}TEST_ begins those of other programs"
        ),
    };
    wrong.map(line).collect()
}

/// Whether a variable, without its prefix, belongs to another program. There are two rules. The tests of this project
/// have `STENTOR_BIN` and `STENTOR_TEST_...`. Kubernetes and Docker's links tell every container about a service that is
/// called `stentor` or `stentor-...`, in variables that end as below.
fn is_of_others(name: &str) -> bool {
    if name == "BIN" || name.starts_with("TEST_") {
        return true;
    }
    let words: Vec<&str> = name.split('_').collect();
    let has = |end: &[&str]| words.ends_with(end);
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let address = words
        .windows(3)
        .any(|three| three[0] == "PORT" && is_number(three[1]) && matches!(three[2], "TCP" | "UDP" | "SCTP"));
    let of_service = words.windows(2).any(|two| two == ["SERVICE", "PORT"]);
    has(&["SERVICE", "HOST"]) || of_service || has(&["PORT"]) || address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn configuration(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Configuration, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        std::fs::write(&path, file).unwrap();
        let mut arguments: Vec<OsString> = ["stentor", "--config"].map(OsString::from).into();
        arguments.push(path.into());
        arguments.extend(flags.iter().map(OsString::from));
        let resolved = resolve(&arguments, &pairs(variables));
        resolved.map(|(_, configuration)| configuration).map_err(|error| error.to_string())
    }

    #[test]
    fn each_value_knows_its_source() {
        let file = "\nlisten = '127.0.0.1:3'\nshards = 3\nroom_members_max = 3\n";
        let variables = [("STENTOR_LISTEN", "127.0.0.1:2"), ("STENTOR_SHARDS", "2"), ("STENTOR_ADMIN_HOST", "a,b")];
        let configuration = configuration(file, &variables, &["--listen", "127.0.0.1:1"]).unwrap();
        let check = |path: &str, values: &[&str], source: Source| {
            let setting = configuration.settings.iter().find(|setting| setting.key.path() == path).unwrap();
            assert_eq!(
                (&setting.values[..], setting.source),
                (&values.iter().map(OsString::from).collect::<Vec<_>>()[..], source),
                "{path}"
            );
        };
        check("listen", &["127.0.0.1:1"], Source::Flag);
        check("shards", &["2"], Source::Environment);
        check("admin_host", &["a", "b"], Source::Environment);
        check("room_members_max", &["3"], Source::File(4));
        check("store", &["embedded"], Source::Default);
        check("trusted_proxies", &[], Source::NotGiven);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let variables = [("STENTOR_LISTN", "x"), ("STENTOR_SHARDS", "many")];
        let said = configuration("keep_alive = '25h'\n\nstore = 'paper'\n", &variables, &[]).unwrap_err();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        for (line, parts) in lines.iter().zip([
            &["STENTOR_LISTN", "did you mean STENTOR_LISTEN?"][..],
            &["s.toml:1: keep_alive is \"25h\"; write a time from 1s to 24h"],
            &["s.toml:3: store is \"paper\"; write one of embedded, memory"],
            &["STENTOR_SHARDS is \"many\"; write a whole number from 1 to 256"],
        ]) {
            for part in parts {
                assert!(said.contains(part), "{part:?} is not in {line}");
            }
        }
    }

    #[test]
    fn variables_of_tests_and_of_services_are_left_alone() {
        let keys = keys();
        let check = |name: &str, wrong: bool| {
            assert_eq!(misspelt(&pairs(&[(name, "x")]), &keys).len(), usize::from(wrong), "{name}");
        };
        let of_service =
            ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_7350_TCP", "PORT_7350_TCP_ADDR"];
        for name in of_service {
            check(&format!("STENTOR_{name}"), false);
            check(&format!("STENTOR_ADMIN_{name}"), false);
        }
        for name in
            ["STENTOR_TEST_CQL", "STENTOR_TEST_ANYTHING", "STENTOR_BIN", "STENTOR_LISTEN", "STENTOR_CONFIG", "PATH"]
        {
            check(name, false);
        }
        for name in
            ["STENTOR_", "STENTOR_PORTS", "STENTOR_TESTS", "STENTOR_LISTEN_", "STENTOR_DATA_DIR", "STENTOR_SERVICE"]
        {
            check(name, true);
        }
    }

    #[test]
    fn commands_that_print_declarations_read_no_configuration() {
        let arguments = ["stentor", "config", "default", "--config", "/nonexistent/x"].map(OsString::from);
        let (_, configuration) = resolve(&arguments, &pairs(&[("STENTOR_NONSENSE", "1")])).unwrap();
        assert_eq!(configuration.file, None);
    }
}
