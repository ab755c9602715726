//! Users that connect and then only stay: one thread's part of `loadgen connect`.
//!
//! They are to cost next to nothing, so that a machine can hold as many as it has descriptors for: no buffer but the
//! library's smallest, no channel, no handle to stop them by, and one allocation for each that is polled. Pings are answered
//! by the WebSocket library; whatever else comes is counted.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::checks::figures::{Figures, SAMPLES_MAX, ThreadFigures};
use crate::checks::latency::Latency;
use crate::clients::admission::{Admission, Admitted, admit};
use crate::clients::client::{self, ClientError, Way};
use crate::clients::sign_in::FrontDoor;
use crate::clients::socket::{self, Lost, Socket};
use crate::costs::recorder::Recorder;
use crate::costs::server::ServerProbe;
use crate::options::Target;
use crate::plan::lives::Manner;
use crate::team::clock;
use crate::team::crew::{self, Post};
use crate::team::orders::{Order, Word};
use crate::team::sources::Sources;
use crate::wire::{Entrance, Speaker};

/// One worker's part of a run of idle users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holding {
    pub target: Target,
    /// The room they join, if they do.
    pub entrance: Option<Entrance>,
    pub users: Range<u32>,
    pub threads: Option<u32>,
    /// How many may be signing in or connecting at once, at most.
    pub in_flight: u32,
    pub sources: Option<Sources>,
}

/// What the users of one thread, or of several, have come to.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Held {
    pub connected: u64,
    /// Never got in; of these, so many were not even tried, because nobody got in any more.
    pub shut_out: u64,
    pub not_tried: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Ended before they were told to.
    pub disconnected: u64,
    pub pings: u64,
    /// What else they heard.
    pub frames: u64,
    /// From the first packet to the open WebSocket, and from the request to join to its answer.
    pub connect: Latency,
    pub join: Latency,
    /// The most that were under way at once, and how many the server was last found to take.
    pub window_most: u64,
    pub window_last: u64,
    pub lag: Latency,
    pub threads: Vec<ThreadFigures>,
    /// Of the worker's process, before anybody had signed in and when all were there; each thread tells the same.
    pub resident: Vec<Resident>,
    pub samples: Vec<String>,
}

/// The memory of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resident {
    pub pid: u32,
    pub before_bytes: u64,
    pub held_bytes: u64,
}

impl Held {
    pub fn add(&mut self, other: Held) {
        self.connected += other.connected;
        self.shut_out += other.shut_out;
        self.not_tried += other.not_tried;
        self.retries += other.retries;
        self.disconnected += other.disconnected;
        self.pings += other.pings;
        self.frames += other.frames;
        self.connect.add(&other.connect);
        self.join.add(&other.join);
        self.window_most += other.window_most;
        self.window_last += other.window_last;
        self.lag.add(&other.lag);
        self.threads.extend(other.threads);
        for resident in other.resident {
            match self.resident.iter_mut().find(|own| own.pid == resident.pid) {
                None => self.resident.push(resident),
                Some(own) => {
                    own.before_bytes = own.before_bytes.min(resident.before_bytes);
                    own.held_bytes = own.held_bytes.max(resident.held_bytes);
                }
            }
        }
        let room = SAMPLES_MAX.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.into_iter().take(room));
    }

    fn sample(&mut self, text: impl FnOnce() -> String) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(text());
        }
    }
}

/// Serves the coordinator of a run of idle users.
pub async fn serve(holding: Holding, orders: mpsc::Receiver<Order>) -> Result<(), String> {
    let (users, threads) = (holding.users.clone(), holding.threads);
    crew::serve(Order::Hold(holding.clone()), orders, users, threads, move |post| live(holding.clone(), post)).await
}

/// One thread: signs its users in, connects them, keeps them.
async fn live(holding: Holding, mut post: Post) {
    let Post { users, recorder, threads, .. } = &post;
    let mut idlers = Idlers::new(holding, users.clone(), *threads, recorder.clone());
    while let Some(order) = post.orders.recv().await {
        let word = match order {
            Order::Hold(_) => idlers.sign_in().await,
            Order::Join => idlers.connect().await,
            Order::Stop => idlers.count(),
            Order::SignIn(_) | Order::Read(_) | Order::Begin { .. } | Order::Tally { .. } => {
                Err("an order for other users".to_owned())
            }
        };
        let word = word.unwrap_or_else(|what| Word::Failed { what });
        let last = word.is_last();
        // Nobody listens only when the whole worker is ending.
        let _ = post.words.send(word).await;
        if last {
            // Idle users hang up without a word, as telephones do that lose the net.
            return;
        }
    }
}

