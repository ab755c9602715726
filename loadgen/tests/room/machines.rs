//! Workers on other machines, which here are all this machine: the totals equal those of one process, and a lost worker
//! is named.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::fake_nakama::{FakeNakama, Fault};
use crate::{MESSAGES, PATIENCE, USERS, assert_gone, loadgen, run};

/// A listening worker.
pub struct Host {
    process: Child,
    pub address: String,
}

impl Host {
    pub fn start(secret: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(["worker", "--listen", "127.0.0.1:0"]).env("LOADGEN_SECRET", secret);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, address }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn both(hosts: &[Host; 2]) -> String {
    format!("{},{}", hosts[0].address, hosts[1].address)
}

/// The parts of a report that do not depend on timing.
fn totals(report: &serde_json::Value) -> Vec<serde_json::Value> {
    let mut deliveries = report["deliveries"].clone();
    for timed in ["in_window", "per_second", "last_after_end_ms"] {
        deliveries.as_object_mut().unwrap().remove(timed);
    }
    let counts = ["/latency/delivery/count", "/latency/ack/count", "/latency/generator_lateness/count"];
    let counts = counts.map(|count| report.pointer(count).unwrap().clone());
    let rest = ["/passed", "/faults", "/messages", "/connections/disconnected", "/connections/presence_joins"];
    let rest = rest.map(|part| report.pointer(part).unwrap().clone());
    [deliveries].into_iter().chain(counts).chain(rest).collect()
}

#[test]
fn two_machines_give_the_same_totals_as_one_process() {
    let server = FakeNakama::start(Fault::None);
    let (code, alone, text) = run(&server, &[]);
    assert_eq!(code, Some(0), "{text}");
    let hosts = [Host::start("hush"), Host::start("hush")];
    // The machines are free again after a run, so they serve several runs.
    for more in [&[][..], &["--processes", "4", "--threads", "2"]] {
        let workers = both(&hosts);
        let flags = [&["--workers", workers.as_str(), "--secret", "hush"], more].concat();
        let (code, report, text) = run(&server, &flags);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(totals(&report), totals(&alone), "{text}");
        assert_eq!(report["deliveries"]["delivered"], MESSAGES * USERS, "{text}");
        assert_eq!(report["connections"]["processes"], if more.is_empty() { 2 } else { 4 }, "{text}");
        assert_eq!(report["machines"][1]["address"], hosts[1].address, "{text}");
        // Here all machines share one clock, so the offset must be within the uncertainty.
        for machine in report["machines"].as_array().unwrap() {
            let clock = &machine["clock"];
            let (offset, uncertainty) =
                (clock["offset_ns"].as_i64().unwrap(), clock["uncertainty_ns"].as_u64().unwrap());
            assert!(offset.unsigned_abs() <= uncertainty, "{clock}");
        }
        assert!(!report.to_string().contains("hush"), "{report}");
    }
}

#[test]
fn a_fault_seen_on_another_machine_is_the_same_fault() {
    let server = FakeNakama::start(Fault::Drop);
    let hosts = [Host::start(""), Host::start("")];
    let (code, report, text) = run(&server, &["--workers", &both(&hosts)]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["deliveries"]["missing"], 1, "{text}");
}

/// Starts a run on both machines and waits until it publishes. Returns the coordinator and its workers' process ids.
fn in_the_middle(server: &FakeNakama, hosts: &[Host; 2]) -> (Child, Vec<Pid>) {
    let mut command = loadgen(server, &["--secs", "600", "--workers", &both(hosts)]);
    let mut coordinator = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(coordinator.stderr.as_mut().unwrap());
    let workers = hosts.iter().map(|host| {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains(&host.address), "{line}");
        let pid = line.split_once("pid ").unwrap().1.split_once(',').unwrap().0;
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    });
    let workers = workers.collect();
    server.published.recv_timeout(PATIENCE).unwrap();
    (coordinator, workers)
}

/// The coordinator's output at its end, which was a failure.
fn failure(mut coordinator: Child) -> String {
    let mut said = String::new();
    coordinator.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(coordinator.wait().unwrap().code(), Some(1), "{said}");
    said
}

#[test]
fn a_worker_killed_on_another_machine_fails_the_run_by_name() {
    let server = FakeNakama::start(Fault::None);
    let hosts = [Host::start(""), Host::start("")];
    let (coordinator, workers) = in_the_middle(&server, &hosts);
    kill_process(workers[1], Signal::KILL).unwrap();
    let said = failure(coordinator);
    let pid = workers[1].as_raw_nonzero();
    let name = format!("worker 1 ({}, pid {pid}, users 10..20) died: signal: 9", hosts[1].address);
    assert!(said.contains(&name), "{said}");
    assert_gone(&workers);
}

#[test]
fn a_machine_that_is_lost_fails_the_run_by_name() {
    let server = FakeNakama::start(Fault::None);
    let mut hosts = [Host::start(""), Host::start("")];
    let (coordinator, workers) = in_the_middle(&server, &hosts);
    hosts[0].process.kill().unwrap();
    let said = failure(coordinator);
    assert!(said.contains(&format!("worker 0 ({}, pid {}", hosts[0].address, workers[0].as_raw_nonzero())), "{said}");
    assert_gone(&workers);
}

#[test]
fn a_machine_is_free_again_when_its_coordinator_dies_and_taken_before() {
    let server = FakeNakama::start(Fault::None);
    let hosts = [Host::start(""), Host::start("")];
    let (mut coordinator, workers) = in_the_middle(&server, &hosts);
    let (code, _, text) = run(&server, &["--workers", &hosts[0].address]);
    assert_eq!((code, text.contains("wait until that run is over")), (Some(1), true), "{text}");
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    assert_gone(&workers);
}

#[test]
fn machines_that_cannot_be_had_say_why() {
    let server = FakeNakama::start(Fault::None);
    let host = Host::start("hush");
    // A socket that is bound and does not listen: no other test can take the port, and every connection is refused.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = deaf.local_addr().unwrap().to_string();
    // Another server that listens here, and that sends first.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other_address = other.local_addr().unwrap().to_string();
    let greeting = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"220 mail.example ready\r\n").unwrap();
    });
    for (workers, secret, exit_code, said) in [
        (host.address.as_str(), "", 1, "--secret"),
        (host.address.as_str(), "loud", 1, "--secret"),
        (nobody.as_str(), "", 1, "loadgen worker --listen"),
        (other_address.as_str(), "hush", 1, "does not speak"),
        ("nowhere", "", 2, "--workers"),
        ("192.0.2.1:1", "", 2, "--addr"),
    ] {
        let (code, _, text) = run(&server, &["--workers", workers, "--secret", secret]);
        assert_eq!((code, text.contains(said)), (Some(exit_code), true), "{workers} {secret}: {text}");
    }
    greeting.join().unwrap();
    drop(deaf);
    let mut open = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = open.args(["worker", "--listen", "0.0.0.0:0"]).env_remove("LOADGEN_SECRET").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--secret"), "{said}");
}
