//! Rules that no compiler checks: where clocks, sockets, runtimes and formats may be used, how long a file may be, what
//! must be documented, and what must not be written at all.

use std::path::{Path, PathBuf};

/// A longer file should become two.
const FILE_LINES_MAX: usize = 800;

/// A source file: its path from the root of the workspace, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate").to_path_buf()
}

/// All of our own text files, ordered by path.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root(), &mut sources);
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(sources.len() > 20, "the sources are found");
    sources
}

fn collect(directory: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).expect("a directory of ours") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            // Files that tools make, and git's own files.
            if !matches!(name.as_str(), "target" | "node_modules" | ".git" | "stentor-data" | "corpus" | "artifacts") {
                collect(&path, sources);
            }
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
            sources.push(Source { path, text });
        }
    }
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// The numbered lines that run in the server: no comments, and no tests.
    fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines_before_tests().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The numbered lines up to `#[cfg(test)]`, which is at the foot of a file; none of a file of tests.
    fn lines_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole_file_is_test = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.take_while(move |(_, line)| !whole_file_is_test && line.trim() != "#[cfg(test)]")
    }
}

/// Collects complaints about files, and fails with all of them at the end.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn add(&mut self, source: &Source, line: usize, what: &str) {
        self.0.push(format!("{}:{line}: {what}", source.path));
    }

    fn assert_none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0.join("\n"));
    }
}

/// Complains about each of these words in the shipped lines of the files that `within` accepts.
fn forbid(words: &[&str], reason: &str, within: impl Fn(&Source) -> bool) {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| source.is_rust() && within(source)) {
        for (number, line) in source.shipped_lines() {
            for word in words.iter().filter(|word| contains_word(line, word)) {
                complaints.add(source, number, &format!("`{word}`: {reason}"));
            }
        }
    }
    complaints.assert_none();
}

/// Whether the text contains the word at the beginning of a name. The characters after it do not matter.
fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let opens = source.text.starts_with("//! ") || source.text.starts_with("#![no_main]\n//! ");
        if !opens {
            complaints.add(
                source,
                1,
                "begins without `//!`: what it is for, what it promises, what it leaves to others",
            );
        }
    }
    complaints.assert_none();
}

/// The compiler's own lint, `missing_docs`, makes no exception for the fields of plain records and for variants, whose
/// names are often enough.
#[test]
fn every_public_item_is_documented() {
    let mut complaints = Complaints::default();
    let in_scope = |source: &&Source| source.is_rust() && (shipped(source) || source.is_in("tests/src/"));
    for source in sources().iter().filter(in_scope) {
        for line in undocumented(source.lines_before_tests()) {
            complaints.add(
                source,
                line,
                "public without `///`: say what its name and type do not (units, when it fails or panics), or narrow it",
            );
        }
    }
    complaints.assert_none();
}

/// The numbers of the lines at which a public item, or an item of a public trait, begins without documentation.
fn undocumented<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut documented = false;
    let mut open_brackets_of_attribute = 0;
    let mut indentation_of_trait = None;
    for (number, line) in lines {
        let text = line.trim_start();
        // A macro hands the documentation on that it is given: `$(#[$doc])*`.
        documented |= ["///", "#[doc", "$(#["].iter().any(|beginning| text.starts_with(beginning));
        if open_brackets_of_attribute > 0 || text.starts_with("#[") {
            open_brackets_of_attribute += text.matches('[').count() as isize - text.matches(']').count() as isize;
            continue;
        }
        if text.starts_with("//") || text.starts_with("$(#[") {
            continue;
        }
        let indentation = line.len() - text.len();
        let in_trait = indentation_of_trait.is_some_and(|outer| indentation == outer + 4);
        let public = text.strip_prefix("pub ").or(in_trait.then_some(text));
        if public.is_some_and(begins_item) && !documented {
            found.push(number);
        }
        if text.starts_with("pub trait ") {
            indentation_of_trait = Some(indentation);
        } else if text == "}" && indentation_of_trait == Some(indentation) {
            indentation_of_trait = None;
        }
        documented = false;
    }
    found
}

