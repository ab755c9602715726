//! Listeners with TLS: other programs' clients, connections that serve HTTP and then a session, slow and broken clients,
//! certificates that are renewed.

mod client;
mod kernel;
mod waiting;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::harness::{Launch, Server, make_certificate, make_certificates, run_node};
use tungstenite::{Message, client as websocket};

use self::client::{Dripping, Secured, config, secured};

/// Records with content after which a client may send one without (docs/operations.md, Listeners and TLS).
const SILENT_EACH: usize = 16;
/// Records without content that may come together.
const SILENT_MAX: usize = 4;

/// A server with one listener that has TLS, and what its clients trust.
struct Stage {
    server: Server,
    config: Arc<ClientConfig>,
    directory: TempDir,
}

fn launch(directory: &Path, listen: &str) -> Launch {
    let (certificate, key) = make_certificate(directory, "");
    let launch = Launch::on(&directory.join("data")).listen_unsaid().flag("--listen", listen);
    launch.flag("--tls-cert", certificate.display()).flag("--tls-key", key.display())
}

fn stage_with(change: impl FnOnce(Launch) -> Launch) -> Stage {
    let directory = tests::harness::data_dir();
    let server = change(launch(directory.path(), "tls:127.0.0.1:0")).start();
    let config = config(&directory.path().join("cert.pem"));
    Stage { server, config, directory }
}

fn stage() -> Stage {
    stage_with(|launch| launch)
}

impl Stage {
    fn connect(&self) -> Secured {
        secured(self.server.address(), self.config.clone(), &[])
    }

    /// Asks over a connection of its own, and returns the body of the answer.
    fn ask(&self, head: &str, body: &str) -> String {
        ask(&mut self.connect(), head, body, "close")
    }

    fn sign_in(&self, id: &str) -> String {
        let head = "POST /v2/account/authenticate/device?create=true HTTP/1.1\r\nAuthorization: Basic ZGVmYXVsdGtleTo=";
        let answer: Value = serde_json::from_str(&self.ask(head, &json!({ "id": id }).to_string())).expect("JSON");
        answer["token"].as_str().expect("a token").to_owned()
    }

    fn session(&self, token: &str) -> Session {
        self.session_on(self.connect(), token)
    }

    fn session_on(&self, stream: Secured, token: &str) -> Session {
        let (socket, _) =
            websocket(format!("ws://{}/ws?token={token}", self.server.address()), stream).expect("the server answers");
        Session { socket, pushes: Vec::new() }
    }
}

/// Asks on a connection, and reads the answer as far as its length says.
fn ask(stream: &mut Secured, head: &str, body: &str, connection: &str) -> String {
    let length = body.len();
    write!(stream, "{head}\r\nHost: a\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("the server answers");
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).expect("a length").lines().next().expect("a line");
            if body.len() >= length.parse().expect("a number") {
                return body.to_owned();
            }
        }
        let mut bytes = [0; 16 << 10];
        let read = stream.read(&mut bytes).expect("the server answers");
        assert!(read > 0, "the connection ended in an answer: {text}");
        answer.extend_from_slice(&bytes[..read]);
    }
}

struct Session {
    socket: tungstenite::WebSocket<Secured>,
    pushes: Vec<Value>,
}

