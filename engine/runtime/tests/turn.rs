//! A shard never waits while it has work, and a pass under way delays nothing for long: timers, other tasks, rings,
//! receipts and orders are all seen within a few turns. The tests count turns and ticks, never seconds.
//!
//! The test plays the sockets; shards, rings, the store's bridge and glommio are real.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use engine::command::{Command, Join};
use engine::counters::{SocketCounters, Written};
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ChannelId, ConnectionId, Epoch, SessionId, ShardId, Timestamp, UserId};
use engine::limits::Rules;
use engine::limits::{RING_PARCELS, STORE_REQUESTS_MAX};
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite};
use engine::query::QueryAnswer;
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::SocketEffect;
use engine::shard::{Input, Shard};
use glommio::Task;
use glommio::timer::sleep;
use parking_lot::Mutex;
use runtime::shards::{Part, Running, start};
use runtime::turn::TICK;
use runtime::{Reading, Sockets};
use storage::bridge::{StoreQueueServer, store_queue};

/// No test takes this long: a test that hangs fails with a message.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the test's thread can see of a shard.
#[derive(Default)]
struct Seen {
    turns: AtomicU64,
    ticks: AtomicU64,
    /// Bytes that were written to its connections.
    written: AtomicU64,
    /// How often the shard has polled its sockets in order to wait.
    rests: AtomicU64,
    /// Whether it has done so since its last turn.
    resting: AtomicBool,
    /// Until `rests` reaches this number, each poll wakes the shard's task again.
    rests_wanted: AtomicU64,
    /// The time of the drain that it was told to begin.
    drained: Mutex<Option<Duration>>,
    stopped: AtomicBool,
    /// Set by the test: the sockets have something. The test's `gather` clears it.
    ready: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Seen {
    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
            std::thread::yield_now();
        }
    }

    fn wait_for_rest(&self) {
        self.wait("the shard rests", |seen| seen.resting.load(SeqCst));
    }

    /// Acts as a socket that has become readable.
    fn make_ready(&self) {
        self.ready.store(true, SeqCst);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

/// Plays what the sockets have in each turn. Returns whether there may be more.
type Gather = Box<dyn FnMut(&mut Shard, Timestamp, Reading) -> bool>;

struct Played {
    seen: Arc<Seen>,
    gather: Gather,
    _tasks: Vec<Task<()>>,
}

impl Outlet for Played {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.seen.written.fetch_add(bytes as u64, SeqCst);
        Ok(bytes)
    }

    fn wait(&mut self, _: u32) {}
}

impl Sockets for Played {
    fn found(&mut self, _: u64, _: QueryAnswer) {}

    fn gather(&mut self, shard: &mut Shard, now: Timestamp, reading: Reading) -> bool {
        self.seen.turns.fetch_add(1, SeqCst);
        self.seen.resting.store(false, SeqCst);
        (self.gather)(shard, now, reading)
    }

    fn carry_out(&mut self, _: SocketEffect, _: &mut Shard) {}

    fn tick(&mut self, _: &mut Shard, _: Timestamp) {
        self.seen.ticks.fetch_add(1, SeqCst);
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        *self.seen.waker.lock() = Some(context.waker().clone());
        let rests = self.seen.rests.fetch_add(1, SeqCst);
        self.seen.resting.store(true, SeqCst);
        if rests < self.seen.rests_wanted.load(SeqCst) {
            context.waker().wake_by_ref();
        }
        if self.seen.ready.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn drain(&mut self, _: &mut Shard, _: Timestamp, time: Duration) {
        *self.seen.drained.lock() = Some(time);
    }

    fn stop(&mut self, _: &mut Shard, _: Timestamp) {
        self.seen.stopped.store(true, SeqCst);
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn counters(&self) -> SocketCounters {
        SocketCounters::default()
    }

    fn written(&self) -> Written {
        Written::default()
    }
}

/// Makes the played sockets of a shard, on its thread.
type Making = Box<dyn FnOnce() -> (Gather, Vec<Task<()>>) + Send>;

/// Starts shards on one core, so that they have to wait for each other.
fn start_shards(makings: Vec<Making>) -> (Running, Vec<Arc<Seen>>, Vec<StoreQueueServer>) {
    let mut watching = Vec::new();
    let mut servers = Vec::new();
    let parts = makings.into_iter().map(|making| {
        let seen = Arc::new(Seen::default());
        let (store, server) = store_queue(STORE_REQUESTS_MAX, flume::bounded(1).0);
        watching.push(seen.clone());
        servers.push(server);
        let sockets = move |_, _| {
            let (gather, tasks) = making();
            Played { seen, gather, _tasks: tasks }
        };
        Part { core: a_core(), store, seed: 7, sockets }
    });
    let running = start(Epoch(1), Rules::default(), parts.collect()).expect("shards start");
    (running, watching, servers)
}

fn start_one(making: Making) -> (Running, Arc<Seen>, StoreQueueServer) {
    let (running, mut watching, mut servers) = start_shards(vec![making]);
    (running, watching.remove(0), servers.remove(0))
}

/// A core this process may use.
fn a_core() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("its cores");
    let first: String = list.trim().chars().take_while(char::is_ascii_digit).collect();
    first.parse().expect("a core's number")
}

fn id(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 0 }
}

