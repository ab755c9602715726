//! Sockets opened one after the other after sign-ins, and a conversation over all of them.

use serde_json::json;
use tests::harness::{RawSocket, SERVER_KEY, Socket};

use crate::stage::Stage;

/// Openings of each kind; every one has to succeed.
pub const OPENINGS: usize = 20;

/// The client's connection to the proxy on which a socket is opened.
#[derive(Clone, Copy, Debug)]
pub enum ClientConnection {
    /// A new connection. The sign-in used another one.
    Fresh,
    /// The connection that has carried the sign-in.
    Kept,
}

/// Signs users in, opens a socket for each and lets all of them chat. Returns how many sockets were opened without a
/// new connection to the server.
pub fn open_and_chat(stage: &Stage, connection: ClientConnection) -> usize {
    let room = format!("{connection:?}");
    let mut sockets: Vec<Socket> = Vec::new();
    let mut reused = 0;
    for person in 0..OPENINGS {
        let name = format!("{connection:?}-{person}");
        let opened = match connection {
            ClientConnection::Fresh => open_fresh(stage, &name, &mut reused),
            ClientConnection::Kept => open_kept(stage, &name, &mut reused),
        };
        let mut socket = opened.unwrap_or_else(|status| panic!("opening {person} was refused with {status}"));
        let channel = socket.join(&room);
        let content = json!({ "text": name }).to_string();
        let ack = socket.say(&channel, &content);
        assert_eq!(ack["channel_message_ack"]["code"], 0, "{ack}");
        sockets.push(socket);
        for socket in &mut sockets {
            socket.push_where(&content, |push| push["channel_message"]["content"] == content.as_str());
        }
    }
    for socket in &mut sockets {
        socket.assert_open();
    }
    reused
}

fn path(token: &str) -> String {
    format!("/ws?lang=en&status=false&format=json&token={token}")
}

fn open_fresh(stage: &Stage, name: &str, reused: &mut usize) -> Result<Socket, u16> {
    let account = stage.proxy.http().sign_in(name);
    let before = stage.accepted();
    let opened = Socket::try_connect(stage.proxy.address(), &path(&account.token), &[]);
    *reused += usize::from(stage.accepted() == before);
    opened
}

fn open_kept(stage: &Stage, name: &str, reused: &mut usize) -> Result<Socket, u16> {
    let address = stage.proxy.address();
    let mut connection = RawSocket::connect(address);
    let body = json!({ "id": format!("custom-id-of-{name}") }).to_string();
    let sign_in = format!(
        "POST /v2/account/authenticate/custom?create=true&username={name} HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: {SERVER_KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer: serde_json::Value = serde_json::from_str(&request(&mut connection, &sign_in)).expect("JSON");
    let token = answer["token"].as_str().expect("a token");
    let account = format!("GET /v2/account HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    request(&mut connection, &account);
    let before = stage.accepted();
    let opened = Socket::try_upgrade(connection.into_stream(), address, &path(token), &[]);
    *reused += usize::from(stage.accepted() == before);
    opened
}

/// Sends a request and returns the body of its answer.
fn request(connection: &mut RawSocket, request: &str) -> String {
    connection.write(request.as_bytes());
    let (head, body) = connection.read_answer();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    body
}
