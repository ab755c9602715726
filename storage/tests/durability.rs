//! Writes that a store reported as done are there after its process was killed, and after its disk was full.
//!
//! The process that is killed is this test program, started again with one test, which writes and prints on its
//! standard output what was acknowledged.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use common::*;
use engine::id::ChannelId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{Failure, PageStart, Store, Write};
use tempfile::TempDir;

const DIRECTORY: &str = "STORAGE_TEST_DIRECTORY";
const CHANNELS: [&str; 3] = ["lobby", "stage", "hall"];

/// Starts this program again to run one test that is otherwise ignored; through a shell command if one is given.
fn start_child(test: &str, directory: &Path, shell: Option<&str>) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match shell {
        None => Command::new(program),
        Some(line) => {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{line}; exec \"$0\" \"$@\"")]).arg(program);
            command
        }
    };
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The lines that a child acknowledged, until it was killed after `kill_after` lines, or ended.
fn acknowledged(mut child: Child, kill_after: usize) -> (Vec<String>, ExitStatus) {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    let mut line = String::new();
    // A line that was cut short by the kill does not count as acknowledged.
    while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        if let Some((_, told)) = line.split_once("ack ") {
            lines.push(told.trim().to_owned());
            if lines.len() == kill_after {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    (lines, child.wait().unwrap())
}

fn highest(store: &dyn Store, channel: &ChannelId) -> u32 {
    store.head(channel).unwrap().map_or(0, |head| head.sequence.0 as u32)
}

/// Inserts into three channels, edits and removes among the messages, in groups of changing sizes. Number n of a
/// channel is edited when n is a multiple of 5 and removed when it is a multiple of 7, in the same group.
fn write_groups(store: &dyn Store, seed: u64) -> Failure {
    let rooms = CHANNELS.map(room);
    let mut next = rooms.each_ref().map(|room| highest(store, room) + 1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let (mut group, mut told) = (Vec::new(), String::new());
        let (writes, first) = (random.next_u32() % 40, random.next_u32() as usize % rooms.len());
        for index in 0..=writes as usize {
            let channel = (first + index) % rooms.len();
            let number = next[channel];
            next[channel] += 1;
            group.extend(writes_of(&rooms[channel], number));
            told += &format!("ack {} {number}\n", CHANNELS[channel]);
        }
        match store.commit(&group) {
            Ok(written) => assert!(written.iter().all(Result::is_ok), "{written:?}"),
            Err(failure) => return failure,
        }
        let mut out = std::io::stdout().lock();
        out.write_all(told.as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

fn writes_of(channel: &ChannelId, number: u32) -> Vec<Write> {
    let mut writes = vec![insert(channel, number, 7)];
    if number.is_multiple_of(5) {
        writes.push(update(channel, number, 7, "edited"));
    }
    if number.is_multiple_of(7) {
        writes.push(remove(channel, number, 7));
    }
    writes
}

/// Checks that every acknowledged number is in history as it should be. Everything beyond these numbers must also be
/// whole groups.
fn check_history(store: &dyn Store, acknowledged: &[String]) {
    for name in CHANNELS {
        let channel = room(name);
        let last_acknowledged =
            acknowledged.iter().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok()).max();
        let last = highest(store, &channel);
        assert!(last >= last_acknowledged.unwrap_or(0), "{name}: {last_acknowledged:?} acknowledged, head is {last}");
        let expected: Vec<_> = (1..=last)
            .filter(|number| !number.is_multiple_of(7))
            .map(|number| {
                (number, if number.is_multiple_of(5) { "edited".into() } else { format!("{{\"n\":{number}}}") })
            })
            .collect();
        let found: Vec<_> = store
            .messages(&channel, PageStart::Oldest, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|message| (message.sequence.0 as u32, message.content.to_string()))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
#[ignore = "a child of the tests below, which kill it"]
fn child_writes_until_it_dies() {
    let directory = std::env::var_os(DIRECTORY).expect("started by another test");
    let store = Embedded::open(Path::new(&directory), &options()).unwrap();
    let epoch = store.next_epoch().unwrap();
    let failure = write_groups(&store, epoch.0);
    println!("ack failed {failure}");
    // A store that failed for good stays failed, and reads continue. Only the group that it was writing has an unknown
    // outcome.
    let Failure::Broken(reason) = &failure else { panic!("{failure:?}") };
    assert!(failure.outcome_is_unknown());
    let later = Failure::Final(reason.clone());
    assert!(!later.outcome_is_unknown());
    assert_eq!(store.commit(&[insert(&room("lobby"), u32::MAX, 7)]), Err(later));
    assert!(store.message(&room("lobby"), message_id(u32::MAX)).unwrap().is_none());
    assert!(store.message(&room("lobby"), message_id(1)).unwrap().is_some());
    println!("ack orderly");
}

#[test]
fn killed_at_random_moments_nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..20 {
        // Kill at different times: from the first acknowledgement to some dozens of groups later.
        let kill_after = 1 + (round * round * 37) % 1900;
        let (lines, status) =
            acknowledged(start_child("child_writes_until_it_dies", directory.path(), None), kill_after);
        assert!(!status.success() && lines.len() >= kill_after, "round {round}: {} lines, {status}", lines.len());
        all.extend(lines);
        let store = open(&directory);
        check_history(&store, &all);
        store.close().unwrap();
    }
}

/// Makes a store and closes it, so that its journal, at first 64 MiB long, is cut to its contents at the next start.
fn small_store() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let group: Vec<_> = CHANNELS.map(room).iter().flat_map(|room| writes_of(room, 1)).collect();
    commit(&store, &group);
    store.close().unwrap();
    drop(store);
    drop(open(&directory));
    directory
}

/// The child's files may not grow beyond a limit: its store sees a full disk, at any byte of a group. The signal that
/// the limit causes is ignored, so that the write fails as it does on a full disk.
#[test]
fn with_no_room_left_the_store_fails_for_good_and_loses_nothing() {
    for blocks in [200, 333, 1000] {
        let directory = small_store();
        let limits = format!("trap '' XFSZ; ulimit -f {blocks}");
        let child = start_child("child_writes_until_it_dies", directory.path(), Some(&limits));
        let (lines, status) = acknowledged(child, usize::MAX);
        assert!(status.success(), "{:?}", lines.last());
        assert!(
            lines.iter().any(|line| line.starts_with("failed")) && lines.last().is_some_and(|line| line == "orderly")
        );
        assert!(lines.len() > 100, "it wrote a good deal before: {}", lines.len());
        let store = open(&directory);
        check_history(&store, &lines);
        commit(&store, &[insert(&room("lobby"), 1_000_000, 7)]);
    }
}

/// The same on a file system that is really full, if this machine allows the test to mount one.
#[test]
fn on_a_full_file_system_the_store_fails_for_good_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=6m tmpfs \"$STORAGE_TEST_DIRECTORY\"";
    let may_mount = Command::new("unshare").args(["-rm", "sh", "-c", mount]).env(DIRECTORY, directory.path()).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        println!("skipped: no file system may be mounted here");
        return;
    }
    // The mount ends with its name space, so the test first copies the files out of it.
    let kept = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "{mount} && \"$0\" --exact child_writes_until_it_dies --ignored --nocapture \
         && cp -a --sparse=always \"$STORAGE_TEST_DIRECTORY\"/. \"$1\""
    );
    let child = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(program)
        .arg(kept.path())
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (lines, status) = acknowledged(child, usize::MAX);
    assert!(status.success(), "{:?}", lines.last());
    let failure = lines.iter().find(|line| line.starts_with("failed")).unwrap();
    assert!(failure.contains("No space left"), "{failure}");
    let store = open(&kept);
    check_history(&store, &lines);
}

#[test]
fn a_nearly_full_disk_refuses_writes_until_there_is_room() {
    let directory = small_store();
    let lobby = room("lobby");
    let store = Embedded::open(directory.path(), &EmbeddedOptions { free_bytes_min: u64::MAX, ..options() }).unwrap();
    let Err(Failure::Full(reason)) = store.commit(&[insert(&lobby, 2, 7)]) else { panic!("no refusal") };
    assert!(reason.contains("must stay free") && reason.contains(&directory.path().display().to_string()), "{reason}");
    assert_eq!(highest(&store, &lobby), 1);
    assert_eq!(store.unready(), Some(reason));
    assert_eq!(store.disk_room().unwrap().reserve, u64::MAX);
    drop(store);
    let store = open(&directory);
    assert_eq!(store.unready(), None);
    commit(&store, &[insert(&lobby, 2, 7)]);
    assert_eq!(highest(&store, &lobby), 2);
}