/// Whether this is the beginning of an item that has documentation of its own. A module in another file has it there.
fn begins_item(text: &str) -> bool {
    let kinds = ["fn", "async", "unsafe", "const", "static", "struct", "enum", "union", "trait", "type", "mod"];
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    kinds.contains(&kind) && !(kind == "mod" && rest.ends_with(';'))
}

#[test]
fn undocumented_items_are_found() {
    let check = |text: &str, expected: &[usize]| {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        assert_eq!(undocumented(lines), expected, "{text}");
    };
    for item in ["fn f()", "async fn f()", "const fn f()", "const C: u8 = 1;", "struct S;", "enum E {", "type T = u8;"]
    {
        check(&format!("pub {item}"), &[1]);
        check(&format!("/// Said.\npub {item}"), &[]);
        check(&format!("/// Said.\n#[must_use]\npub {item}"), &[]);
        check(&format!("/// Said.\n#[derive(\n    Clone\n)]\n// Why.\npub {item}"), &[]);
        check(&format!("#[derive(\n    Clone\n)]\npub {item}"), &[4]);
        check(&format!("#[doc = \"Said.\"]\npub {item}"), &[]);
        check(&format!("    $(#[$doc])*\n    pub {item}"), &[]);
        check(&format!("    // Why.\n    pub {item}"), &[2]);
        check(&format!("/// Said.\npub struct Other;\npub {item}"), &[3]);
        for narrow in ["", "pub(crate) ", "pub(super) "] {
            check(&format!("{narrow}{item}"), &[]);
        }
    }
    check("pub mod elsewhere;\npub use other::Item;", &[]);
    check("pub mod here {\n    /// Said.\n    pub fn f() {}\n}", &[1]);
    check("/// Said.\npub struct Record {\n    pub field: u8,\n}", &[]);
    check(
        "/// Said.\npub trait T {\n    fn f();\n    /// Said.\n    fn g() {\n        fn inner() {}\n    }\n}\nfn h() {}",
        &[3],
    );
    check("trait T {\n    fn f();\n}\nimpl T for S {\n    fn f() {}\n}", &[]);
}

#[test]
fn files_stay_short() {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints.add(
                source,
                lines,
                &format!("{lines} lines; at {FILE_LINES_MAX} a file is asking to become two"),
            );
        }
    }
    complaints.assert_none();
}

#[test]
fn the_engine_decides_without_clock_chance_thread_or_socket() {
    let reason = "time, chance and I/O are arguments here; only engine/runtime knows the world";
    forbid(
        &[
            "std::time::Instant",
            "std::time::SystemTime",
            "Instant::now",
            "SystemTime::now",
            "std::thread",
            "thread::spawn",
            "std::net",
            "std::fs",
            "std::os",
            "std::env",
            "rand::",
            "fastrand",
            "getrandom",
            "new_v4",
            "new_v7",
            "now_v7",
            "Mutex",
            "RwLock",
            "async fn",
            ".await",
        ],
        reason,
        |source| source.is_in("engine/src/"),
    );
}

#[test]
fn formats_live_in_wire_alone() {
    let reason = "content is opaque to the deciding part; JSON and protobuf exist in engine/src/wire/ alone";
    forbid(&["serde_json", "prost"], reason, |source| source.is_in("engine/src/") && !source.is_in("engine/src/wire"));
}

/// Cargo proves that a crate uses no crate that its manifest does not name. So the manifests are read, and no source.
#[test]
fn each_runtime_stays_in_its_rooms() {
    let rooms: [(&str, &[&str]); 3] = [
        ("glommio", &["engine/runtime", "gateway"]),
        // A shard never meets tokio.
        ("tokio", &["engine/cluster", "storage/scylla", "loadgen", "bench"]),
        // Listeners with TLS, and the clients that test and measure them.
        ("rustls", &["", "storage/scylla", "gateway", "tests", "bench"]),
    ];
    let mut complaints = Complaints::default();
    for manifest in sources().iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let room = manifest.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        for (index, line) in manifest.text.lines().enumerate() {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if let Some((_, allowed)) = rooms.iter().find(|(runtime, _)| *runtime == name)
                && !allowed.contains(&room)
            {
                complaints.add(manifest, index + 1, &format!("`{name}` is only for {allowed:?}"));
            }
        }
    }
    complaints.assert_none();
}

