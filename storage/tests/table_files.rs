//! Files of tables that are damaged where fjall needs them to open the store: at their ends, in their filters and indexes, or
//! that are missing. The file is named, and everything else is read.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::*;
use storage::embedded::{Embedded, Verified, verify};
use storage::transfer::{self, End};
use storage::{Failure, PageStart, Store};
use tempfile::TempDir;

/// Each round of messages is a file of a table: the first one lies deep in the tree, and the others in its first level,
/// since each has message 1 again.
const ROUNDS: u32 = 3;
const ROUND: u32 = 20;
const ALL: u64 = (ROUNDS * ROUND) as u64;

/// A store, and the files with its messages, the oldest first.
fn filled() -> (TempDir, Vec<PathBuf>) {
    let directory = scratch();
    let mut files = Vec::new();
    for round in 0..ROUNDS {
        let store = open(&directory);
        for number in round * ROUND + 1..=(round + 1) * ROUND {
            commit(&store, &[insert(&room("lobby"), number, 7)]);
        }
        match round {
            0 => commit(&store, &[register(7, "ada", device("device-7"))]),
            _ => commit(&store, &[update(&room("lobby"), 1, 7, &format!("in round {round}"))]),
        };
        store.close().unwrap();
        drop(store);
        let database = fjall::Database::builder(directory.path().join("database")).open().unwrap();
        let messages = database.keyspace("messages", fjall::KeyspaceCreateOptions::default).unwrap();
        messages.rotate_memtable_and_wait().unwrap();
        let tables = files_below(&messages.path().join("tables"));
        files.extend(tables.into_iter().find(|file| !files.contains(file)));
    }
    assert_eq!(files.len(), ROUNDS as usize);
    (directory, files)
}

/// Changes bytes of a part of a file.
fn damage_part(file: &Path, part: &str) {
    let archive = sfa::Reader::new(file).unwrap();
    let part = archive.toc().section(part.as_bytes()).unwrap();
    change(file, part.pos() + part.len() / 2);
}

fn change(file: &Path, place: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, place).unwrap();
    file.write_all_at(&bytes.map(|byte| byte ^ 0x55), place).unwrap();
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

