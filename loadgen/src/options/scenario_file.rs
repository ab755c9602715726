//! Flags from a file: `--scenario FILE` reads a TOML file whose keys are the names of flags. A flag on the command line
//! overrides the file's.
//!
//! The file's flags are put before those of the command line, so that all flags are parsed and refused in one way.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use thiserror::Error;
use toml::{Table, Value};

use super::Arguments;

const FLAG: &str = "scenario";
/// A file with every flag has a few KiB. A longer file is not a scenario file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Error)]
pub enum ScenarioFileError {
    #[error("--scenario {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("--scenario {path}: longer than {FILE_BYTES_MAX} bytes, so it is not a scenario file")]
    TooLong { path: PathBuf },
    #[error("--scenario {path}: {source}")]
    NoToml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("--scenario {path}: `loadgen {command}` has no flag --{key}; see `loadgen {command} --help`")]
    NoSuchFlag { path: PathBuf, command: String, key: String },
    #[error("--scenario {path}: {key} must be a number, a string, true or false, or a list of these")]
    NoValue { path: PathBuf, key: String },
}

/// The command line, with the flags of the scenario file if the command line names one.
pub fn with_file(line: Vec<OsString>) -> Result<Vec<OsString>, ScenarioFileError> {
    let Some(path) = named(&line) else { return Ok(line) };
    // The first argument is the program, the second the scenario's command.
    let Some(command) = line.get(1).and_then(|command| command.to_str()) else { return Ok(line) };
    let flags = flags(&path, command, &read(&path)?)?;
    let (before, after) = line.split_at(2);
    Ok(before.iter().cloned().chain(flags.into_iter().map(OsString::from)).chain(after.iter().cloned()).collect())
}

fn named(line: &[OsString]) -> Option<PathBuf> {
    let flag = format!("--{FLAG}");
    let begun = format!("--{FLAG}=");
    line.iter().enumerate().rev().find_map(|(at, argument)| {
        if *argument == *flag {
            return line.get(at + 1).map(PathBuf::from);
        }
        argument.to_str()?.strip_prefix(&begun).map(PathBuf::from)
    })
}

fn read(path: &Path) -> Result<Table, ScenarioFileError> {
    let unreadable = |source| ScenarioFileError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ScenarioFileError::TooLong { path: path.to_owned() });
    }
    let no_toml = |source| ScenarioFileError::NoToml { path: path.to_owned(), source: Box::new(source) };
    text.parse::<Table>().map_err(no_toml)
}

fn flags(path: &Path, command: &str, table: &Table) -> Result<Vec<String>, ScenarioFileError> {
    let arguments = Arguments::command();
    let known = |key: &str| {
        let command = arguments.find_subcommand(command);
        key != FLAG && command.is_some_and(|command| command.get_arguments().any(|flag| flag.get_long() == Some(key)))
    };
    let mut flags = Vec::new();
    for (key, value) in table {
        if !known(key) {
            let (path, command, key) = (path.to_owned(), command.to_owned(), key.clone());
            return Err(ScenarioFileError::NoSuchFlag { path, command, key });
        }
        let values = if let Value::Array(values) = value { values.as_slice() } else { std::slice::from_ref(value) };
        for value in values {
            match value {
                Value::Boolean(true) => flags.push(format!("--{key}")),
                Value::Boolean(false) => {}
                Value::String(text) => flags.push(format!("--{key}={text}")),
                Value::Integer(number) => flags.push(format!("--{key}={number}")),
                Value::Float(number) => flags.push(format!("--{key}={number}")),
                Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                    return Err(ScenarioFileError::NoValue { path: path.to_owned(), key: key.clone() });
                }
            }
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Command;

    fn check(command: &str, text: &str, expected: Result<&[&str], &str>) {
        let table: Table = text.parse().expect("valid TOML");
        let found = flags(Path::new("f.toml"), command, &table).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
            _ => panic!("{text}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn keys_are_flags_and_values_their_values() {
        check(
            "room",
            "users = 5\nrate = 0.5\nhidden = true\nno-persist = false",
            Ok(&["--hidden", "--rate=0.5", "--users=5"]),
        );
        check("rooms", "sizes = \"2:60,20:30\"", Ok(&["--sizes=2:60,20:30"]));
        check("room", "fail-if = [\"p99>250ms\", \"missing>0\"]", Ok(&["--fail-if=p99>250ms", "--fail-if=missing>0"]));
        check("room", "user = 5", Err("has no flag --user"));
        check("room", "sizes = \"2:60\"", Err("`loadgen room` has no flag --sizes"));
        check("room", "scenario = \"another.toml\"", Err("no flag --scenario"));
        check("room", "users = { a = 1 }", Err("users must be a number"));
        check("nothing", "users = 1", Err("no flag --users"));
    }

    #[test]
    fn every_example_is_understood_and_a_flag_wins() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut examples = 0;
        for entry in std::fs::read_dir(folder).expect("the examples") {
            let path = entry.expect("an example").path();
            // An example file is named after its command; the name may have more parts after it.
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            let command = name.split('-').next().expect("a first word");
            // The first value stands for one from the file; the second is the command line's.
            let twice = ["--threads", "5", "--threads", "77"];
            let line = [&["loadgen", command, "--scenario", path.to_str().expect("a path")], &twice[..]].concat();
            let options =
                crate::options::parse(line.into_iter().map(OsString::from).collect()).expect("a valid example");
            let of_run = |run: crate::options::RunOptions| run.plan.threads;
            let threads = match options.command {
                Command::Room(arguments) => arguments.try_into().map(of_run),
                Command::Rooms(arguments) => arguments.try_into().map(of_run),
                Command::Event(arguments) => arguments.try_into().map(of_run),
                Command::Curve(arguments) => crate::options::CurveOptions::try_from(arguments).map(|run| run.threads),
                Command::Connect(arguments) => {
                    crate::options::ConnectOptions::try_from(arguments).map(|run| run.threads)
                }
                Command::History(arguments) => {
                    crate::options::HistoryOptions::try_from(arguments).map(|run| run.threads)
                }
                _ => continue,
            };
            assert_eq!(threads.ok(), Some(Some(77)), "{name}");
            examples += 1;
        }
        assert!(examples >= 6, "the examples are found");
    }

    #[test]
    fn a_file_that_is_not_there_or_is_none_says_so() {
        let line = |path: &str| ["loadgen", "room", "--scenario", path].map(OsString::from).to_vec();
        let missing = with_file(line("/nowhere/scenario.toml")).expect_err("no such file").to_string();
        assert!(missing.contains("--scenario /nowhere/scenario.toml"), "{missing}");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs");
        let no_toml = with_file(line(manifest)).expect_err("Rust is no TOML").to_string();
        assert!(no_toml.contains("main.rs"), "{no_toml}");
    }
}
