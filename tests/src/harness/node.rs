//! Runs one of the scripts in `clients/` with Node. A failure includes everything that the script printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::DEADLINE;
use super::server::{binary, wait};

/// The longest time a client may take. Each has many shorter deadlines of its own.
const CLIENT_DURATION_MAX: Duration = Duration::from_secs(240);

/// Runs `clients/<script>` with the machine's Node, the server's binary in STENTOR_BIN and these variables.
pub fn run_node(script: &str, environment: &[(&str, &str)]) {
    run(Path::new("node"), script, environment);
}

/// The same with Node 22, the first version with a built-in WebSocket client.
pub fn run_node_22(script: &str, environment: &[(&str, &str)]) {
    run(&node_22(), script, environment);
}

/// The path of Node 22.
pub fn node_22() -> PathBuf {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let node = clients().join(format!("node_modules/node-linux-{architecture}/bin/node"));
    assert!(node.is_file(), "{} is missing: run `npm ci` in tests/clients (`./check` does it for you)", node.display());
    node
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn run(node: &Path, script: &str, environment: &[(&str, &str)]) {
    let clients = clients();
    assert!(
        clients.join("node_modules/@heroiclabs/nakama-js-protobuf").is_dir(),
        "the JavaScript clients are not installed: run `npm ci` in tests/clients (`./check` does it for you)"
    );
    let mut command = Command::new(node);
    command.args(["--test-force-exit", "--test-reporter=spec", "--test-reporter-destination=stdout", script]);
    command.current_dir(&clients).env("STENTOR_BIN", binary()).envs(environment.iter().copied()).stdin(Stdio::null());
    println!("{}", run_to_the_end(command));
}

/// Runs a client that others wrote, and returns what it has printed. Panics with that if it fails, or does not end.
pub fn run_to_the_end(mut command: Command) -> String {
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    // Both streams share one open file, so that neither overwrites the other.
    let stream = || Stdio::from(output.as_file().try_clone().expect("our own file"));
    let mut child = command.stdout(stream()).stderr(stream()).spawn().unwrap_or_else(|error| {
        panic!("`{}` does not start ({error}): `./check` installs it", command.get_program().display())
    });
    let status = wait(&mut child, CLIENT_DURATION_MAX);
    if status.is_none() {
        // Sends SIGTERM first, so that the client can end the processes it started.
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        if wait(&mut child, DEADLINE).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
    let said = std::fs::read_to_string(output.path()).expect("our own file");
    assert!(status.is_some_and(|status| status.success()), "{command:?}: {status:?}\n{said}");
    said
}
