//! The commands in the documents and in the comments of the files to deploy by.

use std::fs;
use std::path::{Path, PathBuf};

/// A command, as it is written on a page.
pub struct Documented {
    pub page: String,
    pub command: String,
}

/// The first words of commands in blocks that name no language.
const PROGRAMS: [&str; 36] = [
    "./check",
    "a2enmod",
    "apt",
    "apt-get",
    "cargo",
    "cd",
    "cp",
    "cqlsh",
    "curl",
    "docker",
    "env",
    "for",
    "git",
    "haproxy",
    "helm",
    "install",
    "journalctl",
    "kill",
    "kubectl",
    "ln",
    "loadgen",
    "mkdir",
    "mv",
    "nginx",
    "node",
    "nodetool",
    "npm",
    "openssl",
    "prometheus",
    "promtool",
    "stentor",
    "sudo",
    "sysctl",
    "systemctl",
    "taskset",
    "GRAFANA_PASSWORD=...",
];
/// The languages of blocks that hold commands alone.
const SHELLS: [&str; 3] = ["sh", "bash", "console"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate")
}

fn files_in(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root()).expect("below the root").to_path_buf();
        if path.is_dir() {
            found.extend(files_in(&name.display().to_string()));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    let front = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from);
    let docs = files_in("docs").into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    front.into_iter().chain(docs).collect()
}

pub fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// All commands of all pages, in their order.
pub fn commands() -> Vec<Documented> {
    let of_page = |page: PathBuf, find: fn(&str) -> Vec<String>| {
        let found = find(&read(&page));
        let page = page.display().to_string();
        found.into_iter().map(move |command| Documented { page: page.clone(), command })
    };
    let deployed = files_in("deploy").into_iter().filter(|path| path.extension().is_none_or(|it| it != "json"));
    let documented = documents().into_iter().flat_map(|page| of_page(page, in_markdown));
    documented.chain(deployed.flat_map(|page| of_page(page, in_comments))).collect()
}

/// The spans of code in running text that begin with a program of ours and say more than its name.
pub fn spans() -> Vec<String> {
    let mut found = Vec::new();
    for page in documents() {
        let text = prose(&read(&page));
        let spans =
            text.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
        found.extend(spans.filter(|span| span.starts_with("stentor ") || span.starts_with("loadgen ")));
    }
    found
}

/// A page without its blocks.
fn prose(page: &str) -> String {
    let mut is_fenced = false;
    let outside = page.lines().filter(|line| {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
            return false;
        }
        !is_fenced && !line.starts_with("    ")
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// Whether a line of a block that names no language is a command.
fn is_command(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| PROGRAMS.contains(&word))
}

fn in_markdown(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut language, mut is_block, mut before_is_empty) = (None, false, true);
    for line in page.lines() {
        if let Some(named) = line.strip_prefix("```") {
            language = if language.is_some() { None } else { Some(named.trim()) };
        } else if let Some(language) = language {
            let goes_on = lines.last().is_some_and(|before: &String| before.ends_with('\\'));
            if goes_on || (SHELLS.contains(&language) && !line.is_empty()) || (language.is_empty() && is_command(line))
            {
                lines.push(line.to_owned());
            }
        } else {
            is_block = line.starts_with("    ") && (is_block || before_is_empty);
            if is_block && is_command(line) {
                lines.push(line.trim().to_owned());
            }
        }
        before_is_empty = line.trim().is_empty();
    }
    joined(lines)
}

/// Commands in comments are set off by three spaces.
fn in_comments(file: &str) -> Vec<String> {
    let set_off = file.lines().filter_map(|line| line.trim_start().strip_prefix("#   "));
    joined(set_off.filter(|line| is_command(line)).map(str::to_owned).collect())
}

/// Lines that end with a backslash go on in the next one. A comment behind two spaces is no part of a command.
fn joined(lines: Vec<String>) -> Vec<String> {
    let mut commands = Vec::new();
    let mut begun = String::new();
    for line in lines {
        let line = line.split("  #").next().unwrap_or_default().trim();
        match line.strip_suffix('\\') {
            Some(part) => begun += part,
            None => commands.push(std::mem::take(&mut begun) + line),
        }
    }
    commands
}

#[test]
fn commands_are_found_where_pages_have_them() {
    let page = "Say `stentor a` or\n\n    stentor b        # why\n    {\"json\": 1}\n\n- item\n    stentor not\n\n\
                ```sh\ncurl a \\\n    -d b\n```\n```\nstentor c\ndiagram\n```\n```toml\nstentor = 1\n```\n";
    assert_eq!(in_markdown(page), ["stentor b", "curl a -d b", "stentor c"]);
    assert_eq!(in_comments("# Text.\n#\n#   docker run x  # why\n# stentor y\n"), ["docker run x"]);
    assert_eq!(prose("a\n```\nb\n```\n    c\nd"), "a\nd");
}
