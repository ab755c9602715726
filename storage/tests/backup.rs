//! Copies of a store that is being written, and reading all of a store, sound or damaged.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use engine::persist::StoreWrite;
use storage::embedded::{Embedded, verify};
use storage::transfer::{self, End};
use storage::{Failure, PageStart, Store, Write};
use tempfile::TempDir;

/// So many messages of this size fill more than one memtable, so a part of them is in tables.
const MESSAGES: u32 = 10_000;
const CONTENT_BYTES: usize = 4_000;
const GROUP: u32 = 100;
/// Messages that are written beside each copy. So a test that fails does not fill the machine's memory.
const BESIDE: u32 = 100 * GROUP;
/// How often the writer looks, once a millisecond, whether it is to write more.
const LOOKS_MAX: usize = 60_000;

/// A message whose content does not compress well.
fn large(number: u32) -> Write {
    let mut message = message(&room("lobby"), number, 7);
    let mut state = u64::from(number);
    let mut content = String::with_capacity(CONTENT_BYTES);
    while content.len() < CONTENT_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content += &format!("{state:016x}");
    }
    message.content = content.into();
    Write::Request(StoreWrite::Insert(message))
}

/// A store of which a part is in tables, and a part in the journal.
fn filled() -> (TempDir, Embedded) {
    let directory = scratch();
    let store = open(&directory);
    for first in (1..=MESSAGES).step_by(GROUP as usize) {
        commit(&store, &(first..first + GROUP).map(large).collect::<Vec<_>>());
    }
    commit(&store, &[register(7, "ada", device("device-7"))]);
    (directory, store)
}

/// The sequence numbers of all messages, read page by page.
fn sequences(store: &dyn Store) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), PageStart::Oldest);
    loop {
        let page = store.messages(&room("lobby"), from, 1000).unwrap();
        let Some(last) = page.last() else { return found };
        from = PageStart::After(last.id);
        found.extend(page.iter().map(|message| message.sequence.0));
    }
}

/// The largest table: one with messages.
fn table_of_messages(directory: &Path) -> PathBuf {
    let tables = files_below(directory).into_iter().filter(|path| path.parent().unwrap().ends_with("tables"));
    tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Changes some bytes in the middle of a file.
fn damage(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"damaged", path.metadata().unwrap().len() / 2).unwrap();
}

#[test]
fn a_copy_of_a_store_that_is_being_written_has_all_that_was_written_before_and_no_half_group() {
    let (directory, store) = filled();
    let (written, wanted, stop) = (AtomicU32::new(MESSAGES), AtomicU32::new(MESSAGES), AtomicBool::new(false));
    let copies = directory.path().parent().unwrap();
    let copies = tempfile::tempdir_in(copies).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..LOOKS_MAX {
                while written.load(Ordering::Acquire) < wanted.load(Ordering::Acquire) {
                    let first = written.load(Ordering::Acquire) + 1;
                    let small = |number| insert(&room("lobby"), number, 7);
                    commit(&store, &(first..first + GROUP).map(small).collect::<Vec<_>>());
                    written.store(first + GROUP - 1, Ordering::Release);
                }
                if stop.load(Ordering::Acquire) {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        for number in 0..3 {
            let before = written.load(Ordering::Acquire);
            wanted.store(before + BESIDE, Ordering::Release);
            let target = copies.path().join(number.to_string());
            let done = store.back_up(&target).unwrap();
            assert!(done.linked_bytes > 0 && done.bytes > done.linked_bytes, "{done:?}");
            let files = files_below(&target);
            assert_eq!(files.len() as u64, done.files);
            assert_eq!(files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>(), done.bytes);
            // The store goes on and on; the copy must not.
            let deadline = Instant::now() + Duration::from_secs(30);
            while written.load(Ordering::Acquire) < before + BESIDE {
                assert!(Instant::now() < deadline, "the store takes writes");
                thread::sleep(Duration::from_millis(1));
            }
            let verified = verify(&target, &options()).unwrap();
            assert_eq!((verified.unreadable_count, &verified.unreadable), (0, &Vec::new()));
            let copy = Embedded::open(&target, &options()).unwrap();
            let found = sequences(&copy);
            assert!(found.len() >= before as usize, "{} of {before}", found.len());
            assert_eq!(found.len() % GROUP as usize, 0, "a group is whole");
            assert!(found.iter().copied().eq(1..=found.len() as u64), "in order, each once");
            assert!(copy.user_by_username("ada").unwrap().is_some());
            copy.next_epoch().unwrap();
        }
        stop.store(true, Ordering::Release);
    });
    let all = sequences(&store);
    assert!(all.iter().copied().eq(1..=u64::from(written.load(Ordering::Acquire))), "the store itself is whole");
}

#[test]
fn a_copy_needs_a_place_of_its_own() {
    let directory = scratch();
    let store = open(&directory);
    let taken = scratch();
    assert!(matches!(store.back_up(taken.path()), Err(Failure::Final(text)) if text.contains("exists")));
    assert!(store.back_up(&taken.path().join("missing/copy")).is_err());
    commit(&store, &[register(1, "ada", device("device-1"))]);
}

