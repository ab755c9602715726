//! A table of the store is damaged while the server is stopped. The server goes on without the block: it says so, takes
//! writes, serves all other rooms, and what can be read is exported.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::id::{ChannelId, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::StoreWrite;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::json;
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{Store, Write};
use tests::harness::{DEADLINE, Launch, Server, data_dir, run_program};
use uuid::Uuid;

const ROOMS: [&str; 2] = ["north", "south"];
/// Each round is a table. The first is moved down at once; four more are merged at the next start.
const ROUNDS: u32 = 5;
const MESSAGES: u32 = 12;
/// The message of `south` whose block is damaged. Its table is the oldest that is merged.
const DAMAGED: u32 = MESSAGES + 6;

fn message_id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(1_700_000_000_000 + u64::from(number)) << 80 | 7 << 76 | 2 << 62)
}

fn stored(channel: &ChannelId, number: u32, random: &mut ChaCha8Rng) -> Message {
    // The compression leaves it as it is, so that its bytes are found in the file.
    let noise: String = (0..9000).map(|_| char::from(b'0' + (random.next_u32() % 64) as u8)).collect();
    Message {
        channel: channel.clone(),
        id: MessageId(message_id(number)),
        sequence: Sequence(u64::from(number)),
        code: MessageCode::Chat,
        sender: UserId(Uuid::from_u128(7)),
        username: "ada".into(),
        content: format!("{{\"noise\":\"{}\"}}", noise.replace(['\\', '"'], "-")).into(),
        create_time: Timestamp(i64::from(number)),
        update_time: Timestamp(i64::from(number)),
        persistent: true,
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| files_below(folder))).collect()
}

fn place_of(file: &Path, bytes: &[u8]) -> Option<usize> {
    fs::read(file).expect("a file").windows(bytes.len()).position(|window| window == bytes)
}

/// A store with both rooms in tables, and one damaged block.
fn damaged_store(directory: &Path) -> PathBuf {
    let rooms = ROOMS.map(|name| ChannelId::room(name).expect("a name"));
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut marked = Vec::new();
    for round in 0..ROUNDS {
        let store = Embedded::open(directory, &EmbeddedOptions::default()).expect("a store");
        store.next_epoch().expect("a life");
        for number in round * MESSAGES + 1..=(round + 1) * MESSAGES {
            let messages = rooms.each_ref().map(|room| stored(room, number, &mut random));
            if number == DAMAGED {
                marked = messages[1].content.as_bytes()[20..40].to_vec();
            }
            let writes = messages.map(|message| Write::Request(StoreWrite::Insert(message)));
            store.commit(&writes).expect("a disk").into_iter().for_each(|written| drop(written.expect("done")));
        }
        store.close().expect("a disk");
        drop(store);
        write_memory_out(directory);
    }
    let mut files = files_below(&directory.join("database/keyspaces")).into_iter();
    let found = files.find_map(|file| place_of(&file, &marked).map(|place| (file, place)));
    let (file, place) = found.expect("the message is in a table");
    OpenOptions::new().write(true).open(&file).expect("a file").write_all_at(b"!", place as u64).expect("a disk");
    file
}

/// Moves what is in the journal to tables, where a store that has served for long has most of its data.
fn write_memory_out(directory: &Path) {
    let database = fjall::Database::builder(directory.join("database")).open().expect("a database");
    for name in database.list_keyspace_names() {
        let keyspace = database.keyspace(&name, fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        keyspace.rotate_memtable_and_wait().expect("a disk");
    }
}

fn await_line(server: &Server, words: &str) -> String {
    let begun = Instant::now();
    loop {
        if let Some(line) = server.output().lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        assert!(begun.elapsed() < DEADLINE, "no line with {words:?} in:\n{}", server.output());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_server_goes_on_without_a_damaged_block() {
    let data = data_dir();
    let file = damaged_store(&data.path().join("store"));
    let name = file.display().to_string();
    for life in 1..=2 {
        let server = Launch::on(data.path()).admin("127.0.0.1:0").start();
        // The merge at the first start fails, and moves what is above the block aside.
        if life == 1 {
            await_line(&server, "merging table messages failed");
        }
        let mut socket = server.connect("bob");
        for room in ROOMS {
            let channel = socket.join(room);
            for _ in 0..20 {
                assert!(socket.say(&channel, r#"{"text":"goes on"}"#)["error"].is_null(), "writes go on");
            }
        }
        let token = server.sign_in("bob").token;
        let north = server.http().history_after(&token, "2...north", None).0;
        assert_eq!(north.len(), (ROUNDS * MESSAGES + 20 * life) as usize, "other rooms are served");
        let newest = server.http().history(&token, "2...south", "limit=20&forward=false");
        assert_eq!(newest.json()["messages"].as_array().map(Vec::len), Some(20), "{newest:?}");
        let failed = server.http().history(&token, "2...south", "limit=100&forward=true");
        assert_eq!((failed.status, failed.json()["code"].as_u64()), (500, Some(13)), "{}", failed.body);
        await_line(&server, "the store failed a request");
        let answer = socket.request(json!({"channel_message_update": {
            "channel_id": "2...south",
            "message_id": message_id(DAMAGED).to_string(),
            "content": "{}",
        }}));
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains("could not be stored") && text.contains("damaged"), "{answer}");
        assert!(!text.contains("try again"), "it would fail again: {text}");
        let line = await_line(&server, "Requests that need it fail");
        assert!(line.contains(&name) && line.contains("its checksum is"), "{line}");
        assert!(line.contains("Restore a backup"), "it says what to do: {line}");
        assert_eq!(server.http().request("GET", "/readyz", &[], "").status, 200);
        let page = server.admin().request("GET", "/metrics", &[], "").body;
        assert!(page.lines().any(|line| line == "stentor_store_damaged_blocks 1"), "{page}");
        let said = server.output();
        assert_eq!(said.matches("Requests that need it fail").count(), 1, "once:\n{said}");
        server.assert_works("a damaged block");
        server.stop();
    }

    let saved = data.path().join("saved");
    let exported = run_program(&["export", "--data", &data.path().display().to_string(), &saved.display().to_string()]);
    let said = String::from_utf8_lossy(&exported.stderr).into_owned() + &String::from_utf8_lossy(&exported.stdout);
    assert_eq!(exported.status.code(), Some(1), "{said}");
    assert!(said.contains(&name), "what is left out is named: {said}");
    assert!(saved.metadata().is_ok_and(|file| file.len() > 0), "{said}");
}
