//! Modules use each other one way: no crate has modules that use each other in a circle. What a module and its own
//! children use of each other does not count. In the load generator the folders use each other one way, too. Read from
//! the paths in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 9] =
    ["engine", "engine/runtime", "engine/cluster", "storage", "storage/scylla", "gateway", "loadgen", "bench", "tests"];

/// The name of a module, from the crate's root: `["channel", "owner"]`.
type Module = Vec<String>;

/// The modules that each module uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// The module that a file of `src` holds.
fn module(file: &Path) -> Module {
    let mut names: Module = file.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a folder of the source").map(|entry| entry.expect("an entry").path());
    let (folders, others): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = others.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| files(folder))).collect()
}

/// The lines that are compiled outside of tests, without comments.
fn shipped(source: &str) -> String {
    code(source.lines().take_while(|line| line.trim() != "#[cfg(test)]"))
}

/// These lines without comments.
fn code<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// All paths that begin at the crate or above the module, from the crate's root.
fn paths(code: &str, of: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            // `x_crate::`, and the second `super` of `super::super::`.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut rest = &code[at..];
            let mut base = of.clone();
            while let Some(above) = rest.strip_prefix("super::") {
                base.pop();
                rest = above;
            }
            if let Some(inside) = rest.strip_prefix("crate::") {
                base.clear();
                rest = inside;
            }
            branches(&base, rest, &mut found);
        }
    }
    found
}

/// Follows `a::b`, `a::{b, c::d}` and `a` from `base` on.
fn branches(base: &Module, path: &str, found: &mut Vec<Module>) {
    let path = path.trim_start();
    if let Some(group) = path.strip_prefix('{') {
        for member in members(group) {
            branches(base, member, found);
        }
        return;
    }
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    if end == 0 {
        return found.push(base.clone());
    }
    let next: Module = base.iter().cloned().chain([path[..end].to_owned()]).collect();
    match path[end..].strip_prefix("::") {
        Some(rest) => branches(&next, rest, found),
        None => found.push(next),
    }
}

/// The members of a group of paths up to its closing brace; groups inside stay whole.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                members.push(group[begin..at].trim());
                begin = at + 1;
            }
            '}' => {
                members.push(group[begin..at].trim());
                return members.into_iter().filter(|member| !member.is_empty()).collect();
            }
            _ => {}
        }
    }
    panic!("a group of paths without an end: {group:.80}")
}

/// What these modules use of each other. A path leads to the deepest module on it. A module does not use itself, what is
/// above it, or what is in it.
fn uses(sources: &BTreeMap<Module, String>) -> Uses {
    let known =
        |path: &Module| (1..=path.len()).rev().map(|end| path[..end].to_vec()).find(|to| sources.contains_key(to));
    let of = |module: &Module, code: &str| -> BTreeSet<Module> {
        let found = paths(&shipped(code), module).iter().filter_map(known).collect::<BTreeSet<_>>();
        found.into_iter().filter(|to| !to.starts_with(module) && !module.starts_with(to)).collect()
    };
    sources.iter().map(|(module, code)| (module.clone(), of(module, code))).collect()
}

/// A circle of modules, if there is one: each uses the next, and the last uses the first.
fn circle(uses: &Uses) -> Option<Vec<String>> {
    let mut harmless = BTreeSet::new();
    let found = uses.keys().find_map(|from| walk(from, uses, &mut Vec::new(), &mut harmless))?;
    Some(found.iter().map(|module| module.join("::")).collect())
}

fn walk(at: &Module, uses: &Uses, path: &mut Vec<Module>, harmless: &mut BTreeSet<Module>) -> Option<Vec<Module>> {
    if let Some(begin) = path.iter().position(|before| before == at) {
        return Some(path[begin..].to_vec());
    }
    if harmless.contains(at) {
        return None;
    }
    path.push(at.clone());
    let found = uses.get(at).into_iter().flatten().find_map(|next| walk(next, uses, path, harmless));
    path.pop();
    harmless.insert(at.clone());
    found
}

/// All modules of a crate, with their files' texts.
fn sources(name: &str) -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate");
    let source = root.join(name).join("src");
    let files = files(&source).into_iter().map(|file| {
        let text = fs::read_to_string(&file).expect("a readable file");
        (module(file.strip_prefix(&source).expect("a file of the source")), text)
    });
    files.collect()
}

