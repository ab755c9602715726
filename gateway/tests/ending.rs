//! An orderly stop releases everything that the shards held, closes all descriptors, and tells every peer.
//!
//! When an executor ends, glommio leaks what detached tasks hold, and the peers of such connections get no answer. This
//! test is alone in its file, because it counts the descriptors of the whole process.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::id::Epoch;
use engine::limits::Rules;
use gateway::listeners::listeners;
use gateway::machine;
use gateway::sockets::SocketTable;
use runtime::shards::{Part, Running, start};
use storage::bridge::Bridge;
use storage::memory::Memory;

use support::{DEADLINE, World, connect, frame, opening, read_to_end, say};

const SHARDS: usize = 2;

/// Clients of each kind: enough that both shards have some.
const CLIENTS: usize = 16;

fn started(bridge_ends: Vec<storage::bridge::StoreQueue>, world: &World) -> (Running, SocketAddr) {
    let (listening, address) = listeners(SocketAddr::from(([127, 0, 0, 1], 0)), SHARDS).expect("a free port");
    let cores = machine::cores();
    let parts = listening.into_iter().zip(bridge_ends).enumerate().map(|(number, (listener, store))| {
        let world = world.clone();
        let sockets = move |_, _| {
            SocketTable::new(vec![listener.into()], 1000, Rc::new(world.services())).expect("an epoll set can be made")
        };
        Part { core: cores[number % cores.len()], store, seed: 7, sockets }
    });
    (start(Epoch(1), Rules::default(), parts.collect()).expect("the shards start"), address)
}

/// The descriptors that the process has open, including the one for this look.
fn descriptors() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").expect("the process's descriptors");
    let named = open.map(|entry| std::fs::read_link(entry.expect("an entry").path()).unwrap_or_default());
    // glommio keeps an eventfd of every executor that ever existed, even of one that did nothing.
    named.map(|path| path.display().to_string()).filter(|name| name != "anon_inode:[eventfd]").collect()
}

/// Reads until `text` has come.
fn expect(stream: &mut TcpStream, text: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        let mut byte = [0; 1];
        std::io::Read::read_exact(stream, &mut byte).unwrap_or_else(|error| panic!("waiting for {text:?}: {error}"));
        heard.push(byte[0]);
    }
}

/// Clients in every state that a connection can have.
fn clients(address: SocketAddr, world: &World) -> Vec<(&'static str, TcpStream)> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut session = connect(address);
        say(&mut session, opening(&world.token()).as_bytes());
        say(&mut session, &frame(0x81, br#"{"cid":"1","channel_join":{"target":"lobby","type":1}}"#));
        expect(&mut session, "\"channel\"");
        clients.push(("session", session));

        let mut half_a_frame = connect(address);
        say(&mut half_a_frame, opening(&world.token()).as_bytes());
        say(&mut half_a_frame, &frame(0x81, b"{}")[..3]);
        expect(&mut half_a_frame, "\r\n\r\n");
        clients.push(("session within a frame", half_a_frame));

        let mut half_a_head = connect(address);
        say(&mut half_a_head, b"GET /ws HTTP/1.1\r\nHo");
        clients.push(("half a head", half_a_head));

        clients.push(("silence", connect(address)));

        let mut kept_alive = connect(address);
        say(&mut kept_alive, b"GET /healthcheck HTTP/1.1\r\nHost: test\r\n\r\n");
        expect(&mut kept_alive, "200 OK");
        clients.push(("HTTP at rest", kept_alive));

        let mut half_a_body = connect(address);
        say(&mut half_a_body, b"POST /v2/account/authenticate/device HTTP/1.1\r\nHost: test\r\n");
        say(&mut half_a_body, b"Authorization: Basic ZGVmYXVsdGtleTo=\r\nContent-Length: 100\r\n\r\n{");
        clients.push(("half a body", half_a_body));
    }
    clients
}

/// Starts a server, lets clients meet it, and stops it.
fn live(meet: impl FnOnce(SocketAddr, &World) -> Vec<(&'static str, TcpStream)>) {
    let (bridge, ends) = Bridge::start(Arc::new(Memory::new()), SHARDS).expect("a bridge");
    let world = World::new(&bridge);
    let (running, address) = started(ends, &world);
    let clients = meet(address, &world);
    running.stop().expect("every shard ends as it should");
    assert_eq!(world.holders(), 1, "something of a shard has outlived it");
    bridge.stop().expect("the store ends");
    for (who, mut client) in clients {
        let heard = read_to_end(&mut client);
        if who.starts_with("session") {
            let close = [0x88, 2 + "the server is stopping".len() as u8, 0x03, 0xe9];
            assert!(heard.windows(4).any(|bytes| bytes == close), "{who}: no close frame in {heard:?}");
        }
    }
}

#[test]
fn nothing_is_kept_and_everybody_is_told() {
    // The first run opens what a process opens only once.
    live(|_, _| Vec::new());
    let before = descriptors();
    live(clients);
    let begun = Instant::now();
    while descriptors().len() != before.len() {
        assert!(begun.elapsed() < DEADLINE, "open: {:#?}, before: {before:#?}", descriptors());
        std::thread::yield_now();
    }
}
