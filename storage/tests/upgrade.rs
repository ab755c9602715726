//! Directories of formats 1 to 4: they are opened and upgraded, and nothing in them is lost.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::people::*;
use common::*;
use engine::id::{Epoch, Timestamp};
use engine::social::friend::FriendAct;
use engine::social::group::GroupAct;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use storage::account::{Expiry, Revocation};
use storage::embedded::Embedded;
use storage::group::GROUPS_PER_USER_MAX;
use storage::{Failure, PageStart, Store, Write};
use tempfile::TempDir;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// The format that this program writes.
const FORMAT: u32 = 5;

/// The tables of format 1. Their keys and records are the same today.
const TABLES: [&str; 7] = ["messages", "heads", "accounts", "credentials", "usernames", "revocations", "meta"];

fn database(directory: &TempDir) -> Database {
    Database::builder(directory.path().join("database")).open().unwrap()
}

/// A store's own record in its first version: magic, version, kind, length, checksum, format, epoch.
fn meta(format: u32, epoch: u64) -> Vec<u8> {
    let body = [format.to_le_bytes().as_slice(), &epoch.to_le_bytes()].concat();
    [b"St\x01\x07\x0c\0\0\0".as_slice(), &xxh3_64(&body).to_le_bytes(), &body].concat()
}

/// A directory as a program of format 1 left it, with two messages in each of these rooms and two accounts.
fn format_1(epoch: u64, rooms: &[&str]) -> TempDir {
    let today = scratch();
    let store = open(&today);
    for (number, name) in (1..).zip(rooms) {
        commit(&store, &[insert(&room(name), number, 1), insert(&room(name), number + 1000, 1 + number % 2)]);
    }
    commit(&store, &[register(1, "ann", device("a")), register(2, "bob", device("b"))]);
    store.close().unwrap();
    drop(store);

    let directory = scratch();
    let (from, to) = (database(&today), database(&directory));
    for name in TABLES {
        let [from, to] = [&from, &to].map(|database| database.keyspace(name, KeyspaceCreateOptions::default).unwrap());
        for row in from.iter() {
            let (key, value) = row.into_inner().unwrap();
            to.insert(key, value).unwrap();
        }
    }
    let keyspace = to.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    keyspace.insert("store", meta(1, epoch)).unwrap();
    to.persist(PersistMode::SyncAll).unwrap();
    directory
}

/// A directory as a program of an earlier format left it: with the tables of format 2, and the options that fjall gives
/// to keyspaces by default.
fn with_options_of_old(format: u32) -> TempDir {
    let today = scratch();
    let store = open(&today);
    let messages: Vec<_> = (1..=40).map(|number| insert(&room("lobby"), number, 1)).collect();
    commit(&store, &messages);
    drop(store);
    let directory = scratch();
    let (from, to) = (database(&today), database(&directory));
    for name in from.list_keyspace_names() {
        let [from, to] = [&from, &to].map(|database| database.keyspace(&name, KeyspaceCreateOptions::default).unwrap());
        for row in from.iter() {
            let (key, value) = row.into_inner().unwrap();
            to.insert(key, value).unwrap();
        }
    }
    let keyspace = to.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    keyspace.insert("store", meta(format, 7)).unwrap();
    to.persist(PersistMode::SyncAll).unwrap();
    directory
}

/// The compaction options that fjall has stored for each keyspace.
fn kept_strategies(directory: &TempDir) -> Vec<Vec<fjall::KvPair>> {
    let database = database(directory);
    let mut names = database.list_keyspace_names();
    names.sort();
    let strategy = |name: &str| {
        let keyspace = database.keyspace(name, KeyspaceCreateOptions::default).unwrap();
        keyspace.config.compaction_strategy.get_config()
    };
    names.iter().map(|name| strategy(name)).collect()
}

fn format_of(directory: &TempDir) -> u32 {
    let meta = database(directory).keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    let record = meta.get("store").unwrap().unwrap();
    u32::from_le_bytes(record[16..20].try_into().unwrap())
}

