//! Shared by the tests of this crate: stores under test, and domain values made from small numbers.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod moves;
pub mod objects;
pub mod people;
pub mod staged;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::id::{ChannelId, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::{StoreWrite, UpdateMessage};
use storage::account::{Account, Credential, CredentialKind, Registration};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::memory::Memory;
use storage::{Failure, Store, Write, Written};
use tempfile::TempDir;
use uuid::Uuid;

/// A store that the conformance suite can create and, where that is meaningful, close and reopen.
pub trait StoreUnderTest {
    fn begin() -> Self;
    fn store(&self) -> &dyn Store;
    /// Ends this life of the store and begins the next. The memory store has only one.
    fn reopen(&mut self);
}

pub struct InMemory(Memory);

impl StoreUnderTest for InMemory {
    fn begin() -> Self {
        Self(Memory::new())
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn reopen(&mut self) {}
}

pub struct OnDisk {
    store: Option<Embedded>,
    directory: TempDir,
}

impl StoreUnderTest for OnDisk {
    fn begin() -> Self {
        let directory = scratch();
        Self { store: Some(open(&directory)), directory }
    }

    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        let store = self.store.take().unwrap();
        store.close().unwrap();
        drop(store);
        self.store = Some(open(&self.directory));
    }
}

/// A directory in memory, if the machine has one, for tests that are not about the disk: syncs there cost nothing.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Options under which a test does not depend on how full this machine's disk is.
pub fn options() -> EmbeddedOptions {
    EmbeddedOptions { cache_bytes: 8 << 20, free_bytes_min: 0, ..EmbeddedOptions::default() }
}

pub fn open(directory: &TempDir) -> Embedded {
    Embedded::open(directory.path(), &options()).unwrap()
}

pub fn open_shared(directory: &TempDir) -> Arc<dyn Store> {
    Arc::new(open(directory))
}

/// Commits a group of writes, every one of which must succeed.
pub fn commit(store: &dyn Store, writes: &[Write]) -> Vec<Written> {
    store.commit(writes).unwrap().into_iter().map(|written| written.unwrap()).collect()
}

pub fn commit_one(store: &dyn Store, write: Write) -> Result<Written, Failure> {
    store.commit(&[write]).unwrap().remove(0)
}

/// All messages of a user, part by part, in order.
pub fn written(store: &dyn Store, one: u32, floor: Option<MessageId>, limit: usize) -> Vec<(ChannelId, MessageId)> {
    let (mut all, mut from) = (Vec::new(), None);
    for _ in 0..1000 {
        let part = store.written_part(user(one), floor, from, limit).unwrap();
        assert!(part.items.iter().all(|(channel, _)| *channel == part.items[0].0), "a part is of one channel");
        all.extend(part.items);
        from = part.stopped;
        if from.is_none() {
            all.sort();
            return all;
        }
    }
    panic!("it does not end")
}

pub fn room(name: &str) -> ChannelId {
    ChannelId::room(name).unwrap()
}

pub fn user(number: u32) -> UserId {
    UserId(Uuid::from_u128(u128::from(number)))
}

/// Ids rise with their numbers, and differ in their first bytes as well as in their last.
pub fn message_id(number: u32) -> MessageId {
    let number = u128::from(number);
    MessageId(Uuid::from_u128(number << 96 | 0x7000_8000_0000_0000_0000 | number))
}

pub fn message(channel: &ChannelId, number: u32, sender: u32) -> Message {
    Message {
        channel: channel.clone(),
        id: message_id(number),
        sequence: Sequence(u64::from(number)),
        code: MessageCode::Chat,
        sender: user(sender),
        username: format!("name-{sender}").into(),
        content: format!("{{\"n\":{number}}}").into(),
        create_time: Timestamp(i64::from(number) * 1_000_000_007),
        update_time: Timestamp(i64::from(number) * 1_000_000_007),
        persistent: true,
    }
}

pub fn insert(channel: &ChannelId, number: u32, sender: u32) -> Write {
    Write::Request(StoreWrite::Insert(message(channel, number, sender)))
}

pub fn update(channel: &ChannelId, number: u32, sender: u32, content: &str) -> Write {
    Write::Request(StoreWrite::Update(UpdateMessage {
        channel: channel.clone(),
        id: message_id(number),
        sender: user(sender),
        username: format!("renamed-{sender}").into(),
        content: content.into(),
        update_time: Timestamp(i64::from(number) * 1_000_000_007 + 99),
    }))
}

pub fn remove(channel: &ChannelId, number: u32, sender: u32) -> Write {
    Write::Request(StoreWrite::Remove { channel: channel.clone(), id: message_id(number), sender: user(sender) })
}

pub fn account(number: u32, username: &str) -> Account {
    Account {
        id: user(number),
        username: username.into(),
        display_name: String::new(),
        avatar_url: String::new(),
        lang_tag: "en".into(),
        location: String::new(),
        timezone: String::new(),
        metadata: "{}".into(),
        email: String::new(),
        custom_id: String::new(),
        devices: vec![format!("device-{number}")],
        create_time: Timestamp(1),
        update_time: Timestamp(1),
        disable_time: None,
    }
}

pub fn device(ident: &str) -> Credential {
    Credential { kind: CredentialKind::Device, ident: ident.into() }
}

pub fn register(number: u32, username: &str, credential: Credential) -> Write {
    let account = account_with(number, username, &credential);
    Write::Register(Registration { account, credential, secret: format!("$hash-{number}") })
}

/// An account that has its credential.
pub fn account_with(number: u32, username: &str, credential: &Credential) -> Account {
    let mut account = account(number, username);
    match credential.kind {
        CredentialKind::Device => account.devices = vec![credential.ident.clone()],
        CredentialKind::Custom => account.custom_id = credential.ident.clone(),
        CredentialKind::Email => account.email = credential.ident.clone(),
    }
    account
}

/// Copies a directory with everything in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(source, target).unwrap();
        }
    }
}

/// All files in a directory and below it, in order.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
