//! Backups of a running server, as an operator takes, restores and checks them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{DEADLINE, Launch, Server, SmallDisk, Socket, data_dir, run_program};

/// Messages before the first backup.
const BEFORE: usize = 50;
/// Messages that must come after each backup has begun.
const AFTER: usize = 20;
/// The most messages that are sent.
const SAID_MAX: usize = 50_000;

fn launch(data: &Path) -> Launch {
    Launch::on(data).admin("127.0.0.1:0").flag("--session-ttl", 3600).without_budgets()
}

/// Runs a command with this data directory. Returns whether it succeeded, and what it printed.
fn command(data: &Path, server: Option<&Server>, arguments: &[&str]) -> (bool, String) {
    let data = data.display().to_string();
    let admin = server.map_or_else(String::new, |server| server.admin().address().to_string());
    let mut all = arguments.to_vec();
    all.extend(["--data", &data]);
    if server.is_some() {
        all.extend(["--admin", &admin]);
    }
    let output = run_program(&all);
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

/// The numbers of the messages in the lobby, in order.
fn numbers(server: &Server, token: &str) -> Vec<u64> {
    let (mut numbers, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = server.http().history_after(token, "2...lobby", cursor.as_deref());
        if page.is_empty() {
            return numbers;
        }
        numbers.extend(page.iter().map(|message| {
            let content: Value = serde_json::from_str(message["content"].as_str().expect("text")).expect("JSON");
            content["n"].as_u64().expect("a number")
        }));
        cursor = next;
    }
}

fn modes_below(directory: &Path) -> Vec<(String, u32)> {
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    let mut modes = vec![(directory.display().to_string(), mode(directory))];
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => modes.extend(modes_below(&path)),
            false => modes.push((path.display().to_string(), mode(&path))),
        }
    }
    modes
}

#[test]
fn a_backup_under_load_is_restored_with_all_that_was_acknowledged_before() {
    let (data, place) = (data_dir(), data_dir());
    let server = launch(data.path()).start();
    let ada = server.sign_in("ada");
    let mut socket = Socket::connect(server.address(), &ada.token);
    let channel = socket.join("lobby");
    let (said, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let backups = [("plain", &["backup"][..]), ("with-keys", &["backup", "--keys"])];
    let before = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=SAID_MAX {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let answer = socket.say(&channel, &json!({ "n": number }).to_string());
                assert!(answer["error"].is_null(), "{answer}");
                said.store(number, Ordering::Release);
            }
        });
        let heard = |count: usize| {
            let deadline = Instant::now() + DEADLINE;
            while said.load(Ordering::Acquire) < count {
                assert!(Instant::now() < deadline, "messages are acknowledged");
                thread::sleep(Duration::from_millis(1));
            }
        };
        heard(BEFORE);
        let before = backups.map(|(name, arguments)| {
            let before = said.load(Ordering::Acquire);
            let directory = place.path().join(name).display().to_string();
            let (done, text) = command(data.path(), Some(&server), &[arguments, &[&directory]].concat());
            assert!(done && text.contains("\"state\": \"done\""), "{text}");
            heard(before + AFTER);
            before
        });
        stop.store(true, Ordering::Release);
        before
    });
    assert_eq!(numbers(&server, &ada.token).len(), said.load(Ordering::Acquire), "the server went on");
    server.assert_works("two backups");
    let log = server.stop();
    assert_eq!(log.matches("made a backup").count(), 2, "{log}");

    for ((name, _), before) in backups.into_iter().zip(before) {
        let (backup, restored) = (place.path().join(name), place.path().join(format!("{name}-restored")));
        let has_keys = name == "with-keys";
        assert_eq!(["session.key", "refresh.key"].map(|key| backup.join(key).exists()), [has_keys; 2]);
        assert!(!backup.join("admin.token").exists());
        for (path, mode) in modes_below(&backup) {
            assert!(mode & 0o077 == 0, "{path} has {mode:o}");
        }
        let text = backup.display().to_string();
        let (sound, said) = command(&restored, None, &["verify", &text]);
        assert!(sound && said.contains("everything can be read"), "{said}");
        let (done, said) = command(&restored, None, &["restore", &text]);
        assert!(done, "{said}");
        for (path, mode) in modes_below(&restored) {
            assert!(mode & 0o077 == 0, "{path} has {mode:o}");
        }
        let (again, said) = command(&restored, None, &["restore", &text]);
        assert!(!again && said.contains("is there already"), "{said}");

        let server = launch(&restored).start();
        let stays = server.http().get("/v2/account", &ada.token).status;
        assert_eq!(stays, if has_keys { 200 } else { 401 }, "tokens of {name}");
        let numbers = numbers(&server, &server.sign_in("ada").token);
        assert!(numbers.len() >= before, "{} of {before}", numbers.len());
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "in order and once: {numbers:?}");
        server.assert_works("a restored backup");
        server.stop();
        let (sound, said) = command(&restored, None, &["verify"]);
        assert!(sound && said.contains(" messages\n"), "{said}");
    }
}

