//! Rooms full of publishers that write all the time and record the answers they get.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use tests::harness::{Account, DEADLINE, Heard, Server, Socket};

use crate::stage::{ANSWER_DURATION_MAX, BUSY_MACHINE, Stage};

const ROOMS: usize = 3;
const PUBLISHERS_PER_ROOM: usize = 2;
/// Requests that a publisher has in flight.
const PIPELINE: usize = 16;
/// A publisher's interval. More messages could not be compared in time on a busy machine, and would show no more.
const SEND_INTERVAL: Duration = Duration::from_millis(20);
/// A publisher whose request was refused waits this long, as a client would.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(20);
/// The longest time for all phases of a storm together.
const STORM_DURATION_MAX: Duration = Duration::from_secs(120);

/// What the clients of one room were told.
#[derive(Default)]
pub struct Told {
    /// Contents and ids, in the order of each publisher's acknowledgements.
    acknowledged: Vec<Vec<(String, String)>>,
    refused: HashSet<String>,
    /// Ids and contents, in the order of the deliveries.
    delivered: Vec<(String, String)>,
}

/// The progress of all clients together.
#[derive(Default)]
pub struct Progress {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub acknowledged: usize,
    pub refused: usize,
    /// The longest wait for any answer.
    pub answer_duration_max: Duration,
}

impl Progress {
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    fn note(&self, acknowledged: bool, waited: Duration) {
        let mut counts = self.counts.lock();
        counts.acknowledged += usize::from(acknowledged);
        counts.refused += usize::from(!acknowledged);
        counts.answer_duration_max = counts.answer_duration_max.max(waited);
        self.changed.notify_all();
    }

    pub fn await_more_acks(&self, more: usize) {
        let wanted = self.counts().acknowledged + more;
        self.await_that("acks", |counts| counts.acknowledged >= wanted);
    }

    pub fn await_more_refusals(&self, more: usize) {
        let wanted = self.counts().refused + more;
        self.await_that("refusals", |counts| counts.refused >= wanted);
    }

    fn await_that(&self, what: &str, is_so: impl Fn(&Counts) -> bool) {
        let mut counts = self.counts.lock();
        let bound = ANSWER_DURATION_MAX + DEADLINE;
        let waited = self.changed.wait_while_for(&mut counts, |counts| !is_so(counts), bound);
        assert!(!waited.timed_out(), "no {what} within {bound:?}: {:?}", *counts);
    }
}

/// Lets all publishers write while `storm` runs. Then compares what the clients were told with what is stored.
pub fn under_load(stage: &Stage, server: &Server, storm: impl FnOnce(&Progress) + Send) {
    let (progress, over) = (Progress::default(), AtomicBool::new(false));
    let mut crowd = Crowd::gather(server);
    let told = thread::scope(|scope| {
        let (progress, over) = (&progress, &over);
        let rooms: Vec<_> = crowd.rooms.drain(..).map(|room| room.begin(scope, progress, over)).collect();
        progress.await_more_acks(100);
        let storming = scope.spawn(|| storm(progress));
        let stormed = storming.join();
        // Whatever the result of the storm, all publishers stop.
        over.store(true, Ordering::Release);
        let told: Vec<_> = rooms.into_iter().map(Speaking::end).collect();
        stormed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        told
    });
    let counts = progress.counts();
    println!("{counts:?}");
    let bound = ANSWER_DURATION_MAX + BUSY_MACHINE;
    assert!(counts.answer_duration_max <= bound, "an answer took {:?}", counts.answer_duration_max);
    let kept: usize = told.iter().map(|(channel, told)| compare(server, &crowd.reader, channel, told)).sum();
    let stored = stage.keyspace.message_ids();
    assert_eq!(stored.iter().collect::<HashSet<_>>().len(), stored.len(), "no message twice");
    assert_eq!(stored.len(), kept, "the database holds what history shows");
}

struct Crowd {
    reader: Account,
    rooms: Vec<Room>,
}

