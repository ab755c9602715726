//! A server that is killed at any time loses nothing that it has acknowledged or delivered, repeats nothing, and keeps
//! the order.
//!
//! Many publishers write into several rooms. The server gets SIGKILL meanwhile, and starts again on the same directory
//! and port, with the same tokens. What clients were told is then compared with history.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::StoreWrite;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{Store, Write};
use tests::harness::cassandra::{Cassandra, Keyspace};
use tests::harness::{Account, Heard, Launch, Server, Socket, data_dir};
use uuid::Uuid;

const ROUNDS: usize = 20;
const ROUNDS_ON_A_DATABASE: usize = 4;
const ROOMS: usize = 4;
const PUBLISHERS_PER_ROOM: usize = 3;
/// Requests that a publisher has in flight. At a kill so many are lost, or become durable without an acknowledgement.
const PIPELINE: usize = 8;

/// What one connection was told: ids in the order of its acknowledgements, and ids with contents in the order of its
/// deliveries.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    delivered: Vec<(String, String)>,
}

/// A room's history as the test knows it from earlier rounds.
#[derive(Default)]
struct Known {
    ids: Vec<String>,
    cursor: Option<String>,
}

#[test]
fn every_acknowledged_message_is_found_once_and_in_order() {
    for shards in [1, 2] {
        rounds(shards, ROUNDS.div_ceil(2), &[]);
    }
}

/// After a kill, a keyspace is free for the next server only after some seconds, so the rounds are few.
#[test]
fn on_a_database_as_well() {
    let keyspace = Keyspace::on(Cassandra::shared());
    rounds(2, ROUNDS_ON_A_DATABASE, &keyspace.flags(&keyspace.cluster.contact_points()));
}

/// Kills and restarts the server, on the store that these flags name.
fn rounds(shards: u16, rounds: usize, store: &[String]) {
    let data = data_dir();
    let launch = || {
        let launch = Launch::on(data.path()).without_budgets().shards(shards);
        launch.flag("--session-ttl", 3600).flags(store.iter().cloned())
    };
    let mut server = launch().start();
    let address = server.address();
    let accounts: Vec<Account> = (0..PUBLISHERS_PER_ROOM).map(|n| server.sign_in(&format!("publisher-{n}"))).collect();
    let reader = server.sign_in("reader");
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut moments = Moments(ChaCha8Rng::seed_from_u64(shards.into()));
    for round in 0..rounds {
        let told = publish_until_killed(server, &accounts, &reader, round, moments.next());
        server = launch().listen(address).start();
        for (room, connections) in &told {
            let known = known.entry(room.clone()).or_default();
            compare(&server, &reader, room, known, connections, round);
        }
        assert_eq!(server.http().get("/v2/account", &reader.token).status, 200, "tokens outlive a kill");
    }
    let mut total = 0;
    for (room, known) in &known {
        let (history, _) = server.http().history_after(&reader.token, &channel(room), None);
        let ids: Vec<_> = history.iter().map(|message| text(&message["message_id"])).collect();
        assert_eq!(ids, known.ids, "room {room}: the whole history is what the rounds added up to");
        total += ids.len();
    }
    println!("{shards} shards, {rounds} kills: {total} messages kept");
    assert!(total > rounds * ROOMS, "too few messages to mean anything: {total}");
}

