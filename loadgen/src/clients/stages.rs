//! The life of one thread's users, stage by stage, as the coordinator orders it: sign in, join, listen and publish,
//! leave.
//!
//! Each thread runs its own single-threaded runtime. A user never moves to another thread, so the checks need no lock,
//! and a socket's wake-up is handled on the core that reads the socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::base::clock;
use crate::checks::check::Answers;
use crate::checks::figures::Figures;
use crate::clients::client::{self, ClientError, Due, SlotEar, Way};
use crate::clients::crowd::Crowd;
use crate::clients::history_reads;
use crate::clients::ledger::Ledger;
use crate::clients::member::Member;
use crate::clients::sign_in::{FrontDoor, SignInError};
use crate::clients::socket::{SharedSocket, Socket};
use crate::costs::gauges::Gauges;
use crate::costs::lag;
use crate::orders::{Order, Publishes};
use crate::plan::run_plan::Plan;
use crate::plan::sources::Sources;
use crate::wire::Speaker;

/// The pauses before further attempts when a server refuses a connection for a moment; each pause is longer than the
/// one before.
const RETRY_PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// A slow reader reads a frame at least this often.
const SLOWEST_PACE: Duration = Duration::from_secs(5);
/// Close frames are only a courtesy. If a server does not accept them within this time, the client goes without.
const LEAVING: Duration = Duration::from_secs(2);

/// The queue of messages for one publisher's socket.
pub type Outbox = mpsc::Sender<Due>;

/// A thread's answer to an order.
pub enum ThreadWord {
    SignedIn,
    /// With the outbox of each publisher on this thread.
    Joined(HashMap<u32, Outbox>),
    Answers(Publishes),
    Figures(Box<Figures>),
    Failed(String),
}

/// The part of an assignment that one thread handles.
pub struct Share {
    pub users: Vec<u32>,
    pub in_flight: usize,
    pub sources: Option<Sources>,
}

/// Carries out orders until the figures are counted, or until no order can come any more.
pub async fn live(
    plan: Arc<Plan>,
    share: Share,
    gauges: Arc<Gauges>,
    stamps: UnixStream,
    mut orders: mpsc::Receiver<Order>,
    words: mpsc::Sender<ThreadWord>,
) {
    let stages = Rc::new(Stages::new(plan, share, gauges));
    let watching = tokio::task::spawn_local(lag::watch(stamps, stages.ledger.clone()));
    while let Some(order) = orders.recv().await {
        let last = matches!(order, Order::Tally { .. });
        let word = match order {
            Order::SignIn(_) => stages.sign_in().await,
            Order::Hold(_) | Order::Read(_) => ThreadWord::Failed("an order for other users".to_owned()),
            Order::Join => stages.join().await,
            Order::Begin { start_ns } => {
                stages.ledger.begin(start_ns);
                Stages::begin_lives(&stages, start_ns);
                Stages::begin_reads(&stages, start_ns);
                continue;
            }
            Order::Stop => ThreadWord::Answers(stages.answers()),
            Order::Tally { .. } if watching.is_finished() => ThreadWord::Failed(lag::NOT_WATCHED.to_owned()),
            Order::Tally { answers, clock_margin_ns } => {
                ThreadWord::Figures(Box::new(stages.figures(&answers, clock_margin_ns)))
            }
        };
        // Sending fails only when the whole worker is ending.
        let _ = words.send(word).await;
        if last {
            break;
        }
    }
    stages.leave().await;
}

pub struct Stages {
    plan: Arc<Plan>,
    share: Share,
    door: FrontDoor,
    ledger: Rc<Ledger>,
    crowds: Vec<Rc<Crowd>>,
    /// For each user of the share: its crowd, and its slot there.
    members: Vec<CrowdMember>,
    /// By member: the token from the user's sign-in.
    tokens: RefCell<Vec<String>>,
    listeners: RefCell<Listeners>,
    /// Kept open until all users leave: a publisher whose outbox is closed sends a close frame and ends.
    outboxes: RefCell<HashMap<u32, Outbox>>,
    failure: Failure,
}

/// A user's crowd, and its slot in the crowd.
#[derive(Clone)]
struct CrowdMember {
    user: u32,
    crowd: Rc<Crowd>,
    member_slot: usize,
}

#[derive(Default)]
struct Listeners {
    tasks: JoinSet<()>,
    stops: Vec<AbortHandle>,
}

