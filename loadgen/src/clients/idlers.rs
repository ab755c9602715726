//! Users that only connect and stay: one thread's part of `loadgen connect`.
//!
//! An idle user must cost almost nothing, so that a machine can hold as many as it has descriptors for. It has no
//! buffer but the library's smallest, no channel, no handle to stop it, and one allocation for the task. The WebSocket
//! library answers pings; everything else that comes is counted.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use crate::base::clock;
use crate::checks::figures::Figures;
use crate::clients::client::{self, Way};
use crate::clients::client_error::ClientError;
use crate::clients::connect_window::{Admitted, ConnectWindow, admit};
use crate::clients::sign_in::FrontDoor;
use crate::clients::socket::{self, Lost, Socket};
use crate::clients::thread_users::{OTHER_USERS, Share, ThreadUsers};
use crate::costs::closes::RESTART;
use crate::costs::recorder::Recorder;
use crate::costs::server::ServerProbe;
use crate::orders::idle_users::{Held, Holding, Resident};
use crate::orders::{Order, Word};
use crate::plan::lives::ReadingMode;
use crate::wire::Speaker;

/// The idle users of one thread. They disconnect without a close frame, like telephones that lose the network.
pub struct Idlers {
    holding: Holding,
    users: Vec<u32>,
    window_max: usize,
    door: FrontDoor,
    recorder: Rc<Recorder>,
    /// By user, until that user has connected.
    tokens: RefCell<Vec<Box<str>>>,
    /// The places of the users that could sign in.
    signed_in: Vec<usize>,
    hall: Rc<Hall>,
    resident_before_bytes: u64,
}

/// What the idle users of a thread share and write into.
struct Hall {
    recorder: Rc<Recorder>,
    pings: Cell<u64>,
    frames: Cell<u64>,
    held: RefCell<Held>,
    expects_drain: bool,
}

fn resident_bytes() -> Result<u64, String> {
    let resident = ServerProbe::new(std::process::id()).and_then(|own| own.resident_bytes());
    resident.map_err(|error| format!("its own memory cannot be read: {error}"))
}

impl ThreadUsers for Idlers {
    async fn obey(&mut self, order: &Order) -> Result<Option<Word>, String> {
        match order {
            Order::Hold(_) => self.sign_in().await.map(Some),
            Order::Join => self.connect().await.map(Some),
            Order::Stop => self.count().map(Some),
            Order::SignIn(_) | Order::Read(_) | Order::Begin { .. } | Order::Tally { .. } => {
                Err(OTHER_USERS.to_owned())
            }
        }
    }
}

impl Idlers {
    pub fn new(holding: Holding, share: Share) -> Self {
        let target = &holding.target;
        let window_max = share.part_of(holding.in_flight);
        let Share { users, recorder, .. } = share;
        let hall = Hall {
            recorder: recorder.clone(),
            pings: Cell::new(0),
            frames: Cell::new(0),
            held: RefCell::default(),
            expects_drain: holding.expects_drain,
        };
        Self {
            window_max,
            door: FrontDoor::new(target.server, target.sign_in, &target.server_key),
            tokens: RefCell::new(vec![Box::default(); users.len()]),
            signed_in: Vec::new(),
            hall: Rc::new(hall),
            resident_before_bytes: 0,
            recorder,
            holding,
            users,
        }
    }

    async fn sign_in(&mut self) -> Result<Word, String> {
        self.resident_before_bytes = resident_bytes()?;
        let work = async |at: usize| {
            let token = self.token(self.users[at]).await?;
            self.tokens.borrow_mut()[at] = token;
            self.recorder.gauges().signed_in.bump();
            Ok(())
        };
        let admitted = admit(self.users.len(), self.window_max, work, may_pass).await;
        let mut everybody: Vec<usize> = (0..self.users.len()).collect();
        everybody.retain(|at| !admitted.failed.iter().any(|(failed, _)| failed == at));
        self.note(&admitted, |at| at);
        self.signed_in = everybody;
        Ok(Word::SignedIn)
    }

    async fn token(&self, user: u32) -> Result<Box<str>, ClientError> {
        if !self.holding.target.dialect.has_sessions() {
            return Ok(Box::default());
        }
        let id = format!("{}{user:08}", self.holding.target.account_prefix);
        Ok(self.door.sign_in(&id).await?.into_boxed_str())
    }