#[test]
fn a_backup_that_cannot_be_made_says_why() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let check = |directory: &Path, words: &[&str]| {
        let directory = directory.display().to_string();
        let (done, said) = command(data.path(), Some(&server), &["backup", &directory]);
        assert!(!done && words.iter().all(|word| said.contains(word)), "{said}");
    };
    let place = data_dir();
    check(place.path(), &["is there already", "409"]);
    check(&place.path().join("a/b"), &["is not there", "409"]);
    check(&data.path().join("store/backup"), &["in the directory of the store", "400"]);
    // As a server leaves it that was killed.
    let left = place.path().join("tuesday.unfinished");
    std::fs::create_dir(&left).expect("our own directory");
    check(&place.path().join("tuesday"), &[&left.display().to_string(), "remove it", "409"]);
    let (sound, said) = command(data.path(), None, &["verify"]);
    assert!(!sound && said.contains("stop it first"), "{said}");
    let (done, said) = command(&place.path().join("new"), None, &["restore", &place.path().display().to_string()]);
    assert!(!done && said.contains("no whole backup"), "{said}");
    assert!(!place.path().join("new").exists());

    let (memory, token) = (data_dir(), place.path().join("token"));
    let server = launch(memory.path()).flag("--store", "memory").flag("--admin-token-file", token.display()).start();
    let (token, target) = (token.display().to_string(), place.path().join("b").display().to_string());
    let (done, said) = command(memory.path(), Some(&server), &["backup", &target, "--admin-token-file", &token]);
    assert!(!done && said.contains("keeps nothing (409)"), "{said}");
}

#[test]
fn a_backup_onto_a_full_disk_says_so_and_harms_nothing() {
    let (data, disk) = (data_dir(), SmallDisk::mount(1));
    let server = launch(data.path()).start();
    server.sign_in("ada");
    disk.fill_to(0);
    let target = disk.seen_from_outside().join("monday");
    let backup = || command(data.path(), Some(&server), &["backup", &target.display().to_string()]);
    let (done, said) = backup();
    assert!(!done && said.contains("the copy cannot be made") && said.contains("No space left on device"), "{said}");
    assert!(!target.exists(), "what is there may be taken for a backup");
    server.assert_works("a backup that failed");
    disk.make_room();
    let (done, said) = backup();
    assert!(done && target.join("backup.json").is_file(), "{said}");
}

#[test]
fn a_backup_is_restored_beside_it_and_only_if_it_is_whole() {
    let (data, place) = (data_dir(), data_dir());
    let server = launch(data.path()).start();
    server.sign_in("ada");
    let backup = place.path().join("monday");
    // With a slash at the end, as a shell completes it.
    let (done, said) = command(data.path(), Some(&server), &["backup", &format!("{}/", backup.display())]);
    assert!(done && backup.join("backup.json").is_file(), "{said}");
    server.stop();

    let named = backup.display().to_string();
    let within = backup.join("store/new");
    let (done, said) = command(&within, None, &["restore", &named]);
    assert!(!done && said.contains("is in the backup") && !within.exists(), "{said}");
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&backup, &link).expect("our own directory");
    let (done, said) = command(&link.join("new"), None, &["restore", &named]);
    assert!(!done && said.contains("is in the backup") && !backup.join("new").exists(), "{said}");

    let version = backup.join("store/database/version");
    let lock = backup.join("store/database/lock");
    for lost in [lock, version] {
        let (restored, bytes) = (place.path().join("restored"), std::fs::read(&lost).expect("a file of a backup"));
        std::fs::remove_file(&lost).expect("our own file");
        let (done, said) = command(&restored, None, &["restore", &named]);
        assert!(!done && said.contains("not whole") && !restored.exists(), "{said}");
        let (sound, said) = command(&restored, None, &["verify", &named]);
        assert!(!sound && (said.contains("not whole") || said.contains("has no version file")), "{said}");
        std::fs::write(&lost, bytes).expect("our own file");
    }
    let (done, said) = command(&place.path().join("restored"), None, &["restore", &named]);
    assert!(done, "{said}");

    // A restore that fails leaves nothing behind.
    let (dangling, other) = (backup.join("refresh.key"), place.path().join("other"));
    std::fs::create_dir(&dangling).expect("our own directory");
    let (done, said) = command(&other, None, &["restore", &named]);
    assert!(!done && !other.exists(), "{said}");
}

#[test]
fn a_damaged_store_is_told_and_exported_as_far_as_it_can_be_read() {
    let (data, place) = (data_dir(), data_dir());
    let server = launch(data.path()).start();
    let mut socket = server.connect("ada");
    let channel = socket.join("lobby");
    for number in 0..100 {
        socket.say(&channel, &json!({ "n": number }).to_string());
    }
    server.stop();
    let journal = std::fs::read_dir(data.path().join("store/database")).expect("a directory");
    let journal = journal
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "jnl"));
    let journal = journal.expect("a journal");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    let written = bytes.iter().rposition(|&byte| byte != 0).expect("something was written");
    bytes[written / 2] ^= 0xff;
    std::fs::write(&journal, bytes).expect("our own file");

    launch(data.path()).start_refused().assert_says(&["jnl", "is damaged", "stentor verify", "backup"]);
    let (sound, said) = command(data.path(), None, &["verify"]);
    assert!(
        !sound && said.contains(&journal.display().to_string()) && said.contains("1 things cannot be read"),
        "{said}"
    );
    let file = place.path().join("export").display().to_string();
    let (done, said) = command(data.path(), None, &["export", &file]);
    assert!(!done && said.contains("rows are moved") && said.contains("1 blocks or rows could not be read"), "{said}");
    assert!(said.contains("left out") && said.contains(&journal.display().to_string()), "{said}");
    let target = data_dir();
    let (done, said) = command(target.path(), None, &["import", &file]);
    assert!(done, "{said}");
    let server = launch(target.path()).start();
    let left = numbers(&server, &server.sign_in("reader").token);
    assert!(!left.is_empty() && left.len() < 100 && left.iter().copied().eq(0..left.len() as u64), "{left:?}");
}