/// The first user that fails in a stage ends the stage. The others would fail as well, only more slowly.
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
    fn new(plan: Arc<Plan>, share: Share, gauges: Arc<Gauges>) -> Self {
        let target = &plan.target;
        let ledger = Rc::new(Ledger::new(plan.clone(), gauges));
        // Users come in the order of their numbers, so the users of one room come together.
        let together = share.users.chunk_by(|one, other| plan.room_of(*one) == plan.room_of(*other));
        let (mut crowds, mut members) = (Vec::new(), Vec::new());
        for users in together {
            let crowd = Rc::new(Crowd::new(ledger.clone(), plan.room_of(users[0]), users));
            members.extend((0..).zip(users).map(|(member_slot, user)| CrowdMember {
                user: *user,
                crowd: crowd.clone(),
                member_slot,
            }));
            crowds.push(crowd);
        }
        Self {
            door: FrontDoor::new(target.server, target.sign_in, &target.server_key),
            ledger,
            crowds,
            members,
            tokens: RefCell::new(vec![String::new(); share.users.len()]),
            listeners: RefCell::default(),
            outboxes: RefCell::default(),
            failure: Failure::default(),
            plan,
            share,
        }
    }

    async fn sign_in(&self) -> ThreadWord {
        self.for_each_member(async |at, member| {
            let token = persistently(|| self.token(member.user)).await?;
            self.tokens.borrow_mut()[at] = token;
            self.ledger.gauges().signed_in.bump();
            Ok(())
        })
        .await;
        self.failure.or(|| ThreadWord::SignedIn)
    }

    async fn join(&self) -> ThreadWord {
        self.for_each_member(async |at, member| {
            if self.plan.conduct.is_some() && !self.plan.publishes(member.user) {
                // A member that comes and goes joins at the time in its planned life.
                return Ok(());
            }
            let mut socket = self.connect_persistently(at).await?;
            let channel_id = client::join(&mut socket, &member.crowd, member.user, member.member_slot).await?;
            self.listen(member.clone(), socket, channel_id);
            self.ledger.gauges().joined.bump();
            Ok(())
        })
        .await;
        self.failure.or(|| ThreadWord::Joined(self.outboxes.borrow().clone()))
    }

    async fn for_each_member(&self, work: impl AsyncFn(usize, &CrowdMember) -> Result<(), ClientError>) {
        let members = futures_util::stream::iter(self.members.iter().enumerate());
        members
            .for_each_concurrent(self.share.in_flight, async |(at, member)| {
                if self.failure.failed.get() {
                    return;
                }
                if let Err(error) = work(at, member).await {
                    self.failure.note(member.user, &error);
                }
            })
            .await;
    }

    async fn token(&self, user: u32) -> Result<String, ClientError> {
        if !self.plan.target.dialect.has_sessions() {
            return Ok(String::new());
        }
        Ok(self.door.sign_in(&self.plan.account(user)).await?)
    }

    pub async fn connect_persistently(&self, at: usize) -> Result<Socket, ClientError> {
        persistently(|| self.connect(at)).await
    }

    /// Opens the user's WebSocket. A stock server's tokens are valid for one minute only, and signing in all users may
    /// take longer: a refused token is replaced once.
    async fn connect(&self, at: usize) -> Result<Socket, ClientError> {
        let CrowdMember { user, ref crowd, member_slot } = self.members[at];
        let source = self.share.sources.map(|sources| sources.of(user));
        let way = Way { source, reading_mode: crowd.reading_mode(member_slot) };
        let speaker = Speaker { user, room: &self.plan.rooms[self.plan.room_of(user)].entrance.room };
        let token = self.tokens.borrow()[at].clone();
        match client::connect(&self.plan.target, &token, speaker, way).await {
            Err(ClientError::Unauthorised) => {
                let token = self.renew_token(at).await?;
                client::connect(&self.plan.target, &token, speaker, way).await
            }
            other => other,
        }
    }

    /// From now on the user receives the room's messages, and publishes if it is a publisher.
    fn listen(&self, member: CrowdMember, socket: Socket, channel_id: String) {
        let (stop, stopped) = AbortHandle::new_pair();
        let mut listeners = self.listeners.borrow_mut();
        listeners.stops.push(stop);
        let CrowdMember { user, crowd, member_slot } = member;
        let Some(planned) = self.planned(user) else {
            if self.plan.reads_only {
                listeners.tasks.spawn_local(read_only(socket, self.ledger.clone(), stopped));
            } else {
                listeners.tasks.spawn_local(listen(socket, crowd, member_slot, stopped));
            }
            return;
        };
        // The outbox has room for all messages of this publisher, so queueing a message never waits for the socket.
        let (outbox, due) = mpsc::channel(planned.max(1) as usize);
        self.outboxes.borrow_mut().insert(user, outbox);
        let socket = SharedSocket::new(socket);
        listeners.tasks.spawn_local(client::publish(socket.clone(), crowd.clone(), user, channel_id, due));
        listeners.tasks.spawn_local(listen_only(socket, crowd, member_slot, stopped));
    }

    /// From now on, members that come and go do so.
    fn begin_lives(stages: &Rc<Self>, start_ns: u64) {
        let Some(conduct) = &stages.plan.conduct else { return };
        for (at, member) in stages.members.iter().enumerate() {
            let room = &stages.plan.rooms[stages.plan.room_of(member.user)];
            if room.publisher(member.user).is_some() {
                continue;
            }
            let life =
                Member::new(stages.clone(), at, start_ns).live(room.life(conduct, stages.plan.seed, member.user));
            let (stop, stopped) = AbortHandle::new_pair();
            let mut listeners = stages.listeners.borrow_mut();
            listeners.stops.push(stop);
            listeners.tasks.spawn_local(async move {
                // When it is stopped, it disconnects.
                let _ = Abortable::new(life, stopped).await;
            });
        }
    }

    /// From now on, histories are read.
    fn begin_reads(stages: &Rc<Self>, start_ns: u64) {
        if !stages.plan.reads_whole_history() {
            return;
        }
        for crowd in &stages.crowds {
            let here = |member: &CrowdMember| Rc::ptr_eq(&member.crowd, crowd);
            let members = (0..stages.members.len()).filter(|at| here(&stages.members[*at])).collect();
            let reading = history_reads::read_on(stages.clone(), crowd.clone(), members, start_ns);
            let (stop, stopped) = AbortHandle::new_pair();
            let mut listeners = stages.listeners.borrow_mut();
            listeners.stops.push(stop);
            listeners.tasks.spawn_local(async move {
                let _ = Abortable::new(reading, stopped).await;
            });
        }
    }

    pub fn door(&self) -> &FrontDoor {
        &self.door
    }

    pub fn token_of(&self, at: usize) -> String {
        self.tokens.borrow()[at].clone()
    }

    pub async fn renew_token(&self, at: usize) -> Result<String, ClientError> {
        let token = self.token(self.members[at].user).await?;
        self.tokens.borrow_mut()[at].clone_from(&token);
        Ok(token)
    }

    /// The number, the crowd and the slot of the user at this index.
    pub fn member(&self, at: usize) -> (u32, Rc<Crowd>, usize) {
        let CrowdMember { user, crowd, member_slot } = &self.members[at];
        (*user, crowd.clone(), *member_slot)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn gauges(&self) -> &Gauges {
        self.ledger.gauges()
    }

    /// How long a slow reader waits between two frames.
    pub fn slow_pace(&self) -> Duration {
        let frames_a_second = self.plan.conduct.as_ref().map_or(0.0, |conduct| conduct.slow_frames_a_second);
        Duration::try_from_secs_f64(1.0 / frames_a_second).unwrap_or(SLOWEST_PACE).min(SLOWEST_PACE)
    }

    /// How many messages the user sends, if it is a publisher.
    fn planned(&self, user: u32) -> Option<u32> {
        let room = self.plan.rooms.get(self.plan.room_of(user))?;
        room.publisher(user).map(|publisher| room.schedule.planned(publisher))
    }

    /// The outcome of every publish of this thread.
    fn answers(&self) -> Publishes {
        Publishes(self.crowds.iter().map(|crowd| (crowd.room(), crowd.answers())).collect())
    }

    /// The results of all users of this thread.
    fn figures(&self, answers: &HashMap<u32, Answers>, clock_margin_ns: u64) -> Figures {
        let mut figures = self.ledger.figures();
        if self.share.users.iter().any(|user| self.plan.publishes(*user)) {
            figures.publishers_lag = figures.lag.clone();
            figures.threads.iter_mut().for_each(|thread| thread.publishes = true);
        }
        let none = Answers::default();
        for crowd in &self.crowds {
            crowd.settle(answers.get(&crowd.room()).unwrap_or(&none), clock_margin_ns, &mut figures);
        }
        figures
    }

    async fn leave(&self) {
        let mut listeners = self.listeners.take();
        drop(self.outboxes.take());
        listeners.stops.iter().for_each(AbortHandle::abort);
        let all_gone = async { while listeners.tasks.join_next().await.is_some() {} };
        // A task that has not ended by then ends with the runtime.
        let _ = tokio::time::timeout(LEAVING, all_gone).await;
    }
}

