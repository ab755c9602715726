//! Finds where one request of a connection ends and the next begins.
//!
//! hyper answers the requests, but its input passes through this module first, one request at a time and never a byte
//! more. So the first bytes that hyper has not seen are always the beginning of a request. This makes three things
//! possible that hyper does not do. A WebSocket opening is found after any number of requests, and goes back to
//! `upgrade`. Targets with characters that hyper's URI parser refuses, although clients send them, are escaped. A head
//! that cannot be answered normally is refused with our own status and reason.
//!
//! Pure: bytes in, and the decision what to do with them out. Wherever this module and hyper could disagree about the
//! end of a body, this module is the stricter one and ends the connection, because a proxy may have sent the requests
//! of several clients on it.

use httparse::{Request, Status};

use super::chunks::{ChunkFraming, Chunks, Decoded};
use crate::heads::{self, BodyFault, BodyLength, HEADERS_MAX};
use crate::target::Target;
use crate::upgrade::HEAD_BYTES_MAX;

/// Most bytes of empty lines before a request. Some clients send one behind the body of the request before it.
pub const EMPTY_LINES_BYTES_MAX: usize = 256;

/// Longest head that is passed to hyper: escaping makes up to three bytes of each byte of a target.
pub const ESCAPED_HEAD_BYTES_MAX: usize = 3 * HEAD_BYTES_MAX;

/// The position of a connection between and within its requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Framing {
    state: State,
    /// Bytes of empty lines that have come before the next request.
    empty_lines: usize,
    /// What has come of the newest body beside its data.
    chunk_framing: ChunkFraming,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Head,
    /// So many bytes of a body follow.
    Body(u64),
    /// A body in chunks.
    Chunks(Chunks),
    /// All bytes that follow are ignored.
    Over,
}

/// What to do with the unread bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Passage {
    /// Not decided yet: call again with these bytes and more.
    NeedMore,
    /// Drop the first bytes: they have no meaning.
    Skip(usize),
    /// Pass on the first bytes unchanged.
    Pass(usize),
    /// The first `read` bytes are a head. Pass on `head` in its place.
    Rewrite { read: usize, head: Vec<u8> },
    /// The first `read` bytes belong to a body in chunks. Pass on its data as one chunk in their place (`chunks::encode`),
    /// with the end of the body if it is the end.
    Chunk { read: usize, data: Vec<u8>, is_end: bool },
    /// The head cannot be answered normally. Pass on this head without a body in its place, and nothing after it.
    Refuse { fault: Fault, head: &'static [u8] },
    /// The first bytes are the head of a WebSocket opening.
    Opening,
    /// The body is malformed and its end cannot be found.
    Broken,
}

/// Why a head cannot be answered normally.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The head is not valid HTTP.
    Malformed,
    TooLarge,
    /// The body has a transfer coding that this server does not know.
    UnknownCoding,
    /// The head gives the body both a transfer coding and a length.
    CodingAndLength,
}

/// The longest target that hyper takes. It answers a longer one by itself, with 414 and no body.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

impl Framing {
    /// Decides what to do with the bytes that were read and have not been passed on. `bytes` may be empty.
    pub fn next(&mut self, bytes: &[u8]) -> Passage {
        match self.state {
            _ if bytes.is_empty() => Passage::NeedMore,
            State::Head => self.head(bytes),
            State::Body(left) => self.counted(left, bytes),
            State::Chunks(chunks) => self.chunks(chunks, bytes),
            State::Over => Passage::Skip(bytes.len()),
        }
    }

    /// Whether the connection is between two requests. The bytes of an incomplete head may have come.
    pub fn is_between_requests(&self) -> bool {
        self.state == State::Head
    }

    /// What has come of the newest request's body beside its data.
    pub fn chunk_framing(&self) -> ChunkFraming {
        self.chunk_framing
    }

