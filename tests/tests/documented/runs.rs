//! Runs the commands of the documents as they are written, but for names, ports and large numbers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use tests::harness::{DEADLINE, Launch, Socket, data_dir, loadgen, make_certificate};

use crate::list::{COMMANDS, How, Stage};
use crate::pages::{read, root};

/// The commands of a stage, in the order of the list, which is that of the documents.
fn commands(stage: Stage) -> impl Iterator<Item = &'static str> {
    let of_stage =
        move |(_, command, how): &(&'static str, &'static str, How)| (*how == How::Run(stage)).then_some(*command);
    let found: Vec<&str> = COMMANDS.iter().filter_map(of_stage).collect();
    assert!(!found.is_empty(), "no command is run in the stage {stage:?}");
    found.into_iter()
}

/// A command, with other words in place of some.
fn filled(command: &str, replaced: &[(&str, String)]) -> String {
    replaced.iter().fold(command.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The server's program, which is beside the load generator.
pub fn stentor() -> PathBuf {
    std::env::var_os("STENTOR_BIN").map_or_else(|| loadgen().with_file_name("stentor"), PathBuf::from)
}

/// A shell in which the programs have their names.
fn shell(command: &str, directory: &Path) -> Command {
    let programs = directory.join("programs");
    if !programs.is_dir() {
        fs::create_dir(&programs).expect("our own directory");
        for (name, path) in [("stentor", stentor()), ("loadgen", loadgen())] {
            std::os::unix::fs::symlink(path, programs.join(name)).expect("our own directory");
        }
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("there is a path"));
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STENTOR_")) {
        shell.env_remove(name);
    }
    shell.args(["-euo", "pipefail", "-c", command]).env("PATH", path).current_dir(directory).stdin(Stdio::null());
    shell
}

/// Asserts that a command succeeds, and returns what it printed.
fn succeeds(command: &str, output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}`: {}: {text}", output.status);
    text
}

#[test]
fn what_an_operator_types_beside_a_running_server_works() {
    let directory = data_dir();
    let data = directory.path().join("stentor-data");
    let server = Launch::on(&data).admin("127.0.0.1:0").start();
    let alice = server.sign_in("alice");
    let mut socket = Socket::connect(server.address(), &alice.token);
    let lobby = socket.join("lobby");
    socket.say(&lobby, r#"{"text":"kept"}"#);
    let admin = server.admin().address().to_string();
    let [backups, restored] = ["backups", "restored"].map(|name| directory.path().join(name));
    fs::create_dir(&backups).expect("our own directory");
    let replaced = [
        ("127.0.0.1:7351", admin.clone()),
        ("/var/backups/stentor", backups.display().to_string()),
        ("/var/lib/stentor", restored.display().to_string()),
    ];
    let mut said = String::new();
    for command in commands(Stage::Operator) {
        let command = filled(command, &replaced);
        let mut run = shell(&command, directory.path());
        let output = run.env("STENTOR_DATA", &data).env("STENTOR_ADMIN", &admin).output().expect("bash starts");
        said += &succeeds(&command, output);
    }
    for expected in ["\"sessions\"", "everything can be read", "is restored from"] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    server.stop();
    Launch::on(&restored).start().assert_works("the restore");
}

/// Numbers of the documents, and smaller ones: a test has some seconds.
const SMALLER: [(&str, &str); 11] = [
    ("taskset -c 1 ", ""),
    ("[--format protobuf]", "--format protobuf"),
    ("--users 1000 --rate 20 --secs 15", "--users 20 --rate 20 --secs 1"),
    ("--users 5000 --rate 800 --secs 10 --warmup 2", "--users 20 --rate 20 --secs 1 --warmup 0"),
    ("users = 100000", "users = 20"),
    ("publishers = 100", "publishers = 2"),
    ("ramp = 60", "ramp = 1"),
    ("secs = 300", "secs = 2"),
    ("HOST:PORT", "ADDRESS"),
    ("HOST:7350", "ADDRESS"),
    ("HOST:7351", "ADMIN"),
];

#[test]
fn what_is_run_against_a_server_passes() {
    let (data, directory) = (data_dir(), data_dir());
    let server = Launch::on(data.path()).admin("127.0.0.1:0").without_budgets().start();
    let mut replaced: Vec<(&str, String)> = SMALLER.map(|(from, to)| (from, to.to_owned())).into();
    replaced.extend([("ADDRESS", server.address().to_string()), ("ADMIN", server.admin().address().to_string())]);
    let event = read(Path::new("docs/event.md"));
    let scenario = event.split("# rehearsal.toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let scenario = filled(scenario.expect("the page has the file"), &replaced);
    assert!(scenario.contains("users = 20\n") && scenario.contains("secs = 2\n"), "{scenario}");
    fs::write(directory.path().join("rehearsal.toml"), scenario).expect("our own directory");
    for command in commands(Stage::Load) {
        let command = filled(command, &replaced);
        let output = shell(&command, directory.path()).output().expect("bash starts");
        succeeds(&command, output);
    }
    assert!(directory.path().join("rehearsal.html").is_file());
}

#[test]
fn servers_start_as_it_is_written() {
    for command in commands(Stage::Start) {
        let directory = data_dir();
        make_certificate(directory.path(), "");
        let replaced = [
            ("taskset -c 0 ", String::new()),
            ("fullchain.pem", "cert.pem".to_owned()),
            ("tls::443,127.0.0.1:7350", "tls:127.0.0.1:0,127.0.0.1:0".to_owned()),
            ("HOST:PORT", "127.0.0.1:0".to_owned()),
            ("HOST:ADMIN", "127.0.0.1:0".to_owned()),
            ("DIR", directory.path().join("data").display().to_string()),
        ];
        let command = filled(command, &replaced);
        let mut run = shell(&format!("exec {command} 2>&1"), directory.path());
        run.env("STENTOR_ADMIN", "127.0.0.1:0").env("STENTOR_DRAIN_WAIT", "0").stdout(Stdio::piped());
        let mut child = run.spawn().expect("bash starts");
        let (said, lines) = mpsc::channel();
        let printed = BufReader::new(child.stdout.take().expect("it is piped"));
        let reader = std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let mut text = String::new();
        let serves = loop {
            // The channel is closed when the server has ended.
            let Ok(line) = lines.recv_timeout(DEADLINE) else { break false };
            text += &format!("{line}\n");
            if line.trim_start().starts_with("open ") {
                break true;
            }
        };
        kill_process(Pid::from_child(&child), if serves { Signal::TERM } else { Signal::KILL }).expect("our own child");
        let status = child.wait().expect("our own child");
        reader.join().expect("the reader has ended");
        assert!(serves && status.success(), "`{command}`: {status}: {text}");
    }
}

#[test]
fn the_files_to_deploy_by_pass_what_their_comments_say() {
    let directory = data_dir();
    std::os::unix::fs::symlink(root().join("deploy"), directory.path().join("deploy")).expect("our own directory");
    for command in commands(Stage::Deployed) {
        let output = shell(command, directory.path()).output().expect("bash starts");
        succeeds(command, output);
    }
}
