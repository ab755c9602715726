//! The threads of the bare server, turned by hand: which bytes each member gets, in which order, and which member is closed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream as Client};
use std::sync::mpsc::sync_channel;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::plan::draws::Draws;
use crate::wire::frames::Frames;
use crate::wire::{Entrance, Frame, Heard, Kind, Scratch};

const DIALECT: Dialect = Dialect::Json;
/// The opening of a WebSocket, as our clients send it.
const OPENING: &[u8] = b"GET /ws?token=any HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];
/// Each end's buffer in the kernel, about. Small ones are soon full.
const KERNEL_BYTES: usize = 64 * 1024;
/// So many messages of a megabyte are more than what may be owed.
const FLOOD: usize = 2 * (ARREARS_BYTES_MAX >> 20);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Some threads of a server, which do nothing by themselves.
struct Server {
    shards: Vec<Shard>,
    listener: TcpListener,
    buffer: Vec<u8>,
}

/// One client of the server.
struct Member {
    client: Client,
    shard: usize,
    /// Its place in that thread.
    at: usize,
    frames: Frames,
}

impl Server {
    fn new(shards: usize, batch_factor: f64, parcels_max: usize) -> Self {
        let (mut doors, mut insides) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let (parcels, inbox) = sync_channel(parcels_max);
            let (poll, doorbell) = poll().expect("an epoll set");
            doors.push(Door { parcels, doorbell });
            insides.push((poll, inbox));
        }
        let (doors, settings): (Arc<[Door]>, _) =
            (doors.into(), BareSettings { dialect: DIALECT, batch_factor, message_bytes: 0 });
        let shard = |(number, (poll, inbox))| Shard::new(number, settings.clone(), poll, doors.clone(), inbox);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self { shards: insides.into_iter().enumerate().map(shard).collect(), listener, buffer: vec![0; READ_BYTES] }
    }

    /// A client of this thread, with an open WebSocket.
    fn connect(&mut self, shard: usize) -> Member {
        let client = Client::connect(self.listener.local_addr().expect("bound")).expect("a connection");
        client.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        set_socket_recv_buffer_size(&client, KERNEL_BYTES).expect("a small buffer");
        let (accepted, _) = self.listener.accept().expect("the same connection");
        set_socket_send_buffer_size(&accepted, KERNEL_BYTES).expect("a small buffer");
        let at = self.shards[shard].free.last().copied().unwrap_or(self.shards[shard].connections.len());
        self.shards[shard].accept(accepted).expect("a place");
        let mut member = Member { client, shard, at, frames: Frames::of_server() };
        self.say(&mut member, OPENING);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            member.client.read_exact(&mut byte).expect("the answer to the opening");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        member
    }

    fn join(&mut self, shard: usize, room: &str) -> Member {
        let mut member = self.connect(shard);
        let entrance = Entrance { room: room.to_owned(), hidden: true, persistence: false };
        self.say(&mut member, &masked(DIALECT.join(&entrance, 0).expect("a request")));
        member.hears(&["joined"]);
        member
    }

    /// The thread reads what the client writes. Without bytes, it reads the end of the connection.
    fn say(&mut self, member: &mut Member, bytes: &[u8]) {
        member.client.write_all(bytes).expect("an open connection");
        let shard = &mut self.shards[member.shard];
        let connection = shard.connections[member.at].as_ref().expect("a connection");
        while connection.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            std::thread::yield_now();
        }
        shard.read(member.at, &mut self.buffer).expect("no error of the whole server");
    }

    fn send(&mut self, member: &mut Member, room: &str, content: &str) {
        self.say(member, &masked(DIALECT.send(0, 7, room, content)));
    }

    /// Lets all threads handle what they have sent to each other.
    fn turn(&mut self) {
        for _ in 0..2 {
            self.shards.iter_mut().for_each(|shard| shard.take_parcels().expect("room in all inboxes"));
        }
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.shards[member.shard].connections[member.at].is_some()
    }
}

impl Member {
    /// All messages that have come and were not returned before: an answer by its name, a message by its content.
    fn heard(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        self.client.set_nonblocking(true).expect("a socket");
        let read = self.client.read_to_end(&mut bytes);
        self.client.set_nonblocking(false).expect("a socket");
        assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the connection is open");
        self.take_in(&bytes)
    }