fn refusal(directory: &TempDir) -> String {
    match Embedded::open(directory.path(), &options()) {
        Err(Failure::Corrupt(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// Checks that all old data is there, that the new tables are filled, and that new features work.
fn check_upgraded(directory: &TempDir, epoch: u64) {
    for round in 0..2 {
        let store = open(directory);
        assert_eq!(store.account(user(1)).unwrap(), Some(account_with(1, "ann", &device("a"))));
        assert_eq!(store.user_by_username("bob").unwrap(), Some(user(2)));
        let messages = store.messages(&room("lobby"), PageStart::Oldest, 9).unwrap();
        assert_eq!(messages, [message(&room("lobby"), 1, 1), message(&room("lobby"), 1001, 2)]);
        let written = |number| {
            let mut channels = store.channels_written(user(number), None, 99).unwrap();
            channels.sort();
            channels
        };
        assert_eq!(written(1), [room("hall"), room("lobby"), room("stage")]);
        assert_eq!(written(2), [room("lobby"), room("stage")]);
        assert_eq!(store.next_epoch().unwrap(), Epoch(epoch + round + 1));
        drop(store);
        assert_eq!(format_of(directory), FORMAT);
    }
    let mut world = World::<Upgraded>::on(Upgraded(open(directory)));
    world.make(1, 1);
    world.cast(1, &[(2, engine::social::group::Role::Admin)]);
    assert_eq!(world.relate(FriendAct::Add, 1, &[2]).notices.len(), 1);
    check_sound(world.store(), 1, 2);
}

fn token(number: u128, expires: i64) -> Revocation {
    Revocation::Token { id: Uuid::from_u128(number * 7919), expires: Timestamp(expires) }
}

/// A directory as a program of format 2 left it, with revocations in it.
fn format_2() -> TempDir {
    let directory = scratch();
    let store = open(&directory);
    let of_user = Revocation::User { id: user(1), issued_before: Timestamp(7) };
    commit(&store, &[token(1, 30), token(2, 10), of_user, token(3, 20)].map(Write::Revoke));
    commit(&store, &[register(1, "ann", device("a")), insert(&room("lobby"), 1, 1)]);
    store.next_epoch().unwrap();
    store.close().unwrap();
    drop(store);
    let database = database(&directory);
    let expiries = database.keyspace("expiries", KeyspaceCreateOptions::default).unwrap();
    database.delete_keyspace(expiries).unwrap();
    let keyspace = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    keyspace.insert("store", meta(2, 1)).unwrap();
    database.persist(PersistMode::SyncAll).unwrap();
    directory
}

fn check_revocations(directory: &TempDir) {
    let store = open(directory);
    assert_eq!(store.next_epoch().unwrap(), Epoch(2));
    let of_user = Revocation::User { id: user(1), issued_before: Timestamp(7) };
    let expiry = Expiry { tokens: Timestamp(20), users: Timestamp(7) };
    let expired = vec![token(2, 10), token(3, 20), of_user];
    assert_eq!(store.expired_revocations(expiry, None, 9).unwrap(), (expired.clone(), None), "in the order of time");
    commit(&store, &[Write::ForgetRevocations(expired)]);
    assert_eq!(store.revocations().unwrap(), [token(1, 30)]);
    assert_eq!(store.messages(&room("lobby"), PageStart::Oldest, 9).unwrap(), [message(&room("lobby"), 1, 1)]);
    drop(store);
    assert_eq!(format_of(directory), FORMAT);
}

#[test]
fn revocations_of_format_2_are_put_in_the_order_of_time() {
    let directory = format_2();
    assert_eq!(format_of(&directory), 2);
    check_revocations(&directory);
}

#[test]
fn an_upgrade_of_format_2_that_was_cut_short_begins_anew() {
    let directory = format_2();
    let begun = database(&directory);
    let expiries = begun.keyspace("expiries", KeyspaceCreateOptions::default).unwrap();
    // One row exists already, and one belongs to a revocation that an older program has forgotten since.
    for (expires, number) in [(10u64, 2u128), (5, 9)] {
        let time = (expires ^ (1 << 63)).to_be_bytes();
        let key = [[0].as_slice(), &time, &(number * 7919).to_be_bytes()].concat();
        expiries.insert(key, "").unwrap();
    }
    begun.persist(PersistMode::SyncAll).unwrap();
    drop((expiries, begun));
    let store = open(&directory);
    let expiry = Expiry { tokens: Timestamp(5), users: Timestamp(0) };
    let (gone, _) = store.expired_revocations(expiry, None, 9).unwrap();
    assert_eq!(gone, [token(9, 5)]);
    commit(&store, &[Write::ForgetRevocations(gone)]);
    drop(store);
    check_revocations(&directory);
}

/// A directory as a program of format 3 left it: user 1 is in as many groups as possible, and banned from one more;
/// user 2 is in two groups.
fn format_3() -> TempDir {
    let directory = scratch();
    let mut world = World::<Upgraded>::on(Upgraded(open(&directory)));
    commit(world.store(), &[register(1, "ann", device("a")), register(2, "bob", device("b"))]);
    let most = GROUPS_PER_USER_MAX as u32;
    let makes: Vec<_> = (1..=most).map(|number| Write::CreateGroup(group(number, 1))).collect();
    commit(world.store(), &makes);
    world.make(most + 1, 2);
    world.make(most + 2, 2);
    world.act(most + 2, 2, GroupAct::Ban(users(&[1])));
    world.store().close().unwrap();
    drop(world);
    let database = database(&directory);
    let counts = database.keyspace("group_counts", KeyspaceCreateOptions::default).unwrap();
    database.delete_keyspace(counts).unwrap();
    let keyspace = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    keyspace.insert("store", meta(3, 1)).unwrap();
    database.persist(PersistMode::SyncAll).unwrap();
    directory
}

/// Checks that user 1 is in the maximum number of groups and user 2 is not.
fn check_group_counts(directory: &TempDir) {
    let mut world = World::<Upgraded>::on(Upgraded(open(directory)));
    let most = GROUPS_PER_USER_MAX as u32;
    assert_eq!(world.act(most + 1, 1, GroupAct::Join), "TooManyGroups");
    assert_eq!(world.act(1, 1, GroupAct::Add(users(&[2]))), "message 4 of 2, notice -4 to 2");
    assert_eq!(world.act(1, 1, GroupAct::Delete), "deleted");
    assert_eq!(world.act(most + 1, 1, GroupAct::Join), "message 3 of 1");
    assert_eq!(world.act(2, 2, GroupAct::Leave), "");
    drop(world);
    assert_eq!(format_of(directory), FORMAT);
}

#[test]
fn the_groups_of_format_3_are_counted() {
    let directory = format_3();
    assert_eq!(format_of(&directory), 3);
    check_group_counts(&directory);
}

#[test]
fn counts_of_an_upgrade_of_format_3_that_was_cut_short_are_made_anew() {
    let directory = format_3();
    let begun = database(&directory);
    let counts = begun.keyspace("group_counts", KeyspaceCreateOptions::default).unwrap();
    // As many groups as possible: an older program has let user 2 leave them since.
    let record = |count: u32| {
        let body = count.to_le_bytes();
        [b"St\x01\x13\x04\0\0\0".as_slice(), &xxh3_64(&body).to_le_bytes(), &body].concat()
    };
    counts.insert(user(2).0.as_bytes(), record(GROUPS_PER_USER_MAX as u32)).unwrap();
    begun.persist(PersistMode::SyncAll).unwrap();
    drop((counts, begun));
    check_group_counts(&directory);
}

#[test]
fn messages_from_before_and_after_an_upgrade_of_format_3_are_found() {
    let directory = scratch();
    let store = open(&directory);
    commit(&store, &(1..=300).map(|number| insert(&room("lobby"), number, 1 + number % 3)).collect::<Vec<_>>());
    store.close().unwrap();
    drop(store);
    let old = database(&directory);
    for name in ["group_counts", "passages"] {
        old.delete_keyspace(old.keyspace(name, KeyspaceCreateOptions::default).unwrap()).unwrap();
    }
    old.keyspace("meta", KeyspaceCreateOptions::default).unwrap().insert("store", meta(3, 1)).unwrap();
    old.persist(PersistMode::SyncAll).unwrap();
    drop(old);
    // These ids are of a time after the upgrade, and in the lobby there is one message of user 2 among them.
    const LATER: u32 = 40_000_000;
    let store = open(&directory);
    let later = |number: u32| insert(&room("lobby"), LATER + number, if number == 50 { 2 } else { 1 });
    commit(&store, &(1..=100).map(later).collect::<Vec<_>>());
    commit(&store, &[insert(&room("hall"), LATER, 2)]);
    drop(store);
    let store = open(&directory);
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let part = store.written_part(user(2), None, from, 70).unwrap();
        found.extend(part.items);
        from = part.stopped;
        if from.is_none() {
            break;
        }
    }
    let own = (1..=300).filter(|number| number % 3 == 1).chain([LATER + 50]);
    let mut expected: Vec<_> = own.map(|number| (room("lobby"), message_id(number))).collect();
    expected.push((room("hall"), message_id(LATER)));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_store_of_format_4_has_room_for_objects() {
    let directory = format_3();
    drop(open(&directory));
    let old = database(&directory);
    for name in ["objects", "public_objects", "object_counts"] {
        old.delete_keyspace(old.keyspace(name, KeyspaceCreateOptions::default).unwrap()).unwrap();
    }
    old.keyspace("meta", KeyspaceCreateOptions::default).unwrap().insert("store", meta(4, 1)).unwrap();
    old.persist(PersistMode::SyncAll).unwrap();
    drop(old);
    assert_eq!(format_of(&directory), 4);
    let store = open(&directory);
    let objects = vec![objects::object("c", "k", "{}")];
    commit(&store, &[Write::WriteObjects { owner: user(1), objects, time: Timestamp(5) }]);
    drop(store);
    let store = open(&directory);
    assert_eq!(store.objects(&[objects::id(1, "c", "k")]).unwrap().len(), 1);
    drop(store);
    check_group_counts(&directory);
}

/// A record of a side of a pair as programs wrote it before there was metadata: magic, version, kind, length, checksum,
/// time, state.
fn edge_of_old(since: i64, state: u8) -> Vec<u8> {
    let body = [since.to_le_bytes().as_slice(), &[state]].concat();
    [b"St\x01\x0b\x09\0\0\0".as_slice(), &xxh3_64(&body).to_le_bytes(), &body].concat()
}

#[test]
fn friends_from_before_there_was_metadata_are_read_and_can_get_some() {
    let directory = scratch();
    let store = open(&directory);
    commit(&store, &[1, 2, 3].map(|number| register(number, &format!("name-{number}"), device(&number.to_string()))));
    let mut world = World::<Upgraded>::on(Upgraded(store));
    world.relate(FriendAct::Add, 1, &[2, 3]);
    let since = world.store().friends(user(1), None, None, 1).unwrap()[0].0.update_time.0;
    drop(world);
    let row = |one: u32, other: u32| [user(one).0.as_bytes().as_slice(), user(other).0.as_bytes()].concat();
    let edges = |database: &Database| database.keyspace("edges", KeyspaceCreateOptions::default).unwrap();
    // What this program writes without metadata is what earlier programs read.
    let old = database(&directory);
    for (one, other, state) in [(1, 2, 1), (2, 1, 2), (1, 3, 1), (3, 1, 2)] {
        assert_eq!(&*edges(&old).get(row(one, other)).unwrap().unwrap(), edge_of_old(since, state));
    }
    let friends = old.keyspace("friends", KeyspaceCreateOptions::default).unwrap();
    let listed: Vec<_> = friends.iter().map(|row| row.into_inner().unwrap().1.len()).collect();
    assert_eq!(listed, [0; 4], "an entry of a list says all in its key");
    drop((friends, old));
    let mut world = World::<Upgraded>::on(Upgraded(open(&directory)));
    for _ in 0..2 {
        world.now();
    }
    assert_eq!([world.notes(1), world.notes(2), world.notes(3)], ["2: 3:", "1:", "1:"]);
    world.relate_and_note(FriendAct::Add, 2, &[1], NOTES[1]);
    world.relate(FriendAct::Add, 3, &[1]);
    assert_eq!([world.notes(1), world.notes(2), world.notes(3)], ["2: 3:", &format!("1:{}", NOTES[1]), "1:"]);
    check_sound(world.store(), 0, 3);
    drop(world);
    let database = database(&directory);
    let version = |one, other| edges(&database).get(row(one, other)).unwrap().unwrap()[2];
    assert_eq!([version(1, 2), version(2, 1), version(1, 3), version(3, 1)], [1, 2, 1, 1]);
}

/// A store in an upgraded directory.
struct Upgraded(Embedded);

impl StoreUnderTest for Upgraded {
    fn begin() -> Self {
        panic!("it is there already")
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn reopen(&mut self) {}
}

#[test]
fn a_store_of_format_1_is_brought_up_to_date() {
    let directory = format_1(7, &["lobby", "hall", "stage"]);
    assert_eq!(format_of(&directory), 1);
    check_upgraded(&directory, 7);
}

#[test]
fn an_upgrade_that_was_cut_short_begins_anew() {
    let directory = format_1(7, &["lobby", "hall", "stage"]);
    // Some of the new tables exist, one with the first of its rows.
    let begun = database(&directory);
    for name in ["groups", "friends", "authored"] {
        begun.keyspace(name, KeyspaceCreateOptions::default).unwrap();
    }
    let row = [user(1).0.as_bytes().as_slice(), b"2...lobby"].concat();
    begun.keyspace("authored", KeyspaceCreateOptions::default).unwrap().insert(row, "").unwrap();
    begun.persist(PersistMode::SyncAll).unwrap();
    drop(begun);
    check_upgraded(&directory, 7);
}

#[test]
fn kept_options_are_renewed_whatever_was_cut_short() {
    let fresh = scratch();
    drop(open(&fresh));
    let expected = kept_strategies(&fresh);
    // The last: the program was killed after it had raised the format.
    for format in [2, FORMAT] {
        let directory = with_options_of_old(format);
        assert_ne!(kept_strategies(&directory), expected);
        for _ in 0..2 {
            let store = open(&directory);
            assert_eq!(store.messages(&room("lobby"), PageStart::Oldest, 99).unwrap().len(), 40);
            assert_eq!(store.head(&room("lobby")).unwrap().unwrap().sequence.0, 40);
            drop(store);
            assert_eq!(kept_strategies(&directory), expected);
            assert_eq!(format_of(&directory), FORMAT);
        }
    }
    check_upgraded(&format_1(7, &["lobby", "hall", "stage"]), 7);
}

#[test]
fn a_damaged_message_does_not_stop_an_upgrade() {
    let directory = format_1(7, &["lobby", "hall", "stage", "cellar"]);
    let damaged = database(&directory);
    let messages = damaged.keyspace("messages", KeyspaceCreateOptions::default).unwrap();
    let of_cellar: Vec<_> =
        messages.iter().map(|row| row.key().unwrap()).filter(|key| key[1..].starts_with(b"2...cellar")).collect();
    assert_eq!(of_cellar.len(), 2);
    for key in of_cellar {
        messages.insert(key, "damaged").unwrap();
    }
    damaged.persist(PersistMode::SyncAll).unwrap();
    drop((damaged, messages));
    check_upgraded(&directory, 7);
    assert!(matches!(open(&directory).messages(&room("cellar"), PageStart::Oldest, 9), Err(Failure::Corrupt(_))));
}

#[test]
fn other_formats_are_refused_and_left_alone() {
    for format in [0, FORMAT + 1, u32::MAX] {
        let directory = format_1(7, &["lobby"]);
        let changed = database(&directory);
        let keyspace = changed.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
        keyspace.insert("store", meta(format, 7)).unwrap();
        changed.persist(PersistMode::SyncAll).unwrap();
        drop((changed, keyspace));
        let reason = refusal(&directory);
        assert!(reason.contains(&format!("format {format}")), "{reason}");
        assert_eq!(format_of(&directory), format);
        assert!(!database(&directory).keyspace_exists("groups"));
    }
}
