//! A proxy between clients and server that commits one kind of fault, at one message in many.
//!
//! It passes everything on unchanged, except what a server sends over a WebSocket: this is split into messages. The
//! proxy runs on its own thread, serves a few hundred connections, and ends with the last of them.

mod fault;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};

use crate::base::content::{self, Content};
use crate::plan::run_plan::{Plan, RoomPlan};
use crate::wire::frames::{Frames, Whole};
use crate::wire::{Frame, Heard, Kind, Scratch};

use fault::FaultInjector;

pub use fault::{Fault, Victims};

/// The most connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 2048;
/// The longest head of an answer. With a longer one, the answer is not HTTP.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// The delay of a late message.
pub const DELAY: Duration = Duration::from_secs(3);

pub struct Proxy {
    pub addr: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Proxy {
    /// Starts the proxy for the plan's server.
    pub fn start(plan: Arc<Plan>, fault: Fault, victims: Victims, one_in: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let between = Rc::new(Between::new(plan, FaultInjector::new(fault, one_in), victims));
            let accepting = between.clone().accept(listener);
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    ended = accepting => ended,
                    _ = stopped => Ok(()),
                }
            })?;
            Ok(between.injector.borrow().committed())
        });
        Ok(Self { addr, stop, thread })
    }

    /// Ends the proxy. Returns at how many messages a fault was committed.
    pub fn finish(self) -> io::Result<u64> {
        // Sending fails if the proxy has already ended; then its thread returns why.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| io::Error::other("the proxy's thread panicked"))?
    }
}

/// What all connections share.
struct Between {
    plan: Arc<Plan>,
    injector: RefCell<FaultInjector>,
    /// The number of the only WebSocket at which faults are committed; `None` if they are committed at all.
    only: Option<u32>,
    websockets: Cell<u32>,
    scratch: RefCell<Scratch>,
}

impl Between {
    fn new(plan: Arc<Plan>, injector: FaultInjector, victims: Victims) -> Self {
        // About half of the users connect before this one.
        let only = (victims == Victims::One).then_some(plan.users() / 2);
        let (websockets, scratch) = (Cell::new(0), RefCell::default());
        Self { plan, injector: RefCell::new(injector), only, websockets, scratch }
    }

    async fn accept(self: Rc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (client, _) = listener.accept().await?;
            let between = self.clone();
            tokio::task::spawn_local(async move {
                // If a connection breaks, the client sees that and reports it.
                let _ = between.relay(client).await;
                drop(place);
            });
        }
    }

    async fn relay(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.plan.target.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let upward = async {
            tokio::io::copy(&mut from_client, &mut to_server).await?;
            to_server.shutdown().await
        };
        tokio::try_join!(upward, self.downward(from_server, to_client)).map(drop)
    }

    async fn downward(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut frames = Frames::of_server();
        if pass_head(&mut from, &mut to, &mut frames).await? {
            self.pass_messages(&mut from, &mut to, &mut frames).await?;
        } else {
            tokio::io::copy(&mut from, &mut to).await?;
        }
        to.shutdown().await
    }

    async fn pass_messages(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        frames: &mut Frames,
    ) -> io::Result<()> {
        let number = self.websockets.get();
        self.websockets.set(number + 1);
        let is_spared = self.only.is_some_and(|only| only != number);
        let mut held = None;
        let mut bytes = vec![0; READ_BYTES];
        loop {
            while let Some(message) = frames.next().map_err(io::Error::other)? {
                let passed = if is_spared {
                    FaultInjector::spare(message)
                } else {
                    let content = self.content(&message);
                    self.injector.borrow_mut().pass(message, content, &mut held)
                };
                if passed.late {
                    tokio::time::sleep(DELAY).await;
                }
                for message in &passed.messages {
                    to.write_all(&message.written()).await?;
                }
            }
            match from.read(&mut bytes).await? {
                0 => return Ok(()),
                read => frames.take_in(&bytes[..read]),
            }
        }
    }

    /// The content of this run in a message, and whether its publisher sends another message after it. If there are
    /// several contents, the last one counts.
    fn content(&self, message: &Whole) -> Option<(Content, bool)> {
        let bytes = Bytes::from(message.payload.clone());
        let frame = match message.opcode {
            OpCode::Data(Data::Text) => Frame::Text(Utf8Bytes::try_from(bytes).ok()?),
            OpCode::Data(Data::Binary) => Frame::Binary(bytes),
            _ => return None,
        };
        let mut found = None;
        let hear = |heard: Heard<'_>| {
            if let Heard::Message { kind: Kind::New, content, .. } = heard {
                found = content::read(content, self.plan.run).ok().or(found);
            }
        };
        // An unreadable message is passed on unchanged; the client reports it.
        self.plan.target.dialect.read(&frame, &mut self.scratch.borrow_mut(), hear).ok()?;
        found.map(|content| (content, self.has_another(content)))
    }

    fn has_another(&self, content: Content) -> bool {
        let another = |room: &RoomPlan| {
            let planned = room.publisher(content.slot.publisher).map(|publisher| room.schedule.planned(publisher));
            planned.is_some_and(|planned| content.slot.number + 1 < planned)
        };
        self.plan.rooms.iter().any(another)
    }
}

/// Passes on the head of the server's first answer, and returns whether a WebSocket follows. Bytes after the head go
/// into `frames` if a WebSocket follows; otherwise they are passed on.
async fn pass_head(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, frames: &mut Frames) -> io::Result<bool> {
    let mut head = Vec::new();
    loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, rest) = head.split_at(end + 4);
            to.write_all(head).await?;
            let is_websocket = head.split(|byte| *byte == b' ').nth(1) == Some(b"101");
            if is_websocket {
                frames.take_in(rest);
            } else {
                to.write_all(rest).await?;
            }
            return Ok(is_websocket);
        }
        if head.len() > HEAD_BYTES_MAX || from.read_buf(&mut head).await? == 0 {
            to.write_all(&head).await?;
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
