//! Whole connections over loopback sockets, as a client in another thread sees them.

use std::future::poll_fn;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use glommio::net::TcpListener;
use glommio::{LocalExecutor, Task};

use super::super::bodies::BODIES_BYTES_MAX;
use super::super::chunks::CHUNK_FRAMING_BYTES_MAX;
use super::super::framing::EMPTY_LINES_BYTES_MAX;
use super::super::request_turns::READ_BYTES_TURN_MAX;
use super::super::secured_stream::SecuredStream;
use super::super::stream::LINGER_BYTES_MAX;
use super::*;
use crate::peer::Peer;
use crate::readiness;
use crate::trusted_proxies::TrustedProxies;
use crate::upgrade::HEAD_BYTES_MAX;

/// How long a client waits. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves one connection until `client` returns. The first `prefix` bytes are read before hyper gets the connection.
fn serve_one<T: Send + 'static>(prefix: usize, client: impl FnOnce(TcpStream) -> T + Send + 'static) -> T {
    serve_with(prefix, |_| (), client)
}

fn serve_with<T: Send + 'static>(
    prefix: usize,
    meanwhile: impl FnOnce(Rc<Services>) + 'static,
    client: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> T {
    serve_from(TrustedProxies::default(), prefix, meanwhile, client)
}

/// Like `serve_with`, and the server trusts these proxies. The client is at 127.0.0.1.
fn serve_from<T: Send + 'static>(
    proxies: TrustedProxies,
    prefix: usize,
    meanwhile: impl FnOnce(Rc<Services>) + 'static,
    client: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> T {
    let peer = Peer::new(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), Arc::new(proxies));
    let world = World::new();
    let services = world.services.clone();
    LocalExecutor::default().run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (leave, left) = flume::bounded::<()>(1);
        let client = thread::spawn(move || {
            let _leave = leave;
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            client(stream)
        });
        let mut stream = listener.accept().await.unwrap();
        let mut first = vec![0; prefix];
        let mut read = 0;
        while read < prefix {
            let pinned = &mut stream;
            let more = std::future::poll_fn(|context| {
                futures_io::AsyncRead::poll_read(std::pin::Pin::new(&mut *pinned), context, &mut first[read..])
            });
            read += more.await.unwrap();
        }
        let _turning = turning(services.clone());
        meanwhile(services.clone());
        let stream = SecuredStream::new(readiness::give_up(stream).unwrap(), None);
        super::super::serve(stream, first, peer, services).await;
        // Other tasks run until the client has closed.
        let _ = left.recv_async().await;
        client.join().unwrap()
    })
}

thread_local! {
    /// Turns that this thread's connections have waited for.
    static TURNS: Cell<usize> = const { Cell::new(0) };
}

/// Begins a turn whenever requests wait for one, as the shard does.
fn turning(services: Rc<Services>) -> Task<()> {
    glommio::spawn_local(async move {
        loop {
            poll_fn(|context| services.request_turns().poll_waiting(context)).await;
            TURNS.set(TURNS.get() + 1);
            services.request_turns().begin_turn();
        }
    })
}

/// Reads one answer: its head and its body.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the head ends early: {}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn ends(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).unwrap() == 0
}

#[test]
fn bytes_read_beforehand_come_first() {
    const REQUEST: &[u8] = b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n";
    for prefix in [1, 10, REQUEST.len(), REQUEST.len() + 5] {
        serve_one(prefix, |mut stream| {
            stream.write_all(&[REQUEST, REQUEST].concat()).unwrap();
            for _ in 0..2 {
                let (head, body) = answer(&mut stream);
                assert!(head.starts_with("http/1.1 200 ok"), "{head}");
                assert_eq!(body, "{}");
            }
            stream.write_all(b"HEAD /healthcheck HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            assert!(rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("\r\n\r\n"), "{rest}");
        });
    }
}

/// Takes the connection that comes back, writes `taken` to it, and ends it.
fn take_up(expected: Vec<u8>) -> impl FnOnce(Rc<Services>) {
    move |services| {
        glommio::spawn_local(async move {
            poll_fn(|context| services.returns().poll_put(context)).await;
            let returned = services.returns().take().unwrap();
            assert_eq!(String::from_utf8_lossy(&returned.bytes), String::from_utf8_lossy(&expected));
            rustix::net::send(&returned.descriptor, b"taken", rustix::net::SendFlags::empty()).unwrap();
            // The pending poll of glommio's stream still holds the socket, so dropping the descriptor does not end the
            // connection.
            rustix::net::shutdown(&returned.descriptor, rustix::net::Shutdown::Write).unwrap();
        })
        .detach();
    }
}

#[test]
fn a_connection_whose_next_request_is_an_opening_comes_back() {
    const HEALTH: &[u8] = b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n";
    let opening =
        b"GET /ws?token=x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x80frames";
    for answers in [0, 1, 20] {
        serve_with(1, take_up(opening.to_vec()), move |mut stream| {
            stream.write_all(&[&HEALTH.repeat(answers), &opening[..]].concat()).unwrap();
            for _ in 0..answers {
                let (head, _) = answer(&mut stream);
                assert!(head.starts_with("http/1.1 200"), "{head}");
            }
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "taken");
        });
    }
}