    fn head(&mut self, bytes: &[u8]) -> Passage {
        let lines = heads::empty_lines(bytes);
        self.empty_lines += lines;
        if self.empty_lines > EMPTY_LINES_BYTES_MAX {
            return self.refuse(Fault::Malformed, "");
        }
        if lines > 0 {
            return Passage::Skip(lines);
        }
        let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        let read = match request.parse(head) {
            Ok(Status::Complete(read)) => read,
            Ok(Status::Partial) if head.len() < HEAD_BYTES_MAX => return Passage::NeedMore,
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => return self.refuse(Fault::TooLarge, ""),
            Err(_) => return self.refuse(Fault::Malformed, ""),
        };
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        if method == "GET" && Target::of(target).is_socket() {
            self.state = State::Over;
            return Passage::Opening;
        }
        if !Target::has_good_authority(target) {
            return self.refuse(Fault::Malformed, method);
        }
        (self.empty_lines, self.chunk_framing) = (0, ChunkFraming::default());
        self.state = match heads::body(request.version, request.headers) {
            Ok(BodyLength::NONE) => State::Head,
            Ok(BodyLength::Bytes(length)) => State::Body(length),
            Ok(BodyLength::Chunked) => State::Chunks(Chunks::default()),
            Err(BodyFault::Malformed) => return self.refuse(Fault::Malformed, method),
            Err(BodyFault::UnknownCoding) => return self.refuse(Fault::UnknownCoding, method),
            Err(BodyFault::CodingAndLength) => return self.refuse(Fault::CodingAndLength, method),
        };
        match escaped(target) {
            None if target.len() <= TARGET_BYTES_MAX => Passage::Pass(read),
            Some(escaped) if escaped.len() <= TARGET_BYTES_MAX => {
                // The target follows the method and one blank.
                let (before, behind) = (method.len() + 1, method.len() + 1 + target.len());
                Passage::Rewrite { read, head: [&head[..before], escaped.as_bytes(), &head[behind..read]].concat() }
            }
            _ => self.refuse(Fault::TooLarge, method),
        }
    }

    fn refuse(&mut self, fault: Fault, method: &str) -> Passage {
        self.state = State::Over;
        let head: &[u8] = match method {
            // The answer to HEAD has no body.
            "HEAD" => b"HEAD / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n",
            _ => b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n",
        };
        Passage::Refuse { fault, head }
    }

    fn counted(&mut self, left: u64, bytes: &[u8]) -> Passage {
        debug_assert!(left > 0, "a body that has ended is left");
        let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - passed as u64;
        self.state = if left == 0 { State::Head } else { State::Body(left) };
        Passage::Pass(passed)
    }

    fn chunks(&mut self, mut chunks: Chunks, bytes: &[u8]) -> Passage {
        let decoded = chunks.decode(bytes);
        self.chunk_framing = chunks.framing();
        match decoded {
            Decoded::NeedMore => Passage::NeedMore,
            Decoded::Broken => self.broken(),
            Decoded::Data { read, data, is_end } => {
                self.state = if is_end { State::Head } else { State::Chunks(chunks) };
                if data.is_empty() && !is_end { Passage::Skip(read) } else { Passage::Chunk { read, data, is_end } }
            }
        }
    }

    fn broken(&mut self) -> Passage {
        self.state = State::Over;
        Passage::Broken
    }
}

