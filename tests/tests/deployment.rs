//! Every setting that `deploy/` and the operators' pages mention exists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tests::harness::run_program;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn help() -> String {
    let help = |arguments: &[&str]| String::from_utf8(run_program(arguments).stdout).expect("help is text");
    help(&["--help"]) + &help(&["schema", "--help"])
}

/// The words that begin with `beginning`, up to the first character that cannot be in a name.
fn words(text: &str, beginning: &str) -> BTreeSet<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let word = |(at, _)| text[at..].chars().take_while(|&c| fits(c)).collect();
    text.match_indices(beginning).map(word).collect()
}

#[test]
fn containers_set_what_there_is() {
    let (help, compose) = (help(), read("deploy/compose.yaml") + &read("deploy/Dockerfile"));
    let variables = words(&compose, "STENTOR_");
    assert!(variables.len() >= 5, "{variables:?}");
    for variable in variables {
        assert!(help.contains(&format!("[env: {variable}=")), "{variable} is no variable of stentor's");
    }
}

#[test]
fn the_unit_is_understood() {
    // The program that the unit starts is not installed here, so the copy starts another one.
    let copy = tempfile::Builder::new().prefix("stentor-").suffix(".service").tempfile().expect("a temporary file");
    let text = read("deploy/stentor.service").replace("/usr/local/bin/stentor", "/bin/true");
    std::fs::write(copy.path(), text).expect("our own file");
    let found = Command::new("systemd-analyze").arg("verify").arg(copy.path()).output().expect("systemd is installed");
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success() && said.is_empty(), "{said}");
    let rated = Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(copy.path()).output();
    let rated = String::from_utf8(rated.expect("systemd is installed").stdout).expect("it is text");
    let level = rated.split("Overall exposure level for").nth(1).and_then(|line| line.split(": ").nth(1));
    let level: f32 = level.and_then(|text| text.split(' ').next()).expect("a level").parse().expect("a number");
    assert!(level < 2.0, "the unit allows more than it did: {rated}");
}

#[test]
fn kernel_settings_are_those_of_the_kernel() {
    let settings = read("deploy/sysctl.conf");
    let mut checked = 0;
    for line in settings.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, _) = line.split_once(" = ").unwrap_or_else(|| panic!("{line} is no setting"));
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        // Older kernels have no switch for io_uring.
        assert!(path.exists() || key == "kernel.io_uring_disabled", "{key} is no setting of this kernel");
        checked += 1;
    }
    assert!(checked >= 5, "{settings}");
}

#[test]
fn the_seccomp_profile_allows_what_a_shard_needs() {
    let profile: serde_json::Value = serde_json::from_str(&read("deploy/seccomp.json")).expect("it is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let names = profile["syscalls"][0]["names"].as_array().expect("a list of names").clone();
    for needed in
        ["io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_wait", "sched_setaffinity", "fdatasync"]
    {
        assert!(names.iter().any(|name| name == needed), "{needed}");
    }
    for refused in ["ptrace", "mount", "bpf", "keyctl", "unshare", "setns", "init_module", "kexec_load"] {
        assert!(names.iter().all(|name| name != refused), "{refused}");
    }
}

#[test]
fn the_page_for_operators_names_flags_that_there_are() {
    let (known, page) = (words(&help(), "--"), read("docs/scylla.md"));
    let commands: Vec<&str> = page.lines().filter(|line| line.trim_start().starts_with("stentor ")).collect();
    let flags = words(&commands.join("\n"), "--");
    assert!(flags.len() >= 5, "{flags:?}");
    let unknown: Vec<_> = flags.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no flags of stentor's");
}