#[test]
fn a_request_must_name_its_host_once() {
    for (head, status) in [
        ("GET /healthcheck HTTP/1.1\r\nHost: a\r\n", 200),
        ("GET /healthcheck HTTP/1.1\r\nHost:\r\n", 200),
        ("GET http://a:1/healthcheck HTTP/1.1\r\nHost: b\r\n", 200),
        ("GET /healthcheck HTTP/1.1\r\nHost: [::1]:7350\r\n", 200),
        ("GET /healthcheck HTTP/1.0\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 200),
        ("GET /healthcheck HTTP/1.1\r\n", 400),
        ("OPTIONS /v2/account HTTP/1.1\r\n", 400),
        ("GET http://a/healthcheck HTTP/1.1\r\n", 400),
        ("GET /healthcheck HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET /healthcheck HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /healthcheck HTTP/1.1\r\nHost: a b\r\n", 400),
        ("GET /healthcheck HTTP/1.1\r\nHost: a/b\r\n", 400),
        ("GET healthcheck HTTP/1.1\r\nHost: a\r\n", 400),
    ] {
        serve_one(1, move |mut stream| {
            stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
            let (answered, body) = answer(&mut stream);
            assert!(answered[9..].starts_with(&status.to_string()), "{head}{answered}{body}");
            assert!(status == 200 || body.starts_with(r#"{"code":3,"#), "{head}{body}");
        });
    }
}

#[test]
fn transfer_codings_that_are_not_done_are_not_ignored() {
    for (coding, status, code) in [
        ("gzip, chunked", 501, 12),
        ("gzip", 501, 12),
        ("identity", 501, 12),
        ("xchunked", 501, 12),
        ("chunked, chunked", 400, 3),
    ] {
        serve_one(1, move |mut stream| {
            let request = format!(
                "POST /v2/account/authenticate/device HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n\
                 5\r\n{{\"a\":\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let (head, body) = answer(&mut stream);
            assert!(
                head[9..].starts_with(&status.to_string()) && head.contains("connection: close"),
                "{coding}: {head}"
            );
            assert!(body.starts_with(&format!("{{\"code\":{code},")), "{coding}: {body}");
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(ends(&mut stream), "{coding}: what follows is not answered");
        });
    }
}

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    for request in ["GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n", "GET /healthcheck HTTP/1.0\r\n\r\n"] {
        serve_one(1, move |mut stream| {
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let (head, body) = answer(&mut stream);
            assert!(head.contains(" 200 ") && body == "{}", "{head}{body}");
            assert!(ends(&mut stream));
        });
    }
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    for body in [
        "Content-Length: 9\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x",
        "Transfer-Encoding: chunked\r\n\r\n7\r\n{",
    ] {
        serve_one(1, move |mut stream| {
            stream.write_all(sign_in(KEY, body, "").strip_suffix("\r\n\r\n").unwrap().as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let (head, said) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 400") && head.contains("connection: close"), "{body}: {head}{said}");
            assert!(ends(&mut stream));
        });
    }
}

#[test]
fn signs_in_over_a_socket() {
    serve_one(1, |mut stream| {
        let body = r#"{"id":"device-1234567"}"#;
        let head = format!(
            "POST /v2/account/authenticate/device?create=true& HTTP/1.1\r\nHost: a\r\n\
             Authorization: Basic ZGVmYXVsdGtleTo=\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 200 ok"), "{head}");
        assert!(body.starts_with(r#"{"created":true,"#), "{body}");
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(ends(&mut stream));
    });
}

#[test]
fn an_oversized_body_is_refused_and_seen_to_be() {
    serve_one(1, |mut stream| {
        let head = "POST /v2/account/authenticate/device HTTP/1.1\r\nHost: a\r\nContent-Length: 262145\r\n\
                    Authorization: Basic ZGVmYXVsdGtleTo=\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b' '; 262_145]).unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 400"), "{head}");
        assert!(body.starts_with(r#"{"code":3,"#), "{body}");
    });
}

/// A request that signs in, with this key and the end of this head, and this body.
fn sign_in(key: &str, lines: &str, body: &str) -> String {
    format!(
        "POST /v2/account/authenticate/device HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {key}\r\n{lines}\r\n\r\n{body}"
    )
}

const KEY: &str = "ZGVmYXVsdGtleTo=";

#[test]
fn a_client_without_the_key_is_refused_before_the_body_comes() {
    for lines in [
        "Content-Length: 10",
        "Content-Length: 999999999999",
        "Transfer-Encoding: chunked",
        "Content-Length: 10\r\nExpect: 100-continue",
        "Content-Length: 10\r\nContent-Encoding: br",
    ] {
        serve_one(1, move |mut stream| {
            stream.write_all(sign_in("bm9uc2Vuc2U6", lines, "").as_bytes()).unwrap();
            let (head, body) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 401") && head.contains("connection: close"), "{lines}: {head}{body}");
            assert_eq!(body, r#"{"code":16,"message":"server key missing or wrong"}"#);
            // What comes later is the rest of that body, and never a request.
            let _ = stream.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(ends(&mut stream), "{lines}");
        });
    }
}

#[test]
fn a_refused_body_that_comes_leaves_the_connection_to_the_next_request() {
    let hidden = "GET /v2/account HTTP/1.1\r\nHost: a\r\n\r\n";
    let counted = format!("Content-Length: {}", hidden.len());
    let chunks = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let large = "x".repeat(100_000);
    let cases = [
        (sign_in("bm9uc2Vuc2U6", &counted, hidden), "401"),
        (sign_in("bm9uc2Vuc2U6", "Transfer-Encoding: chunked", &chunks), "401"),
        (sign_in(KEY, "Content-Length: 100000", &large), "400"),
        (sign_in(KEY, "Content-Length: 100000\r\nContent-Encoding: br", &large), "415"),
        (sign_in(KEY, &counted, hidden).replace("/device", "/steam"), "404"),
        (sign_in(KEY, &counted, hidden).replace("POST /v2/account/authenticate/device", "GET /healthcheck"), "200"),
    ];
    for (request, status) in cases {
        serve_one(1, move |mut stream| {
            for _ in 0..3 {
                stream.write_all(request.as_bytes()).unwrap();
                let (head, body) = answer(&mut stream);
                assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}{body}");
                assert!(!head.contains("connection: close"), "{head}");
            }
            stream.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(answer(&mut stream).1, "{}", "behind {status}");
        });
    }
}

/// Whatever the chunks are, the connection reads some KiB in each turn, and the next request finds its place.
#[test]
fn a_body_in_tiny_chunks_is_read_in_many_turns() {
    const CHUNKS: usize = 40_000;
    serve_one(1, |mut stream| {
        let head = "POST /nope HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(&[head.as_bytes(), &b"1\r\na\r\n".repeat(CHUNKS), b"0\r\n\r\n"].concat()).unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 404") && !head.contains("connection: close"), "{head}{body}");
        stream.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).1, "{}");
    });
    let least = CHUNKS * b"1\r\na\r\n".len() / READ_BYTES_TURN_MAX - 1;
    assert!(TURNS.get() >= least, "{} turns for all of it, and not {least}", TURNS.get());
}

#[test]
fn a_body_of_framing_alone_is_refused() {
    serve_one(1, |mut stream| {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(1000));
        let body = chunk.repeat(CHUNK_FRAMING_BYTES_MAX / 1000 + 1);
        // The rest may meet a closed connection.
        let _ = stream.write_all(sign_in(KEY, "Transfer-Encoding: chunked", &body).as_bytes());
        let (head, said) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 400") && head.contains("connection: close"), "{head}{said}");
    });
}