    async fn connect(&mut self) -> Result<Word, String> {
        let start_ns = clock::now_ns();
        self.recorder.begin(start_ns..u64::MAX);
        let work = async |number: usize| {
            let at = self.signed_in[number];
            let begun_ns = clock::now_ns();
            let socket = Box::pin(self.open(at)).await?;
            let opened_ns = clock::now_ns();
            self.hall.held.borrow_mut().connect.record_ns(opened_ns.saturating_sub(begun_ns));
            let socket = match &self.holding.entrance {
                None => socket,
                Some(entrance) => {
                    let mut socket = socket;
                    let dialect = &self.holding.target.dialect;
                    Box::pin(client::enter(&mut socket, dialect, entrance, self.users[at])).await?;
                    self.hall.held.borrow_mut().join.record_ns(clock::now_ns().saturating_sub(opened_ns));
                    socket
                }
            };
            self.tokens.borrow_mut()[at] = Box::default();
            self.hall.held.borrow_mut().connected += 1;
            self.recorder.gauges().joined.bump();
            tokio::task::spawn_local(Idler { socket, user: self.users[at], hall: self.hall.clone() });
            Ok(())
        };
        let admitted = admit(self.signed_in.len(), self.window_max, work, may_pass).await;
        self.recorder.begin(start_ns..clock::now_ns());
        self.note(&admitted, |number| self.signed_in[number]);
        let Admitted { connect_window, .. } = &admitted;
        self.note_window(connect_window);
        Ok(Word::Joined)
    }

    /// Opens the user's WebSocket. A stock server's tokens are valid for one minute only: a refused token is replaced
    /// once.
    async fn open(&self, at: usize) -> Result<Socket, ClientError> {
        let user = self.users[at];
        let source = self.holding.sources.map(|sources| sources.of(user));
        let way = Way { source, reading_mode: ReadingMode::Prompt };
        let room = self.holding.entrance.as_ref().map_or("", |entrance| &entrance.room);
        let (target, speaker) = (&self.holding.target, Speaker { user, room });
        let token = self.tokens.borrow()[at].clone();
        match client::connect(target, &token, speaker, way).await {
            Err(ClientError::Unauthorised) => {
                let token = self.token(user).await?;
                client::connect(target, &token, speaker, way).await
            }
            other => other,
        }
    }

    fn note(&self, admitted: &Admitted<ClientError>, user: impl Fn(usize) -> usize) {
        let held = &mut *self.hall.held.borrow_mut();
        held.retries += admitted.retries;
        for (number, error) in &admitted.failed {
            held.shut_out += 1;
            match error {
                None => held.not_tried += 1,
                Some(error) => held.samples.put(|| format!("user {}: {error}", self.users[user(*number)])),
            }
        }
    }

    fn note_window(&self, connect_window: &ConnectWindow) {
        let held = &mut *self.hall.held.borrow_mut();
        held.window_most = connect_window.window_most() as u64;
        held.window_last = connect_window.window() as u64;
    }

    fn count(&self) -> Result<Word, String> {
        let mut figures = Figures::default();
        self.recorder.account(&mut figures);
        let mut held = self.hall.held.borrow().clone();
        held.pings = self.hall.pings.get();
        held.frames = self.hall.frames.get();
        (held.lag, held.threads) = (figures.lag, figures.threads);
        assert!(held.connected + held.shut_out <= self.users.len() as u64, "each user is let in or shut out");
        let (first_user, before_bytes) = (self.holding.users.start, self.resident_before_bytes);
        held.resident = vec![Resident { first_user, before_bytes, held_bytes: resident_bytes()? }];
        Ok(Word::Held(Box::new(held)))
    }
}

/// Whether another attempt may succeed: not when the server refused for good.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Unauthorised | ClientError::JoinRefused { .. } => false,
        ClientError::SignIn(error) => error.may_pass(),
        _ => true,
    }
}

/// A connected user that reads what comes.
struct Idler {
    socket: Socket,
    user: u32,
    hall: Rc<Hall>,
}

/// A user's memory in this process, without the runtime's registration of its socket and the socket's small buffers.
const IDLER_BYTES_MAX: usize = 384;
const _: () = assert!(size_of::<Idler>() <= IDLER_BYTES_MAX);

impl Future for Idler {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { socket, user, hall } = self.get_mut();
        let lost = loop {
            match ready!(socket.poll_next_unpin(context)) {
                Some(Ok(Message::Ping(_))) => hall.pings.set(hall.pings.get() + 1),
                Some(Ok(Message::Close(Some(frame)))) => {
                    break Lost::Closed { code: frame.code.into(), reason: frame.reason.to_string() };
                }
                Some(Ok(Message::Close(None))) | None => break Lost::Ended,
                Some(Ok(_)) => hall.frames.set(hall.frames.get() + 1),
                Some(Err(error)) => break socket::broken(error),
            }
        };
        hall.recorder.closed(lost.code(), clock::now_ns());
        let held = &mut *hall.held.borrow_mut();
        if hall.expects_drain && lost.code() == RESTART {
            held.drained += 1;
            hall.recorder.gauges().left.bump();
            return Poll::Ready(());
        }
        hall.recorder.gauges().disconnected.bump();
        held.disconnected += 1;
        held.samples.put(|| format!("user {user} was disconnected: {lost}"));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
