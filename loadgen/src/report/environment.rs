//! The machine, the command and the program version of a run: what is needed to repeat it.

use std::fs;
use std::time::SystemTime;

use procfs::{CpuInfo, Current, Meminfo};
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use serde::Serialize;

/// Shown instead of a server's key, because reports are passed on.
pub const KEY_SHOWN: &str = "(not shown)";
/// The flags whose values are secrets.
const SECRET_FLAGS: [&str; 2] = ["--server-key", "--secret"];

#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    pub command: String,
    pub date: String,
    pub loadgen: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub memory: String,
    pub open_files_max: String,
    pub local_ports: String,
    pub accept_queue_max: String,
}

impl Environment {
    pub fn here() -> Self {
        let uname = uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            command: without_secrets(std::env::args()),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.machine())),
            cpu: cpu_model().unwrap_or(UNKNOWN.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: Meminfo::current().map_or(UNKNOWN.to_owned(), |memory| format!("{} kB", memory.mem_total / 1024)),
            open_files_max: getrlimit(Resource::Nofile)
                .current
                .map_or("no limit".to_owned(), |limit| limit.to_string()),
            local_ports: setting("net/ipv4/ip_local_port_range").replace('\t', " to "),
            accept_queue_max: setting("net/core/somaxconn"),
        }
    }
}

impl Environment {
    /// Names and values, for a table.
    pub fn rows(&self) -> [(&'static str, String); 9] {
        [
            ("date", self.date.clone()),
            ("loadgen", self.loadgen.clone()),
            ("kernel", self.kernel.clone()),
            ("CPU", self.cpu.clone()),
            ("cores it may use", self.cores.to_string()),
            ("memory", self.memory.clone()),
            ("open files, at most", self.open_files_max.clone()),
            ("local ports", self.local_ports.clone()),
            ("accept queue, at most", self.accept_queue_max.clone()),
        ]
    }
}

/// Shown when the kernel does not give the value.
const UNKNOWN: &str = "unknown";

fn cpu_model() -> Option<String> {
    CpuInfo::current().ok()?.model_name(0).map(str::to_owned)
}

fn setting(name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/{name}"));
    text.map_or(UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

/// The command line as typed, without secrets.
fn without_secrets(arguments: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for argument in arguments {
        let is_secret = shown.last().is_some_and(|flag| SECRET_FLAGS.contains(&flag.as_str()));
        let hidden = match argument.split_once('=') {
            _ if is_secret => KEY_SHOWN.to_owned(),
            Some((flag, _)) if SECRET_FLAGS.contains(&flag) => format!("{flag}={KEY_SHOWN}"),
            _ => quoted(argument),
        };
        shown.push(hidden);
    }
    shown.join(" ")
}

/// An argument in the form in which a shell accepts it.
fn quoted(argument: String) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument;
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_in_the_command_shown() {
        for (line, expected) in [
            ("loadgen room --users 5", "loadgen room --users 5"),
            ("loadgen room --server-key k --hidden", "loadgen room --server-key (not shown) --hidden"),
            ("loadgen room --server-key=k=k --hidden", "loadgen room --server-key=(not shown) --hidden"),
            ("loadgen room --secret s", "loadgen room --secret (not shown)"),
            ("loadgen room --fail-if p99>250ms", "loadgen room --fail-if 'p99>250ms'"),
        ] {
            assert_eq!(without_secrets(line.split(' ').map(str::to_owned)), expected);
        }
        assert_eq!(quoted("a'b c".to_owned()), r"'a'\''b c'");
        assert_eq!(quoted(String::new()), "''");
    }

    #[test]
    fn this_machine_is_known() {
        let here = Environment::here();
        assert!(here.kernel.starts_with("Linux "), "{}", here.kernel);
        assert!(here.memory.ends_with("kB"), "{}", here.memory);
        assert!(here.date.ends_with('Z') && here.date.contains('T'), "{}", here.date);
        assert_eq!(setting("no such name"), UNKNOWN);
    }
}