impl Session {
    fn next(&mut self) -> Value {
        loop {
            match self.socket.read().expect("the server answers") {
                Message::Text(text) => return serde_json::from_str(&text).expect("the server answers"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.socket.send(Message::text(request.to_string())).expect("the server answers");
        loop {
            let heard = self.next();
            if heard["cid"] == request["cid"] {
                return heard;
            }
            self.pushes.push(heard);
        }
    }

    fn join(&mut self, room: &str) -> String {
        let joined = self.ask(&json!({ "cid": "join", "channel_join": { "target": room, "type": 1 } }));
        joined["channel"]["id"].as_str().expect("a channel").to_owned()
    }

    /// The contents of the next so many messages.
    fn messages(&mut self, count: usize) -> Vec<String> {
        let mut contents = Vec::new();
        let mut heard = std::mem::take(&mut self.pushes).into_iter();
        while contents.len() < count {
            let envelope = heard.next().unwrap_or_else(|| self.next());
            contents.extend(envelope["channel_message"]["content"].as_str().map(str::to_owned));
        }
        contents
    }
}

fn say(channel: &str, content: &Value) -> Value {
    json!({ "cid": "say", "channel_message_send": { "channel_id": channel, "content": content.to_string() } })
}

#[test]
fn the_official_client() {
    for shards in ["1", "4"] {
        let directory = tempfile::tempdir().unwrap();
        make_certificates(directory.path());
        let roots = directory.path().join("ca.pem");
        let tls = [("STENTOR_TEST_TLS", directory.path()), ("NODE_EXTRA_CA_CERTS", &roots)];
        let tls = tls.map(|(name, path)| (name, path.to_str().unwrap()));
        run_node("official.mjs", &[&tls[..], &[("STENTOR_TEST_SHARDS", shards)]].concat());
    }
}

#[test]
fn certificates_are_renewed_under_a_thousand_sessions() {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let roots = directory.path().join("ca.pem");
    let tls = [("STENTOR_TEST_TLS", directory.path()), ("NODE_EXTRA_CA_CERTS", &roots)];
    let tls = tls.map(|(name, path)| (name, path.to_str().unwrap()));
    run_node("certificates.mjs", &[&tls[..], &[("STENTOR_TEST_SHARDS", "2")]].concat());
}

#[test]
fn openssl_agrees_on_both_versions_and_on_no_older_one() {
    let stage = stage();
    let address = stage.server.address().to_string();
    let roots = stage.directory.path().join("cert.pem");
    let check = |version: &str, expected: bool| {
        let client = Command::new("openssl")
            .args(["s_client", "-connect", &address, version, "-alpn", "http/1.1", "-verify_return_error"])
            .arg("-CAfile")
            .arg(&roots)
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&client.stdout);
        assert_eq!(client.status.success(), expected, "{version}: {said}");
        assert_eq!(said.contains("ALPN protocol: http/1.1"), expected, "{version}: {said}");
    };
    check("-tls1_2", true);
    check("-tls1_3", true);
    check("-tls1_1", false);
}

#[test]
fn one_connection_serves_http_and_then_a_session() {
    let stage = stage();
    let token = stage.sign_in("a-device-of-tls-1");
    let mut stream = stage.connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, "GET /healthcheck HTTP/1.1", "", "keep-alive"), "{}");
    }
    let mut session = stage.session_on(stream, &token);
    let channel = session.join("tls");
    for number in 0..50 {
        let answer = session.ask(&say(&channel, &json!({ "number": number })));
        assert_eq!(answer["channel_message_ack"]["channel_id"], channel, "{answer}");
    }
    let expected: Vec<String> = (0..50).map(|number| json!({ "number": number }).to_string()).collect();
    assert_eq!(session.messages(50), expected);
    // A page of all of it is longer than a record.
    for number in 50..150 {
        session.ask(&say(&channel, &json!({ "number": number, "padding": "x".repeat(2000) })));
    }
    let head = format!("GET /v2/channel/{channel}?limit=100&forward=false HTTP/1.1\r\nAuthorization: Bearer {token}");
    let page: Value = serde_json::from_str(&stage.ask(&head, "")).unwrap();
    assert_eq!(page["messages"].as_array().unwrap().len(), 100);
}

#[test]
fn a_session_that_comes_byte_by_byte_is_heard() {
    let stage = stage();
    let token = stage.sign_in("a-device-of-tls-2");
    // The client's handshake and its frames come in pieces that end anywhere in records.
    let mut session = stage.session_on(stage.connect().dripping(), &token);
    let channel = session.join("drips");
    for number in 0..10 {
        session.ask(&say(&channel, &json!({ "number": number })));
    }
    assert_eq!(session.messages(10).len(), 10);
}

#[test]
fn a_member_that_rests_hears_all_messages_in_order_afterwards() {
    let stage = stage_with(Launch::without_budgets);
    let mut reader = stage.session(&stage.sign_in("a-device-of-tls-3"));
    let mut author = stage.session(&stage.sign_in("a-device-of-tls-4"));
    let channel = author.join("rests");
    reader.join("rests");
    // More than the sockets of both ends hold, and less than what the server waits for.
    const MESSAGES: usize = 1000;
    let content = |number: usize| json!({ "number": number, "padding": "y".repeat(3000) });
    for number in 0..MESSAGES {
        let answer = author.ask(&say(&channel, &content(number)));
        assert!(answer["channel_message_ack"].is_object(), "{answer}");
        author.pushes.clear();
    }
    let expected: Vec<String> = (0..MESSAGES).map(|number| content(number).to_string()).collect();
    assert!(reader.messages(MESSAGES) == expected);
}