fn is_test(module: &Module) -> bool {
    module.iter().any(|name| name == "tests" || name == "bin")
}

/// The folders that each folder of a crate uses, tests included. A file without a folder counts as one.
fn folders(name: &str) -> Uses {
    let folder = |module: &Module| module.iter().take(1).cloned().collect::<Module>();
    let mut uses = Uses::new();
    for (module, text) in sources(name) {
        let used = paths(&code(text.lines()), &module);
        uses.entry(folder(&module)).or_default().extend(used.iter().map(folder));
    }
    let known: BTreeSet<Module> = uses.keys().cloned().collect();
    for (of, used) in &mut uses {
        // What leads to no folder leads to the crate's root, which stands above all of them.
        used.retain(|to| to != of && !to.is_empty() && known.contains(to));
    }
    uses
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    let mut circles = Vec::new();
    for name in CRATES {
        let shipped = sources(name).into_iter().filter(|(module, _)| !is_test(module)).collect();
        let uses = uses(&shipped);
        assert!(uses.values().any(|used| !used.is_empty()), "the modules of {name} are found");
        circles.extend(circle(&uses).map(|circle| format!("{name}: {}", circle.join(" uses "))));
    }
    assert!(circles.is_empty(), "move what two modules share below both:\n{}", circles.join("\n"));
}

#[test]
fn the_folders_of_the_load_generator_use_each_other_one_way() {
    let uses = folders("loadgen");
    let of = |folder: &str| &uses[&vec![folder.to_owned()]];
    assert!(uses.len() > 10 && of("scenarios").len() > 4, "the folders are found: {uses:?}");
    assert_eq!(circle(&uses), None, "each of these folders uses the next, and the last uses the first: {uses:#?}");
    assert!(of("base").is_empty(), "the ground floor uses no other folder: {:?}", of("base"));
}

#[test]
fn paths_are_read_in_every_form() {
    let check = |code: &str, expected: &[&str]| {
        let of = ["a", "b"].map(String::from).to_vec();
        let found: Vec<_> = paths(&shipped(code), &of).iter().map(|path| path.join("::")).collect();
        assert_eq!(found, expected, "{code}");
    };
    check("use crate::c::D;\nuse std::e;", &["c::D"]);
    check("use crate::{c, d::{self, E}, f::G as H};", &["c", "d::self", "d::E", "f::G"]);
    check("use super::c::{\n    D,\n    e::F,\n};", &["a::c::D", "a::c::e::F"]);
    check("use super::super::c;", &["c"]);
    check("use crate::c::*;", &["c"]);
    check("fn f(x: &crate::c::D) -> super::E<crate::F> {}", &["c::D", "F", "a::E"]);
    check("    use crate::{c, d::{e, f}, g::h};", &["c", "d::e", "d::f", "g::h"]);
    check("use crate::{\n    c::{x, y},\n    d,\n};", &["c::x", "c::y", "d"]);
    check("pub(crate) fn f() {}", &[]);
    check("// crate::c\n/// [`crate::d`]\nmy_crate::e", &[]);
    check("fn f() {}\n#[cfg(test)]\nmod tests { use crate::c; }", &[]);
}

#[test]
fn a_circle_is_found_wherever_it_is() {
    let check = |modules: &[(&str, &str)], expected: Option<&[&str]>| {
        let module = |name: &str| name.split('/').map(String::from).collect::<Module>();
        let sources = modules.iter().map(|(name, code)| (module(name), (*code).to_owned())).collect();
        let expected = expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(circle(&uses(&sources)), expected, "{modules:?}");
    };
    check(&[("a", "use crate::b::X;"), ("b", "")], None);
    check(&[("a", "use crate::b::X;"), ("b", "use super::a::Y;")], Some(&["a", "b"]));
    check(&[("a", "use crate::a::b::X;"), ("a/b", "use super::Y;")], None);
    check(&[("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use crate::a;")], Some(&["a", "b", "c"]));
    check(&[], None);
    check(&[("a", "use crate::{b, c};"), ("b", "use crate::d;"), ("c", "use crate::d;"), ("d", "")], None);
    check(
        &[("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use crate::d;"), ("d", "use crate::b;")],
        Some(&["b", "c", "d"]),
    );
    check(&[("a/x", "use super::y::Y;"), ("a/y", "use crate::a::x::X;"), ("a", "")], Some(&["a::x", "a::y"]));
}
