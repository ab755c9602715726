//! The folders of `src` use each other one way: a folder and what it uses never use each other in a circle. Read from
//! the paths in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders that each folder uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The folder of a file of `src`; a file without a folder counts as one.
fn folder(path: &Path) -> String {
    let first = path.components().next().expect("a file has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a folder of the source").map(|entry| entry.expect("an entry").path());
    let (folders, others): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = others.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| files(folder))).collect()
}

/// The first names of all paths that begin at the crate, as in `crate::a::b` and `crate::{a, b::{c, d}}`.
fn used(source: &str) -> BTreeSet<String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            None => names.extend(first_name(rest)),
            Some(group) => names.extend(members(group).into_iter().filter_map(first_name)),
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The members of a group of paths up to its closing brace; groups inside stay whole.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[begin..at]);
                begin = at + 1;
            }
            '}' => {
                members.push(&group[begin..at]);
                return members;
            }
            _ => {}
        }
    }
    panic!("a group of paths without an end: {group:.80}")
}

/// A circle of folders, if there is one: each uses the next, and the last uses the first.
fn circle(uses: &Uses) -> Option<Vec<String>> {
    let mut harmless = BTreeSet::new();
    uses.keys().find_map(|from| walk(from, uses, &mut Vec::new(), &mut harmless))
}

fn walk(at: &str, uses: &Uses, path: &mut Vec<String>, harmless: &mut BTreeSet<String>) -> Option<Vec<String>> {
    if let Some(begin) = path.iter().position(|before| before == at) {
        return Some(path[begin..].to_vec());
    }
    if harmless.contains(at) {
        return None;
    }
    path.push(at.to_owned());
    let found = uses.get(at).into_iter().flatten().find_map(|next| walk(next, uses, path, harmless));
    path.pop();
    harmless.insert(at.to_owned());
    found
}

fn folders() -> Uses {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut uses = Uses::new();
    for path in files(&source) {
        let of = folder(path.strip_prefix(&source).expect("a file of the source"));
        let text = fs::read_to_string(&path).expect("a readable file");
        uses.entry(of).or_default().extend(used(&text));
    }
    let known: BTreeSet<String> = uses.keys().cloned().collect();
    for (of, used) in &mut uses {
        used.retain(|name| name != of && known.contains(name));
    }
    uses
}

#[test]
fn folders_use_each_other_one_way() {
    let uses = folders();
    assert!(uses.len() > 10 && uses["scenarios"].len() > 4, "the folders are found: {uses:?}");
    assert_eq!(circle(&uses), None, "each of these folders uses the next, and the last uses the first: {uses:#?}");
    assert_eq!(uses["base"], BTreeSet::new(), "the ground floor uses no other folder");
}

#[test]
fn paths_are_read_in_every_form() {
    let check = |source: &str, expected: &[&str]| {
        assert_eq!(used(source), expected.iter().map(ToString::to_string).collect(), "{source}");
    };
    check("use crate::a::b;\nuse std::c;", &["a"]);
    check("    use crate::{a, b::{c, d}, e::f};", &["a", "b", "e"]);
    check("use crate::{\n    a::{x, y},\n    b,\n};", &["a", "b"]);
    check("fn f(x: &crate::a::X) -> crate::b::Y {}", &["a", "b"]);
    check("// crate::a\n/// [`crate::b`]\n", &[]);
    check("pub(crate) fn f() {}", &[]);
}

#[test]
fn a_circle_is_found_wherever_it_is() {
    let check = |edges: &[(&str, &str)], expected: Option<&[&str]>| {
        let mut uses = Uses::new();
        for (from, to) in edges {
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        let expected = expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(circle(&uses), expected, "{edges:?}");
    };
    check(&[], None);
    check(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")], None);
    check(&[("a", "b"), ("b", "a")], Some(&["a", "b"]));
    check(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")], Some(&["b", "c", "d"]));
}
