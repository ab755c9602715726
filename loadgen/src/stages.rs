//! The life of one thread's users, stage by stage, as the coordinator orders it: sign in, join, listen and publish, leave.
//!
//! Each thread runs a single-threaded runtime of its own. A user never moves to another thread, so checking needs no
//! lock, and a socket's wake-up is handled on the core that will read it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{self, ClientError, Due, Socket};
use crate::crowd::{Crowd, Gauges};
use crate::figures::Figures;
use crate::lag;
use crate::orders::{Assignment, Order, PublishAnswers};
use crate::recorder::Recorder;
use crate::sign_in::{FrontDoor, SignInError};

/// A server that refuses connections for a moment gets this many further chances, each after a longer pause.
const RETRY_PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// Close frames are a courtesy; a server that does not take them is left without.
const LEAVING: Duration = Duration::from_secs(2);

/// A run that does not know how late it was itself shows nothing.
const NOT_WATCHED: &str = "a thread lost the line on which it reads how long its sockets wait for it";

/// Messages in line for one publisher's socket.
pub type Outbox = mpsc::Sender<Due>;

/// A thread's answers to its orders.
pub enum ThreadWord {
    SignedIn,
    /// With the outbox of each publisher that lives on this thread.
    Joined(HashMap<u32, Outbox>),
    Answers(PublishAnswers),
    Figures(Box<Figures>),
    Failed(String),
}

/// The part of an assignment that one thread looks after.
pub struct Share {
    pub users: Vec<u32>,
    pub in_flight: usize,
}

/// Carries out orders until the tally is done or nobody gives orders any more.
pub async fn live(
    assignment: Assignment,
    share: Share,
    gauges: Arc<Gauges>,
    stamps: UnixStream,
    mut orders: mpsc::Receiver<Order>,
    words: mpsc::Sender<ThreadWord>,
) {
    let recorder = Rc::new(Recorder::new(gauges));
    let watching = tokio::task::spawn_local(lag::watch(stamps, recorder.clone()));
    let stages = Stages::new(assignment, share, recorder.clone());
    while let Some(order) = orders.recv().await {
        let last = matches!(order, Order::Tally(_));
        let word = match order {
            Order::SignIn(_) => stages.sign_in().await,
            Order::Join => stages.join().await,
            Order::Begin { start_ns } => {
                stages.crowd.begin(start_ns);
                continue;
            }
            Order::Stop => ThreadWord::Answers(stages.crowd.answers()),
            Order::Tally(_) if watching.is_finished() => ThreadWord::Failed(NOT_WATCHED.to_owned()),
            Order::Tally(answers) => {
                let mut figures = stages.crowd.figures(&answers);
                recorder.account(&mut figures);
                ThreadWord::Figures(Box::new(figures))
            }
        };
        // Nobody listens only when the whole worker is ending.
        let _ = words.send(word).await;
        if last {
            break;
        }
    }
    stages.leave().await;
}

struct Stages {
    assignment: Assignment,
    share: Share,
    door: FrontDoor,
    crowd: Rc<Crowd>,
    /// By seat: the token it signed in with.
    tokens: RefCell<Vec<String>>,
    listeners: RefCell<Listeners>,
    /// Kept open until all leave: a publisher whose outbox is closed says goodbye.
    outboxes: RefCell<HashMap<u32, Outbox>>,
    failure: Failure,
}

#[derive(Default)]
struct Listeners {
    tasks: JoinSet<()>,
    stops: Vec<AbortHandle>,
}

/// The first user for whom a stage failed ends it: the others would only fail after it, more slowly.
#[derive(Default)]
struct Failure {
    first: RefCell<Option<String>>,
    failed: Cell<bool>,
}

impl Failure {
    fn note(&self, user: u32, error: &ClientError) {
        self.failed.set(true);
        self.first.borrow_mut().get_or_insert_with(|| format!("user {user}: {error}"));
    }

    fn or(&self, word: impl FnOnce() -> ThreadWord) -> ThreadWord {
        self.first.borrow_mut().take().map_or_else(word, ThreadWord::Failed)
    }
}

impl Stages {
    fn new(assignment: Assignment, share: Share, recorder: Rc<Recorder>) -> Self {
        let target = &assignment.target;
        Self {
            door: FrontDoor::new(target.server, target.sign_in, &target.server_key),
            crowd: Rc::new(Crowd::new(&assignment, &share.users, recorder)),
            tokens: RefCell::new(vec![String::new(); share.users.len()]),
            listeners: RefCell::default(),
            outboxes: RefCell::default(),
            failure: Failure::default(),
            assignment,
            share,
        }
    }