/// All clients of a room, before any of them has sent a message.
struct Room {
    channel: String,
    listener: Socket,
    publishers: Vec<Socket>,
}

impl Crowd {
    fn gather(server: &Server) -> Self {
        let reader = server.sign_in("reader");
        let publisher = server.sign_in("publisher");
        let connect = |account: &Account| Socket::connect(server.address(), &account.token);
        let room = |number: usize| {
            let mut listener = connect(&reader);
            let channel = listener.join(&format!("room-{number}"));
            let join = || {
                let mut socket = connect(&publisher);
                socket.join(&format!("room-{number}"));
                socket
            };
            Room { channel, listener, publishers: (0..PUBLISHERS_PER_ROOM).map(|_| join()).collect() }
        };
        Self { rooms: (0..ROOMS).map(room).collect(), reader }
    }
}

/// A room whose publishers are writing.
struct Speaking<'scope> {
    channel: String,
    listening: thread::ScopedJoinHandle<'scope, Vec<(String, String)>>,
    speaking: Vec<thread::ScopedJoinHandle<'scope, Spoken>>,
    /// The id of the room's last message.
    last: mpsc::Sender<String>,
}

impl Room {
    fn begin<'scope>(
        self,
        scope: &'scope thread::Scope<'scope, '_>,
        progress: &'scope Progress,
        over: &'scope AtomicBool,
    ) -> Speaking<'scope> {
        let (last, told) = mpsc::channel();
        let listening = scope.spawn(move || listen(self.listener, &told));
        let speaking = self.publishers.into_iter().enumerate().map(|(number, socket)| {
            let channel = self.channel.clone();
            scope.spawn(move || speak(socket, &channel, &format!("author-{number}"), progress, over))
        });
        Speaking { speaking: speaking.collect(), channel: self.channel, listening, last }
    }
}

impl Speaking<'_> {
    /// Waits until every publisher has its answers. Then sends one last message.
    fn end(self) -> (String, Told) {
        let mut told = Told::default();
        let mut sockets = Vec::new();
        for publisher in self.speaking {
            let spoken = publisher.join().expect("a publisher does not panic");
            sockets.push(spoken.socket);
            told.acknowledged.push(spoken.acknowledged);
            told.refused.extend(spoken.refused);
        }
        let mut socket = sockets.pop().expect("a publisher");
        let deadline = Instant::now() + ANSWER_DURATION_MAX + DEADLINE;
        let mut attempt = 0;
        let ack = loop {
            let content = json!({"last": attempt}).to_string();
            let answer = socket.say(&self.channel, &content);
            if let Some(id) = answer["channel_message_ack"]["message_id"].as_str() {
                break (content, id.to_owned());
            }
            told.refused.insert(content);
            attempt += 1;
            assert!(Instant::now() < deadline, "the room does not come back: {answer}");
            thread::sleep(PAUSE_AFTER_REFUSAL);
        };
        // This fails only if the listener has panicked, which the next lines report.
        let _ = self.last.send(ack.1.clone());
        told.acknowledged.push(vec![ack]);
        told.delivered = self.listening.join().expect("a listener does not panic");
        (self.channel, told)
    }
}

/// A publisher's connection, and the answers it got.
struct Spoken {
    socket: Socket,
    acknowledged: Vec<(String, String)>,
    refused: HashSet<String>,
}

/// Listens until it has received the last message.
fn listen(mut listener: Socket, last: &mpsc::Receiver<String>) -> Vec<(String, String)> {
    let mut delivered: Vec<(String, String)> = Vec::new();
    let deadline = Instant::now() + STORM_DURATION_MAX;
    let mut end = None;
    loop {
        end = end.or_else(|| last.try_recv().ok());
        if end.is_some() && delivered.iter().rev().any(|(id, _)| Some(id) == end.as_ref()) {
            return delivered;
        }
        assert!(Instant::now() < deadline, "the last message does not come");
        match listener.hear(Duration::from_millis(100)) {
            Heard::Text(text) => {
                let envelope: Value = serde_json::from_str(&text).expect("JSON");
                if let Some(message) = envelope.get("channel_message") {
                    delivered.push((text_of(&message["message_id"]), text_of(&message["content"])));
                }
            }
            Heard::Nothing => {}
            Heard::Closed(closed) => panic!("the listener was closed: {closed:?}"),
        }
    }
}

