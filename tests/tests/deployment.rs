//! Every setting that `deploy/` and the operators' pages mention exists.

use std::collections::BTreeSet;
use std::path::Path;

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
fn the_page_for_operators_names_flags_that_there_are() {
    let (known, page) = (words(&help(), "--"), read("docs/scylla.md"));
    let commands: Vec<&str> = page.lines().filter(|line| line.trim_start().starts_with("stentor ")).collect();
    let flags = words(&commands.join("\n"), "--");
    assert!(flags.len() >= 5, "{flags:?}");
    let unknown: Vec<_> = flags.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no flags of stentor's");
}