fn open(shard: &mut Shard, slot: u32, now: Timestamp) {
    let user = uuid::Uuid::from_u128(u128::from(slot) + 1);
    let (user, session) = (UserId(user), SessionId(user));
    let session = Session {
        user,
        session,
        username: format!("user-{slot}").into(),
        format: Format::Json,
        on_lag: OnLag::Close,
        network: None,
    };
    shard.step(Input::Opened { connection: id(slot), session, visibility: Visibility::Unseen }, now);
}

fn ask(shard: &mut Shard, slot: u32, command: Command, now: Timestamp) {
    shard.step(Input::Request { connection: id(slot), cid: "1".to_owned(), command }, now);
}

fn join(room: &str) -> Command {
    Command::Join(Join { target: room.to_owned(), kind: 1, persistence: true, hidden: false })
}

fn send(room: &str) -> Command {
    let channel_id = ChannelId::room(room).expect("a room's name").as_str().to_owned();
    Command::Send { channel_id, content: "{}".to_owned() }
}

/// Names of rooms that `owner` owns, of two shards.
fn rooms_of(owner: ShardId) -> impl Iterator<Item = String> {
    let key = Rules::default().placement_key;
    let owned = move |name: &String| key.owner(&ChannelId::room(name).expect("a room's name"), 2) == owner;
    (0..).map(|number| format!("room-{number}")).filter(owned)
}

fn receipt_of(request: &StoreRequest) -> StoreReceipt {
    match request {
        StoreRequest::Question(StoreQuestion::Head { .. }) => StoreReceipt::Head(None),
        StoreRequest::Write(StoreWrite::Insert(_)) => StoreReceipt::Inserted,
        other => panic!("not asked for here: {other:?}"),
    }
}

/// Answers every request of a shard to the store, until the shard ends.
fn serve(server: &StoreQueueServer) {
    for (ticket, request) in &server.requests {
        server.receipts.send((ticket, Ok(receipt_of(&request)))).expect("room");
    }
}

/// A counter of the shard's own thread that the test's thread reads.
type Count = Arc<AtomicU64>;

/// Sleeps as briefly as possible, again and again, because every deadline of a shard depends on timers.
fn sleeper(count: Count) -> Task<()> {
    glommio::spawn_local(async move {
        loop {
            sleep(Duration::from_micros(1)).await;
            count.fetch_add(1, SeqCst);
        }
    })
}

/// Two tasks that send a byte back and forth over a connection. As with HTTP, each step needs glommio's ring.
async fn ping_pong(count: Count) {
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    let (mut near, mut far) = glommio::net::UnixStream::pair().expect("a pair of sockets");
    let echoing = glommio::spawn_local(async move {
        let mut byte = [0];
        while far.read_exact(&mut byte).await.is_ok() && far.write_all(&byte).await.is_ok() {}
    });
    let mut byte = [0];
    while near.write_all(&byte).await.is_ok() && near.read_exact(&mut byte).await.is_ok() {
        count.fetch_add(1, SeqCst);
    }
    drop(echoing);
}

