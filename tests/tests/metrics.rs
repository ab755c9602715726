//! The counters: known traffic gives known numbers, in text that any OpenMetrics parser reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};

use serde_json::json;
use tests::harness::{Http, Launch, RawSocket, SERVER_KEY, Server, Socket, data_dir};

const MEMBERS: usize = 7;
const MESSAGES: usize = 25;

fn launch(data: &std::path::Path) -> Launch {
    Launch::on(data).admin("127.0.0.1:0")
}

/// The samples of a page, by name with labels as written.
struct Page(BTreeMap<String, f64>);

impl Page {
    fn of(admin: &Http) -> Self {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let answer = admin.request("GET", "/metrics", &[("Accept", kind)], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type"), Some(kind));
        Self(parse(&answer.body))
    }

    fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", self.0.keys()))
    }

    fn sum(&self, family: &str) -> f64 {
        let of_family = |name: &&String| name.split('{').next() == Some(family);
        self.0.keys().filter(of_family).map(|name| self.get(name)).sum()
    }
}

/// Parses a page and asserts the rules of the format. Every sample is below its family's type and help. No family and
/// no sample appears twice. Histograms rise and end in `+Inf`, which equals their count. The end mark is at the end.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("the page ends with its end");
    for line in body.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, _, ..] => {
                assert!(families.insert(name.to_owned()), "{name} twice");
                let is_ours = name.starts_with("stentor_") || name.starts_with("process_");
                assert!(is_name(name) && is_ours, "{name}");
                (family, kind) = (name.to_owned(), String::new());
            }
            ["#", "TYPE", name, of] => {
                assert_eq!(name, family, "{line}");
                assert!(matches!(of, "counter" | "gauge" | "histogram" | "info"), "{line}");
                kind = of.to_owned();
            }
            ["#", "UNIT", name, unit] => assert!(name == family && name.ends_with(unit), "{line}"),
            [sample, value] => {
                let name = sample.split('{').next().unwrap_or_default();
                let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} below {family}"));
                let fits = match kind.as_str() {
                    "counter" => suffix == "_total",
                    "gauge" => suffix.is_empty(),
                    "info" => suffix == "_info",
                    "histogram" => matches!(suffix, "_sum" | "_count" | "_bucket"),
                    _ => false,
                };
                assert!(fits, "{line} below a {kind}");
                check_labels(&sample[name.len()..]);
                let value: f64 = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} twice");
            }
            _ => panic!("not of the format: {line:?}"),
        }
    }
    check_histograms(body, &samples);
    samples
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let inside = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect(labels);
    for label in inside.split(',') {
        let (name, value) = label.split_once("=\"").expect(label);
        assert!(
            matches!(name, "shard" | "kind" | "route" | "le" | "version" | "commit" | "sha256"),
            "{name}: labels must not grow with users or rooms"
        );
        assert!(value.ends_with('"') && !value[..value.len() - 1].contains(['"', '\\', '\n']), "{label}");
    }
}

fn check_histograms(body: &str, samples: &BTreeMap<String, f64>) {
    let histograms = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"));
    for name in histograms {
        // By their other labels: a family may have several histograms.
        let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for line in body.lines().filter(|line| line.starts_with(&format!("{name}_bucket{{"))) {
            let (labels, count) = line.rsplit_once("} ").expect(line);
            let (bound, others) = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).expect(line);
            let here: (f64, f64) = (bound.parse().expect(line), count.parse().expect(line));
            let others = others.trim_start_matches(',').to_owned();
            let before = last.insert(others, here).unwrap_or((f64::NEG_INFINITY, 0.0));
            assert!(here.0 > before.0 && here.1 >= before.1, "{line}");
        }
        for (labels, greatest) in last {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            assert_eq!(greatest, (f64::INFINITY, samples[&format!("{name}_count{labels}")]), "{name} {labels}");
        }
    }
}

/// Reads pushes until this many messages have come.
fn hear_messages(socket: &mut Socket, messages: usize) {
    let is_message = |push: &serde_json::Value| push["channel_message"].is_object();
    let mut heard = std::mem::take(&mut socket.pushes).iter().filter(|push| is_message(push)).count();
    while heard < messages {
        heard += usize::from(is_message(&socket.receive()));
    }
}

/// Reads the page until this value was counted. The caller checks that it is not larger. The server may count a little
/// after a client has received what it waited for.
fn once(server: &Server, name: &str, value: f64) -> Page {
    let admin = server.admin();
    let begun = std::time::Instant::now();
    loop {
        let page = Page::of(&admin);
        if page.get(name) >= value {
            return page;
        }
        assert!(begun.elapsed() < tests::harness::DEADLINE, "{name} stays at {}", page.get(name));
    }
}

