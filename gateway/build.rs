//! Tells the program the commit that it is built from, and compiles the schema of gRPC. Nothing is run again before the
//! commit or the schema is another one.
//!
//! `BUILD_COMMIT` names the commit where the source has no repository, as in a container. Without both, the commit is
//! `unknown`. A build with another profile than `release` is one for development. It is not built anew for each commit,
//! because that would build all tests anew, so it says `or later`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Characters of the commit that are shown: enough for any repository.
const SHOWN: usize = 12;

/// The folders of the schema. The engine's has the messages that the socket knows as well.
const SCHEMA: [&str; 2] = ["proto", "../engine/proto"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    compile_schema();
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let given = env::var("BUILD_COMMIT").ok().filter(|commit| is_commit(commit));
    let shown = |commit: &str| commit.get(..SHOWN).unwrap_or(commit).to_owned();
    let commit = match (given, workspace().and_then(|workspace| commit_of(&workspace))) {
        (Some(given), _) => shown(&given),
        (None, Some(commit)) if for_development() => format!("{} or later, for development", shown(&commit)),
        (None, Some(commit)) => shown(&commit),
        (None, None) => "unknown".to_owned(),
    };
    // The variable's name does not begin with STENTOR_, because `cargo run` hands it on to the program.
    println!("cargo::rustc-env=SOURCE_COMMIT={commit}");
}

/// Writes the schema in the form in which the program reads it (`http/grpc/schema.rs`).
fn compile_schema() {
    SCHEMA.iter().for_each(|folder| println!("cargo::rerun-if-changed={folder}"));
    let mut compiler = protox::Compiler::new(SCHEMA).expect("the folders of the schema are there");
    compiler.include_imports(true);
    compiler.open_files(["nakama.proto", "health.proto"]).expect("the schema compiles");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder for what is made"));
    fs::write(out.join("schema.bin"), compiler.encode_file_descriptor_set()).expect("the schema is written");
}

fn workspace() -> Option<PathBuf> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    package.parent()?.canonicalize().ok()
}

fn commit_of(workspace: &Path) -> Option<String> {
    // An archive of the source may lie inside the repository of another project.
    let repository = PathBuf::from(git(workspace, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    let commit =
        git(workspace, &["rev-parse", "HEAD"]).filter(|commit| repository == workspace && is_commit(commit))?;
    // HEAD changes with the branch, and its log with every commit.
    let changing: &[&str] = if for_development() { &["HEAD"] } else { &["HEAD", "logs/HEAD"] };
    for name in changing {
        let path = workspace.join(git(workspace, &["rev-parse", "--git-path", name])?);
        // A path that is not there would count as changed at each build.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Some(commit)
}

/// Cargo tells the profile's name only by the folder: `target/release/build/gateway-HASH/out`.
fn for_development() -> bool {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    out.ancestors().nth(3).and_then(Path::file_name) != Some("release".as_ref())
}

/// What git prints. `None` if there is no git, or it fails.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(directory).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

fn is_commit(text: &str) -> bool {
    text.len() >= SHOWN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
