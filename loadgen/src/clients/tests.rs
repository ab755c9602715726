//! A server for the tests of clients. It answers requests and talks over WebSockets as a test tells it to, on the
//! test's own thread.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::clients::thread_users::Share;
use crate::costs::recorder::Recorder;
use crate::plan::run_plan::Plan;
use crate::wire::{Asked, Dialect, Frame};

/// A test that takes longer than this has hung.
const TEST_MAX: Duration = Duration::from_secs(60);

/// The server's end of a WebSocket.
pub type Visitor = WebSocketStream<TcpStream>;

/// Runs a test on one thread, as a thread's users are run.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(TEST_MAX, test).await.expect("nothing waits for ever");
    });
}

/// Waits until something has happened; the time for the whole test bounds the wait.
pub async fn until(happened: impl Fn() -> bool) {
    while !happened() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The plan of a run in one room at this server: everybody stays, and the two first members publish 12 messages in a
/// second.
pub fn plan(server: SocketAddr, members: u32) -> Plan {
    let mut plan = crate::plan::run_plan::tests::plan(&[(members, 2)]);
    (plan.target.server, plan.rooms[0].entrance.hidden) = (server, true);
    plan
}

/// All users of these numbers, on one thread.
pub fn share(users: std::ops::Range<u32>) -> Share {
    Share { users: users.collect(), recorder: Rc::new(Recorder::new(Default::default())), threads: 1 }
}

/// The server's answer to a request that is not granted, or has this status.
pub fn answer(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// Signs everybody in, and opens every WebSocket.
pub fn welcome(head: &str) -> Option<String> {
    if head.starts_with("POST") { answer("200 OK", r#"{"token":"any"}"#) } else { None }
}

/// Serves until the test ends. `answer` gets the head of each request. If it returns no answer, the request opens a
/// WebSocket, which `talk` gets with its number, from 0.
pub async fn serve<T: Future<Output = ()> + 'static>(
    answer: impl Fn(&str) -> Option<String> + 'static,
    talk: impl Fn(usize, Visitor) -> T + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (answer, talk, opened) = (Rc::new(answer), Rc::new(talk), Rc::new(Cell::new(0)));
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, talk, opened) = (answer.clone(), talk.clone(), opened.clone());
            tokio::task::spawn_local(async move {
                let Some(stream) = answer_requests(stream, &*answer).await else { return };
                let Ok(visitor) = accept_async(stream).await else { return };
                let number = opened.replace(opened.get() + 1);
                talk(number, visitor).await;
            });
        }
    });
    address
}

/// Answers the requests of one connection. Returns the connection when a request opens a WebSocket.
async fn answer_requests(mut stream: TcpStream, answer: &dyn Fn(&str) -> Option<String>) -> Option<TcpStream> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let peeked = stream.peek(&mut buffer).await.ok().filter(|bytes| *bytes > 0)?;
        let text = String::from_utf8_lossy(&buffer[..peeked]).into_owned();
        let Some(end) = text.find("\r\n\r\n") else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let Some(said) = answer(&text[..end]) else { return Some(stream) };
        let lines = text[..end].lines().map(str::to_lowercase);
        let length = lines.filter_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()).sum();
        let request: usize = [end + 4, length].iter().sum();
        stream.read_exact(&mut buffer[..request]).await.ok()?;
        stream.write_all(said.as_bytes()).await.ok()?;
    }
}

/// The next frame of a client; `None` when the connection has ended. Pings, pongs and close frames are left out.
pub async fn next_frame(visitor: &mut Visitor) -> Option<Frame> {
    loop {
        match visitor.next().await?.ok()? {
            Message::Text(text) => return Some(Frame::Text(text)),
            Message::Binary(bytes) => return Some(Frame::Binary(bytes)),
            _ => {}
        }
    }
}

pub async fn say(visitor: &mut Visitor, payload: impl Into<Vec<u8>>) {
    let text = String::from_utf8(payload.into()).expect("JSON");
    // The client may have gone.
    let _ = visitor.send(Message::text(text)).await;
}

/// A room in which all members may talk.
pub struct Chat {
    members: RefCell<Vec<mpsc::UnboundedSender<String>>>,
    sent: Cell<usize>,
    /// How often a member receives a message: both by number, from 0.
    copies: fn(message: usize, member: usize) -> usize,
    /// Whether the message of this number is answered.
    answers: fn(message: usize) -> bool,
}

impl Chat {
    /// The server for a room, and its address.
    pub async fn serve(copies: fn(usize, usize) -> usize, answers: fn(usize) -> bool) -> SocketAddr {
        let chat = Rc::new(Self { members: RefCell::default(), sent: Cell::new(0), copies, answers });
        serve(welcome, move |_, visitor| chat.clone().talk(visitor)).await
    }

    async fn talk(self: Rc<Self>, mut visitor: Visitor) {
        let (member, mut pushes) = mpsc::unbounded_channel();
        loop {
            tokio::select! {
                biased;
                Some(push) = pushes.recv() => say(&mut visitor, push).await,
                frame = next_frame(&mut visitor) => {
                    let Some(frame) = frame else { return };
                    match Dialect::Json.asked(&frame) {
                        Asked::Join { cid, room } => {
                            self.members.borrow_mut().push(member.clone());
                            say(&mut visitor, Dialect::Json.joined(&cid, &room).expect("an answer")).await;
                        }
                        Asked::Send { cid, content, .. } => {
                            let number = self.sent.replace(self.sent.get() + 1);
                            let id = format!("m{number}");
                            if (self.answers)(number) {
                                say(&mut visitor, Dialect::Json.accepted(&cid, &id).expect("an answer")).await;
                            }
                            self.push(number, &String::from_utf8(Dialect::Json.pushed(&id, &content, 0)).expect("JSON"));
                        }
                        Asked::Other => {}
                    }
                }
            }
        }
    }

    fn push(&self, number: usize, push: &str) {
        for (member, pushes) in self.members.borrow().iter().enumerate() {
            for _ in 0..(self.copies)(number, member) {
                // The member may have gone.
                let _ = pushes.send(push.to_owned());
            }
        }
    }
}