    async fn sign_in(&self) -> ThreadWord {
        self.for_each_seat(async |seat| {
            let token = persistently(|| self.token(seat)).await?;
            self.tokens.borrow_mut()[seat] = token;
            self.crowd.gauges().signed_in.bump();
            Ok(())
        })
        .await;
        self.failure.or(|| ThreadWord::SignedIn)
    }

    async fn join(&self) -> ThreadWord {
        self.for_each_seat(async |seat| {
            let mut socket = persistently(|| self.connect(seat)).await?;
            let channel_id = client::join(&mut socket, &self.crowd, seat).await?;
            self.listen(seat, socket, channel_id);
            self.crowd.gauges().joined.bump();
            Ok(())
        })
        .await;
        self.failure.or(|| ThreadWord::Joined(self.outboxes.borrow().clone()))
    }

    async fn for_each_seat(&self, work: impl AsyncFn(usize) -> Result<(), ClientError>) {
        let seats = futures_util::stream::iter(0..self.share.users.len());
        seats
            .for_each_concurrent(self.share.in_flight, async |seat| {
                if self.failure.failed.get() {
                    return;
                }
                if let Err(error) = work(seat).await {
                    self.failure.note(self.share.users[seat], &error);
                }
            })
            .await;
    }

    async fn token(&self, seat: usize) -> Result<String, ClientError> {
        let id = format!("{}{:08}", self.assignment.target.account_prefix, self.share.users[seat]);
        Ok(self.door.sign_in(&id).await?)
    }

    /// Opens the seat's WebSocket. Tokens of a stock server live for a minute only, and signing everybody in may take
    /// longer: a refused token is replaced once.
    async fn connect(&self, seat: usize) -> Result<Socket, ClientError> {
        let source = client::source_address(self.share.users[seat], self.assignment.users_a_source);
        let token = self.tokens.borrow()[seat].clone();
        match client::connect(&self.assignment.target, &token, source).await {
            Err(ClientError::Unauthorised) => {
                let token = self.token(seat).await?;
                client::connect(&self.assignment.target, &token, source).await
            }
            other => other,
        }
    }

    /// From here on the seat hears the room, and publishes when it is a publisher's.
    fn listen(&self, seat: usize, socket: Socket, channel_id: String) {
        let (stop, stopped) = AbortHandle::new_pair();
        let mut listeners = self.listeners.borrow_mut();
        listeners.stops.push(stop);
        let (user, crowd) = (self.share.users[seat], self.crowd.clone());
        if user >= self.assignment.schedule.publishers() {
            listeners.tasks.spawn_local(listen(socket, crowd, seat, stopped));
            return;
        }
        // All that this publisher will ever send fits, so handing a message over never waits for the socket.
        let (outbox, due) = mpsc::channel(self.assignment.schedule.planned(user).max(1) as usize);
        self.outboxes.borrow_mut().insert(user, outbox);
        let (sink, stream) = socket.split();
        listeners.tasks.spawn_local(client::publish(sink, crowd.clone(), user, channel_id, due));
        listeners.tasks.spawn_local(listen_only(stream, crowd, seat, stopped));
    }

    async fn leave(self) {
        let mut listeners = self.listeners.into_inner();
        drop(self.outboxes);
        listeners.stops.iter().for_each(AbortHandle::abort);
        let all_gone = async { while listeners.tasks.join_next().await.is_some() {} };
        // What has not gone by then ends with the runtime.
        let _ = tokio::time::timeout(LEAVING, all_gone).await;
    }
}

/// A member that only listens; told to stop, it says goodbye.
async fn listen(mut socket: Socket, crowd: Rc<Crowd>, seat: usize, stopped: AbortRegistration) {
    match Abortable::new(client::listen(&mut socket, &crowd, seat), stopped).await {
        Ok(lost) => crowd.lost(seat, &lost),
        Err(_) => {
            let _ = socket.close(None).await;
        }
    }
}

/// A publisher's listening half; the publishing half says goodbye.
async fn listen_only(
    mut stream: futures_util::stream::SplitStream<Socket>,
    crowd: Rc<Crowd>,
    seat: usize,
    stopped: AbortRegistration,
) {
    if let Ok(lost) = Abortable::new(client::listen(&mut stream, &crowd, seat), stopped).await {
        crowd.lost(seat, &lost);
    }
}

/// Tries again after a pause when the server could not be reached.
async fn persistently<T, W>(attempt: impl Fn() -> W) -> Result<T, ClientError>
where
    W: Future<Output = Result<T, ClientError>>,
{
    for pause in RETRY_PAUSES {
        match attempt().await {
            Err(ClientError::Connect(_) | ClientError::SignIn(SignInError::Exchange(_))) => {
                tokio::time::sleep(pause).await;
            }
            other => return other,
        }
    }
    attempt().await
}
