//! What the proxy does with the bytes and with the ends of connections, besides the faults that it is told to commit.

use rustix::net::sockopt::set_socket_linger;
use tokio::task::JoinHandle as Task;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Control;

use super::*;
use crate::base::content::ScheduleSlot;
use crate::plan::draws::Draws;
use crate::plan::run_plan::tests::plan;

const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
/// More than the kernel keeps for the four sockets between client and server.
const FLOOD_BYTES: usize = 192 << 20;
/// A writer that has made no progress for this long is blocked, or the test proves less than it could.
const BLOCKED: Duration = Duration::from_millis(300);

/// A client and a server with the proxy in between.
struct Line {
    client: TcpStream,
    server: TcpStream,
    relay: Task<io::Result<()>>,
}

/// The proxy of a room of six users of whom two publish, and the server's listener.
async fn between(fault: Fault, victims: Victims, one_in: u64) -> (Rc<Between>, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let mut plan = plan(&[(6, 2)]);
    plan.target.server = listener.local_addr().expect("bound");
    (Rc::new(Between::new(plan.into(), FaultInjector::new(fault, one_in), victims)), listener)
}

async fn line(between: &Rc<Between>, listener: &TcpListener) -> Line {
    let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let client = TcpStream::connect(front.local_addr().expect("bound")).await.expect("a connection");
    let (accepted, _) = front.accept().await.expect("the client");
    let between = between.clone();
    let relay = tokio::task::spawn_local(async move { between.relay(accepted).await });
    let (server, _) = listener.accept().await.expect("the proxy");
    Line { client, server, relay }
}

/// Runs a test on one thread, as the proxy does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("nothing waits for ever");
    });
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an end without an error");
    bytes
}

/// Whether the stream has ended, with an error or without one.
async fn has_ended(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0]).await, Ok(1..))
}

fn content_of(publisher: u32, number: u32) -> String {
    let mut text = String::new();
    content::write(&mut text, 1, Content { slot: ScheduleSlot { publisher, number }, intended_ns: 5 }, 100);
    text
}

fn message(publisher: u32, number: u32) -> Whole {
    let payload = crate::wire::Dialect::Json.pushed("m", &content_of(publisher, number), 0);
    Whole { opcode: OpCode::Data(Data::Text), payload }
}

#[test]
fn one_side_may_end_before_the_other_and_still_hears() {
    run(async {
        let (between, listener) = between(Fault::None, Victims::All, 1).await;
        let Line { mut client, mut server, relay } = line(&between, &listener).await;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("open");
        client.shutdown().await.expect("open");
        assert_eq!(rest(&mut server).await, b"GET / HTTP/1.1\r\n\r\n", "the server hears the end of the client");
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\nstill here").await.expect("open");
        drop(server);
        assert_eq!(rest(&mut client).await, b"HTTP/1.1 200 OK\r\n\r\nstill here");
        relay.await.expect("no panic").expect("both ends ended well");

        for answer in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], HEAD] {
            let Line { mut client, mut server, relay } = line(&between, &listener).await;
            server.write_all(answer).await.expect("open");
            server.shutdown().await.expect("open");
            assert_eq!(rest(&mut client).await, answer, "the client hears the end of the server");
            client.write_all(b"goodbye").await.expect("open");
            drop(client);
            assert_eq!(rest(&mut server).await, b"goodbye");
            relay.await.expect("no panic").expect("both ends ended well");
        }
    });
}

#[test]
fn a_connection_that_breaks_ends_on_the_other_side_too() {
    run(async {
        let (between, listener) = between(Fault::None, Victims::All, 1).await;
        for (answer, resets_client) in [(&b"HTTP"[..], true), (b"HTTP", false), (HEAD, true), (HEAD, false)] {
            let Line { mut client, mut server, relay } = line(&between, &listener).await;
            client.write_all(b"GET").await.expect("open");
            server.write_all(answer).await.expect("open");
            server.read_exact(&mut [0; 3]).await.expect("the request");
            let (reset, mut other) = if resets_client { (client, server) } else { (server, client) };
            // Closing then sends a reset.
            set_socket_linger(&reset, Some(Duration::ZERO)).expect("a socket");
            drop(reset);
            let mut ended = has_ended(&mut other).await;
            while !ended {
                ended = has_ended(&mut other).await;
            }
            assert!(relay.await.expect("no panic").is_err(), "{answer:?}, {resets_client}");
        }
        let mut gone = plan(&[(6, 2)]);
        gone.target.server = listener.local_addr().expect("bound");
        drop(listener);
        let alone = Between::new(gone.into(), FaultInjector::new(Fault::None, 1), Victims::All);
        let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let mut client = TcpStream::connect(front.local_addr().expect("bound")).await.expect("a connection");
        assert!(alone.relay(front.accept().await.expect("the client").0).await.is_err(), "there is no server");
        assert!(has_ended(&mut client).await);
    });
}

