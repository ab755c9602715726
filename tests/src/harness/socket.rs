//! A chat client on `tungstenite`: blocking, one envelope for each call, every wait with a deadline.
//!
//! Its interface uses JSON envelopes for both formats. For protobuf, a library that reads the schema at run time
//! converts them to bytes and back. The server's bytes must be exactly what that library makes of the same envelope.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message, WebSocket, client};

use super::{DEADLINE, schema};

/// The format of the envelopes on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Json,
    Protobuf,
}

impl Format {
    /// Both formats, for tests that must hold in each.
    pub const ALL: [Self; 2] = [Self::Json, Self::Protobuf];

    /// The format's name in the query of an opening.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }

    /// The format that an opening with this path requests.
    fn asked_by(path: &str) -> Self {
        Self::ALL.into_iter().find(|format| path.contains(&format!("format={}", format.name()))).unwrap_or(Self::Json)
    }
}

/// How a connection ended: with a close frame, or without one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Closed {
    Frame { code: u16, reason: String },
    Cut,
}

/// The next event on a connection.
#[derive(Debug)]
pub enum Heard {
    /// An envelope, as JSON.
    Text(String),
    /// Nothing came within the time allowed.
    Nothing,
    Closed(Closed),
}

/// An open connection. Pushes that arrive while an answer is awaited are kept in `pushes`.
pub struct Socket {
    inner: WebSocket<TcpStream>,
    format: Format,
    last_cid: u64,
    pub pushes: Vec<Value>,
}

impl Socket {
    /// Opens a socket for JSON, on which the user shows no status. Panics if the server refuses.
    pub fn connect(address: SocketAddr, token: &str) -> Self {
        Self::connect_in(Format::Json, address, token)
    }

    /// Opens a socket for this format, on which the user shows no status. Panics if the server refuses.
    pub fn connect_in(format: Format, address: SocketAddr, token: &str) -> Self {
        Self::open(address, &format!("/ws?lang=en&status=false&token={token}&format={}", format.name()))
    }

    /// The same, and the session is visible to the user's followers.
    pub fn connect_online(format: Format, address: SocketAddr, token: &str) -> Self {
        Self::open(address, &format!("/ws?lang=en&status=true&token={token}&format={}", format.name()))
    }

    fn open(address: SocketAddr, path: &str) -> Self {
        Self::try_connect(address, path, &[]).unwrap_or_else(|status| panic!("the upgrade was refused with {status}"))
    }

    /// Opens a socket with this path and these headers. Returns the HTTP status if the server refuses it.
    pub fn try_connect(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        Self::try_upgrade(stream, address, path, headers)
    }

