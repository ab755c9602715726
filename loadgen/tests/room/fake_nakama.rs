//! A small server that implements just enough of Nakama's realtime chat for one room, and that can be told to commit
//! one fault.
//!
//! It stores nothing durably, has no bounds, and is for tests with a few dozen clients only. Each fault is committed
//! once, at one member or at one message, so a report that counts anything but one is wrong.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, mpsc as std_mpsc};

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// `defaultkey:` in base64.
const AUTHORIZATION_EXPECTED: &str = "Basic ZGVmYXVsdGtleTo=";
/// The message, and the place in the member list, at which a fault is committed.
const FAULTY_MESSAGE: u32 = 7;
const FAULTY_MEMBER: usize = 3;
/// A message that is not updated or removed later.
const FORGOTTEN_MESSAGE: u32 = 15;

/// The number of a page that is read after the whole history has been read twice.
const SHORT_PAGE: u32 = 50;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// One member does not receive one message.
    Drop,
    /// One member receives one message twice.
    Duplicate,
    /// One member receives two neighbouring messages in the wrong order.
    Swap,
    /// One member receives one message with one byte changed.
    Corrupt,
    /// One member receives one message under another id.
    OtherId,
    /// Two messages have the same id.
    SameId,
    /// One frame is not JSON.
    Garbage,
    /// One publish is refused, and no member receives it.
    Refuse,
    /// One publish is refused, but the members receive it.
    RefuseButDeliver,
    /// One publish is delivered but never answered.
    NoAnswer,
    /// One publish is answered twice.
    TwoAnswers,
    /// One member's connection is closed.
    Close,
    /// One message is not in the history, though it was accepted.
    Forget,
    /// One page of the history lacks its last item, long after all other pages have been read.
    ShortPage,
    /// Removed messages stay in the history.
    KeepRemoved,
    /// Every fourth run of five messages is refused because it comes too fast, and so is the second page of history.
    TooFast,
    /// Every message is refused because it comes too fast.
    AlwaysTooFast,
    /// The first token that a client presents is refused, as if it had expired.
    ExpiredToken,
}

/// A message in the history.
struct Kept {
    id: String,
    sender: String,
    content: String,
}

pub struct FakeNakama {
    pub addr: SocketAddr,
    /// Gives one item for each message published.
    pub published: std_mpsc::Receiver<()>,
    room: Arc<Room>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Room {
    fault: Fault,
    members: Mutex<Vec<Member>>,
    messages: AtomicU32,
    pongs: AtomicU32,
    refused_tokens: AtomicU32,
    connections: AtomicU32,
    history: Mutex<Vec<Kept>>,
    pages: AtomicU32,
    published: Mutex<std_mpsc::Sender<()>>,
}

struct Member {
    name: String,
    connection: u32,
    outgoing: mpsc::UnboundedSender<Message>,
    /// A message that is held back until the next one is delivered.
    held_back: Option<String>,
}

impl FakeNakama {
    pub fn start(fault: Fault) -> Self {
        let (published_in, published) = std_mpsc::channel();
        let room = Arc::new(Room {
            fault,
            members: Mutex::default(),
            messages: AtomicU32::new(0),
            pongs: AtomicU32::new(0),
            refused_tokens: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            history: Mutex::default(),
            pages: AtomicU32::new(0),
            published: Mutex::new(published_in),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = room.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { addr, published, room, stop: Some(stop), thread: Some(thread) }
    }

    pub fn pongs(&self) -> u32 {
        self.room.pongs.load(SeqCst)
    }
}

impl Drop for FakeNakama {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, room: Arc<Room>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let room = room.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, room.clone()));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

async fn answer(request: Request<Incoming>, room: Arc<Room>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/ws" => upgrade(request, room),
        "/metrics" => Response::new(Full::from(room.metrics())),
        path if path.starts_with("/v2/channel/") => page(&request, &room),
        _ => authenticate(&path, request).await,
    })
}

/// A page of the history. The cursor is the number of items before the page.
fn page(request: &Request<Incoming>, room: &Room) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let number = |name| parameter(name).and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
    let (begin, limit) = (number("cursor"), number("limit"));
    let mut history: Vec<Value> = room.history.lock().iter().map(Kept::item).collect();
    if parameter("forward") == Some("false") {
        history.reverse();
    }
    let more = history.len() > begin + limit;
    let cursor = if more { (begin + limit).to_string() } else { String::new() };
    let back = if begin > 0 { begin.saturating_sub(limit).to_string() } else { String::new() };
    let mut items: Vec<Value> = history.into_iter().skip(begin).take(limit).collect();
    let page = room.pages.fetch_add(1, SeqCst);
    if room.fault == Fault::ShortPage && page == SHORT_PAGE {
        items.pop();
    }
    if room.fault == Fault::TooFast && page == 1 {
        let refusal = Response::builder().status(StatusCode::TOO_MANY_REQUESTS).header(RETRY_AFTER, "0");
        return refusal.body(Full::default()).unwrap();
    }
    Response::new(Full::from(json!({"messages": items, "next_cursor": cursor, "prev_cursor": back}).to_string()))
}