#[test]
fn without_a_fault_every_byte_arrives_however_the_stream_is_split() {
    for seed in 0..30 {
        run(async {
            let mut draws = Draws::new(seed, 1, 1);
            let (between, listener) = between(Fault::None, Victims::All, 1).await;
            let mut bytes = HEAD.to_vec();
            for number in 0..draws.below(20) as u32 {
                let opcodes = [OpCode::Data(Data::Binary), OpCode::Control(Control::Ping), OpCode::Data(Data::Text)];
                let lengths = [0, 1, 125, 126, 65_535, 65_536];
                let opcode = opcodes[draws.below(3) as usize];
                let length = lengths[draws.below(if opcode == opcodes[1] { 3 } else { 6 }) as usize];
                let whole = Whole { opcode, payload: vec![0xff; length] };
                bytes.extend(if draws.below(2) == 0 { message(0, number).written() } else { whole.written() });
            }
            let Line { mut client, mut server, relay } = line(&between, &listener).await;
            let longest = [1, 7, 1_000, 100_000][draws.below(4) as usize].max(bytes.len() as u64 / 500);
            let sent = bytes.clone();
            let writing = tokio::task::spawn_local(async move {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(rest.len().min(1 + draws.below(longest) as usize));
                    server.write_all(piece).await.expect("open");
                    tokio::task::yield_now().await;
                    rest = later;
                }
            });
            assert!(rest(&mut client).await == sent, "seed {seed}: {} bytes", sent.len());
            writing.await.expect("all is written");
            drop(client);
            relay.await.expect("no panic").expect("both ends ended well");
        });
    }
}

#[test]
fn what_is_no_websocket_is_passed_on_as_it_is() {
    let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 3 * HEAD_BYTES_MAX], b"\r\n\r\nbody".to_vec()].concat();
    let answers: [&[u8]; 5] = [
        b"",
        b"HTTP/1.1 101 Swi",
        b"HTTP/1.1 401 Unauthorized\r\n\r\n\x81\x05hello",
        b"HTTP/1.1 200 101\r\n\r\n\x81\x7f101",
        &long,
    ];
    run(async {
        for answer in answers {
            let (between, listener) = between(Fault::Drop, Victims::All, 1).await;
            let Line { mut client, mut server, .. } = line(&between, &listener).await;
            server.write_all(answer).await.expect("open");
            server.shutdown().await.expect("open");
            assert!(rest(&mut client).await == answer, "{}", String::from_utf8_lossy(&answer[..answer.len().min(30)]));
            assert_eq!(between.websockets.get(), 0);
        }
    });
}

#[test]
fn a_server_that_breaks_the_protocol_loses_the_connection_after_what_was_right() {
    run(async {
        for wrong in [&[0xff; 16][..], &[0x81, 0x81, 0, 0, 0, 0, b'x'], &[0x83, 0]] {
            let (between, listener) = between(Fault::None, Victims::All, 1).await;
            let Line { mut client, mut server, relay } = line(&between, &listener).await;
            let right = [HEAD, &message(0, 0).written()].concat();
            server.write_all(&[&right, wrong].concat()).await.expect("open");
            assert_eq!(rest(&mut client).await, right, "{wrong:?}");
            assert!(relay.await.expect("no panic").is_err());
            assert!(has_ended(&mut server).await);
        }
    });
}