#[test]
fn timers_and_other_tasks_run_while_a_pass_is_under_way() {
    const TURNS: u64 = 4_000;
    let (timer, exchanges) = (Count::default(), Count::default());
    let counted = (timer.clone(), exchanges.clone());
    let (told, result) = flume::bounded(1);
    let making: Making = Box::new(move || {
        let tasks = vec![sleeper(counted.0.clone()), glommio::spawn_local(ping_pong(counted.1.clone()))];
        let mut turns = 0;
        let gather: Gather = Box::new(move |_, _, _| {
            turns += 1;
            if turns == TURNS {
                told.send((counted.0.load(SeqCst), counted.1.load(SeqCst))).expect("the test listens");
            }
            turns < TURNS
        });
        (gather, tasks)
    });
    let (running, _, _keeper) = start_one(making);
    let (timer, exchanges) = result.recv_timeout(DEADLINE).expect("the turns are made");
    assert!(timer > TURNS / 16, "a timer fired {timer} times in {TURNS} turns");
    assert!(exchanges > TURNS / 64, "a byte went to and fro {exchanges} times in {TURNS} turns");
    running.stop().expect("the shard stops");
}

#[test]
fn a_receipt_is_seen_at_once_while_a_pass_is_under_way() {
    const MESSAGES: u64 = 100;
    let (hand, handed_over) = flume::bounded::<(StoreQueueServer, Arc<Seen>)>(1);
    let (told, result) = flume::bounded(1);
    let making: Making = Box::new(move || {
        let mut handed = None;
        let (mut turns, mut answered, mut sent, mut written) = (0u64, 0u64, 0u64, 0);
        let gather: Gather = Box::new(move |shard, now, _| {
            let (server, seen) =
                handed.get_or_insert_with(|| handed_over.recv_timeout(DEADLINE).expect("the test hands it over"));
            turns += 1;
            if turns == 1 {
                open(shard, 0, now);
                ask(shard, 0, join("lobby"), now);
            }
            // In the turn after the store's answer, each message must be acknowledged and delivered.
            let writes = seen.written.load(SeqCst);
            if sent < MESSAGES && (turns == 10 || (sent > 0 && writes > written && answered > sent)) {
                written = writes;
                sent += 1;
                ask(shard, 0, send("lobby"), now);
            }
            if let Ok((ticket, request)) = server.requests.try_recv() {
                // The answer comes from another thread, as the store's answers do, but it is certain to be there before
                // the next turn.
                let (receipts, receipt) = (server.receipts.clone(), Ok(receipt_of(&request)));
                let answering = std::thread::spawn(move || receipts.send((ticket, receipt)).expect("room"));
                answering.join().expect("it ends");
                answered += 1;
            }
            let done = sent == MESSAGES && answered == MESSAGES + 1;
            if done || turns > 100 * MESSAGES {
                let _ = told.try_send((turns, answered));
                return false;
            }
            true
        });
        (gather, Vec::new())
    });
    let (running, seen, server) = start_one(making);
    hand.send((server, seen)).expect("the shard takes it");
    let (turns, answered) = result.recv_timeout(DEADLINE).expect("the messages are acknowledged");
    assert_eq!(answered, MESSAGES + 1);
    assert!(turns < 8 * MESSAGES, "{turns} turns for {MESSAGES} messages");
    running.stop().expect("the shard stops");
}