impl Kept {
    fn item(&self) -> Value {
        json!({"message_id": self.id, "code": 0, "sender_id": self.sender, "content": self.content})
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

async fn authenticate(path: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !["/v2/account/authenticate/custom", "/v2/account/authenticate/device"].contains(&path) {
        return status(StatusCode::NOT_FOUND);
    }
    if request.headers().get(AUTHORIZATION).is_none_or(|value| value != AUTHORIZATION_EXPECTED) {
        return status(StatusCode::UNAUTHORIZED);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let id = serde_json::from_slice::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
    let answer = json!({"created": true, "token": format!("token.{id}"), "refresh_token": "r"});
    Response::new(Full::from(answer.to_string()))
}

fn upgrade(mut request: Request<Incoming>, room: Arc<Room>) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let Some(name) = query.split('&').find_map(|pair| pair.strip_prefix("token=token.")) else {
        return status(StatusCode::UNAUTHORIZED);
    };
    if room.fault == Fault::ExpiredToken && room.refused_tokens.fetch_add(1, SeqCst) == 0 {
        return status(StatusCode::UNAUTHORIZED);
    }
    let name = name.to_owned();
    let accept = derive_accept_key(request.headers()[SEC_WEBSOCKET_KEY].as_bytes());
    tokio::spawn(async move {
        let upgraded = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        converse(WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await, name, room).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .body(Full::default())
        .unwrap()
}

async fn converse(socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, name: String, room: Arc<Room>) {
    let (mut sink, mut stream) = socket.split();
    let (outgoing, mut queued) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = queued.recv().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
    });
    let connection = room.connections.fetch_add(1, SeqCst);
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) => room.request((&name, connection), &serde_json::from_str(&text).unwrap(), &outgoing),
            Message::Pong(_) => {
                room.pongs.fetch_add(1, SeqCst);
            }
            _ => {}
        }
    }
    room.members.lock().retain(|member| member.connection != connection);
}

impl Room {
    /// Counters in Stentor's format, as if one write carried two messages to each member.
    fn metrics(&self) -> String {
        let deliveries = self.messages.load(SeqCst) * self.members.lock().len() as u32;
        let counters = [
            ("deliveries_total", deliveries),
            ("delivery_bytes_total", deliveries * 100),
            ("socket_writes_total{kind=\"pass\"}", deliveries / 2),
            ("socket_writes_total{kind=\"private\"}", 0),
        ];
        counters.map(|(name, count)| format!("stentor_{name} {count}\n")).concat()
    }

    fn request(&self, (name, connection): (&str, u32), envelope: &Value, outgoing: &mpsc::UnboundedSender<Message>) {
        let cid = &envelope["cid"];
        if let Some(join) = envelope.get("channel_join") {
            self.join((name, connection), cid, join, outgoing);
        } else if envelope.get("channel_leave").is_some() {
            let mut members = self.members.lock();
            members.retain(|member| member.connection != connection);
            deliver(outgoing, json!({"cid": cid}).to_string());
        } else if let Some(update) = envelope.get("channel_message_update") {
            self.change(name, cid, update, 1, outgoing);
        } else if let Some(remove) = envelope.get("channel_message_remove") {
            self.change(name, cid, remove, 2, outgoing);
        } else if let Some(send) = envelope.get("channel_message_send") {
            self.send(name, cid, send, outgoing);
        } else {
            panic!("a load client sent {envelope}");
        }
    }

    /// Updates or removes a message. `code` is the code of the message that members receive.
    fn change(&self, name: &str, cid: &Value, change: &Value, code: u8, outgoing: &mpsc::UnboundedSender<Message>) {
        let id = change["message_id"].as_str().unwrap();
        let content = change["content"].as_str().unwrap_or("{}");
        let members = self.members.lock();
        let mut history = self.history.lock();
        match code {
            1 => history.iter_mut().filter(|kept| kept.id == id).for_each(|kept| content.clone_into(&mut kept.content)),
            _ if self.fault == Fault::KeepRemoved => {}
            _ => history.retain(|kept| kept.id != id),
        }
        let message = json!({"channel_message": {
            "channel_id": change["channel_id"], "message_id": id, "code": code, "sender_id": name, "content": content,
        }});
        members.iter().for_each(|member| deliver(&member.outgoing, message.to_string()));
        deliver(outgoing, json!({"cid": cid, "channel_message_ack": {"message_id": id, "code": code}}).to_string());
        let _ = self.published.lock().send(());
    }

