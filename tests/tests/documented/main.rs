//! Every command in the documents is run here as it is written, is run by another test, or is in a list with the reason why
//! no test runs it. A command that is new in a document and is in no list fails here.

mod list;
mod pages;
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use list::{COMMANDS, How};
use pages::{commands, root, spans};

fn files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder of tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
            self::files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_command_is_run_or_has_a_reason() {
    let found: BTreeSet<(String, String)> = commands().into_iter().map(|it| (it.page, it.command)).collect();
    let owned = |(page, command, _): &(&str, &str, How)| ((*page).to_owned(), (*command).to_owned());
    let listed: BTreeSet<(String, String)> = COMMANDS.iter().map(owned).collect();
    assert_eq!(listed.len(), COMMANDS.len(), "a command is listed once");
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(new.is_empty(), "commands that no test runs: run them, or say in list.rs why not: {new:#?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "commands of list.rs that no document has: {gone:#?}");
}

#[test]
fn the_tests_that_run_commands_exist_and_reasons_are_said() {
    let mut sources = Vec::new();
    for folder in ["tests/tests", "bench/src", "loadgen/tests"] {
        files(&root().join(folder), &mut sources);
    }
    let text: String = sources.iter().map(|path| fs::read_to_string(path).expect("a source")).collect();
    for (_, command, how) in COMMANDS {
        match how {
            How::By(test) => assert!(text.contains(&format!("fn {test}(")), "{command}: there is no test {test}"),
            How::Not(reason) => assert!(!reason.is_empty(), "{command}: without a reason"),
            How::Run(_) => {}
        }
    }
}

/// A name in capital letters, and what stands in its place in a command that is only read.
const PLACEHOLDERS: [(&str, &str); 14] = [
    ("ADDRESS:PORT", "127.0.0.1:1"),
    ("HOST:PORT", "127.0.0.1:1"),
    ("HOST:ADMIN", "127.0.0.1:2"),
    ("HOST:7350", "127.0.0.1:1"),
    ("HOST:7351", "127.0.0.1:2"),
    ("ID-OR-NAME", "alice"),
    ("--user ID", "--user 018f4c1e-7d3a-7000-8000-000000000001"),
    ("--session ID", "--session 018f4c1e-7d3a-7000-8000-000000000001"),
    ("SHELL", "bash"),
    ("TIME", "1s"),
    ("SECS", "1"),
    (" N", " 1"),
    ("rehearsal.toml", "loadgen/scenarios/event.toml"),
    ("[--format protobuf]", "--format protobuf"),
];

/// Spans that name a flag without its value.
const WITHOUT_VALUE: [&str; 1] = ["loadgen worker --listen"];

/// The words of a command of ours, as they are given to the program. `None` if another program is meant.
fn ours(command: &str) -> Option<(PathBuf, Vec<String>)> {
    let filled = PLACEHOLDERS.iter().fold(command.to_owned(), |text, (name, value)| text.replace(name, value));
    let filled = filled.split(['>', '|']).next().unwrap_or_default().replace(['[', ']'], "");
    let bare = filled.trim_start_matches("taskset -c 0 ").trim_start_matches("taskset -c 1 ");
    let bare = bare.replace("cargo run --release -p loadgen -- ", "loadgen ");
    let mut words = bare.split_whitespace().map(str::to_owned);
    let program = match words.next()?.as_str() {
        "stentor" => runs::stentor(),
        "loadgen" => tests::harness::loadgen(),
        _ => return None,
    };
    Some((program, words.collect()))
}

/// A program looks at all words before it prints its help, so it refuses a flag or a value that there is not.
#[test]
fn the_words_of_every_command_are_understood() {
    let written = commands().into_iter().map(|it| it.command);
    let all: BTreeSet<String> = written.chain(spans()).filter(|it| !WITHOUT_VALUE.contains(&it.as_str())).collect();
    let mut checked = 0;
    for command in all {
        let Some((program, words)) = ours(&command) else { continue };
        let mut run = std::process::Command::new(program);
        let output = run.args(&words).arg("--help").current_dir(root()).stdin(std::process::Stdio::null()).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{command}`, as {words:?}: {said}");
        checked += 1;
    }
    assert!(checked > 40, "{checked} commands");
}
