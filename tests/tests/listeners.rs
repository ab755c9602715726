//! One server at several addresses: clients at each of them are in the same rooms.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use tests::harness::{DEADLINE, Http, Launch, Server, Socket, data_dir, run_program};
use tungstenite::{Message, WebSocket, client};

/// The addresses in the server's line about them, without those that are paths.
fn addresses(server: &Server) -> Vec<SocketAddr> {
    let said = server.output();
    let line = said.lines().find_map(|line| line.split("listening on ").nth(1)).expect("the line of the start");
    line.split(", ").filter_map(|place| place.parse().ok()).collect()
}

/// A session over a socket of this machine, as a proxy opens it.
struct Local(WebSocket<UnixStream>);

impl Local {
    fn open(path: &Path, token: &str) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts connections");
        stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        let (socket, _) = client(format!("ws://localhost/ws?token={token}"), stream).expect("a session");
        Self(socket)
    }

    fn send(&mut self, envelope: &Value) {
        self.0.send(Message::text(envelope.to_string())).expect("the server reads");
    }

    /// The first envelope that has this member.
    fn hear(&mut self, member: &str) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().expect("the server answers") {
                let envelope: Value = serde_json::from_str(&text).expect("JSON");
                if envelope[member].is_object() {
                    return envelope[member].clone();
                }
            }
        }
    }
}

#[test]
fn clients_at_every_address_meet_in_one_room() {
    for shards in [1, 3] {
        let data = data_dir();
        let path = data.path().join("socket");
        let listen = format!("127.0.0.1:0,127.0.0.2:0,unix:{}", path.display());
        let launch = Launch::on(&data.path().join("store")).listen_unsaid().shards(shards);
        let server = launch.flag("--listen", listen).flag("--grpc", "off").start();
        let at = addresses(&server);
        assert!(at.len() == 2 && at[0].ip() != at[1].ip(), "{at:?}");
        // A token of one address opens sessions at all.
        let [ann, bob, eve] = [(at[0], "ann"), (at[1], "bob"), (at[0], "eve")]
            .map(|(address, name)| Http::new(address).sign_in(name).token);
        let mut sockets = [(at[0], &bob), (at[1], &ann)].map(|(address, token)| Socket::connect(address, token));
        let rooms = sockets.each_mut().map(|socket| socket.join("lobby"));
        let mut local = Local::open(&path, &eve);
        local.send(&json!({"cid": "1", "channel_join": {"target": "lobby", "type": 1}}));
        assert_eq!(local.hear("channel")["id"], rooms[0]);
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.say(&rooms[0], &json!({ "from": number }).to_string());
            assert_eq!(local.hear("channel_message")["content"], json!({ "from": number }).to_string());
        }
        local.send(&json!({"channel_message_send": {"channel_id": rooms[0], "content": r#"{"from":"here"}"#}}));
        for socket in &mut sockets {
            let is_local = |push: &Value| push["channel_message"]["content"] == r#"{"from":"here"}"#;
            let _ = socket.push_where("the message from the socket of this machine", is_local);
        }
        server.stop();
    }
}

#[test]
fn a_name_has_all_its_addresses_with_one_port() {
    let data = data_dir();
    let server = Launch::on(data.path()).listen_unsaid().flag("--listen", "localhost:0").flag("--grpc", "off").start();
    let at = addresses(&server);
    let expected: [std::net::IpAddr; 2] = ["127.0.0.1", "::1"].map(|address| address.parse().expect("an address"));
    assert_eq!(at.iter().map(SocketAddr::ip).collect::<Vec<_>>(), expected, "this machine has both");
    assert_eq!(at[0].port(), at[1].port());
    let mut ann = Socket::connect(at[0], &Http::new(at[1]).sign_in("ann").token);
    let mut bob = Socket::connect(at[1], &Http::new(at[0]).sign_in("bob").token);
    let rooms = [ann.join("lobby"), bob.join("lobby")];
    assert_eq!(rooms[0], rooms[1]);
    ann.say(&rooms[0], r#"{"n":1}"#);
    let _ = bob.push_where("the message over the other address", |push| push["channel_message"].is_object());
}

/// The command takes an address as the server does, but asks those of them that answer.
#[test]
fn the_health_check_asks_all_addresses_of_a_port() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let listen = format!(":{}", server.address().port());
    let asked = run_program(&["healthcheck", "--listen", &listen]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    server.stop();
    let asked = run_program(&["healthcheck", "--listen", &listen]);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(!asked.status.success() && said.contains("127.0.0.1") && said.contains("[::1]"), "{said}");
}