#[test]
fn known_traffic_gives_known_numbers() {
    for shards in [1u16, 4] {
        let data = data_dir();
        let server = launch(data.path()).shards(shards).start();
        let mut sockets: Vec<Socket> = (0..MEMBERS).map(|n| server.connect(&format!("member-{n}"))).collect();
        let channels: Vec<String> = sockets.iter_mut().map(|socket| socket.join("counted")).collect();
        for n in 0..MESSAGES {
            sockets[0].say(&channels[0], &format!("{{\"n\":{n}}}"));
        }
        sockets.iter_mut().for_each(|socket| hear_messages(socket, MESSAGES));
        let refused = sockets[1].request(json!({"channel_message_send": {"channel_id": "2...other", "content": "{}"}}));
        assert!(refused["error"].is_object(), "{refused}");

        let deliveries = (MEMBERS * MESSAGES) as f64;
        let page = once(&server, "stentor_deliveries_total", deliveries);
        let exactly = |name: &str, expected: usize| assert_eq!(page.get(name), expected as f64, "{shards}: {name}");
        exactly("stentor_deliveries_total", MEMBERS * MESSAGES);
        exactly("stentor_messages_published_total", MESSAGES);
        exactly("stentor_requests_total{kind=\"join\"}", MEMBERS);
        exactly("stentor_requests_total{kind=\"send\"}", MESSAGES + 1);
        exactly("stentor_requests_refused_total{kind=\"bad_input\"}", 1);
        exactly("stentor_sign_ins_total", MEMBERS);
        // Each sign-in also reads the account.
        exactly("stentor_http_requests_total{kind=\"2xx\"}", 2 * MEMBERS);
        exactly("stentor_accounts_made_total", MEMBERS);
        exactly("stentor_http_latency_seconds_count{route=\"authenticate\"}", MEMBERS);
        exactly("stentor_http_latency_seconds_count{route=\"account\"}", MEMBERS);
        exactly("stentor_sessions_opened_total", MEMBERS);
        exactly("stentor_connections{kind=\"session\"}", MEMBERS);
        exactly("stentor_channels", 1);
        exactly("stentor_members", MEMBERS);
        exactly("stentor_subscriptions", MEMBERS);
        exactly("stentor_readers_parked", 0);
        exactly("stentor_reader_lag_bytes", 0);
        exactly("stentor_store_queue", 0);
        // One for each message and each new account, one for the head of the channel's history, and one in which the server
        // notes the time of its newest tokens: within a second of the first, and a minute later again.
        let asked = MESSAGES + MEMBERS + 2;
        let noted = once(&server, "stentor_store_latency_seconds_count", asked as f64);
        assert_eq!(
            noted.get("stentor_store_latency_seconds_count"),
            asked as f64,
            "{shards}: what the store was asked"
        );
        exactly("stentor_store_failures_total", 0);
        assert_eq!(page.sum("stentor_shard_up"), f64::from(shards));
        assert!(page.get("stentor_socket_writes_total{kind=\"private\"}") > 0.0);
        // Each message was acknowledged before the next was sent, so the sender's shard made a pass for each.
        assert!(page.get("stentor_fanout_latency_seconds_count") >= MESSAGES as f64);
        assert!(page.get("stentor_pass_seconds_count") >= MESSAGES as f64);
        assert!(page.sum("stentor_core_seconds_total") > 0.0);
        assert!(shards > 1 || page.get("stentor_parcels_sent_total") == 0.0);
    }
}

#[test]
fn why_sessions_end_and_sign_ins_are_refused_is_counted() {
    let data = data_dir();
    let server = launch(data.path()).start();
    server.connect("client").close(1000);
    let mut misunderstood = server.connect("misunderstood");
    misunderstood.send_text_frame("{");
    misunderstood.expect_closed();
    drop(misunderstood);
    drop(server.connect("gone"));
    let deleted = server.sign_in("deleted");
    let mut session = Socket::connect(server.address(), &deleted.token);
    let bearer = format!("Bearer {}", deleted.token);
    assert_eq!(server.http().request("DELETE", "/v2/account", &[("Authorization", &bearer)], "").status, 200);
    session.expect_closed();
    drop(session);
    for kind in ["client", "misunderstood", "gone", "deleted"] {
        let name = format!("stentor_sessions_ended_total{{kind=\"{kind}\"}}");
        assert!((once(&server, &name, 1.0).get(&name) - 1.0).abs() < f64::EPSILON, "{kind}");
    }
    let sign_in = |kind: &str, key: &str, body: serde_json::Value| {
        server.http().post(&format!("/v2/account/authenticate/{kind}?create=false"), key, &body).status
    };
    let email = |password: &str| json!({"email": "ada@example.org", "password": password});
    let create = server.http().post("/v2/account/authenticate/email", SERVER_KEY, &email("right-password"));
    assert_eq!(create.status, 200, "{}", create.body);
    assert_eq!(sign_in("email", SERVER_KEY, email("wrong-password")), 401);
    assert_eq!(sign_in("custom", SERVER_KEY, json!({"id": "nobody-has-it"})), 404);
    assert_eq!(sign_in("custom", "Basic b3RoZXI6", json!({"id": "nobody-has-it"})), 401);
    assert_eq!(sign_in("custom", SERVER_KEY, json!({"id": "short"})), 400);
    let page = Page::of(&server.admin());
    for (kind, expected) in
        [("wrong_password", 1.0), ("no_account", 1.0), ("server_key", 1.0), ("malformed", 1.0), ("banned", 0.0)]
    {
        let count = page.get(&format!("stentor_sign_ins_refused_total{{kind=\"{kind}\"}}"));
        assert!((count - expected).abs() < f64::EPSILON, "{kind}: {count}");
    }
}