/// Writes at its rate until `over` is set. Then waits for the outstanding answers.
fn speak(mut socket: Socket, channel: &str, author: &str, progress: &Progress, over: &AtomicBool) -> Spoken {
    let (mut acknowledged, mut refused) = (Vec::new(), HashSet::new());
    let mut asked: HashMap<String, (String, Instant)> = HashMap::new();
    let (mut sent, mut due, mut heard) = (0, Instant::now(), Instant::now());
    loop {
        let may_send = !over.load(Ordering::Acquire) && asked.len() < PIPELINE;
        if may_send && due <= Instant::now() {
            let (cid, content) = (format!("send-{sent}"), json!({"author": author, "n": sent}).to_string());
            let send = json!({"channel_message_send": {"channel_id": channel, "content": content}, "cid": cid});
            socket.send(&send);
            asked.insert(cid, (content, Instant::now()));
            (sent, due) = (sent + 1, Instant::now() + SEND_INTERVAL);
        }
        if asked.is_empty() && over.load(Ordering::Acquire) {
            return Spoken { socket, acknowledged, refused };
        }
        let envelope: Value = match socket.hear(SEND_INTERVAL) {
            Heard::Text(text) => serde_json::from_str(&text).expect("JSON"),
            Heard::Nothing if asked.is_empty() || heard.elapsed() < ANSWER_DURATION_MAX + DEADLINE => continue,
            other => panic!("{} sends wait for an answer, and there is {other:?}", asked.len()),
        };
        heard = Instant::now();
        let Some((content, since)) = envelope["cid"].as_str().and_then(|cid| asked.remove(cid)) else { continue };
        let id = envelope["channel_message_ack"]["message_id"].as_str();
        progress.note(id.is_some(), since.elapsed());
        match id {
            Some(id) => acknowledged.push((content, id.to_owned())),
            None => {
                // A runtime exception. Its code is 0, so the field is left out.
                assert!(envelope["error"].is_object(), "{envelope}");
                assert!(envelope["error"]["code"].is_null(), "a failure of the server's, and no other: {envelope}");
                assert!(!text_of(&envelope["error"]["message"]).is_empty(), "{envelope}");
                refused.insert(content);
                due = Instant::now() + PAUSE_AFTER_REFUSAL;
            }
        }
    }
}

/// Compares a room's history with what its clients were told. Returns the number of messages.
fn compare(server: &Server, reader: &Account, channel: &str, told: &Told) -> usize {
    let (history, _) = server.http().history_after(&reader.token, channel, None);
    let kept: Vec<_> = history.iter().map(|row| (text_of(&row["message_id"]), text_of(&row["content"]))).collect();
    for (place, (kept, delivered)) in kept.iter().zip(&told.delivered).enumerate() {
        assert_eq!(kept, delivered, "{channel}: history and deliveries part at {place}");
    }
    assert_eq!(kept.len(), told.delivered.len(), "{channel}: what is kept is what was delivered");
    let places: HashMap<&str, usize> = kept.iter().enumerate().map(|(place, (id, _))| (id.as_str(), place)).collect();
    assert_eq!(places.len(), kept.len(), "{channel}: no message twice");
    for acknowledged in &told.acknowledged {
        let place = |(content, id): &(String, String)| {
            let place =
                *places.get(id.as_str()).unwrap_or_else(|| panic!("{channel}: {id} was acknowledged and is lost"));
            assert_eq!(kept[place].1, *content, "{channel}: {id}");
            place
        };
        let order: Vec<usize> = acknowledged.iter().map(place).collect();
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{channel}: each author's messages keep their order");
    }
    for (id, content) in &kept {
        assert!(!told.refused.contains(content), "{channel}: {content} was refused and is kept as {id}");
    }
    kept.len()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
