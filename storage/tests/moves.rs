//! Moves through a file: everything arrives, whatever interrupts the move, and no other file is accepted as an export.
//! The tests of moves to a database are in `storage/scylla/tests/cql.rs`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::moves::*;
use common::*;
use storage::embedded::Embedded;
use storage::transfer::{self, End};
use storage::{Failure, PageStart, Store};
use tempfile::TempDir;

fn filled() -> (TempDir, Embedded) {
    let directory = scratch();
    let store = common::open(&directory);
    fill(&store);
    store.next_epoch().unwrap();
    (directory, store)
}

fn exported() -> (TempDir, PathBuf) {
    let (directory, source) = filled();
    let path = directory.path().with_extension("export");
    transfer::run(End::Store(&source), End::File(&path), &mut |_, _| ()).unwrap();
    (directory, path)
}

#[track_caller]
fn check_refused(from: End<'_>, to: End<'_>, parts: &[&str]) {
    let refused = transfer::run(from, to, &mut |_, _| ()).unwrap_err().to_string();
    for part in parts {
        assert!(refused.contains(part), "{part:?} is not in: {refused}");
    }
}

#[test]
fn everything_goes_to_a_file_and_comes_back() {
    let (_directory, source) = filled();
    let (elsewhere, files) = (scratch(), scratch());
    let path = files.path().join("everything");
    move_in_steps(End::Store(&source), End::File(&path));
    let names: Vec<_> = fs::read_dir(files.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["everything"], "nothing is left beside it");
    let target = common::open(&elsewhere);
    move_in_steps(End::File(&path), End::Store(&target));
    check_same(&source, &target);
    let given = source.next_epoch().unwrap();
    go_on(&source);
    go_on(&target);
    check_same(&source, &target);
    assert!(target.next_epoch().unwrap() >= given);
}

#[test]
fn what_is_left_over_stays_behind() {
    let directory = scratch();
    let source = common::open(&directory);
    fill(&source);
    // More rows than the deletion itself removes.
    let channel = people::channel_of(1);
    for number in 100..110 {
        let some: Vec<_> = (0..500).map(|more| insert(&channel, number * 1000 + more, 2)).collect();
        commit(&source, &some);
    }
    change(&source, 1, engine::social::group::GroupAct::Delete, 1, 40);
    let path = directory.path().with_extension("export");
    let moved = transfer::run(End::Store(&source), End::File(&path), &mut |_, _| ()).unwrap();
    assert!(moved.left > 1000, "{moved:?}");
    let elsewhere = scratch();
    let target = common::open(&elsewhere);
    let arrived = transfer::run(End::File(&path), End::Store(&target), &mut |_, _| ()).unwrap();
    assert_eq!((arrived.rows, arrived.left), (moved.rows, 0));
    assert_eq!(target.head(&channel), Ok(None));
    assert_eq!(target.messages(&channel, PageStart::Oldest, 9), Ok(Vec::new()));
    assert_eq!(
        target.messages(&room("lobby"), PageStart::Oldest, 99),
        source.messages(&room("lobby"), PageStart::Oldest, 99)
    );
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_not_a_whole_export_changes_nothing() {
    let (directory, path) = exported();
    let whole = fs::read(&path).unwrap();
    let elsewhere = scratch();
    let target = common::open(&elsewhere);
    let refuse = |bytes: &[u8], part: &str| {
        fs::write(&path, bytes).unwrap();
        check_refused(End::File(&path), End::Store(&target), &[part, &path.display().to_string()]);
    };
    for cut in [0, 1, 15, 16, 40, whole.len() / 2, whole.len() - 1] {
        refuse(&whole[..cut], "");
    }
    refuse(&whole[..whole.len() - 1], "too early");
    for place in (0..whole.len()).step_by(whole.len() / 200) {
        let mut damaged = whole.clone();
        damaged[place] ^= 4;
        refuse(&damaged, "");
    }
    refuse(b"{\"messages\": []}", "not written by Stentor");
    fs::remove_file(&path).unwrap();
    check_refused(End::File(&path), End::Store(&target), &[&path.display().to_string()]);
    assert_eq!(target.account(user(1)), Ok(None));
    target.next_epoch().unwrap();
    drop(directory);
}

#[test]
fn nothing_is_moved_over_something() {
    let (directory, path) = exported();
    let (_other, used) = filled();
    let text = path.display().to_string();
    check_refused(End::Store(&used), End::File(&path), &["is there already", &text]);
    check_refused(End::File(&path), End::Store(&used), &["empty one"]);

    // A store with an unfinished move serves no requests, and accepts no other move.
    let elsewhere = scratch();
    let target = common::open(&elsewhere);
    interrupt(End::File(&path), End::Store(&target), 4);
    assert!(matches!(target.next_epoch(), Err(Failure::InUse(_))));
    check_refused(End::Store(&used), End::Store(&target), &["was begun", "finish it first"]);
    // The same content is the same export, whatever its path.
    let renamed = path.with_extension("renamed");
    fs::rename(&path, &renamed).unwrap();
    transfer::run(End::File(&renamed), End::Store(&target), &mut |_, _| ()).unwrap();
    check_refused(End::File(&renamed), End::Store(&target), &["moved there already"]);
    target.next_epoch().unwrap();
    fs::remove_file(renamed).unwrap();
    drop(directory);
}

#[test]
fn a_store_that_was_used_meanwhile_is_exported_anew() {
    let (directory, source) = filled();
    let path = directory.path().with_extension("export");
    let unfinished = directory.path().with_extension("export.unfinished");
    interrupt(End::Store(&source), End::File(&path), 4);
    // A crash may leave any bytes after the last complete block.
    let mut torn = fs::read(&unfinished).unwrap();
    torn.extend_from_within(..30);
    fs::write(&unfinished, torn).unwrap();
    source.next_epoch().unwrap();
    check_refused(End::Store(&source), End::File(&path), &["used since"]);
    fs::remove_file(&unfinished).unwrap();
    transfer::run(End::Store(&source), End::File(&path), &mut |_, _| ()).unwrap();
    fs::remove_file(path).unwrap();
}

#[test]
fn an_unfinished_export_is_cut_back_to_what_is_whole() {
    let (directory, source) = filled();
    let path = directory.path().with_extension("export");
    let unfinished = directory.path().with_extension("export.unfinished");
    interrupt(End::Store(&source), End::File(&path), 6);
    let torn = fs::read(&unfinished).unwrap();
    fs::write(&unfinished, &torn[..torn.len() - 3]).unwrap();
    transfer::run(End::Store(&source), End::File(&path), &mut |_, _| ()).unwrap();
    let elsewhere = scratch();
    let target = common::open(&elsewhere);
    transfer::run(End::File(&path), End::Store(&target), &mut |_, _| ()).unwrap();
    check_same(&source, &target);
    fs::remove_file(&path).unwrap();
    fs::write(&unfinished, "a letter to a friend").unwrap();
    check_refused(End::Store(&source), End::File(&path), &["no unfinished export"]);
    assert_eq!(fs::read(&unfinished).unwrap(), b"a letter to a friend");
    fs::remove_file(unfinished).unwrap();
}