#[test]
fn bytes_are_those_on_the_wire_and_a_burst_shares_its_writes() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let mut sockets: Vec<Socket> = (0..MEMBERS).map(|n| server.connect(&format!("member-{n}"))).collect();
    let channel = sockets.iter_mut().map(|socket| socket.join("counted")).last().expect("there are members");
    // A client that has received the last join has received everything that the joins caused.
    for socket in &mut sockets {
        let is_last = |join: &serde_json::Value| join["username"] == format!("member-{}", MEMBERS - 1).as_str();
        let heard = |push: &serde_json::Value| {
            push["channel_presence_event"]["joins"].as_array().is_some_and(|joins| joins.iter().any(is_last))
        };
        let _ = socket.push_where("the last member's coming", heard);
    }
    let before = once(&server, "stentor_subscriptions", MEMBERS as f64);
    // In one segment, so that the server reads them together.
    let sends = (0..MESSAGES).map(|n| {
        json!({"channel_message_send": {"channel_id": channel, "content": format!("{{\"n\":{n}}}")}}).to_string()
    });
    sends.for_each(|text| sockets[0].send_text(&text));
    let mut bytes = 0;
    let (first, others) = sockets.split_first_mut().expect("there are members");
    hear_messages(first, MESSAGES);
    for socket in others {
        for _ in 0..MESSAGES {
            let text = socket.receive_text();
            assert!(text.contains("channel_message"), "{text}");
            // The frame's header: two bytes, and two more for lengths from 126 on.
            bytes += text.len() + if text.len() < 126 { 2 } else { 4 };
        }
    }
    let after = once(&server, "stentor_deliveries_total", (MEMBERS * MESSAGES) as f64);
    let grown = |name: &str| after.get(name) - before.get(name);
    assert_eq!(grown("stentor_deliveries_total"), (MEMBERS * MESSAGES) as f64);
    let each = bytes / (MEMBERS - 1);
    assert_eq!(grown("stentor_delivery_bytes_total"), (each * MEMBERS) as f64);
    let writes = grown("stentor_socket_writes_total{kind=\"pass\"}");
    assert!(writes > 0.0 && writes <= grown("stentor_deliveries_total"), "{writes} writes");
}

#[test]
fn the_address_may_be_off_but_not_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let data = data_dir();
    launch(data.path()).admin(address).start_refused().assert_says(&[&address.to_string(), "in use", "--admin"]);
    let server = launch(data.path()).admin("off").start();
    server.assert_works("no admin address");
    let said = server.stop();
    assert!(said.lines().any(|line| line.contains("admin ") && line.contains("off")), "{said}");
}

/// Whether the server still has this connection. The client has sent nothing.
fn is_open(connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a socket");
    connection.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Whether the page comes while clients that connected before it say nothing and have not run out of time.
fn is_answered_beside(admin: &Http, silent: usize) -> bool {
    let connect = |_| TcpStream::connect(admin.address()).expect("it listens");
    let silent: Vec<TcpStream> = (0..silent).map(connect).collect();
    let _ = Page::of(admin);
    silent.iter().rev().take(4).all(is_open) && (silent.len() < 32 || !is_open(&silent[0]))
}

#[test]
fn clients_that_say_nothing_delay_no_other() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let admin = server.admin();
    for silent in [4, 40] {
        // On a busy machine the time of the silent clients may end before the request is even sent.
        assert!((0..3).any(|_| is_answered_beside(&admin, silent)), "{silent} silent clients");
    }
}

#[test]
fn a_page_whose_name_leads_to_the_address_reads_nothing() {
    let data = data_dir();
    let server = launch(data.path()).flag("--admin-host", "metrics.example").start();
    let admin = server.admin();
    let ask = |host: &str| admin.request("GET", "/metrics", &[("Host", host)], "");
    for host in ["localhost:7351", "127.0.0.1", "[::1]:80", "metrics.example:7351"] {
        assert_eq!(ask(host).status, 200, "{host}");
    }
    let refused = ask("evil.example:7351");
    assert_eq!(refused.status, 421, "{}", refused.body);
    assert!(refused.body.contains("--admin-host") && !refused.body.contains("stentor_"), "{}", refused.body);
    let mut scraper = RawSocket::connect(admin.address());
    scraper.write(b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(scraper.read_head().contains(" 200 "), "HTTP/1.0 has no Host");
}

#[test]
fn users_do_not_see_the_page_and_the_server_stops_while_it_is_asked() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let admin = server.admin();
    assert_eq!(admin.request("GET", "/nothing", &[], "").status, 404);
    assert_eq!(admin.request("POST", "/metrics", &[], "x").status, 405);
    assert_eq!(server.http().request("GET", "/metrics", &[], "").status, 404, "users do not see it");
    let stuck = TcpStream::connect(admin.address()).expect("it listens");
    server.stop();
    drop(stuck);
}