#[test]
fn only_the_websocket_in_the_middle_is_the_victim_of_one() {
    run(async {
        let (between, listener) = between(Fault::Drop, Victims::One, 1).await;
        // A sign-in is no WebSocket, and is not counted as one.
        let Line { mut server, .. } = line(&between, &listener).await;
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("open");
        for number in 0..6 {
            let Line { mut client, mut server, .. } = line(&between, &listener).await;
            let said = message(1, 0).written();
            server.write_all(&[HEAD, &said].concat()).await.expect("open");
            server.shutdown().await.expect("open");
            let dropped = number == 3;
            let expected = if dropped { HEAD.to_vec() } else { [HEAD, &said].concat() };
            assert_eq!(rest(&mut client).await, expected, "WebSocket {number}");
        }
        assert_eq!(between.injector.borrow().committed(), 1);
    });
}

#[test]
fn faults_are_committed_only_at_messages_of_this_run() {
    run(async {
        let (between, _listener) = between(Fault::None, Victims::All, 1).await;
        let text = |payload: String| Whole { opcode: OpCode::Data(Data::Text), payload: payload.into_bytes() };
        let pushed = |code: u8, content: &str| {
            let members = serde_json::json!({ "message_id": "m", "code": code, "content": content });
            text(serde_json::json!({ "channel_message": members }).to_string())
        };
        let mut foreign = String::new();
        content::write(
            &mut foreign,
            2,
            Content { slot: ScheduleSlot { publisher: 0, number: 0 }, intended_ns: 0 },
            100,
        );
        for other in [
            text("{}".to_owned()),
            text("no JSON".to_owned()),
            pushed(0, "{}"),
            pushed(0, &foreign),
            pushed(1, &content_of(0, 0)),
            pushed(2, ""),
            Whole { opcode: OpCode::Data(Data::Binary), ..message(0, 0) },
            Whole { opcode: OpCode::Data(Data::Text), payload: vec![0xff] },
            Whole { opcode: OpCode::Control(Control::Ping), ..message(0, 0) },
        ] {
            assert_eq!(between.content(&other), None, "{}", String::from_utf8_lossy(&other.payload));
        }
        // Twelve messages of two publishers in turn: the last of each has the number 5.
        for (publisher, number, more) in [(0, 0, true), (1, 4, true), (0, 5, false), (1, 5, false), (5, 0, false)] {
            let found = between.content(&message(publisher, number));
            let slot = ScheduleSlot { publisher, number };
            assert_eq!(found, Some((Content { slot, intended_ns: 5 }, more)), "{slot:?}");
        }
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_server_up_and_loses_nothing() {
    run(async {
        let (between, listener) = between(Fault::None, Victims::All, 1).await;
        let Line { mut client, mut server, .. } = line(&between, &listener).await;
        let frame = Whole { opcode: OpCode::Data(Data::Binary), payload: vec![7; 1 << 20] }.written();
        server.write_all(HEAD).await.expect("open");
        let frames = FLOOD_BYTES / frame.len();
        let written = Rc::new(Cell::new(0));
        let counted = written.clone();
        let writing = tokio::task::spawn_local(async move {
            for _ in 0..frames {
                server.write_all(&frame).await.expect("open");
                counted.set(counted.get() + 1);
            }
        });
        let mut before = usize::MAX;
        while before != written.get() {
            before = written.get();
            tokio::time::sleep(BLOCKED).await;
        }
        assert!(written.get() < frames, "the proxy takes {} MB although the client reads nothing", written.get());
        let mut bytes = 0_u64;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match client.read(&mut buffer).await.expect("open") {
                0 => break,
                read => bytes += read as u64,
            }
        }
        writing.await.expect("all is written");
        let whole = HEAD.len() + frames * ((1 << 20) + 10);
        assert_eq!(bytes, whole as u64, "every byte arrives in the end");
    });
}

#[test]
fn a_finished_proxy_says_how_many_faults_it_committed_and_accepts_no_more() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let mut plan = plan(&[(6, 2)]);
    plan.target.server = listener.local_addr().expect("bound");
    let proxy = Proxy::start(plan.into(), Fault::Drop, Victims::All, 2).expect("a proxy");
    let address = proxy.addr;
    run(async move {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let (mut server, _) = listener.accept().expect("the proxy");
        let four = [0, 1, 2, 3].map(|number| message(0, number).written());
        io::Write::write_all(&mut server, &[HEAD, &four.concat()].concat()).expect("open");
        drop(server);
        assert_eq!(rest(&mut client).await, [HEAD, &four[0], &four[2]].concat());
    });
    assert_eq!(proxy.finish().expect("no error"), 2, "every second of four messages was dropped");
    assert!(std::net::TcpStream::connect(address).is_err());
}
