//! Random frames of HTTP/2: good and bad ones, in any order. Whatever they are, the server ends calls or connections,
//! serves others, and holds a bounded memory.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tests::harness::{Launch, data_dir};

use super::peer::*;

const ROUNDS: u64 = 60;
const CONNECTIONS: usize = 8;
const FRAMES: u32 = 150;
/// What all connections of a round may hold: their windows, their heads, and the answers to their calls.
const MEMORY_KIB_MAX: usize = 64 << 10;

struct Draws(ChaCha8Rng);

impl Draws {
    fn below(&mut self, most: u32) -> u32 {
        self.0.next_u32() % most
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u32) as usize].clone()
    }

    fn bytes(&mut self, most: u32) -> Vec<u8> {
        let mut bytes = vec![0; self.below(most) as usize];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// The headers of a call, or nearly.
    fn head(&mut self) -> Vec<u8> {
        let method =
            self.of(&["Healthcheck", "GetAccount", "AuthenticateDevice", "ListMatches", "Nothing", "", "%zz/x"]);
        let authorization = self.of(&[None, Some("Basic ZGVmYXVsdGtleTo="), Some("Bearer x"), Some("")]);
        let mut head = head(method, authorization);
        for _ in 0..self.below(3) {
            let (name, value) = self.of(&[
                ("grpc-timeout", "1n"),
                ("grpc-timeout", "20m"),
                ("grpc-timeout", "99999999H"),
                ("grpc-timeout", "-1S"),
                ("grpc-encoding", "gzip"),
                ("grpc-encoding", "br"),
                ("te", "gzip"),
                ("content-length", "7"),
                ("content-type", "text/plain"),
                ("connection", "close"),
                (":path", "/"),
                (":method", "GET"),
                ("Capital", "x"),
                ("", ""),
                ("x", "a longer value than the others have, which no table of the server keeps"),
            ]);
            head.extend(header(name, value));
        }
        if self.below(8) == 0 {
            head.truncate(self.below(head.len() as u32) as usize);
        }
        head
    }

    fn frame(&mut self) -> Vec<u8> {
        let stream = self.of(&[0, 1, 1, 3, 3, 5, 7, 9, 2, u32::MAX >> 1]) + 2 * self.below(40);
        let flags = self.of(&[0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, 0xff]);
        match self.below(12) {
            0..=3 => {
                let head = self.head();
                frame(HEADERS, self.of(&[END_HEADERS, END_HEADERS | END_STREAM, flags]), stream | 1, &head)
            }
            4 | 5 => {
                let message =
                    self.of(&[&b"\0\0\0\0\0"[..], b"\0\0\0\0\x02\x0a\0", b"\x01\0\0\0\x02hi", b"\0\xff\xff\xff\xff"]);
                frame(DATA, flags & END_STREAM, stream, message)
            }
            6 => frame(DATA, flags, stream, &self.bytes(3_000)),
            7 => frame(RST_STREAM, 0, stream, &self.below(20).to_be_bytes()),
            8 => frame(WINDOW_UPDATE, 0, self.of(&[0, stream]), &self.of(&[0, 1, 70_000, u32::MAX >> 1]).to_be_bytes()),
            9 => frame(PING, self.below(2) as u8, 0, &[7; 8]),
            10 => frame(CONTINUATION, flags, stream, &self.head()),
            _ => frame(self.below(14) as u8, flags, stream, &self.bytes(40)),
        }
    }
}

#[test]
fn random_frames_end_calls_or_connections_and_nothing_else() {
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().start();
    Peer::connect(server.grpc_address()).assert_answers(1, "a start");
    let before = server.resident_kib();
    for seed in 0..ROUNDS {
        let mut draws = Draws(ChaCha8Rng::seed_from_u64(seed));
        let mut peers: Vec<Peer> = (0..CONNECTIONS).map(|_| Peer::connect(server.grpc_address())).collect();
        for peer in &mut peers {
            // A connection that has ended takes no more.
            let frames: Vec<Vec<u8>> = (0..draws.below(FRAMES)).map(|_| draws.frame()).collect();
            let _ = frames.iter().all(|frame| peer.write(frame));
        }
        Peer::connect(server.grpc_address()).assert_answers(1, &format!("the frames of seed {seed}"));
        let grown = server.resident_kib().saturating_sub(before);
        assert!(grown < MEMORY_KIB_MAX, "the server has grown by {grown} KiB with seed {seed}");
    }
    server.assert_works("random frames");
}