#[test]
fn what_is_no_tls_ends_and_is_counted() {
    let stage = stage_with(|launch| launch.admin("127.0.0.1:0"));
    let mut plain = TcpStream::connect(stage.server.address()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    plain.read_to_end(&mut answer).unwrap();
    // An alert, which is no text: its type, and the version before the handshake.
    assert_eq!(answer[..2], [21, 3], "{answer:?}");
    let counted = stage.server.admin().get("/metrics", "").body;
    assert!(counted.contains("stentor_tls_handshakes_failed_total 1"), "{counted}");
    assert!(stage.server.output().contains("a TLS handshake failed"), "{}", stage.server.output());
}

#[test]
fn a_session_that_breaks_tls_ends_alone() {
    let stage = stage();
    let mut author = stage.session(&stage.sign_in("a-device-of-tls-6"));
    let token = stage.sign_in("a-device-of-tls-7");
    let channel = author.join("broken");
    let long = [&[22, 3, 3, 64, 0][..], &[0; 4000]].concat();
    // No record at all, a record that does not decrypt, and a record that is longer than any.
    for raw in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[23, 3, 3, 0, 3, 1, 2, 3], &[23, 3, 3, 255, 255], &long] {
        let mut broken = stage.session(&token);
        broken.join("broken");
        broken.socket.get_mut().sock.send_raw(raw);
        for number in 0..20 {
            let answer = author.ask(&say(&channel, &json!({ "number": number })));
            assert!(answer["channel_message_ack"].is_object(), "{answer}");
        }
    }
}

#[test]
fn a_proxys_header_comes_before_the_handshake() {
    let stage = stage_with(|launch| {
        launch.flags(["--trusted-proxies", "127.0.0.1", "--proxy-protocol=true"].map(str::to_owned))
    });
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n";
    let mut stream = secured(stage.server.address(), stage.config.clone(), header);
    assert_eq!(ask(&mut stream, "GET /healthcheck HTTP/1.1", "", "close"), "{}");
    // The first bytes of the handshake come in another packet than the header.
    let mut stream = secured(stage.server.address(), stage.config.clone(), header).dripping();
    assert_eq!(ask(&mut stream, "GET /healthcheck HTTP/1.1", "", "close"), "{}");
}

#[test]
fn the_end_of_a_session_is_said_in_tls_too() {
    let stage = stage();
    let mut session = stage.session(&stage.sign_in("a-device-of-tls-5"));
    stage.server.signal(rustix::process::Signal::INT);
    let closed = loop {
        match session.socket.read() {
            Ok(Message::Close(Some(frame))) => break frame,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(u16::from(closed.code), 1001);
    // After the close frame comes the alert `close_notify`: the end is an end, and no cut.
    let mut rest = Vec::new();
    session.socket.get_mut().read_to_end(&mut rest).expect("an orderly end");
}

#[test]
fn files_that_do_not_fit_end_the_start() {
    let check = |certificate: &str, key: &str, words: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        make_certificates(directory.path());
        fs::write(directory.path().join("empty"), "").unwrap();
        let launch = Launch::on(&directory.path().join("data")).listen_unsaid().flag("--listen", "tls:127.0.0.1:0");
        let path = |name: &str| directory.path().join(name).display().to_string();
        launch.flag("--tls-cert", path(certificate)).flag("--tls-key", path(key)).start_refused().assert_says(words);
    };
    check("cert.pem", "next-key.pem", &["no TLS", "next-key.pem"]);
    check("absent.pem", "key.pem", &["no TLS", "absent.pem"]);
    check("empty", "key.pem", &["empty", "no certificate"]);
    check("cert.pem", "empty", &["no TLS", "empty"]);
}

#[test]
fn handshakes_beyond_the_budget_of_a_network_are_hung_up_on() {
    const TRIED: usize = 200;
    // A millisecond of work a second pays for two or three handshakes.
    let stage = stage_with(|launch| launch.admin("127.0.0.1:0").flag("--work-per-address", 1));
    let is_let_in = || {
        let Secured { mut conn, mut sock } = stage.connect();
        while conn.is_handshaking() {
            if conn.complete_io(&mut sock).is_err() {
                return false;
            }
        }
        true
    };
    assert!(is_let_in(), "the first is within the budget");
    let let_in = (1..TRIED).filter(|_| is_let_in()).count() + 1;
    assert!(let_in < TRIED / 2, "{let_in} of {TRIED} were let in");
    let counted = stage.server.admin().get("/metrics", "").body;
    let refused = format!("stentor_tls_handshakes_failed_total {}", TRIED - let_in);
    assert!(counted.contains(&refused), "{let_in} were let in: {counted}");
    assert!(stage.server.output().contains("a TLS handshake was refused"), "{}", stage.server.output());
}

#[test]
fn handshakes_behind_a_proxys_header_are_charged_to_the_client() {
    const TRIED: usize = 100;
    let stage = stage_with(|launch| {
        let launch = launch.flag("--work-per-address", 1);
        launch.flags(["--trusted-proxies", "127.0.0.1", "--proxy-protocol=true"].map(str::to_owned))
    });
    let is_let_in = |client: u8| {
        let Secured { mut conn, mut sock } = stage.connect();
        // The header and the client's greeting come in one packet.
        let mut begin = format!("PROXY TCP4 192.0.2.{client} 192.0.2.8 1234 443\r\n").into_bytes();
        conn.write_tls(&mut begin).expect("a greeting");
        sock.send_raw(&begin);
        while conn.is_handshaking() {
            if conn.complete_io(&mut sock).is_err() {
                return false;
            }
        }
        true
    };
    assert!(is_let_in(1), "the first is within the budget");
    let let_in = (1..TRIED).filter(|_| is_let_in(1)).count() + 1;
    assert!(let_in < TRIED / 2, "{let_in} of {TRIED} were let in");
    assert!(is_let_in(2), "another client of the same proxy has a budget of its own");
}

/// Has the client send new keys so many times, each in a record without content.
fn update_keys(stream: &mut Secured, times: usize) {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("the handshake");
    }
    for _ in 0..times {
        stream.conn.refresh_traffic_keys().expect("the keys are updated");
    }
    // The server may have hung up.
    let _ = stream.flush();
}