/// A member that only listens. When it is stopped, it sends a close frame.
async fn listen(mut socket: Socket, crowd: Rc<Crowd>, member_slot: usize, stopped: AbortRegistration) {
    match Abortable::new(client::listen(&mut socket, &crowd, member_slot), stopped).await {
        Ok(lost) => {
            crowd.lost(member_slot, &lost);
        }
        Err(_) => {
            let _ = socket.close().await;
        }
    }
}

/// A member that reads without looking at the bytes. When it is stopped, it disconnects.
async fn read_only(mut socket: Socket, ledger: Rc<Ledger>, stopped: AbortRegistration) {
    let count = |bytes| ledger.book().weigh_unread(bytes, clock::now_ns());
    // A lost connection makes no difference here: only the cost of reading is measured.
    let _ = Abortable::new(socket.drain(count), stopped).await;
}

/// The listening half of a publisher. The publishing half sends the close frame.
async fn listen_only(socket: SharedSocket, crowd: Rc<Crowd>, member_slot: usize, stopped: AbortRegistration) {
    let mut ear = SlotEar { crowd: &crowd, member_slot };
    if let Ok(lost) = Abortable::new(socket.listen(&mut ear), stopped).await {
        crowd.lost(member_slot, &lost);
    }
}

/// Tries again after a pause when the server cannot be reached.
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
