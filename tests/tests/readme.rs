//! The commands that README.md tells newcomers to type work as written, and its links have targets.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::harness::{Launch, Server, data_dir, loadgen, node_22};

/// The addresses of the README's server: for clients, and for its counters.
const LISTEN: &str = "127.0.0.1:7350";
const ADMIN: &str = "127.0.0.1:7351";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The README's code blocks in a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let blocks =
        readme.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.map(str::to_owned).collect()
}

fn start(data: &Path) -> (Server, SocketAddr) {
    let server = Launch::on(data).admin("127.0.0.1:0").start();
    let admin = server.admin().address();
    (server, admin)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_commands_with_curl_work_one_after_the_other() {
    let data = data_dir();
    let (server, admin) = start(data.path());
    let mut socket = server.connect("grace");
    let lobby = socket.join("lobby");
    socket.say(&lobby, r#"{"text":"said before"}"#);
    let commands: Vec<String> = blocks("sh").into_iter().filter(|block| block.contains("curl ")).collect();
    assert!(commands.len() >= 3 && commands[0].contains("TOKEN="), "{commands:?}");
    let script = commands.join("\n").replace(LISTEN, &server.address().to_string()).replace(ADMIN, &admin.to_string());
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).stdin(Stdio::null()).output();
    let output = output.expect("bash starts");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for expected in ["\"token\":", "\"username\":\"charles\"", "said before", "stentor_sessions_opened_total 1"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn the_example_for_node_runs_and_ends() {
    let data = data_dir();
    let (server, _) = start(data.path());
    let examples = blocks("js");
    assert_eq!(examples.len(), 1);
    let port = server.address().port().to_string();
    let example = examples[0].replace("\"7350\"", &format!("\"{port}\""));
    assert!(example.contains(&port));
    let directory = data_dir();
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node_modules");
    std::os::unix::fs::symlink(modules, directory.path().join("node_modules")).expect("our own directory");
    fs::write(directory.path().join("chat.mjs"), example).expect("our own directory");
    // The second time, its device and its name are already known.
    for node in [PathBuf::from("node"), node_22(), node_22()] {
        let mut command = Command::new(&node);
        // Far less than the half minute that the client's timers would take. The script ends by itself.
        command.args(["chat.mjs"]).current_dir(directory.path()).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", node.display()));
        let text = said(&output);
        assert!(output.status.success(), "{}: {text}", node.display());
        for expected in ["came", "mary { text: 'Hello!' }", "kept [ { text: 'Hello!' }"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}

#[test]
fn the_load_test_passes() {
    let data = data_dir();
    let (server, _) = start(data.path());
    let commands: Vec<String> = blocks("sh").into_iter().filter(|block| block.contains("-p loadgen --")).collect();
    assert_eq!(commands.len(), 1);
    let command = commands[0].replace(LISTEN, &server.address().to_string());
    let arguments = command.trim().split_once(" -- ").expect("what loadgen is told").1;
    let directory = data_dir();
    let mut command = Command::new(loadgen());
    command.args(arguments.split(' ')).current_dir(directory.path()).stdin(Stdio::null());
    let output = command.output().expect("loadgen starts");
    assert!(output.status.success(), "{}", said(&output));
    assert!(directory.path().join("report.html").is_file());
}

#[test]
fn the_page_proposes_a_name_that_no_example_claims() {
    let (page, readme) = (read("gateway/src/page/index.html"), read("README.md"));
    let proposed = page.split("id=\"name\"").nth(1).and_then(|rest| rest.split("placeholder=\"").nth(1));
    let proposed = proposed.and_then(|rest| rest.split('"').next()).expect("the page proposes a name");
    for claim in [format!("username={proposed}"), format!("\"{proposed}\")")] {
        assert!(!readme.contains(&claim), "{claim}: then the page or the example finds it taken");
    }
}

#[test]
fn the_lowest_rust_is_the_manifests() {
    let (manifest, readme) = (read("Cargo.toml"), read("README.md"));
    let version = manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next());
    let version = version.expect("the manifest names the lowest version");
    assert!(readme.contains(&format!("(https://rustup.rs) {version} or newer")), "README does not name Rust {version}");
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    let pages = [
        "README.md",
        "ARCHITECTURE.md",
        "docs/operations.md",
        "docs/configuration.md",
        "docs/protocol.md",
        "docs/scylla.md",
        "docs/benchmarks.md",
    ];
    for page in pages {
        let directory = root().join(page).parent().expect("a directory").to_path_buf();
        for link in read(page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let path = link.split('#').next().expect("before the fragment");
            assert!(directory.join(path).exists(), "{page} links {link}, which is not there");
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked} links");
    let readme = read("README.md");
    for page in
        ["docs/protocol.md", "docs/operations.md", "docs/scylla.md", "docs/benchmarks.md", "deploy", "ARCHITECTURE.md"]
    {
        assert!(readme.contains(&format!("]({page})")), "the README does not link {page}");
    }
}