/// Fills every room from its publishers until the server is killed, after `moment`.
fn publish_until_killed(
    server: Server,
    accounts: &[Account],
    reader: &Account,
    round: usize,
    moment: Duration,
) -> HashMap<String, Vec<Told>> {
    let address = server.address();
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("room-{n}")).collect();
    // All clients join before any of them sends, so that every client must receive every message.
    let mut listeners = Vec::new();
    let mut publishers = Vec::new();
    for room in &rooms {
        let mut listener = Socket::connect(address, &reader.token);
        listener.join(room);
        listeners.push((room.clone(), listener));
        for (number, account) in accounts.iter().enumerate() {
            let mut socket = Socket::connect(address, &account.token);
            socket.join(room);
            publishers.push((room.clone(), format!("{round}-{number}"), socket));
        }
    }
    let (started, first_ack) = mpsc::channel();
    thread::scope(|scope| {
        let mut connections = Vec::new();
        for (room, listener) in listeners {
            connections.push((room, scope.spawn(move || listen_until_cut(listener))));
        }
        for (room, author, socket) in publishers {
            let started = started.clone();
            let channel = channel(&room);
            connections.push((room, scope.spawn(move || publish_until_cut(socket, &channel, &author, &started))));
        }
        first_ack.recv().expect("a publisher is acknowledged something");
        thread::sleep(moment);
        server.kill();
        let mut told: HashMap<String, Vec<Told>> = HashMap::new();
        for (room, connection) in connections {
            told.entry(room).or_default().push(connection.join().expect("a client does not panic"));
        }
        told
    })
}

fn publish_until_cut(mut socket: Socket, channel: &str, author: &str, started: &mpsc::Sender<()>) -> Told {
    let mut told = Told::default();
    let (mut sent, mut open) = (0, 0);
    loop {
        while open < PIPELINE {
            let content = json!({"author": author, "n": sent}).to_string();
            let send =
                json!({"cid": sent.to_string(), "channel_message_send": {"channel_id": channel, "content": content}});
            if socket.try_send_text(&send.to_string()).is_err() {
                break;
            }
            (sent, open) = (sent + 1, open + 1);
        }
        let before = told.acknowledged.len();
        if !hear(&mut socket, &mut told) {
            return told;
        }
        open -= told.acknowledged.len() - before;
        if before == 0 && !told.acknowledged.is_empty() {
            // Only the first signal has a receiver.
            let _ = started.send(());
        }
    }
}

fn listen_until_cut(mut socket: Socket) -> Told {
    let mut told = Told::default();
    while hear(&mut socket, &mut told) {}
    told
}

/// Records one envelope. Returns false when the connection has ended.
fn hear(socket: &mut Socket, told: &mut Told) -> bool {
    let envelope: Value = match socket.hear(Duration::from_secs(30)) {
        Heard::Text(text) => serde_json::from_str(&text).expect("JSON"),
        Heard::Closed(_) => return false,
        Heard::Nothing => panic!("silence while everybody publishes"),
    };
    assert!(envelope["error"].is_null(), "no send is refused: {envelope}");
    if let Some(message) = envelope.get("channel_message") {
        told.delivered.push((text(&message["message_id"]), text(&message["content"])));
    } else if let Some(ack) = envelope.get("channel_message_ack") {
        told.acknowledged.push(text(&ack["message_id"]));
    }
    true
}

/// Compares what the connections of one room were told with what history has gained since the last round.
fn compare(server: &Server, reader: &Account, room: &str, known: &mut Known, connections: &[Told], round: usize) {
    let (gained, cursor) = server.http().history_after(&reader.token, &channel(room), known.cursor.as_deref());
    let place: HashMap<String, usize> =
        gained.iter().enumerate().map(|(place, message)| (text(&message["message_id"]), place)).collect();
    let context = format!("round {round}, {room}");
    assert_eq!(place.len(), gained.len(), "{context}: no message twice");
    for connection in connections {
        let places: Vec<usize> = connection
            .acknowledged
            .iter()
            .map(|id| *place.get(id).unwrap_or_else(|| panic!("{context}: {id} was acknowledged and is lost")))
            .collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{context}: acks came in another order");
        for (number, (id, content)) in connection.delivered.iter().enumerate() {
            // Deliveries begin with the round and have no gaps.
            let kept = gained.get(number).unwrap_or_else(|| panic!("{context}: {id} was shown and is lost"));
            assert_eq!((&kept["message_id"], &kept["content"]), (&json!(id), &json!(content)), "{context}: order");
        }
    }
    for author in 0..PUBLISHERS_PER_ROOM {
        let author = format!("{round}-{author}");
        let contents = gained.iter().map(|message| -> Value {
            serde_json::from_str(message["content"].as_str().expect("content is text")).expect("content is JSON")
        });
        let numbers: Vec<u64> = contents
            .filter(|content| content["author"] == author)
            .filter_map(|content| content["n"].as_u64())
            .collect();
        let whole: Vec<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, whole, "{context}: each author's messages are kept in order, without holes or repeats");
    }
    known.ids.extend(gained.iter().map(|message| text(&message["message_id"])));
    assert!(known.ids.windows(2).all(|pair| pair[0] < pair[1]), "{context}: ids rise, across restarts too");
    known.cursor = cursor;
}