    /// The same on a connection that may have carried requests before.
    pub fn try_upgrade(
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
        for (name, value) in headers {
            let name = tungstenite::http::HeaderName::try_from(*name).expect("a header name");
            request.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        match client(request, stream) {
            Ok((inner, _)) => Ok(Self { inner, format: Format::asked_by(path), last_cid: 0, pushes: Vec::new() }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("upgrade: {error}"),
        }
    }

    /// The TCP connection below, for tests of what happens to it.
    pub fn stream(&self) -> &TcpStream {
        self.inner.get_ref()
    }

    /// Sends an envelope in the format of the connection. Panics if the connection has ended.
    pub fn send(&mut self, envelope: &Value) {
        self.send_text(&envelope.to_string());
    }

    /// Sends an envelope that is given as JSON text.
    pub fn send_text(&mut self, text: &str) {
        self.try_send_text(text).unwrap_or_else(|closed| panic!("sending {text}: {closed:?}"));
    }

    /// The same, but returns an error if the connection has ended.
    pub fn try_send_text(&mut self, text: &str) -> Result<(), Closed> {
        let message = match self.format {
            Format::Json => Message::text(text),
            Format::Protobuf => Message::binary(schema::bytes_of(text)),
        };
        self.inner.send(message).map_err(|_| Closed::Cut)
    }

    /// Sends a text frame in any format.
    pub fn send_text_frame(&mut self, text: &str) {
        self.inner.send(Message::text(text)).expect("the connection is open");
    }

    /// Sends a binary frame in any format.
    pub fn send_binary(&mut self, bytes: Vec<u8>) {
        self.inner.send(Message::binary(bytes)).expect("the connection is open");
    }

    /// Sends a ping frame of WebSocket, which is not the envelope `ping`.
    pub fn send_websocket_ping(&mut self, payload: &[u8]) {
        self.inner.send(Message::Ping(payload.to_vec().into())).expect("the connection is open");
    }

    /// The next envelope, the end of the connection, or `Nothing` after `bound`.
    pub fn hear(&mut self, bound: Duration) -> Heard {
        self.inner.get_ref().set_read_timeout(Some(bound)).expect("a read timeout");
        loop {
            match self.inner.read() {
                Ok(Message::Text(text)) => {
                    assert_eq!(self.format, Format::Json, "a text frame: {text}");
                    return Heard::Text(text.to_string());
                }
                Ok(Message::Binary(bytes)) => {
                    assert_eq!(self.format, Format::Protobuf, "a binary frame: {bytes:?}");
                    let text = schema::text_of(&bytes);
                    assert_eq!(schema::bytes_of(&text), *bytes, "another would write {text} in other bytes");
                    return Heard::Text(text);
                }
                Ok(Message::Close(frame)) => return Heard::Closed(self.answer_close(frame)),
                Ok(_) => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    return Heard::Nothing;
                }
                Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Heard::Closed(Closed::Cut);
                }
                Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Heard::Closed(Closed::Cut);
                }
                Err(error) => panic!("the server broke the WebSocket protocol: {error}"),
            }
        }
    }

    fn answer_close(&mut self, frame: Option<tungstenite::protocol::CloseFrame>) -> Closed {
        // Sends the echo that the library has queued. The server may already be gone.
        let _ = self.inner.flush();
        match frame {
            Some(frame) => Closed::Frame { code: frame.code.into(), reason: frame.reason.to_string() },
            None => Closed::Frame { code: 1005, reason: String::new() },
        }
    }

    /// The next envelope, as JSON. In the JSON format, the exact text that came.
    pub fn receive_text(&mut self) -> String {
        match self.hear(DEADLINE) {
            Heard::Text(text) => text,
            other => panic!("expected an envelope, came: {other:?}"),
        }
    }

    /// The next envelope. Panics if none comes before the deadline.
    pub fn receive(&mut self) -> Value {
        let text = self.receive_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Asserts that the server ends the connection, and returns how. Envelopes that come before are kept in `pushes`.
    pub fn expect_closed(&mut self) -> Closed {
        loop {
            match self.hear(DEADLINE) {
                Heard::Closed(closed) => return closed,
                Heard::Text(text) => self.pushes.push(serde_json::from_str(&text).expect("JSON")),
                Heard::Nothing => panic!("the connection is still open after {DEADLINE:?}"),
            }
        }
    }

    /// Sends one request and returns its answer.
    pub fn request(&mut self, mut envelope: Value) -> Value {
        self.last_cid += 1;
        let cid = self.last_cid.to_string();
        envelope["cid"] = json!(cid);
        self.send(&envelope);
        loop {
            let answer = self.receive();
            match answer.get("cid") {
                Some(found) if *found == cid => return answer,
                Some(_) => panic!("an answer to another request: {answer}"),
                None => self.pushes.push(answer),
            }
        }
    }

    /// Asserts that the session is open: the server answers its ping.
    pub fn assert_open(&mut self) {
        assert!(self.request(json!({"ping": {}}))["pong"].is_object());
    }

    /// Joins a room, visibly and persistently, and returns the channel's id.
    pub fn join(&mut self, room: &str) -> String {
        self.join_as(room, json!({"persistence": true, "hidden": false}))
    }

    /// Joins a room with these fields in the request.
    pub fn join_as(&mut self, room: &str, mut actions: Value) -> String {
        actions["target"] = json!(room);
        actions["type"] = json!(1);
        let answer = self.request(json!({ "channel_join": actions }));
        answer["channel"]["id"].as_str().unwrap_or_else(|| panic!("joining {room}: {answer}")).to_string()
    }

    /// Sends a message and returns the answer.
    pub fn say(&mut self, channel: &str, content: &str) -> Value {
        self.request(json!({"channel_message_send": {"channel_id": channel, "content": content}}))
    }

    /// The next push that `wanted` accepts. Earlier pushes are dropped.
    pub fn push_where(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.pushes.iter().position(&wanted) {
            return self.pushes.drain(..=at).next_back().expect("found just now");
        }
        self.pushes.clear();
        loop {
            match self.hear(DEADLINE) {
                Heard::Text(text) => {
                    let push: Value = serde_json::from_str(&text).expect("JSON");
                    if wanted(&push) {
                        return push;
                    }
                }
                other => panic!("waiting for {what}: {other:?}"),
            }
        }
    }

    /// Sends a close frame and waits for its echo.
    pub fn close(mut self, code: u16) -> Closed {
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
        self.inner.close(Some(frame)).expect("the connection is open");
        self.expect_closed()
    }
}