/// Whether the server has hung up.
fn has_ended(stream: &mut Secured) -> bool {
    loop {
        match stream.read(&mut [0; 100]) {
            Ok(0) => return true,
            // What the server has said before.
            Ok(_) => {}
            // To read, rustls first writes what is left over, and the server may have closed already.
            Err(error) => {
                use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                return matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe);
            }
        }
    }
}

#[test]
fn records_without_content_are_few() {
    let stage = stage();
    const QUESTION: &str = "GET /healthcheck HTTP/1.1";
    let mut patient = stage.connect();
    update_keys(&mut patient, 1);
    assert_eq!(ask(&mut patient, QUESTION, "", "keep-alive"), "{}");
    for _ in 0..SILENT_EACH {
        assert_eq!(ask(&mut patient, QUESTION, "", "keep-alive"), "{}");
    }
    update_keys(&mut patient, 1);
    assert_eq!(ask(&mut patient, QUESTION, "", "keep-alive"), "{}");
    // However much was said, only so many may come together.
    update_keys(&mut patient, SILENT_MAX + 1);
    assert!(has_ended(&mut patient));

    // Before the first request, and in a session.
    let mut early = stage.connect();
    update_keys(&mut early, 2);
    assert!(has_ended(&mut early));
    let mut session = stage.session(&stage.sign_in("a-device-of-tls-8"));
    session.join("updates");
    update_keys(session.socket.get_mut(), SILENT_MAX + 1);
    assert!(has_ended(session.socket.get_mut()));
}

/// TLS lets a client cut a message of the handshake into records wherever it likes, and networks cut records.
#[test]
fn a_greeting_may_come_in_many_records() {
    let stage = stage();
    for (of_record, of_packet) in [(1, 6), (1, 13), (3, 8), (100, 50), (100, 1000)] {
        let Secured { mut conn, mut sock } = stage.connect();
        let mut greeting = Vec::new();
        conn.write_tls(&mut greeting).expect("a greeting");
        let (head, message) = greeting.split_at(5);
        let record = |part: &[u8]| [&head[..3], &(part.len() as u16).to_be_bytes(), part].concat();
        let records: Vec<u8> = message.chunks(of_record).flat_map(record).collect();
        for (number, packet) in records.chunks(of_packet).enumerate() {
            sock.send_raw(packet);
            if number < 20 {
                // The server sees the first packets on their own.
                thread::sleep(Duration::from_millis(2));
            }
        }
        let mut stream = Secured::new(conn, sock);
        assert_eq!(ask(&mut stream, "GET /healthcheck HTTP/1.1", "", "close"), "{}", "{of_record}, {of_packet}");
    }
    // The same shape without a meaning.
    let mut nonsense = TcpStream::connect(stage.server.address()).expect("the server accepts connections");
    nonsense.write_all(&[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 1, 0]).expect("the server reads");
    thread::sleep(Duration::from_millis(50));
    nonsense.write_all(&[22]).expect("the server reads");
    assert_eq!(ask(&mut stage.connect(), "GET /healthcheck HTTP/1.1", "", "close"), "{}");
}

#[test]
fn the_end_of_a_certificate_is_seen_ahead() {
    let stage = stage_with(|launch| launch.admin("127.0.0.1:0"));
    let counted = stage.server.admin().get("/metrics", "").body;
    let name = "stentor_tls_certificate_expires_seconds ";
    let expires: f64 = counted.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).expect("it is told");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let days = (expires - now) / 86_400.0;
    // The certificates of tests are made for two days.
    assert!((1.9..=2.0).contains(&days), "{days} days are left");
    assert!(stage.server.output().contains(" days: renew it"), "{}", stage.server.output());
}