#[test]
fn a_parcel_is_seen_within_few_turns_while_a_pass_is_under_way() {
    const PARCELS: usize = 20;
    const TURNS_MAX: u64 = 64;
    // The second shard sends requests to the first, which is busy. Both are on one core, so the first waits until the
    // second has sent its parcel, and counts its own turns from there.
    let (wanted, wants) = flume::bounded::<()>(1);
    let (out, is_out) = flume::bounded::<()>(1);
    let (told, result) = flume::bounded(1);
    let (hand, handed_over) = flume::bounded::<StoreQueueServer>(1);
    let busy: Making = Box::new(move || {
        let mut handed = None;
        let (mut since, mut waits) = (None, Vec::new());
        let gather: Gather = Box::new(move |_, _, _| {
            let server =
                handed.get_or_insert_with(|| handed_over.recv_timeout(DEADLINE).expect("the test hands it over"));
            let mut arrived = false;
            for (ticket, request) in server.requests.try_iter() {
                // This is an owner's first request to the store about a new room.
                arrived |= matches!(request, StoreRequest::Question(StoreQuestion::Head { .. }));
                server.receipts.send((ticket, Ok(receipt_of(&request)))).expect("room");
            }
            since = match since {
                Some(turns) if arrived || turns > 1_000_000 => {
                    waits.push(turns);
                    None
                }
                Some(turns) => Some(turns + 1),
                None if waits.len() < PARCELS => {
                    wanted.send(()).expect("the other shard listens");
                    is_out.recv_timeout(DEADLINE).expect("the other shard sends");
                    Some(0)
                }
                None => {
                    let _ = told.try_send(waits.clone());
                    return false;
                }
            };
            true
        });
        (gather, Vec::new())
    });
    let asking: Making = Box::new(move || {
        let mut rooms = rooms_of(ShardId::alone(0));
        let (mut slot, mut turns_since) = (0, None);
        let gather: Gather = Box::new(move |shard, now, _| {
            match turns_since {
                // The parcel is sent when the turn that made it has ended.
                Some(1) => {
                    out.send(()).expect("the busy shard listens");
                    turns_since = None;
                }
                Some(turns) => turns_since = Some(turns + 1),
                None if wants.try_recv().is_ok() => {
                    open(shard, slot, now);
                    let room = rooms.next().expect("endless");
                    ask(shard, slot, join(&room), now);
                    ask(shard, slot, send(&room), now);
                    slot += 1;
                    turns_since = Some(0);
                }
                None => {}
            }
            slot < PARCELS as u32 || turns_since.is_some()
        });
        (gather, Vec::new())
    });
    let (running, _, mut servers) = start_shards(vec![busy, asking]);
    hand.send(servers.remove(0)).expect("the shard takes it");
    let waits: Vec<u64> = result.recv_timeout(DEADLINE).expect("the parcels come");
    assert!(waits.iter().all(|&turns| turns <= TURNS_MAX), "turns until a parcel was seen: {waits:?}");
    running.stop().expect("the shards stop");
}

#[test]
fn an_order_to_stop_is_seen_by_a_shard_that_never_rests() {
    let stopped = Arc::new(AtomicBool::new(false));
    let safety = stopped.clone();
    let making: Making = Box::new(move || {
        let begun = Instant::now();
        // The shard is always busy. It panics if it was not told to stop by the deadline.
        let gather: Gather = Box::new(move |_, _, _| {
            if begun.elapsed() > DEADLINE && !safety.load(SeqCst) {
                panic!("never told to stop");
            }
            true
        });
        (gather, Vec::new())
    });
    let (running, seen, _keeper) = start_one(making);
    seen.wait("it turns", |seen| seen.turns.load(SeqCst) > 100);
    running.stop().expect("the shard stops");
    stopped.store(true, SeqCst);
    assert!(seen.stopped.load(SeqCst), "it was told to drain before it ended");
    assert_eq!(seen.rests.load(SeqCst), 0, "it was busy all the time");
}

/// How often the same thing is done to a shard at rest. The ticker would finally wake even a shard that misses a
/// wake-up. So the test requires that many of these rounds are seen before the next tick; a shard that misses wake-ups
/// sees none before it.
const ROUNDS: usize = 20;

fn assert_seen_without_a_tick(what: &str, quick: usize) {
    assert!(quick >= ROUNDS / 4, "{what}: only {quick} of {ROUNDS} were seen before the next tick");
}

