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

/// The image has the toolchain that it builds with: another one would be downloaded at each build.
#[test]
fn the_container_is_built_with_the_toolchain_of_its_image() {
    let ignored = read("deploy/Dockerfile.dockerignore");
    assert!(ignored.lines().any(|line| line == "rust-toolchain.toml"), "{ignored}");
    let version = |text: &str, before: &str| {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before}"));
        let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let mut parts = digits.split('.').map(|part| part.parse::<u32>().expect("a number"));
        (parts.next().expect("a version"), parts.next().expect("a version"))
    };
    let (image, needed) =
        (version(&read("deploy/Dockerfile"), "FROM rust:"), version(&read("Cargo.toml"), "rust-version = \""));
    assert!(image >= needed, "{image:?} is older than {needed:?}");
}

#[test]
fn what_monitoring_mounts_is_there_and_is_for_this_machine() {
    let monitoring = read("deploy/compose.monitoring.yaml");
    let mounts: Vec<_> = monitoring.lines().filter_map(|line| line.trim().strip_prefix("- ./")).collect();
    assert_eq!(mounts.len(), 3, "{mounts:?}");
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy");
    for mount in mounts {
        let path = mount.split(':').next().expect("a path");
        assert!(deploy.join(path).exists(), "{path}");
        assert!(mount.ends_with(":ro"), "{mount}");
    }
    for port in ["9090:9090", "3000:3000"] {
        assert!(monitoring.contains(&format!("- \"127.0.0.1:{port}\"")), "{port}");
    }
    // Both configurations of Prometheus are one, but for the address.
    let of = |name: &str| {
        let text = read(&format!("deploy/prometheus/{name}"));
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.contains("targets:"));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    assert_eq!(of("compose.yml"), of("prometheus.yml"));
}

/// Runs a program of `tests/schemas` and returns whether it was content, and what it said.
fn against_schemas(arguments: &[&str], file: &Path) -> (bool, String) {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/target");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", &schemas).arg(schemas.join("bin").join(arguments[0])).args(&arguments[1..]).arg(file);
    let output = python.output().expect("Python and the schemas are installed: ./check does it");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

/// Asserts that a file of `deploy/` fits its schema, and that it does not with a key misspelt.
fn fits_its_schema(name: &str, checker: &[&str], misspelt: [&str; 2]) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy");
    let (fits, said) = against_schemas(checker, &deploy.join(name));
    assert!(fits, "{name}: {said}");
    let wrong = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    let text = read(&format!("deploy/{name}"));
    assert!(text.contains(misspelt[0]), "{name} has {}", misspelt[0]);
    std::fs::write(wrong.path(), text.replace(misspelt[0], misspelt[1])).expect("our own file");
    let (fits, said) = against_schemas(checker, wrong.path());
    assert!(!fits && said.contains(misspelt[1].trim_end_matches(':')), "{name} with {}: {said}", misspelt[1]);
}

#[test]
fn the_manifest_fits_the_schemas_of_kubernetes() {
    let checker = ["kubernetes-validate", "--strict"];
    fits_its_schema("kubernetes.yaml", &checker, ["preStop:", "preStopp:"]);
    fits_its_schema("kubernetes.yaml", &checker, ["publishNotReadyAddresses:", "publishUnreadyAddresses:"]);
}

#[test]
fn the_files_of_compose_fit_its_schema() {
    let checker = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"];
    fits_its_schema("compose.yaml", &checker, ["stop_grace_period:", "stop_grace_time:"]);
    fits_its_schema("compose.monitoring.yaml", &checker, ["volumes:", "volume:"]);
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

/// How long a stop may take with these variables, as `config check` says it.
fn stop_max(variables: &[(&str, &str)]) -> u64 {
    let flags = variables.iter().flat_map(|(flag, value)| [*flag, *value]);
    let output = run_program(&[&["config", "check"], flags.collect::<Vec<_>>().as_slice()].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = said.split("a stop may take ").nth(1).and_then(|rest| rest.split(' ').next());
    seconds.unwrap_or_else(|| panic!("{said}")).parse().expect("a number")
}

/// The number after the first of these words.
fn seconds_after(text: &str, words: &str) -> u64 {
    let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("no {words:?}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {words:?}"))
}

#[test]
fn supervisors_have_more_patience_than_a_stop_takes() {
    assert_eq!(stop_max(&[]), 25);
    assert_eq!(stop_max(&[("--drain-wait", "20s"), ("--drain-time", "100")]), 135);
    let [unit, pod, compose] =
        ["stentor.service", "kubernetes.yaml", "compose.yaml"].map(|name| read(&format!("deploy/{name}")));
    assert!(seconds_after(&unit, "\nTimeoutStopSec=") > stop_max(&[]));
    let drain_time = seconds_after(&pod.replace('"', ""), "STENTOR_DRAIN_TIME, value: ").to_string();
    assert!(seconds_after(&pod, "terminationGracePeriodSeconds:") > stop_max(&[("--drain-time", drain_time.as_str())]));
    assert!(seconds_after(&compose, "stop_grace_period:") > stop_max(&[("--drain-wait", "0")]));
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