    fn take_in(&mut self, bytes: &[u8]) -> Vec<String> {
        self.frames.take_in(bytes);
        let mut said = Vec::new();
        while let Some(whole) = self.frames.next().expect("frames of a server") {
            let frame = Frame::Text(String::from_utf8(whole.payload).expect("text").into());
            let hear = |heard: Heard<'_>| {
                said.push(match heard {
                    Heard::Joined { .. } => "joined".to_owned(),
                    Heard::Accepted { .. } => "accepted".to_owned(),
                    Heard::Message { kind: Kind::New, content, .. } => content.to_owned(),
                    other => panic!("{other:?}"),
                });
            };
            DIALECT.read(&frame, &mut Scratch::default(), hear).expect("readable");
        }
        said
    }

    /// The next messages: so many, and more if more have come.
    fn next(&mut self, count: usize) -> Vec<String> {
        let mut said = self.heard();
        while said.len() < count {
            let mut bytes = [0; 4096];
            let read = self.client.read(&mut bytes).expect("messages within the timeout");
            assert!(read > 0, "the connection has ended after {said:?}");
            said.extend(self.take_in(&bytes[..read]));
        }
        said
    }

    fn hears(&mut self, expected: &[&str]) {
        assert_eq!(self.next(expected.len()), expected);
    }

    /// Waits until the server has closed the connection, and ignores what comes before that.
    fn is_closed(&mut self) -> bool {
        loop {
            match self.client.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}

/// A request as a client's frame, with a mask of zeros.
fn masked(request: Message) -> Vec<u8> {
    let payload = request.into_data();
    let mut bytes = vec![0x81, 0x80 | 126];
    bytes.extend(u16::try_from(payload.len()).expect("a short request").to_be_bytes());
    [&bytes[..], &[0; 4], &payload].concat()
}

#[test]
fn all_members_of_a_room_hear_its_messages_in_one_order_and_no_others() {
    for seed in 0..20 {
        let mut draws = Draws::new(seed, 1, 1);
        let mut server = Server::new(3, 1.0, PARCELS_MAX);
        let rooms = ["a", "b", "c"];
        let join = |number: usize| {
            let room = rooms[number % rooms.len()];
            (room, server.join(draws.below(3) as usize, room), 0)
        };
        let mut members: Vec<(&str, Member, usize)> = (0..12).map(join).collect();
        let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for number in 0..60 {
            let (room, member, sent) = &mut members[draws.below(12) as usize];
            *sent += 1;
            let content = format!("{room}{number}");
            server.send(member, room, &content);
            said.entry(room).or_default().push(content);
            if draws.below(3) == 0 {
                server.turn();
            }
        }
        server.turn();
        let mut orders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (room, member, sent) in &mut members {
            let due = said.get(room).map_or(0, Vec::len);
            let mut heard = member.next(due + *sent);
            heard.retain(|what| what != "accepted");
            let order = orders.entry(room).or_insert_with(|| heard.clone());
            assert_eq!(*order, heard, "seed {seed}: the members of {room} differ");
        }
        for (room, order) in &mut orders {
            let mut all = said.remove(room).unwrap_or_default();
            order.sort();
            all.sort();
            assert_eq!(*order, all, "seed {seed}: each message of {room} is heard once");
        }
    }
}

#[test]
fn a_batch_goes_to_each_other_thread_in_one_parcel_when_it_is_full_or_quiet() {
    let mut server = Server::new(2, 3.0, PARCELS_MAX);
    let owner = crc32fast::hash(b"r") as usize % 2;
    let (mut publisher, mut far) = (server.join(owner, "r"), server.join(1 - owner, "r"));
    for number in 0..4 {
        server.send(&mut publisher, "r", &number.to_string());
    }
    let Ok(Parcel::Batch { room, bytes }) = server.shards[1 - owner].inbox.try_recv() else { panic!("one batch") };
    assert!(server.shards[1 - owner].inbox.try_recv().is_err(), "three messages are one parcel");
    server.shards[1 - owner].fan_out(&room, &bytes);
    far.hears(&["0", "1", "2"]);
    publisher.hears(&["accepted", "accepted", "accepted", "0", "1", "2", "accepted"]);

    let look_at = server.shards[owner].look_at.expect("a message waits");
    server.shards[owner].send_what_has_waited(look_at - Duration::from_nanos(1)).expect("room");
    server.turn();
    assert_eq!(far.heard(), [""; 0], "not before its time");
    // The batch may have begun later than the time at which the thread looks.
    server.shards[owner].send_what_has_waited(look_at + BATCH_WAIT).expect("room");
    server.turn();
    far.hears(&["3"]);
    publisher.hears(&["3"]);
    assert_eq!(server.shards[owner].look_at, None, "nothing waits any more");
}

#[test]
fn a_member_that_has_gone_is_not_written_to_and_its_place_serves_another() {
    let ends: [fn(&mut Server, &mut Member); 4] = [
        |server, member| server.say(member, &CLOSE),
        |server, member| {
            member.client.shutdown(std::net::Shutdown::Write).expect("an open connection");
            server.say(member, &[]);
        },
        // A frame that is not masked.
        |server, member| server.say(member, &[0x81, 0x01, b'x']),
        |server, member| server.say(member, &[0xff; 20]),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut server = Server::new(1, 1.0, PARCELS_MAX);
        let (mut publisher, mut gone) = (server.join(0, "r"), server.join(0, "r"));
        end(&mut server, &mut gone);
        assert!(!server.is_connected(&gone) && gone.is_closed(), "end {number}");
        let mut other = server.join(0, "other");
        assert_eq!(other.at, gone.at, "the place is used again");
        server.send(&mut publisher, "r", "x");
        publisher.hears(&["accepted", "x"]);
        assert_eq!(other.heard(), [""; 0], "end {number}: a message of the room of the member before");
        server.send(&mut other, "other", "y");
        other.hears(&["accepted", "y"]);
    }
}

#[test]
fn a_member_that_is_not_in_a_room_hears_only_answers() {
    let mut server = Server::new(1, 1.0, PARCELS_MAX);
    let (mut member, mut visitor) = (server.join(0, "r"), server.connect(0));
    server.say(&mut visitor, &masked(Message::text("{\"cid\":\"1\",\"ping\":{}}")));
    assert_eq!(visitor.heard(), [""; 0], "a request that the bare server does not know");
    server.send(&mut visitor, "r", "x");
    visitor.hears(&["accepted"]);
    member.hears(&["x"]);
    server.send(&mut visitor, "empty", "y");
    visitor.hears(&["accepted"]);
}

#[test]
fn what_a_full_socket_does_not_take_is_owed_in_order() {
    let mut server = Server::new(1, 1.0, PARCELS_MAX);
    let mut slow = server.join(0, "r");
    let large = "x".repeat(1 << 20);
    let shard = &mut server.shards[0];
    let sent: Vec<String> = (0..FLOOD / 4).map(|number| format!("{number}{large}")).collect();
    for content in &sent {
        let frame = shard.whole(DIALECT.pushed("m", content, 0));
        shard.publish("r", &frame).expect("one thread has no inbox to fill");
    }
    let owed = shard.connections[slow.at].as_ref().map_or(0, |slow| slow.arrears.len());
    assert!((1..ARREARS_BYTES_MAX).contains(&owed), "{owed} bytes are owed, and the member is still connected");
    // Reading makes room; the socket is then writable again, and the thread writes what it owes.
    let mut heard = Vec::new();
    while heard.len() < sent.len() {
        heard.extend(slow.heard());
        server.shards[0].write(slow.at, &[]);
    }
    assert!(heard == sent, "each of {} messages comes whole, and once", sent.len());
}

#[test]
fn a_member_that_never_reads_is_closed_and_the_others_hear_everything() {
    let mut server = Server::new(1, 1.0, PARCELS_MAX);
    let (mut prompt, slow) = (server.join(0, "r"), server.join(0, "r"));
    let large = "x".repeat(1 << 20);
    for number in 0..FLOOD {
        let shard = &mut server.shards[0];
        let content = format!("{number}{large}");
        let frame = shard.whole(DIALECT.pushed("m", &content, 0));
        shard.publish("r", &frame).expect("one thread has no inbox to fill");
        let heard = loop {
            // The message is longer than what the socket takes at once.
            shard.write(prompt.at, &[]);
            let heard = prompt.heard();
            if !heard.is_empty() {
                break heard;
            }
        };
        assert!(heard == [content], "message {number} comes whole, and before the next one");
        let owed = shard.connections[slow.at].as_ref().map_or(0, |slow| slow.arrears.len());
        assert!(owed <= ARREARS_BYTES_MAX, "{owed} bytes are owed");
    }
    assert!(!server.is_connected(&slow), "a member that reads nothing is closed");
    assert!(server.is_connected(&prompt));
    assert_eq!(server.shards[0].members["r"], [prompt.at]);
}

#[test]
fn a_thread_that_is_too_far_behind_is_an_error_of_the_whole_server() {
    let mut server = Server::new(2, 1.0, 2);
    let owner = crc32fast::hash(b"r") as usize % 2;
    let frame = server.shards[owner].whole(DIALECT.pushed("m", "x", 0));
    for number in 0..3 {
        let sent = server.shards[owner].publish("r", &frame);
        assert_eq!(sent.is_ok(), number < 2, "parcel {number} for a thread with room for two: {sent:?}");
    }
    server.turn();
    assert!(server.shards[owner].publish("r", &frame).is_ok(), "the parcels have been taken");
}