/// The target, with the characters escaped that hyper's URI parser refuses. Go's parser accepts them, and so clients
/// send them: the official clients of several languages put values into the query without encoding them.
fn escaped(target: &str) -> Option<String> {
    let refused = |character| matches!(character, '"' | '<' | '>' | '`');
    if !target.contains(refused) {
        return None;
    }
    let mut escaped = String::with_capacity(target.len() + 8);
    for character in target.chars() {
        match character {
            '"' => escaped.push_str("%22"),
            '<' => escaped.push_str("%3C"),
            '>' => escaped.push_str("%3E"),
            '`' => escaped.push_str("%60"),
            other => escaped.push(other),
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chunks::{CHUNK_LINE_BYTES_MAX, TRAILERS_BYTES_MAX};
    use super::*;

    /// What hyper receives of a stream that is read in these pieces, and how the stream ends. Of a body in chunks only the
    /// data is shown, and a bar at its end.
    fn passed(stream: &[u8], pieces: impl IntoIterator<Item = usize>) -> (Vec<u8>, Option<Passage>) {
        let (mut framing, mut passed, mut unread) = (Framing::default(), Vec::new(), Vec::new());
        let mut rest = stream;
        for piece in pieces.into_iter().chain([stream.len()]) {
            let (read, behind) = rest.split_at(piece.min(rest.len()));
            unread.extend_from_slice(read);
            rest = behind;
            loop {
                match framing.next(&unread) {
                    Passage::NeedMore => break,
                    Passage::Skip(bytes) => drop(unread.drain(..bytes)),
                    Passage::Pass(bytes) => passed.extend(unread.drain(..bytes)),
                    Passage::Rewrite { read, head } => {
                        unread.drain(..read);
                        passed.extend(head);
                    }
                    Passage::Chunk { read, data, is_end } => {
                        unread.drain(..read);
                        passed.extend(data);
                        passed.extend_from_slice(if is_end { b"|" } else { b"" });
                    }
                    end => return (passed, Some(end)),
                }
            }
            assert!(unread.len() <= HEAD_BYTES_MAX);
        }
        (passed, None)
    }

    fn check(stream: &str, expected: &str, end: Option<Passage>) {
        for size in [1, 7, 1000] {
            let (got, ended) = passed(stream.as_bytes(), std::iter::repeat_n(size, stream.len()));
            assert_eq!((String::from_utf8_lossy(&got).as_ref(), &ended), (expected, &end), "{stream:?}");
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const WS: &str = "GET /ws?token=x HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn an_opening_is_found_behind_anything() {
        let post = |length: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n{body}");
        let coded = |body: &str| post("Transfer-Encoding: chunked", body);
        let as_it_is = |before: String| (before.clone(), before);
        for (before, seen) in [
            as_it_is(String::new()),
            as_it_is(GET.into()),
            as_it_is(GET.repeat(3)),
            as_it_is(GET.replace("GET", "HEAD")),
            as_it_is(post("Content-Length: 0", "")),
            as_it_is(post("Content-Length: 5", "GET /")),
            as_it_is(post(&format!("Content-Length: {}", WS.len()), WS)),
            (coded("0\r\n\r\n"), coded("|")),
            (coded("5\r\nGET /\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nA: b\r\nC: d\r\n\r\n"), coded("GET /0123456789|")),
            (coded(&format!("{:X}\r\n{WS}\r\n0\r\n\r\n", WS.len())), coded(&format!("{WS}|"))),
        ] {
            check(&format!("{before}{WS}\u{1}frames"), &seen, Some(Passage::Opening));
            check(&format!("{before}\r\n\n\r\n{WS}"), &seen, Some(Passage::Opening));
            check(&format!("{before}{}", WS.replace("/ws", "http://a/%77s")), &seen, Some(Passage::Opening));
            check(&before, &seen, None);
        }
        check(&WS.replace("GET", "POST"), &WS.replace("GET", "POST"), None);
    }

    #[test]
    fn what_hyper_would_refuse_in_a_target_is_escaped() {
        let get = |target: &str| GET.replace("GET /", &format!("GET {target}"));
        check(&get("/v2/user?a=\"<{`}>\"&b=|^[]"), &get("/v2/user?a=%22%3C{%60}%3E%22&b=|^[]"), None);
        check(&format!("{GET}{}", get("http://a/<x>?y")), &format!("{GET}{}", get("http://a/%3Cx%3E?y")), None);
    }

    #[test]
    fn what_cannot_be_answered_is_refused_and_nothing_after_it() {
        let refuse = |fault, method: &str| {
            let head = if method == "HEAD" {
                &b"HEAD / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"[..]
            } else {
                &b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"[..]
            };
            Some(Passage::Refuse { fault, head })
        };
        let with = |lines: &str| GET.replace("Host: a", &format!("Host: a\r\n{lines}"));
        let coded = with("Transfer-Encoding: gzip, chunked");
        check(&format!("{GET}{coded}{WS}"), GET, refuse(Fault::UnknownCoding, "GET"));
        check(&coded.replace("GET", "HEAD"), "", refuse(Fault::UnknownCoding, "HEAD"));
        check(&with("Content-Length: 1\r\nContent-Length: 2"), "", refuse(Fault::Malformed, "GET"));
        for lengths in
            ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 0"]
        {
            check(&format!("{GET}{}{WS}", with(lengths)), GET, refuse(Fault::CodingAndLength, "GET"));
        }
        check("\u{16}\u{3}\u{1}", "", refuse(Fault::Malformed, ""));
        check("GET /\r\n\r\n", "", refuse(Fault::Malformed, ""));
        check(&with("A: b\r\n".repeat(HEADERS_MAX).trim_end()), "", refuse(Fault::TooLarge, ""));
        let padded = |bytes: usize| with(&format!("X: {}", "x".repeat(bytes - with("X: ").len())));
        check(&padded(HEAD_BYTES_MAX), &padded(HEAD_BYTES_MAX), None);
        check(&padded(HEAD_BYTES_MAX + 1), "", refuse(Fault::TooLarge, ""));
    }

    #[test]
    fn empty_lines_without_end_are_refused() {
        let lines = |bytes: usize| "\r\n".repeat(bytes / 2);
        let refused = Passage::Refuse {
            fault: Fault::Malformed,
            head: b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n",
        };
        let most = lines(EMPTY_LINES_BYTES_MAX);
        check(&format!("{most}{GET}{most}{GET}{most}"), &GET.repeat(2), None);
        check(&format!("{GET}{most}\n{GET}"), GET, Some(refused));
    }

    #[test]
    fn a_body_that_parsers_read_differently_ends_the_connection() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let longest = "x".repeat(CHUNK_LINE_BYTES_MAX);
        for body in [
            "g\r\n",
            "-1\r\n",
            "\r\n",
            "5 5\r\n",
            "5\n",
            "1\rx",
            "1;x\ny\r\na\r\n",
            "fffffffffffffffff\r\n",
            &format!("1;{longest}"),
        ] {
            check(&format!("{head}{body}"), head, Some(Passage::Broken));
        }
        // The size, the data and the line end behind it belong together.
        for body in ["1\r\nab\r\n", "1\r\na\n", "1\r\na\rb", "1\r\na0\r\n\r\n"] {
            check(&format!("{head}{body}{WS}"), &format!("{head}a"), Some(Passage::Broken));
        }
        let last = format!("{head}0\r\n");
        for trailers in ["A: b\n\r\n", "\n", "A: b\rC: d\r\n\r\n", "\rx"] {
            check(&format!("{last}{trailers}{WS}"), head, Some(Passage::Broken));
        }
        check(&format!("{last}A: {}", "b".repeat(TRAILERS_BYTES_MAX)), head, Some(Passage::Broken));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            requests in prop::collection::vec(prop::sample::select(vec![
                GET.to_owned(),
                "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
                "PUT /x?<> HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\nT: u\r\n\r\n".to_owned(),
                WS.to_owned(),
            ]), 0..6),
            pieces in prop::collection::vec(0..40usize, 0..40),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut stream = requests.concat().into_bytes();
            if let Some((place, byte)) = damage && !stream.is_empty() {
                let place = place.index(stream.len());
                stream[place] = byte;
            }
            prop_assert_eq!(passed(&stream, pieces), passed(&stream, []));
        }
    }
}