fn cut(file: &Path, length: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

fn refusal(directory: &TempDir) -> String {
    match Embedded::open(directory.path(), &options()) {
        Err(Failure::Corrupt(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// The only thing that cannot be read, and how many messages can be.
fn verdict(directory: &TempDir) -> (String, u64) {
    let Verified { records, unreadable, unreadable_count } = verify(directory.path(), &options()).unwrap();
    assert_eq!(unreadable_count, 1, "{unreadable:?}");
    let (_, messages) = records.into_iter().find(|(table, _)| *table == "messages").unwrap();
    (unreadable[0].clone(), messages)
}

/// Exports a store to another one. Returns the messages that arrive there, and how much was left out.
fn exported(directory: &TempDir) -> (u64, u64) {
    let file = directory.path().with_extension("export");
    let source = Embedded::open_to_read(directory.path(), &options()).unwrap();
    let moved = transfer::run(End::Store(&source), End::File(&file), &mut |_, _| {}).unwrap();
    let other = scratch();
    let target = open(&other);
    transfer::run(End::File(&file), End::Store(&target), &mut |_, _| {}).unwrap();
    fs::remove_file(file).unwrap();
    assert!(target.user_by_username("ada").unwrap().is_some(), "the other tables are whole");
    (target.messages(&room("lobby"), PageStart::Oldest, 999).unwrap().len() as u64, moved.unreadable)
}

/// What is done to a file.
type Harm = fn(&Path);

#[test]
fn a_file_that_cannot_be_opened_is_named_and_the_rest_is_saved() {
    let harms: [(&str, Harm); 6] = [
        ("its last bytes", |file| change(file, length(file) - 20)),
        ("the list of its parts", |file| change(file, length(file) - 60)),
        ("what it says of itself", |file| damage_part(file, "meta")),
        ("cut", |file| cut(file, length(file) / 2)),
        ("empty", |file| cut(file, 0)),
        ("missing", |file| fs::remove_file(file).unwrap()),
    ];
    let (sound, files) = filled();
    for (name, harm) in harms {
        for which in [0, 1] {
            let directory = scratch();
            copy(sound.path(), directory.path());
            let file = directory.path().join(files[which].strip_prefix(sound.path()).unwrap());
            harm(&file);
            let path = file.display().to_string();
            let reason = refusal(&directory);
            assert!(reason.contains(&path) && reason.contains("stentor export"), "{name}: {reason}");
            let (line, messages) = verdict(&directory);
            assert!(line.contains(&path) && line.contains("left out"), "{name}: {line}");
            // An older or a newer form of message 1 is in another file.
            let lost = if which == 0 { ROUND - 1 } else { ROUND };
            assert_eq!(messages, ALL - u64::from(lost), "{name}");
            assert_eq!(exported(&directory), (messages, 1), "{name}");
            let reader = Embedded::open_to_read(directory.path(), &options()).unwrap();
            assert_eq!(reader.messages(&room("lobby"), PageStart::Newest, 999).unwrap().len() as u64, messages);
        }
    }
}

#[test]
fn without_the_names_of_the_tables_nothing_is_read_and_no_advice_goes_in_a_circle() {
    let (directory, _) = filled();
    let names = files_below(&directory.path().join("database/keyspaces/0/tables")).into_iter().max().unwrap();
    change(&names, 60);
    let reason = refusal(&directory);
    assert!(reason.contains(&names.display().to_string()) && !reason.contains("stentor export"), "{reason}");
    let failure = verify(directory.path(), &options()).unwrap_err().to_string();
    assert!(failure.contains(&names.display().to_string()) && failure.contains("Restore a backup"), "{failure}");
    assert!(!failure.contains("stentor verify") && !failure.contains("stentor export"), "{failure}");
}

#[test]
fn a_damaged_filter_is_found_by_verify_and_named_by_the_request_that_needs_it() {
    let (directory, files) = filled();
    damage_part(&files[0], "filter");
    let path = files[0].display().to_string();
    let (line, messages) = verdict(&directory);
    assert!(line.contains(&path) && line.contains("filter"), "{line}");
    assert_eq!(messages, ALL, "rows are read without it");
    assert_eq!(exported(&directory), (ALL, 0));
    let store = open(&directory);
    assert_eq!(store.messages(&room("lobby"), PageStart::Oldest, 999).unwrap().len() as u64, ALL);
    let reason = store.message(&room("lobby"), message_id(3)).unwrap_err().to_string();
    assert!(reason.contains(&path), "{reason}");
    assert_eq!(store.damaged_blocks(), 1);
}

#[test]
fn a_filter_or_an_index_that_a_start_needs_is_named_and_all_rows_are_read_without_it() {
    for (part, unreadable) in [("filter", 0), ("tli", 1)] {
        let (directory, files) = filled();
        damage_part(&files[2], part);
        let path = files[2].display().to_string();
        let reason = refusal(&directory);
        assert!(reason.contains(&path), "{part}: {reason}");
        let (line, messages) = verdict(&directory);
        assert!(line.contains(&path) && line.contains(if part == "tli" { "index" } else { part }), "{line}");
        assert_eq!(messages, ALL, "{part}");
        assert_eq!(exported(&directory), (ALL, unreadable), "{part}");
    }
}

#[test]
fn an_index_that_only_readers_need_is_named_and_all_rows_are_read_without_it() {
    let (directory, files) = filled();
    damage_part(&files[0], "tli");
    let path = files[0].display().to_string();
    let (line, messages) = verdict(&directory);
    assert!(line.contains(&path) && line.contains("index"), "{line}");
    assert_eq!((messages, exported(&directory)), (ALL, (ALL, 1)));
    let store = open(&directory);
    let reason = store.message(&room("lobby"), message_id(3)).unwrap_err().to_string();
    assert!(reason.contains(&path), "{reason}");
}

#[test]
fn a_missing_journal_is_refused_and_named() {
    let directory = scratch();
    drop(open(&directory));
    let database = directory.path().join("database");
    let journal = fs::read_dir(&database).unwrap().map(|entry| entry.unwrap().path());
    let journal = journal.into_iter().find(|path| path.extension().is_some_and(|end| end == "jnl")).unwrap();
    let number: u64 = journal.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::write(database.join(format!("{}.jnl", number + 2)), "").unwrap();
    let missing = database.join(format!("{}.jnl", number + 1)).display().to_string();
    assert!(refusal(&directory).contains(&missing));
    let verified = verify(directory.path(), &options()).unwrap();
    assert_eq!(verified.unreadable_count, 1, "{:?}", verified.unreadable);
    assert!(verified.unreadable[0].contains(&missing), "{:?}", verified.unreadable);
}
