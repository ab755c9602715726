//! Who is let in: the rates of the whole server, and the origins whose pages may come.
//!
//! Nothing here is judged by the time that it takes: what a rate may let in is counted by the time that has passed.

mod origins;
mod rates;

use std::net::SocketAddr;
use std::time::Instant;

use tests::harness::{Launch, RawSocket, Server, data_dir};

/// A server whose numbers can be read.
struct Hall {
    server: Server,
    _data: tempfile::TempDir,
}

impl Hall {
    fn with(options: impl FnOnce(Launch) -> Launch) -> Self {
        let data = data_dir();
        let launch = Launch::on(data.path()).admin("127.0.0.1:0").flag("--session-ttl", 3600).without_budgets();
        Self { server: options(launch).start(), _data: data }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A number of the operators' page, with its labels as they are written.
    fn metric(&self, name: &str) -> u64 {
        let page = self.server.admin().get("/metrics", "").body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().expect("a number")
    }

    /// Sends the opening of a WebSocket on a connection of its own. Returns the connection and the head of the answer.
    fn open(&self, token: &str, lines: &str) -> (RawSocket, String) {
        let mut socket = RawSocket::connect(self.address());
        let request = format!(
            "GET /ws?token={token} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n",
            self.address()
        );
        socket.write(request.as_bytes());
        let head = socket.read_head();
        (socket, head)
    }
}

/// The most that a rate lets in from `begun` until now.
fn allowed(per_second: u64, begun: Instant) -> u64 {
    per_second + per_second * u64::try_from(begun.elapsed().as_millis()).expect("it is not that long") / 1000
}

/// The value of a header in a head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (given, value) = line.split_once(':')?;
        given.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
