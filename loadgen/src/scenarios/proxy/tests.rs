//! What the proxy does with the bytes and with the ends of connections, besides the faults that it is told to commit.

use rustix::net::sockopt::set_socket_linger;
use tokio::task::JoinHandle as Task;

use super::*;
use crate::base::content::ScheduleSlot;
use crate::plan::run_plan::tests::plan;

const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

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
