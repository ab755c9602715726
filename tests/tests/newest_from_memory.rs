//! The newest page of a room with members comes from memory. It equals the store's page byte for byte, whatever has
//! happened in between. When the room is empty the server reads the store, so that the two can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use tests::harness::{DEADLINE, Launch, Server, Socket, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];
const LIMITS: [usize; 6] = [1, 2, 10, 50, 99, 100];

/// Runs a test on a fresh server for each number of shards.
fn on_every_size(test: impl Fn(&Server)) {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let data = data_dir();
        test(&Launch::on(data.path()).shards(shards).flag("--session-ttl", "1h").start());
    }
}

/// Reads the newest pages of all limits, as text.
struct Reader<'a> {
    server: &'a Server,
    token: String,
    channel: String,
}

impl<'a> Reader<'a> {
    fn new(server: &'a Server, channel: &str) -> Self {
        Self { server, token: server.sign_in("reader").token, channel: channel.to_owned() }
    }

    fn newest(&self, limit: usize) -> String {
        let page = self.server.http().history(&self.token, &self.channel, &format!("limit={limit}&forward=false"));
        assert_eq!(page.status, 200, "{}", page.body);
        page.body
    }

    fn pages(&self) -> Vec<String> {
        LIMITS.iter().map(|&limit| self.newest(limit)).collect()
    }

    /// The pages, read again until the store was not used for them.
    fn pages_from_memory(&self) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let before = store_reader_runs(self.server.pid());
            let pages = self.pages();
            if store_reader_runs(self.server.pid()) == before {
                return pages;
            }
            assert!(Instant::now() < deadline, "the store is read every time");
        }
    }

    /// Waits until the room is empty and its owner has dropped it. The presence shows when a member has left.
    fn await_empty(&self) {
        let path = format!("/v2/channel/{}/presence", self.channel);
        loop {
            let answer = self.server.http().get(&path, &self.token);
            assert_eq!(answer.status, 200, "{}", answer.body);
            if answer.body == "{}" {
                return;
            }
        }
    }
}

/// How often the threads that read the store have gone to sleep. The number only grows while they work.
fn store_reader_runs(pid: u32) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let statuses = threads.map(|thread| fs::read_to_string(thread.expect("a thread").path().join("status")));
    let readers = statuses.flatten().filter(|status| status.starts_with("Name:\tstore-read-"));
    let runs = readers.map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse().ok()).expect("a number")
    });
    let runs: Vec<u64> = runs.collect();
    assert!(!runs.is_empty(), "no thread reads the store");
    runs
}

fn contents(page: &str) -> Vec<u64> {
    let page: Value = serde_json::from_str(page).expect("JSON");
    let number = |item: &Value| {
        let content: Value = serde_json::from_str(item["content"].as_str().expect("a text")).expect("JSON");
        content["n"].as_u64().expect("a number")
    };
    page["messages"].as_array().into_iter().flatten().map(number).collect()
}