    fn join(
        &self,
        (name, connection): (&str, u32),
        cid: &Value,
        join: &Value,
        outgoing: &mpsc::UnboundedSender<Message>,
    ) {
        let presence = |name: &str| json!({"user_id": name, "session_id": name, "username": name});
        let mut members = self.members.lock();
        let channel_id = format!("2...{}", join["target"].as_str().unwrap());
        let hidden = join["hidden"].as_bool().unwrap();
        let listed: Vec<Value> = members.iter().filter(|_| !hidden).map(|member| presence(&member.name)).collect();
        let answer = json!({"id": channel_id, "presences": listed, "self": presence(name)});
        deliver(outgoing, json!({"cid": cid, "channel": answer}).to_string());
        // The server's ping is part of the test: the client must answer it.
        let _ = outgoing.send(Message::Ping(Bytes::from_static(b"?")));
        members.push(Member { name: name.to_owned(), connection, outgoing: outgoing.clone(), held_back: None });
        if !hidden {
            let event = json!({"channel_presence_event": {"channel_id": channel_id, "joins": [presence(name)]}});
            members.iter().for_each(|member| deliver(&member.outgoing, event.to_string()));
        }
    }

    fn send(&self, name: &str, cid: &Value, send: &Value, outgoing: &mpsc::UnboundedSender<Message>) {
        let number = self.messages.fetch_add(1, SeqCst);
        let too_fast = match self.fault {
            Fault::TooFast => number % 20 >= 15,
            fault => fault == Fault::AlwaysTooFast,
        };
        if too_fast {
            let context = json!({"reason": "work_per_session", "retry_after_ms": "1"});
            let error = json!({"code": 3, "message": "too fast: come again", "context": context});
            return deliver(outgoing, json!({"cid": cid, "error": error}).to_string());
        }
        let fault = if number == FAULTY_MESSAGE { self.fault } else { Fault::None };
        let id = if fault == Fault::SameId { number - 1 } else { number };
        if matches!(fault, Fault::Refuse | Fault::RefuseButDeliver) {
            deliver(outgoing, json!({"cid": cid, "error": {"code": 3, "message": "not today"}}).to_string());
        }
        if fault != Fault::Refuse {
            self.broadcast(name, id, send, fault);
        }
        let ack = json!({"cid": cid, "channel_message_ack": {"message_id": format!("id-{id}"), "code": 0}});
        let acks = match fault {
            Fault::Refuse | Fault::RefuseButDeliver | Fault::NoAnswer => 0,
            Fault::TwoAnswers => 2,
            _ => 1,
        };
        (0..acks).for_each(|_| deliver(outgoing, ack.to_string()));
        // The test that receives this may have ended.
        let _ = self.published.lock().send(());
    }

    fn broadcast(&self, sender: &str, id: u32, send: &Value, fault: Fault) {
        let mut members = self.members.lock();
        if self.fault != Fault::Forget || id != FORGOTTEN_MESSAGE {
            let content = send["content"].as_str().unwrap().to_owned();
            self.history.lock().push(Kept { id: format!("id-{id}"), sender: sender.to_owned(), content });
        }
        for (place, member) in members.iter_mut().enumerate() {
            let fault = if place == FAULTY_MEMBER { fault } else { Fault::None };
            let message = push(sender, id, send, fault);
            match fault {
                Fault::Drop => {}
                Fault::Swap => member.held_back = Some(message),
                Fault::Close => {
                    let _ = member.outgoing.send(Message::Close(None));
                }
                Fault::Duplicate => (0..2).for_each(|_| deliver(&member.outgoing, message.clone())),
                _ => {
                    deliver(&member.outgoing, message);
                    member.held_back.take().into_iter().for_each(|held| deliver(&member.outgoing, held));
                }
            }
        }
    }
}

fn push(sender: &str, id: u32, send: &Value, fault: Fault) -> String {
    let mut content = send["content"].as_str().unwrap().to_owned();
    let mut message_id = format!("id-{id}");
    match fault {
        Fault::Corrupt => content = content.replacen('.', ",", 1),
        Fault::OtherId => message_id.push_str("-changed"),
        Fault::Garbage => return "{\"channel_message\":".to_owned(),
        _ => {}
    }
    let members = json!({
        "channel_id": send["channel_id"], "message_id": message_id, "code": 0, "sender_id": sender,
        "username": sender, "content": content, "create_time": "2026-11-22T09:04:39Z", "persistent": true,
    });
    json!({"channel_message": members}).to_string()
}

fn deliver(outgoing: &mpsc::UnboundedSender<Message>, text: String) {
    // A member that has left receives nothing more.
    let _ = outgoing.send(Message::text(text));
}
