//! The life of one thread's users of rooms, stage by stage, as the coordinator orders it: sign in, join, listen and
//! publish, leave.

mod drains;
mod history_reads;
mod member;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
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
use crate::clients::client::{self, SlotEar, Way};
use crate::clients::client_error::ClientError;
use crate::clients::crowd::Crowd;
use crate::clients::ledger::Ledger;
use crate::clients::sign_in::{FrontDoor, SignInError};
use crate::clients::socket::{SharedSocket, Socket};
use crate::clients::thread_users::{OTHER_USERS, Share, ThreadUsers};
use crate::clients::timekeeper::{self, Outbox};
use crate::costs::gauges::Gauges;
use crate::orders::{Order, Publishes, Word};
use crate::plan::run_plan::Plan;
use crate::plan::sources::Sources;
use crate::wire::Speaker;
use member::Member;

/// The pauses before further attempts when a server refuses a connection for a moment; each pause is longer than the
/// one before.
const RETRY_PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// A slow reader reads a frame at least this often.
const SLOWEST_PACE: Duration = Duration::from_secs(5);
/// Close frames are only a courtesy. If a server does not accept them within this time, the client goes without.
const LEAVING: Duration = Duration::from_secs(2);

pub struct Stages {
    plan: Arc<Plan>,
    /// The users of this thread.
    users: Vec<u32>,
    /// How many of them may sign in or connect at once.
    in_flight: usize,
    sources: Option<Sources>,
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

    fn or(&self, word: Word) -> Result<Word, String> {
        self.first.borrow_mut().take().map_or(Ok(word), Err)
    }
}

impl ThreadUsers for Rc<Stages> {
    async fn obey(&mut self, order: &Order) -> Result<Option<Word>, String> {
        Ok(Some(match order {
            Order::SignIn(_) => self.sign_in().await?,
            Order::Join => self.join().await?,
            Order::Begin { start_ns } => {
                Stages::begin(self, *start_ns);
                return Ok(None);
            }
            Order::Stop => Word::Answers(self.answers()),
            Order::Tally { answers, clock_margin_ns } => {
                Word::Figures(Box::new(self.figures(answers, *clock_margin_ns)))
            }
            Order::Hold(_) | Order::Read(_) => return Err(OTHER_USERS.to_owned()),
        }))
    }

    async fn leave(&mut self) {
        let mut listeners = self.listeners.take();
        drop(self.outboxes.take());
        listeners.stops.iter().for_each(AbortHandle::abort);
        let all_gone = async { while listeners.tasks.join_next().await.is_some() {} };
        // A task that has not ended by then ends with the runtime.
        let _ = tokio::time::timeout(LEAVING, all_gone).await;
    }
}

impl Stages {
    /// The users of one thread. `in_flight` is how many of the worker's users may sign in or connect at once.
    pub fn new(plan: Arc<Plan>, in_flight: u32, sources: Option<Sources>, share: Share) -> Rc<Self> {
        let target = &plan.target;
        let in_flight = share.part_of(in_flight);
        let Share { users, recorder, .. } = share;
        let ledger = Rc::new(Ledger::new(plan.clone(), recorder));
        // Users come in the order of their numbers, so the users of one room come together.
        let together = users.chunk_by(|one, other| plan.room_of(*one) == plan.room_of(*other));
        let (mut crowds, mut members) = (Vec::new(), Vec::new());
        for of_room in together {
            let crowd = Rc::new(Crowd::new(ledger.clone(), plan.room_of(of_room[0]), of_room));
            members.extend((0..).zip(of_room).map(|(member_slot, user)| CrowdMember {
                user: *user,
                crowd: crowd.clone(),
                member_slot,
            }));
            crowds.push(crowd);
        }
        Rc::new(Self {
            door: FrontDoor::new(target.server, target.sign_in, &target.server_key),
            ledger,
            crowds,
            members,
            tokens: RefCell::new(vec![String::new(); users.len()]),
            listeners: RefCell::default(),
            outboxes: RefCell::default(),
            failure: Failure::default(),
            plan,
            users,
            in_flight,
            sources,
        })
    }

    async fn sign_in(&self) -> Result<Word, String> {
        self.for_each_member(async |at, member| {
            let token = persistently(|| self.token(member.user)).await?;
            self.tokens.borrow_mut()[at] = token;
            self.ledger.gauges().signed_in.bump();
            Ok(())
        })
        .await;
        self.failure.or(Word::SignedIn)
    }

    async fn join(self: &Rc<Self>) -> Result<Word, String> {
        self.for_each_member(async |at, member| {
            if self.plan.conduct.is_some() && !self.plan.publishes(member.user) {
                // A member that comes and goes joins at the time in its planned life.
                return Ok(());
            }
            let mut socket = self.connect_persistently(at).await?;
            let channel_id = client::join(&mut socket, &member.crowd, member.user, member.member_slot).await?;
            self.listen(at, socket, channel_id);
            self.ledger.gauges().joined.bump();
            Ok(())
        })
        .await;
        self.failure.or(Word::Joined)
    }

    async fn for_each_member(&self, work: impl AsyncFn(usize, &CrowdMember) -> Result<(), ClientError>) {
        let members = futures_util::stream::iter(self.members.iter().enumerate());
        members
            .for_each_concurrent(self.in_flight, async |(at, member)| {
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
        let source = self.sources.map(|sources| sources.of(user));
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
    fn listen(self: &Rc<Self>, at: usize, socket: Socket, channel_id: String) {
        let (stop, stopped) = AbortHandle::new_pair();
        let mut listeners = self.listeners.borrow_mut();
        listeners.stops.push(stop);
        let CrowdMember { user, crowd, member_slot } = self.members[at].clone();
        let Some(planned) = self.planned(user) else {
            if self.plan.reads_only {
                listeners.tasks.spawn_local(read_only(socket, self.ledger.clone(), stopped));
            } else {
                listeners.tasks.spawn_local(listen(socket, crowd, member_slot, stopped));
            }
            return;
        };
        // The outbox has room for all messages of this publisher, so queueing a message never waits for the socket.
        let (outbox, mut due) = mpsc::channel(planned.max(1) as usize);
        self.outboxes.borrow_mut().insert(user, outbox);
        if self.plan.drain_secs().is_some() {
            // It ends when its outbox is closed.
            listeners.tasks.spawn_local(drains::publish(self.clone(), at, (socket, channel_id), due));
            return;
        }
        let socket = SharedSocket::new(socket);
        let (sink, publishing) = (socket.clone(), crowd.clone());
        listeners.tasks.spawn_local(async move {
            client::publish(sink, publishing, user, channel_id, &mut due).await;
        });
        listeners.tasks.spawn_local(listen_only(socket, crowd, member_slot, stopped));
    }

    /// From now on the users publish, come and go, and read histories, as planned.
    fn begin(stages: &Rc<Self>, start_ns: u64) {
        stages.ledger.begin(start_ns);
        timekeeper::start(stages.plan.clone(), start_ns, stages.outboxes.borrow().clone());
        Stages::begin_lives(stages, start_ns);
        Stages::begin_reads(stages, start_ns);
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
        if self.users.iter().any(|user| self.plan.publishes(*user)) {
            figures.publishers_lag = figures.lag.clone();
            figures.threads.iter_mut().for_each(|thread| thread.publishes = true);
        }
        let none = Answers::default();
        for crowd in &self.crowds {
            crowd.settle(answers.get(&crowd.room()).unwrap_or(&none), clock_margin_ns, &mut figures);
        }
        figures
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

#[cfg(test)]
pub mod tests;