fn say(socket: &mut Socket, channel: &str, number: u64) -> String {
    let ack = socket.say(channel, &format!(r#"{{"n":{number}}}"#));
    ack["channel_message_ack"]["message_id"].as_str().unwrap_or_else(|| panic!("{ack}")).to_owned()
}

fn update(socket: &mut Socket, channel: &str, id: &str, number: u64) {
    let content = format!(r#"{{"n":{number}}}"#);
    let change = json!({"channel_id": channel, "message_id": id, "content": content});
    let ack = socket.request(json!({ "channel_message_update": change }));
    assert_eq!(ack["channel_message_ack"]["code"], 1, "{ack}");
}

fn remove(socket: &mut Socket, channel: &str, id: &str) {
    let ack = socket.request(json!({"channel_message_remove": {"channel_id": channel, "message_id": id}}));
    assert_eq!(ack["channel_message_ack"]["code"], 2, "{ack}");
}

/// The change of a stage, made by a member. The second argument has the ids of its messages.
type Change<'a> = &'a dyn Fn(&mut Socket, &mut Vec<String>);

/// Each stage changes something and names the first messages of the newest page. Then every member leaves, and the
/// store's pages must equal the pages from memory.
#[test]
fn memory_and_store_say_the_same() {
    on_every_size(|server| {
        let mut alice = server.connect("alice");
        let channel = alice.join("busy");
        let reader = Reader::new(server, &channel);
        let mut ids = Vec::new();
        let stages: [(&str, Change, &[u64]); 7] = [
            ("an empty room", &|_, _| {}, &[]),
            (
                "a few messages",
                &|alice, ids| ids.extend((0..5).map(|number| say(alice, &channel, number))),
                &[4, 3, 2, 1, 0],
            ),
            (
                "an update and a removal",
                &|alice, ids| {
                    update(alice, &channel, &ids[4], 400);
                    remove(alice, &channel, &ids.remove(2));
                },
                &[400, 3, 1, 0],
            ),
            (
                "more than are kept in memory",
                &|alice, ids| ids.extend((5..260).map(|number| say(alice, &channel, number))),
                &[259, 258, 257],
            ),
            (
                "changes to what is no longer in memory",
                &|alice, ids| {
                    update(alice, &channel, &ids[0], 1000);
                    remove(alice, &channel, &ids.remove(1));
                },
                &[259, 258, 257],
            ),
            (
                "so many removals that memory has too few",
                &|alice, ids| {
                    for id in ids.split_off(ids.len() - 150) {
                        remove(alice, &channel, &id);
                    }
                },
                &[109, 108, 107],
            ),
            (
                "messages that are not kept",
                &|alice, ids| {
                    let mut bob = server.connect("bob");
                    bob.join_as("busy", json!({"persistence": false}));
                    let passing = say(&mut bob, &channel, 5000);
                    update(&mut bob, &channel, &passing, 5001);
                    ids.push(say(alice, &channel, 6000));
                },
                &[6000, 109, 108],
            ),
        ];
        for (stage, change, newest) in stages {
            // The pages are also read before the change, so that the cached pages are older than the change and must
            // have been updated.
            let _ = reader.pages_from_memory();
            change(&mut alice, &mut ids);
            let from_memory = reader.pages();
            assert!(contents(&from_memory[5]).starts_with(newest), "{stage}: {}", from_memory[5]);
            assert_eq!(from_memory, reader.pages_from_memory(), "{stage}: nothing has changed");
            assert!(alice.request(json!({"channel_leave": {"channel_id": channel}})).get("error").is_none());
            reader.await_empty();
            for (limit, page) in LIMITS.iter().zip(&from_memory) {
                assert_eq!(*page, reader.newest(*limit), "{stage}, limit {limit}");
            }
            assert_eq!(alice.join("busy"), channel);
        }
    });
}

/// A channel that was dropped and loaded again must not be confused with its earlier state.
#[test]
fn a_room_that_comes_back_is_read_anew() {
    on_every_size(|server| {
        let mut alice = server.connect("alice");
        let channel = alice.join("again");
        let reader = Reader::new(server, &channel);
        for round in 0..20 {
            let id = say(&mut alice, &channel, round);
            // Read twice: the first page may still come from the store.
            assert_eq!(contents(&reader.newest(1)), [round]);
            assert_eq!(contents(&reader.newest(1)), [round]);
            update(&mut alice, &channel, &id, 1000 + round);
            assert_eq!(contents(&reader.newest(1)), [1000 + round]);
            alice.request(json!({"channel_leave": {"channel_id": channel}}));
            reader.await_empty();
            alice.join("again");
        }
    });
}

/// After an acknowledgement, the message is in history at once, from every shard.
#[test]
fn what_was_acknowledged_is_there() {
    on_every_size(|server| {
        let mut alice = server.connect("alice");
        let channel = alice.join("at-once");
        let reader = Reader::new(server, &channel);
        let mut kept = BTreeSet::new();
        for number in 0..120 {
            kept.insert(number);
            let id = say(&mut alice, &channel, number);
            let page = contents(&reader.newest(100));
            let expected: Vec<u64> = kept.iter().rev().take(100).copied().collect();
            assert_eq!(page, expected);
            if number % 10 == 0 {
                remove(&mut alice, &channel, &id);
                kept.remove(&number);
            }
        }
    });
}