#[test]
fn a_shard_at_rest_wakes_for_sockets_parcels_and_receipts() {
    // The first shard gets requests from its sockets. The second shard owns the rooms and is woken by parcels. The
    // receipts of its store wake it again, and its batch wakes the first shard.
    let ready = Arc::new(std::sync::OnceLock::<Arc<Seen>>::new());
    let readiness = ready.clone();
    let asking: Making = Box::new(move || {
        let mut rooms = rooms_of(ShardId::alone(1));
        let mut slot = 0;
        let gather: Gather = Box::new(move |shard, now, _| {
            if readiness.get().is_some_and(|seen| seen.ready.swap(false, SeqCst)) {
                let room = rooms.next().expect("endless");
                open(shard, slot, now);
                ask(shard, slot, join(&room), now);
                ask(shard, slot, send(&room), now);
                slot += 1;
            }
            false
        });
        (gather, Vec::new())
    });
    let owning: Making = Box::new(|| (Box::new(|_, _, _| false), Vec::new()));
    let (running, seen, servers) = start_shards(vec![asking, owning]);
    assert!(ready.set(seen[0].clone()).is_ok());
    let (requester, owner, server) = (&seen[0], &seen[1], &servers[1]);
    let ticks = || requester.ticks.load(SeqCst) + owner.ticks.load(SeqCst);
    let (mut by_sockets_and_parcel, mut by_receipt, mut by_batch) = (0, 0, 0);
    for _ in 0..ROUNDS {
        owner.wait_for_rest();
        requester.wait_for_rest();
        let before = ticks();
        requester.make_ready();
        let (ticket, request) = server.requests.recv_timeout(DEADLINE).expect("the parcel comes");
        by_sockets_and_parcel += usize::from(ticks() == before);

        owner.wait_for_rest();
        let before = ticks();
        server.receipts.send((ticket, Ok(receipt_of(&request)))).expect("the shard listens");
        let (ticket, request) = server.requests.recv_timeout(DEADLINE).expect("the receipt is seen");
        by_receipt += usize::from(ticks() == before);

        owner.wait_for_rest();
        requester.wait_for_rest();
        let (before, written) = (ticks(), requester.written.load(SeqCst));
        server.receipts.send((ticket, Ok(receipt_of(&request)))).expect("the shard listens");
        requester.wait("the answer is written", |seen| seen.written.load(SeqCst) > written);
        by_batch += usize::from(ticks() == before);
    }
    assert_seen_without_a_tick("sockets and parcels", by_sockets_and_parcel);
    assert_seen_without_a_tick("receipts", by_receipt);
    assert_seen_without_a_tick("receipts and parcels", by_batch);
    running.stop().expect("the shards stop");
}

#[test]
fn a_shard_at_rest_wakes_for_an_order() {
    let (mut quick_drains, mut quick) = (0, 0);
    for _ in 0..ROUNDS {
        let (running, seen, _keeper) = start_one(Box::new(|| (Box::new(|_, _, _| false), Vec::new())));
        seen.wait_for_rest();
        let before = seen.ticks.load(SeqCst);
        running.drain(TICK);
        seen.wait("the drain begins", |seen| seen.drained.lock().is_some());
        assert_eq!(*seen.drained.lock(), Some(TICK));
        quick_drains += usize::from(seen.ticks.load(SeqCst) == before);
        seen.wait_for_rest();
        let before = seen.ticks.load(SeqCst);
        running.stop().expect("the shard stops");
        assert!(seen.stopped.load(SeqCst));
        quick += usize::from(seen.ticks.load(SeqCst) == before);
    }
    assert_seen_without_a_tick("orders to drain", quick_drains);
    assert_seen_without_a_tick("orders to stop", quick);
}

#[test]
fn waiting_again_and_again_does_not_pile_up_wakers() {
    // glommio panics when one task's waker is cloned 32,768 times.
    const POLLS: u64 = 40_000;
    let (running, seen, _keeper) = start_one(Box::new(|| (Box::new(|_, _, _| false), Vec::new())));
    seen.rests_wanted.store(POLLS, SeqCst);
    seen.wait("it has asked often enough", |seen| seen.rests.load(SeqCst) > POLLS);
    running.stop().expect("the shard stops");
}

