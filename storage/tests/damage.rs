//! Directories that were not written by a Stentor store, or were damaged later: opening them must fail with a reason,
//! and never panic.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::people::*;
use common::*;
use engine::id::Timestamp;
use engine::persist::StoreWrite;
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange, Role};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use storage::embedded::{Embedded, verify};
use storage::group::{Group, GroupFilter};
use storage::object::{ObjectWrite, ReadPermission};
use storage::transfer::{self, End};
use storage::{Failure, PageStart, Store, Write};
use tempfile::TempDir;

/// Opens a directory that must be refused, and returns the reason.
fn refusal(path: &Path) -> String {
    match Embedded::open(path, &options()) {
        Err(Failure::Corrupt(reason)) => reason,
        Err(other) => panic!("{}: {other:?}", path.display()),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

/// A store in a directory that only this test uses.
struct Kept(Embedded);

impl StoreUnderTest for Kept {
    fn begin() -> Self {
        panic!("it is there already")
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn reopen(&mut self) {}
}

/// A store with data in each table, closed, and opened once more so that its journal has no zeros at its end.
fn written_store() -> TempDir {
    let directory = scratch();
    let store = open(&directory);
    let lobby = room("lobby");
    for number in 1..=40 {
        commit(&store, &[insert(&lobby, number, 7), update(&lobby, number, 7, &"text ".repeat(number as usize))]);
        commit(&store, &[register(number, &format!("name-{number}"), device(&format!("device-{number}")))]);
    }
    let mut world = World::on(Kept(store));
    world.make(1, 1);
    world.make(2, 2);
    assert_eq!(world.act(2, 2, GroupAct::Delete), "deleted");
    world.cast(1, &[(2, Role::Admin), (3, Role::Member), (4, Role::Banned)]);
    for one in 2..=20 {
        world.relate(FriendAct::Add, one, &[1]);
    }
    world.relate(FriendAct::Add, 1, &[2, 3]);
    world.relate(FriendAct::Block, 1, &[4]);
    let public = ObjectWrite { read: ReadPermission::Public, ..objects::object("c", "k", "{}") };
    world.write(Write::WriteObjects { owner: user(1), objects: vec![public], time: Timestamp(1) });
    world.write(Write::DeleteAccount { user: user(40), time: Timestamp(1) });
    let Kept(store) = world.tested;
    store.close().unwrap();
    drop(store);
    drop(open(&directory));
    directory
}

#[test]
fn a_foreign_directory_is_refused_and_left_as_it_is() {
    let directory = scratch();
    fs::create_dir_all(directory.path().join("photos/summer")).unwrap();
    fs::write(directory.path().join("photos/summer/beach.jpg"), "pixels").unwrap();
    let before = files_below(directory.path());
    let reason = refusal(directory.path());
    assert!(reason.contains("photos") && reason.contains(&directory.path().display().to_string()), "{reason}");
    assert_eq!(files_below(directory.path()), before);
}

/// As an interrupted copy of the directory leaves it behind. fjall would open such a store without a word.
#[test]
fn a_store_whose_newest_journal_lost_bytes_is_damaged() {
    for bytes in [0, 3000] {
        let directory = written_store();
        OpenOptions::new().write(true).open(journal_of(&directory)).unwrap().set_len(bytes).unwrap();
        let reason = refusal(directory.path());
        assert!(reason.contains("what was written there is lost") && reason.contains("Restore a backup"), "{reason}");
        match verify(directory.path(), &options()) {
            Ok(verified) => assert!(verified.unreadable_count > 0, "{bytes} bytes: {verified:?}"),
            Err(failure) => assert!(failure.to_string().contains("damaged"), "{bytes} bytes: {failure}"),
        }
    }
}

/// A server that was killed has noted its newest journal, so its loss is seen, too.
#[test]
fn a_store_without_its_newest_journal_is_damaged() {
    let directory = written_store();
    let store = open(&directory);
    let lock = fs::read_to_string(directory.path().join("lock")).unwrap();
    assert!(lock.lines().nth(1).is_some_and(|line| line.starts_with("journal ")), "{lock}");
    std::mem::forget(store);
    let copy = scratch();
    copy_all(directory.path(), copy.path());
    let note = lock.lines().nth(1).unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    let lock = copy.path().join("lock");
    fs::write(&lock, format!("1\njournal {} 0\n", note + 1)).unwrap();
    let reason = refusal(copy.path());
    assert!(reason.contains(&format!("{}.jnl is missing", note + 1)) && reason.contains("delete"), "{reason}");
    // An operator who knows better deletes the note.
    fs::remove_file(lock).unwrap();
    drop(open(&copy));
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_foreign_database_is_refused() {
    let directory = scratch();
    let database = fjall::Database::builder(directory.path().join("database")).open().unwrap();
    let keyspace = database.keyspace("recipes", fjall::KeyspaceCreateOptions::default).unwrap();
    keyspace.insert("cake", "flour").unwrap();
    drop((keyspace, database));
    let reason = refusal(directory.path());
    assert!(reason.contains("not a Stentor store"), "{reason}");
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let directory = scratch();
    let path = directory.path().join("data");
    fs::write(&path, "a letter").unwrap();
    assert!(matches!(Embedded::open(&path, &options()), Err(Failure::Final(_))));
}

#[test]
fn a_second_store_on_a_directory_is_refused_by_name() {
    let directory = scratch();
    let _first = open(&directory);
    let Err(Failure::InUse(reason)) = Embedded::open(directory.path(), &options()) else { panic!("opened twice") };
    assert!(reason.contains(&directory.path().display().to_string()), "{reason}");
}

/// Finds the first place of `pattern` in a file and changes the byte at `offset` from there.
fn change_byte(file: &Path, pattern: &[u8], offset: usize, byte: u8) {
    let bytes = fs::read(file).unwrap();
    let place = bytes.windows(pattern.len()).position(|window| window == pattern).unwrap() + offset;
    OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[byte], place as u64).unwrap();
}

/// Writes records without our code, as a newer program or a bug could.
fn overwrite(directory: &TempDir, table: &str, change: impl Fn(&mut Vec<u8>)) {
    let database = fjall::Database::builder(directory.path().join("database")).open().unwrap();
    let keyspace = database.keyspace(table, fjall::KeyspaceCreateOptions::default).unwrap();
    let (key, value) = keyspace.first_key_value().unwrap().into_inner().unwrap();
    let mut value = value.to_vec();
    change(&mut value);
    keyspace.insert(key, value).unwrap();
    database.persist(fjall::PersistMode::SyncAll).unwrap();
}

#[test]
fn a_newer_record_of_the_store_is_refused() {
    let directory = written_store();
    overwrite(&directory, "meta", |record| record[2] = 2);
    assert!(refusal(directory.path()).contains("version 2"));
}

#[test]
fn a_damaged_record_fails_its_readers_alone() {
    let directory = written_store();
    overwrite(&directory, "messages", |record| *record.last_mut().unwrap() ^= 1);
    let (store, lobby) = (open(&directory), room("lobby"));
    let damaged = |failure: Failure| matches!(failure, Failure::Corrupt(reason) if reason.contains("checksum"));
    assert!(damaged(store.messages(&lobby, PageStart::Oldest, 5).unwrap_err()));
    assert!(damaged(store.message(&lobby, message_id(1)).unwrap_err()));
    assert_eq!(store.messages(&lobby, PageStart::Newest, 39).unwrap().len(), 39);
    let written = store.commit(&[insert(&lobby, 50, 7), update(&lobby, 1, 7, "x"), insert(&lobby, 51, 7)]).unwrap();
    assert!(written[0].is_ok() && written[2].is_ok());
    assert!(damaged(written[1].clone().unwrap_err()));
    assert_eq!(store.messages(&lobby, PageStart::Newest, 2).unwrap().len(), 2);
}

/// A text that the compression leaves as it is: its bytes are found in the file.
fn noise(random: &mut Random) -> String {
    (0..9000).map(|_| char::from(b'0' + random.below(64) as u8)).collect()
}

fn file_with(directory: &TempDir, pattern: &[u8]) -> PathBuf {
    let has = |path: &PathBuf| fs::read(path).unwrap().windows(pattern.len()).any(|window| window == pattern);
    let mut tables = files_below(&directory.path().join("database/keyspaces")).into_iter();
    tables.find(|path| path.parent().unwrap().ends_with("tables") && has(path)).unwrap()
}

/// Such a store ended at its first write, after each start: the merge of the tables failed again and again.
#[test]
fn a_damaged_block_fails_the_requests_that_need_it_and_no_others() {
    let directory = scratch();
    let rooms = ["north", "south", "west"].map(room);
    let (mut random, mut texts) = (Random(ChaCha8Rng::seed_from_u64(7)), HashMap::new());
    // The first run is moved down at once, and four more are merged at the next start.
    for round in 0..5 {
        let store = open(&directory);
        for number in 10 * round + 1..=10 * round + 10 {
            commit(
                &store,
                &rooms.each_ref().map(|room| {
                    let mut message = message(room, number, 7);
                    message.content = noise(&mut random).into();
                    texts.insert(message.content.to_string(), (room.clone(), number));
                    Write::Request(StoreWrite::Insert(message))
                }),
            );
        }
        drop(store);
        flush(&directory);
    }
    let (text, _) = texts.iter().find(|(_, said)| **said == (rooms[1].clone(), 25)).unwrap();
    let marked = &text.as_bytes()[..12];
    let file = file_with(&directory, marked);
    change_byte(&file, marked, 3, b'!');

    for life in 0..2 {
        let store = open(&directory);
        // The merge at the first start meets it, and moves what is above it aside. So no merge meets it at the second one.
        if life == 0 {
            await_damage(&store);
        }
        for number in 1..=20 {
            commit(&store, &rooms.each_ref().map(|room| insert(room, 100 + 20 * life + number, 7)));
        }
        let reason = store.message(&rooms[1], message_id(25)).unwrap_err().to_string();
        assert!(reason.contains(&file.display().to_string()) && reason.contains("its checksum is"), "{reason}");
        let failed = store.messages(&rooms[1], PageStart::Oldest, 99).unwrap_err();
        assert!(matches!(failed, Failure::Corrupt(_)), "{failed:?}");
        assert_eq!(store.messages(&rooms[1], PageStart::Newest, 10).unwrap().len(), 10);
        for sound in [&rooms[0], &rooms[2]] {
            let found = store.messages(sound, PageStart::Oldest, 999).unwrap().len();
            assert_eq!(found, 50 + 20 * (life as usize + 1), "{sound}");
        }
        assert_eq!(store.unready(), None);
        assert_eq!(store.damaged_blocks(), 1, "each block once");
        store.close().unwrap();
    }
}

fn await_damage(store: &Embedded) {
    let begun = Instant::now();
    while store.damaged_blocks() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the merge at the start meets it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_missing_table_is_refused() {
    let directory = written_store();
    // Number 0 is fjall's own keyspace.
    for keyspace in 1..=21 {
        let damaged = scratch();
        copy(directory.path(), damaged.path());
        fs::remove_dir_all(damaged.path().join("database/keyspaces").join(keyspace.to_string())).unwrap();
        assert!(refusal(damaged.path()).contains("no table"));
    }
}

fn journal_of(directory: &TempDir) -> PathBuf {
    let files = files_below(&directory.path().join("database"));
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap()
}

#[test]
fn a_changed_byte_in_the_journal_is_noticed() {
    let directory = written_store();
    change_byte(&journal_of(&directory), b"text text text", 3, b'X');
    assert!(refusal(directory.path()).contains("damaged at byte"));
}

/// Wherever the damage is, also where no row at all can be read: an operator who saves what can be saved must hear of it.
#[test]
fn an_export_says_that_a_journal_is_damaged() {
    for place in [30, 80, 100, 300, 2000] {
        let directory = written_store();
        let journal = OpenOptions::new().read(true).write(true).open(journal_of(&directory)).unwrap();
        let mut byte = [0];
        journal.read_exact_at(&mut byte, place).unwrap();
        journal.write_all_at(&[byte[0] ^ 0x55], place).unwrap();
        let saved = directory.path().with_extension("export");
        let moved = Embedded::open_to_read(directory.path(), &options())
            .and_then(|store| transfer::run(End::Store(&store), End::File(&saved), &mut |_, _| {}));
        match moved {
            Ok(moved) => assert!(moved.unreadable > 0, "byte {place}: {} rows", moved.rows),
            Err(failure) => assert!(failure.to_string().contains("damaged"), "byte {place}: {failure}"),
        }
        let _ = fs::remove_file(saved);
    }
}

/// The state after a loss of power: the group whose sync never returned lacks a sector in its middle.
#[test]
fn a_torn_group_at_the_end_is_dropped_and_the_rest_kept() {
    let directory = written_store();
    let (store, lobby) = (open(&directory), room("lobby"));
    commit(&store, &[insert(&lobby, 41, 7), update(&lobby, 41, 7, "the last that was acknowledged")]);
    let sound = fs::metadata(journal_of(&directory)).unwrap().len();
    commit(&store, &(50..90).map(|number| insert(&lobby, number, 7)).collect::<Vec<_>>());
    drop(store);
    let journal = OpenOptions::new().write(true).open(journal_of(&directory)).unwrap();
    journal.write_all_at(&[0; 512], (sound / 512 + 3) * 512).unwrap();
    let store = open(&directory);
    assert_eq!(store.messages(&lobby, PageStart::Oldest, 99).unwrap().len(), 41);
    assert_eq!(store.head(&lobby).unwrap().unwrap().id, message_id(41));
    commit(&store, &[insert(&lobby, 42, 7)]);
    drop(store);
    assert_eq!(open(&directory).messages(&lobby, PageStart::Oldest, 99).unwrap().len(), 42);
}

/// Small random numbers; printing the seed is enough to repeat a failure.
struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0.next_u32() as usize % end.max(1)
    }
}

/// Damages one file of the store in one of several ways.
fn harm(directory: &Path, random: &mut Random) -> String {
    let files = files_below(&directory.join("database"));
    let file = &files[random.below(files.len())];
    let length = fs::metadata(file).unwrap().len() as usize;
    let name = file.strip_prefix(directory).unwrap().display();
    match random.below(5) {
        0 => {
            fs::remove_file(file).unwrap();
            format!("{name} removed")
        }
        1 => {
            let length = random.below(length);
            OpenOptions::new().write(true).open(file).unwrap().set_len(length as u64).unwrap();
            format!("{name} cut to {length}")
        }
        2 => {
            let bytes: Vec<_> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
            fs::write(file, &bytes).unwrap();
            format!("{name} replaced by {bytes:?}")
        }
        3 => {
            let (place, zeros) = (random.below(length), random.below(64));
            let zeros = vec![0; zeros.min(length - place)];
            OpenOptions::new().write(true).open(file).unwrap().write_all_at(&zeros, place as u64).unwrap();
            format!("{name} zeroed at {place} for {}", zeros.len())
        }
        _ => {
            let (place, byte) = (random.below(length), random.below(256) as u8);
            OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[byte], place as u64).unwrap();
            format!("{name} has {byte} at {place}")
        }
    }
}

/// Moves the journal's contents into tables, where a long-lived store has most of its data.
fn flush(directory: &TempDir) {
    let database = fjall::Database::builder(directory.path().join("database")).open().unwrap();
    for name in database.list_keyspace_names() {
        let keyspace = database.keyspace(&name, fjall::KeyspaceCreateOptions::default).unwrap();
        keyspace.rotate_memtable_and_wait().unwrap();
    }
}

#[test]
fn random_harm_to_a_journal_never_panics() {
    harm_many_times(&written_store());
}

#[test]
fn random_harm_to_tables_never_panics() {
    let directory = written_store();
    flush(&directory);
    let store = open(&directory);
    assert_eq!(store.messages(&room("lobby"), PageStart::Oldest, 99).unwrap().len(), 40);
    drop(store);
    harm_many_times(&directory);
}

/// Reads and writes lists; returns how many rows were found.
fn use_lists(store: &dyn Store) -> Result<usize, Failure> {
    let requests = [GroupAct::Join, GroupAct::Depart, GroupAct::Add(users(&[9, 10, 3])), GroupAct::Delete];
    let requests = (1..).zip(requests).map(|(number, act)| {
        let places = (0..3).map(|place_number| place(1000 * number + place_number)).collect();
        let change = GroupChange { group: group_id(1), actor: user(5 - number), act };
        Write::Request(StoreWrite::ChangeGroup { change, time: Timestamp(77), places })
    });
    let relate = Write::Relate {
        act: FriendAct::Block,
        user: user(2),
        others: users(&[1, 3]),
        metadata: "".into(),
        time: Timestamp(77),
    };
    let delete = Write::DeleteAccount { user: user(1), time: Timestamp(77) };
    let pages = || {
        Ok(store.group_members(group_id(1), None, None, 99)?.len()
            + store.user_groups(user(1), None, None, 99)?.len()
            + store.groups(&GroupFilter::default(), None, 99)?.0.len()
            + store.friends(user(1), None, None, 99)?.len()
            + store.notifications(user(1), None, 99)?.len()
            + store.channels_written(user(7), None, 99)?.len()
            + store.account_deletions(99)?.len())
    };
    let before = pages()?;
    store.commit(&requests.chain([relate, delete]).collect::<Vec<_>>())?;
    pages()?;
    Ok(before)
}

/// If a write of many steps finds damaged data, all of it is undone.
#[test]
fn a_change_that_meets_damage_changes_nothing() {
    let directory = written_store();
    overwrite(&directory, "inboxes", |record| *record.last_mut().unwrap() ^= 1);
    let mut world = World::on(Kept(open(&directory)));
    world.make_as(Group { max_count: 50, ..group(3, 30) });
    let damaged = (1..=39).find(|&one| {
        let others = users(&[one]);
        let add =
            Write::Relate { act: FriendAct::Add, user: user(39), others, metadata: "".into(), time: Timestamp(99) };
        matches!(commit_one(world.store(), add), Err(Failure::Corrupt(_)))
    });
    let damaged = damaged.expect("somebody's inbox");
    let add = world.request(3, 30, GroupAct::Add(users(&[31, 32, damaged, 33])));
    let join = insert(&room("lobby"), 5000, 31);
    let written = world.store().commit(&[add, join]).unwrap();
    assert!(matches!(&written[0], Err(Failure::Corrupt(_))), "{written:?}");
    assert!(written[1].is_ok());
    assert_eq!(world.roster(3), "30:0");
    assert_eq!(world.store().messages(&channel_of(3), PageStart::Oldest, 9).unwrap(), []);
    assert_eq!(world.store().head(&channel_of(3)).unwrap(), None);
    assert_eq!(world.store().channels_written(user(31), None, 9).unwrap(), [room("lobby")]);
    assert_eq!(world.act(3, 30, GroupAct::Add(users(&[31]))), "message 4 of 31, notice -4 to 31");
    assert_eq!(world.store().channels_written(user(31), None, 9).unwrap().len(), 2, "it is noted all the same");
}

fn harm_many_times(directory: &TempDir) {
    let rounds = std::env::var("HARM_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    for seed in 0..rounds {
        let harmed = scratch();
        copy(directory.path(), harmed.path());
        let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
        let what = harm(harmed.path(), &mut random);
        let outcome = std::panic::catch_unwind(|| match Embedded::open(harmed.path(), &options()) {
            Err(Failure::Corrupt(reason) | Failure::Final(reason)) => reason,
            Err(other) => panic!("{other:?}"),
            Ok(store) => match (store.messages(&room("lobby"), PageStart::Oldest, 99), use_lists(&store)) {
                (Ok(messages), Ok(rows)) => format!("{} messages, {rows} rows of lists", messages.len()),
                (Err(failure), _) | (_, Err(failure)) => failure.to_string(),
            },
        });
        match outcome {
            Ok(outcome) => println!("seed {seed}: {what}: {outcome}"),
            Err(_) => panic!("seed {seed}: {what}"),
        }
    }
}
