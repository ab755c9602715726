//! What a terminal does to a server: it closes, it gives a wrong address, and it reads no more of what is printed.

use std::process::Command;

use rustix::process::Signal;
use tests::harness::{Launch, data_dir, loadgen};

#[test]
fn a_terminal_that_closes_ends_no_server() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    for _ in 0..3 {
        server.signal(Signal::HUP);
    }
    server.assert_works("SIGHUP");
    let said = server.stop();
    assert!(said.contains("SIGHUP: the configuration was read again, and nothing in it has changed"), "{said}");
}

#[test]
fn an_address_that_cannot_be_taken_is_explained() {
    let data = data_dir();
    // An address for documentation (RFC 5737), which no machine has.
    let nowhere = "192.0.2.1:7350".parse().expect("an address");
    Launch::on(data.path()).listen(nowhere).start_refused().assert_says(&["192.0.2.1:7350", "no interface"]);
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_goes_is_none() {
    let program = loadgen().with_file_name("stentor");
    let run = |line: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", line]).arg(&program).output().expect("a shell")
    };
    let full = run("exec \"$0\" schema > /dev/full");
    let said = String::from_utf8_lossy(&full.stderr).into_owned();
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output cannot be written") && !said.contains("panicked"), "{said}");
    let gone = run("set -o pipefail; \"$0\" schema | true");
    assert_eq!(gone.status.code(), Some(0), "{}", String::from_utf8_lossy(&gone.stderr));
}