struct Idlers {
    holding: Holding,
    users: Vec<u32>,
    window_max: usize,
    door: FrontDoor,
    recorder: Rc<Recorder>,
    /// Until its user has connected.
    tokens: RefCell<Vec<Box<str>>>,
    /// Without the users for whom it failed.
    signed_in: Vec<usize>,
    hall: Rc<Hall>,
    resident_before_bytes: u64,
}

/// Where the idle users of a thread are, and what they note there.
struct Hall {
    recorder: Rc<Recorder>,
    pings: Cell<u64>,
    frames: Cell<u64>,
    held: RefCell<Held>,
}

fn resident_bytes() -> Result<u64, String> {
    let resident = ServerProbe::new(std::process::id()).and_then(|own| own.resident_bytes());
    resident.map_err(|error| format!("its own memory cannot be read: {error}"))
}

impl Idlers {
    fn new(holding: Holding, users: Vec<u32>, threads: usize, recorder: Rc<Recorder>) -> Self {
        let target = &holding.target;
        let hall =
            Hall { recorder: recorder.clone(), pings: Cell::new(0), frames: Cell::new(0), held: RefCell::default() };
        Self {
            window_max: (holding.in_flight as usize).div_ceil(threads),
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
        let Admitted { admission, .. } = &admitted;
        self.note_window(admission);
        Ok(Word::Joined)
    }

    /// Opens the user's WebSocket. Tokens of a stock server live for a minute only: a refused one is replaced once.
    async fn open(&self, at: usize) -> Result<Socket, ClientError> {
        let user = self.users[at];
        let source = self.holding.sources.map(|sources| sources.of(user));
        let way = Way { source, manner: Manner::Prompt };
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
                Some(error) => held.sample(|| format!("user {}: {error}", self.users[user(*number)])),
            }
        }
    }

    fn note_window(&self, admission: &Admission) {
        let held = &mut *self.hall.held.borrow_mut();
        held.window_most = admission.window_most() as u64;
        held.window_last = admission.window() as u64;
    }

    fn count(&self) -> Result<Word, String> {
        let mut figures = Figures::default();
        self.recorder.account(&mut figures);
        let mut held = self.hall.held.borrow().clone();
        held.pings = self.hall.pings.get();
        held.frames = self.hall.frames.get();
        (held.lag, held.threads) = (figures.lag, figures.threads);
        let (pid, before_bytes) = (std::process::id(), self.resident_before_bytes);
        held.resident = vec![Resident { pid, before_bytes, held_bytes: resident_bytes()? }];
        Ok(Word::Held(Box::new(held)))
    }
}

/// Whether trying again may help: not where the server has said no.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Unauthorised | ClientError::JoinRefused { .. } => false,
        ClientError::SignIn(error) => error.may_pass(),
        _ => true,
    }
}

/// A user who is there, and reads what comes.
struct Idler {
    socket: Socket,
    user: u32,
    hall: Rc<Hall>,
}

/// A user's part of this process besides the runtime's registration of its socket and its small buffers.
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
        hall.recorder.turn(clock::now_ns());
        hall.recorder.gauges().disconnected.bump();
        let held = &mut *hall.held.borrow_mut();
        held.disconnected += 1;
        held.sample(|| format!("user {user} was disconnected: {lost}"));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_a_process_has_one_memory() {
        let resident = |pid, before_bytes, held_bytes| Resident { pid, before_bytes, held_bytes };
        let held = |connected, resident: Resident| Held { connected, resident: vec![resident], ..Held::default() };
        let mut sum = held(3, resident(7, 100, 900));
        sum.add(held(4, resident(7, 90, 950)));
        sum.add(held(5, resident(8, 50, 60)));
        assert_eq!((sum.connected, sum.resident), (12, vec![resident(7, 90, 950), resident(8, 50, 60)]));
    }
}