#[test]
fn a_store_that_is_only_read_shows_everything_and_takes_nothing() {
    let (directory, store) = filled();
    assert!(matches!(Embedded::open_to_read(directory.path(), &options()), Err(Failure::InUse(_))));
    store.close().unwrap();
    drop(store);
    let before: Vec<_> =
        files_below(directory.path()).iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    let first = Embedded::open_to_read(directory.path(), &options()).unwrap();
    let second = Embedded::open_to_read(directory.path(), &options()).unwrap();
    assert!(matches!(Embedded::open(directory.path(), &options()), Err(Failure::InUse(_))));
    for store in [&first, &second] {
        assert_eq!(sequences(store).len(), MESSAGES as usize);
        assert_eq!(store.next_epoch().unwrap(), store.next_epoch().unwrap());
        assert!(matches!(store.commit(&[large(MESSAGES + 1)]), Err(Failure::ReadOnly(_))));
        assert_eq!(store.unready(), None);
    }
    first.close().unwrap();
    drop((first, second));
    let after: Vec<_> =
        files_below(directory.path()).iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    assert!(before == after, "not a byte has changed");
    assert_eq!(sequences(&open(&directory)).len(), MESSAGES as usize);
}

#[test]
fn a_damaged_block_is_named_and_exports_go_on_behind_it() {
    let (directory, store) = filled();
    store.close().unwrap();
    drop(store);
    let sound = verify(directory.path(), &options()).unwrap();
    let count = |verified: &storage::embedded::Verified, table: &str| {
        verified.records.iter().find(|(name, _)| *name == table).unwrap().1
    };
    assert_eq!((sound.unreadable_count, count(&sound, "messages")), (0, u64::from(MESSAGES)));
    assert_eq!((count(&sound, "accounts"), count(&sound, "meta")), (1, 1));

    let table = table_of_messages(directory.path());
    damage(&table);
    let damaged = verify(directory.path(), &options()).unwrap();
    assert_eq!(damaged.unreadable_count, 1, "{:?}", damaged.unreadable);
    assert!(damaged.unreadable[0].contains(table.to_str().unwrap()), "{:?}", damaged.unreadable);
    assert!(damaged.unreadable[0].contains("its checksum is"), "{:?}", damaged.unreadable);
    let left = count(&damaged, "messages");
    // A block has 16 KiB, and a message more than 2 KiB.
    assert!((u64::from(MESSAGES) - 8..u64::from(MESSAGES)).contains(&left), "{left}");

    let file = directory.path().parent().unwrap().join(format!("{}.export", std::process::id()));
    let source = Embedded::open_to_read(directory.path(), &options()).unwrap();
    let moved = transfer::run(End::Store(&source), End::File(&file), &mut |_, _| {}).unwrap();
    assert_eq!(moved.unreadable, 1);
    drop(source);
    let other = scratch();
    let target = open(&other);
    transfer::run(End::File(&file), End::Store(&target), &mut |_, _| {}).unwrap();
    fs::remove_file(file).unwrap();
    assert_eq!(sequences(&target).len() as u64, left);
    assert!(target.user_by_username("ada").unwrap().is_some());
}

#[test]
fn a_damaged_journal_is_named_and_what_comes_before_is_read() {
    let directory = scratch();
    let store = open(&directory);
    for number in 1..=40 {
        commit(&store, &[insert(&room("lobby"), number, 7)]);
    }
    store.close().unwrap();
    drop(store);
    let journals =
        files_below(directory.path()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    let journal = journals.max().unwrap();
    let bytes = fs::read(&journal).unwrap();
    let written = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    fs::File::options().write(true).open(&journal).unwrap().write_all_at(b"damaged", written as u64 / 2).unwrap();
    assert!(matches!(Embedded::open(directory.path(), &options()), Err(Failure::Corrupt(_))));
    let damaged = verify(directory.path(), &options()).unwrap();
    assert_eq!(damaged.unreadable_count, 1, "{:?}", damaged.unreadable);
    assert!(damaged.unreadable[0].contains(journal.to_str().unwrap()), "{:?}", damaged.unreadable);
    let store = Embedded::open_to_read(directory.path(), &options()).unwrap();
    let found = sequences(&store);
    assert!(!found.is_empty() && found.len() < 40 && found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let directory = scratch();
    drop(open(&directory));
    fs::write(directory.path().join("database/version"), b"FJL\x09").unwrap();
    for refused in [Embedded::open(directory.path(), &options()), Embedded::open_to_read(directory.path(), &options())]
    {
        let Err(Failure::Corrupt(reason)) = refused else { panic!("opened") };
        assert!(reason.contains("another version") && reason.contains("Leave the files"), "{reason}");
        assert!(!reason.contains("move"), "{reason}");
    }
}