#[test]
fn sockets_are_not_read_while_a_ring_is_full_and_go_on_after() {
    const ROOMS: usize = 3 * RING_PARCELS;
    /// With one turn per tick these would take longer than the test may. So this shows that a shard with waiting
    /// parcels tries again all the time.
    const TURNS: u64 = 1_000;
    let stuck = Arc::new(AtomicBool::new(true));
    let held = stuck.clone();
    let (off_turns, on_again) = (Count::default(), Arc::new(AtomicBool::new(false)));
    let (counted, resumed) = (off_turns.clone(), on_again.clone());
    let asking: Making = Box::new(move || {
        let mut begun = false;
        let gather: Gather = Box::new(move |shard, now, reading| {
            if !begun {
                begun = true;
                for (slot, room) in (0..).zip(rooms_of(ShardId::alone(1)).take(ROOMS)) {
                    open(shard, slot, now);
                    ask(shard, slot, join(&room), now);
                }
                return true;
            }
            match reading {
                Reading::Off => drop(counted.fetch_add(1, SeqCst)),
                Reading::On if counted.load(SeqCst) > 0 => resumed.store(true, SeqCst),
                Reading::On => {}
            }
            false
        });
        (gather, Vec::new())
    });
    let owning: Making = Box::new(move || {
        let gather: Gather = Box::new(move |_, _, _| {
            let begun = Instant::now();
            while held.load(SeqCst) && begun.elapsed() < DEADLINE {
                std::thread::yield_now();
            }
            false
        });
        (gather, Vec::new())
    });
    let (running, seen, servers) = start_shards(vec![asking, owning]);
    let serving: Vec<_> = servers.into_iter().map(|server| std::thread::spawn(move || serve(&server))).collect();
    seen[0].wait("sockets are not read", |_| off_turns.load(SeqCst) > TURNS);
    assert!(!on_again.load(SeqCst), "they are read although the ring is full");
    stuck.store(false, SeqCst);
    seen[0].wait("sockets are read again", |_| on_again.load(SeqCst));
    running.stop().expect("the shards stop");
    serving.into_iter().for_each(|serving| serving.join().expect("the store ends"));
}

#[test]
fn a_shard_that_cannot_begin_is_reported_although_the_others_wait_for_it() {
    let making = || -> Making { Box::new(|| (Box::new(|_, _, _| false), Vec::new())) };
    let no_core = 1_000_000;
    let parts = [a_core(), no_core].map(|core| {
        let (store, _) = store_queue(STORE_REQUESTS_MAX, flume::bounded(1).0);
        let (seen, making) = (Arc::new(Seen::default()), making());
        let sockets = move |_, _| {
            let (gather, tasks) = making();
            Played { seen, gather, _tasks: tasks }
        };
        Part { core, store, seed: 7, sockets }
    });
    let error = start(Epoch(1), Rules::default(), parts.into()).err().expect("there is no such core");
    assert!(error.contains("shard 1"), "{error}");
}

#[test]
fn a_shard_without_sockets_is_reported() {
    let (store, _) = store_queue(STORE_REQUESTS_MAX, flume::bounded(1).0);
    let sockets = |_, _| -> Played { panic!("no sockets, for a test") };
    let parts = vec![Part { core: a_core(), store, seed: 7, sockets }];
    let error = start(Epoch(1), Rules::default(), parts).err().expect("it has no sockets");
    assert!(error.contains("shard 0"), "{error}");
}

#[test]
fn a_shard_that_does_not_answer_is_not_waited_for() {
    let (hold, held) = flume::bounded::<flume::Receiver<()>>(1);
    let (told, stuck) = flume::bounded(1);
    let free: Making = Box::new(|| (Box::new(|_, _, _| false), Vec::new()));
    let holding: Making = Box::new(move || {
        let gather: Gather = Box::new(move |_, _, _| {
            if let Ok(release) = held.try_recv() {
                told.send(()).expect("the test listens");
                let _ = release.recv();
            }
            false
        });
        (gather, Vec::new())
    });
    let (running, _, _keepers) = start_shards(vec![free, holding]);
    let observer = running.observer();
    let up = |patience| observer.ask(patience).iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(up(DEADLINE), [true, true]);

    let (release, released) = flume::bounded::<()>(1);
    hold.send(released).expect("the shard turns");
    stuck.recv_timeout(DEADLINE).expect("the next tick");
    // Long enough for several ticks of the shard that is free.
    let begun = Instant::now();
    assert_eq!(up(10 * TICK), [true, false]);
    assert!(begun.elapsed() < DEADLINE);
    // The first question is still in the queue. The second finds no room, and the observer does not wait for it.
    assert_eq!(up(10 * TICK), [true, false]);
    drop(release);
    let begun = Instant::now();
    while up(DEADLINE) != [true, true] {
        assert!(begun.elapsed() < DEADLINE, "it answers again");
    }
    let reports = observer.ask(DEADLINE);
    for (number, report) in reports.iter().enumerate() {
        let report = report.as_ref().expect("it answered a moment ago");
        assert_eq!(usize::from(report.shard.core), number);
        assert!(report.turn.turns.count() > 0 && report.turn.turning_nanos > 0);
    }
    running.stop().expect("the shards stop");
}