#[test]
fn sessions_are_no_tasks_and_hold_no_wakers() {
    // A task's waker can be cloned 32,767 times, then glommio panics. And a session that glommio holds is closed only
    // when glommio's reactor turns. So sockets are in a separate epoll set, and glommio only waits for that set.
    let reason = "sessions are served by the shard's one task: glommio knows their epoll set, and HTTP";
    forbid(&["glommio", "Waker", "spawn_local"], reason, |source| {
        // HTTP handlers wait for their channel queries.
        let apart = [
            "gateway/src/http/",
            // A plain thread that polls hyper needs a waker that does nothing.
            "gateway/src/threaded_http.rs",
            "gateway/src/http_tasks.rs",
            "gateway/src/task_time.rs",
            "gateway/src/channel_queries.rs",
            "gateway/src/readiness.rs",
        ];
        source.is_in("gateway/src/") && !apart.iter().any(|place| source.is_in(place))
    });
    let reason = "waiting for room in a ring never ends when its receiver has gone: `try_send`, and keep the parcel";
    forbid(&["sender.send", "send_to(", "ConnectedSender::send"], reason, |source| {
        source.path == "engine/runtime/src/rings.rs"
    });
    let reason = "a detached task is leaked with its descriptors when its executor ends: keep it";
    forbid(&["detach()"], reason, shipped);
}

#[test]
fn nothing_shipped_unwraps() {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| source.is_rust() && shipped(source)) {
        for (number, _) in source.shipped_lines().filter(|(_, line)| line.contains(".unwrap()")) {
            complaints.add(source, number, "say why the value is there (`expect`), or handle its absence");
        }
    }
    complaints.assert_none();
}

fn shipped(source: &Source) -> bool {
    let rooms = [
        "engine/src/",
        "engine/runtime/src/",
        "engine/cluster/src/",
        "gateway/src/",
        "storage/src/",
        "storage/scylla/src/",
    ];
    rooms.iter().any(|room| source.is_in(room))
}

#[test]
fn nothing_is_left_for_later_and_no_registry_is_named() {
    // Assembled from parts, so that this file does not complain about itself.
    let later = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["unimple", "mented!"].concat()];
    let registries = [["registry.npm", "js"].concat(), ["npmjs", ".org"].concat(), ["static.crates", ".io"].concat()];
    let mut complaints = Complaints::default();
    for source in &sources() {
        for (index, line) in source.text.lines().enumerate() {
            for word in later.iter().filter(|word| contains_word(line, word)) {
                complaints.add(source, index + 1, &format!("{word}: such a thing is an issue instead"));
            }
            for host in registries.iter().filter(|host| line.contains(host.as_str())) {
                complaints.add(source, index + 1, &format!("{host}: which registry is used is everybody's own choice"));
            }
        }
    }
    complaints.assert_none();
}

#[test]
fn the_tests_that_the_table_of_threats_names_exist() {
    let table = std::fs::read_to_string(root().join("SECURITY.md")).expect("the policy");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit("| ").next());
    let names: Vec<&str> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 30, "{names:?}");
    let sources = sources();
    let is_there = |name: &&str| {
        let heads = [format!("fn {name}("), format!("fn {name}<")];
        sources.iter().any(|source| source.is_rust() && heads.iter().any(|head| source.text.contains(head)))
    };
    let missing: Vec<&&str> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:?}");
}

#[test]
fn the_page_fetches_nothing_from_elsewhere() {
    let page = std::fs::read_to_string(root().join("gateway/src/page/index.html")).expect("the chat page");
    for forbidden in
        ["http://", "https://", "src=\"//", "@import", "innerHTML", "insertAdjacentHTML", "document.write", "eval("]
    {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
}