fn channel(room: &str) -> String {
    format!("2...{room}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_string()
}

/// Times to kill, from the first acknowledged message to half a second later; short times are more frequent.
struct Moments(ChaCha8Rng);

impl Moments {
    fn next(&mut self) -> Duration {
        let part = (self.0.next_u64() % 1000) as f64 / 1000.0;
        Duration::from_secs_f64(0.5 * part * part)
    }
}

/// Enough rows that, at each kill, some journals are not empty and some tables are not merged.
const MESSAGES_BEFORE: u32 = 400_000;
const LIVES: usize = 12;

/// A server that is killed soon after each start still answers in each run and loses nothing, and the work that it
/// leaves to the next start does not grow.
#[test]
fn a_server_killed_as_soon_as_it_has_answered_gets_on() {
    let data = data_dir();
    let store = || Embedded::open(&data.path().join("store"), &EmbeddedOptions::default()).expect("a store");
    let filled = store();
    let groups = (0..MESSAGES_BEFORE).collect::<Vec<_>>();
    for group in groups.chunks(1000) {
        let writes: Vec<_> = group.iter().map(|&number| Write::Request(StoreWrite::Insert(old(number)))).collect();
        filled.commit(&writes).expect("a disk that works");
    }
    // The state that a kill leaves: data in memory is only in the journals, and merges are cut short.
    drop(filled);
    let mut acknowledged = Vec::new();
    for life in 0..LIVES {
        let server = Launch::on(data.path()).start();
        assert_eq!(server.http().get("/healthcheck", "").status, 200, "life {life}");
        let mut socket = server.connect("ada");
        let channel = socket.join("lobby");
        acknowledged.push(text(&socket.say(&channel, "{}")["channel_message_ack"]["message_id"]));
        server.kill();
    }
    let server = Launch::on(data.path()).start();
    let reader = server.sign_in("reader");
    let (history, _) = server.http().history_after(&reader.token, &channel("lobby"), None);
    let ids: Vec<_> = history.iter().map(|message| text(&message["message_id"])).collect();
    assert_eq!(ids, acknowledged);
    server.kill();
    let store = store();
    assert!(store.first_level_runs() <= 8, "{} runs after {LIVES} lives", store.first_level_runs());
    for number in (0..MESSAGES_BEFORE).step_by(9973) {
        let message = old(number);
        assert_eq!(store.message(&message.channel, message.id), Ok(Some(message)));
    }
}

/// One message in one of very many channels.
fn old(number: u32) -> Message {
    let room = format!("old-{}", number.wrapping_mul(0x9e37_79b9) % 100_000);
    Message {
        channel: ChannelId::room(&room).expect("a short name"),
        id: MessageId(Uuid::from_u128(u128::from(number) + 1)),
        sequence: Sequence(u64::from(number) + 1),
        code: MessageCode::Chat,
        sender: UserId(Uuid::from_u128(u128::from(number % 1000) + 1)),
        username: "ada".into(),
        content: format!("{{\"text\":\"{number:0100}\"}}").into(),
        create_time: Timestamp(1),
        update_time: Timestamp(1),
        persistent: true,
    }
}

#[test]
fn a_kill_before_anything_was_said_leaves_a_directory_that_starts() {
    let data = data_dir();
    let start = Instant::now();
    for _ in 0..5 {
        let server = Launch::on(data.path()).start();
        server.kill();
    }
    Launch::on(data.path()).start().assert_works("five kills at rest");
    println!("six starts took {:?}", start.elapsed());
}