#[test]
fn empty_lines_without_end_end_the_connection() {
    serve_one(1, |mut stream| {
        stream.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).1, "{}");
        stream.write_all(&[b'\n'; EMPTY_LINES_BYTES_MAX + 1]).unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 400") && head.contains("connection: close"), "{head}{body}");
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(ends(&mut stream));
    });
}

/// After its last answer the server reads what the client still sends, in many turns and not for ever.
#[test]
fn what_comes_after_the_last_answer_is_read_in_turns_and_within_a_bound() {
    serve_one(1, |mut stream| {
        stream.write_all(b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n").unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 404") && head.contains("connection: close"), "{head}{body}");
        // The server closes before it has read all of this, and the connection is reset.
        while stream.write_all(&[b'x'; 8192]).is_ok() {}
    });
    let turns = LINGER_BYTES_MAX / READ_BYTES_TURN_MAX;
    assert!((turns - 2..=turns + 1).contains(&TURNS.get()), "{} turns, and not {turns}", TURNS.get());
}

/// Fills the room for bodies with one of this client, once another body has begun to arrive.
fn fill_bodies(from: &'static str) -> impl FnOnce(Rc<Services>) {
    move |services| {
        glommio::spawn_local(async move {
            // A body has begun to arrive when it holds bytes.
            while services.bodies.bytes() == 0 {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            let from = ClientNetwork::of(from.parse().unwrap());
            let mut other = Full::new(Bytes::from(vec![b' '; BODIES_BYTES_MAX]));
            services.bodies.collect(from, 0, BODIES_BYTES_MAX, &mut other).await.unwrap();
        })
        .detach();
    }
}

#[test]
fn each_request_of_a_proxy_counts_for_its_own_client() {
    let proxies = TrustedProxies::new(["127.0.0.1".parse().unwrap()]);
    // The room is full because of the client of the second request, so its own body gives way.
    serve_from(proxies, 1, fill_bodies("192.0.2.7"), |mut stream| {
        let health = "GET /healthcheck HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        stream.write_all(health.as_bytes()).unwrap();
        assert!(answer(&mut stream).0.starts_with("http/1.1 200"));
        let lines = "Content-Length: 100\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.7";
        stream.write_all(sign_in(KEY, lines, "{").as_bytes()).unwrap();
        assert!(answer(&mut stream).0.starts_with("http/1.1 503"));
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(ends(&mut stream));
    });
}

#[test]
fn a_body_gives_way_to_others_and_is_told_so() {
    serve_with(1, fill_bodies("127.0.0.1"), |mut stream| {
        stream.write_all(sign_in(KEY, "Content-Length: 100", "{").as_bytes()).unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 503") && head.contains("connection: close"), "{head}{body}");
        let seconds: u64 = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().parse().unwrap();
        assert!((1..=5).contains(&seconds), "{head}");
        assert!(body.starts_with(r#"{"code":14,"#), "{body}");
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(ends(&mut stream));
    });
}

#[test]
fn an_oversized_head_is_refused() {
    serve_one(1, |mut stream| {
        let padding = "x".repeat(HEAD_BYTES_MAX);
        let head = format!("GET /healthcheck HTTP/1.1\r\nHost: a\r\nX-Padding: {padding}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 431"), "{head}");
    });
}

#[test]
fn nonsense_is_refused() {
    serve_one(1, |mut stream| {
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
        let mut rest = Vec::new();
        // Bytes that were never read may turn the end into a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&rest));
    });
}

#[test]
fn idle_connections_end_when_the_server_closes() {
    let closing = |services: Rc<Services>| {
        glommio::spawn_local(async move {
            // A new task runs at once; let the connection run first, until it waits for more bytes.
            glommio::executor().yield_task_queue_now().await;
            services.close_connections();
        })
        .detach();
    };
    serve_with(1, closing, |mut stream| {
        // One byte is not a request yet, so no answer is due.
        stream.write_all(b"G").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    });
}

#[test]
fn an_answer_that_is_owed_is_given_when_the_server_closes() {
    let (ask, asked) = flume::bounded::<()>(1);
    let (tell, told) = flume::bounded::<()>(1);
    let closing = |services: Rc<Services>| {
        glommio::spawn_local(async move {
            asked.recv_async().await.unwrap();
            services.close_connections();
            tell.send(()).unwrap();
        })
        .detach();
    };
    serve_with(1, closing, move |mut stream| {
        let head = "POST /v2/account/authenticate/device HTTP/1.1\r\nHost: a\r\nContent-Length: 23\r\n\
                    Authorization: Basic ZGVmYXVsdGtleTo=\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        ask.send(()).unwrap();
        told.recv().unwrap();
        stream.write_all(br#"{"id":"device-1234567"}"#).unwrap();
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
        assert!(ends(&mut stream));
    });
}

#[test]
fn a_connection_that_comes_while_the_server_closes_is_told_so() {
    const REQUEST: &[u8] = b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n";
    serve_with(
        REQUEST.len(),
        |services| services.close_connections(),
        |mut stream| {
            stream.write_all(REQUEST).unwrap();
            let (head, body) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 503") && body.contains(r#""code":14"#), "{head}{body}");
            assert!(ends(&mut stream));
        },
    );
}
