//! The loop of one shard. A turn takes in what has happened, decides, carries out, and writes one slice of the pass. If
//! there is nothing to do, the shard waits.
//!
//! While a pass is under way the shard does not wait, but looks at its sockets after each slice, and lets glommio look
//! at rings, timers and HTTP after every second slice. It does so by sleeping for a microsecond. Yielding is not
//! enough: it only runs other tasks, and polls no I/O until glommio's preempt timer fires; and with a short preempt
//! timer the executor can park while a task is runnable. A ticker is always pending as well, so a lost wake-up cannot
//! stop a shard for longer than a tick.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::Task;
use glommio::timer::{Timer, sleep};

use super::bell::Bell;
use super::clock::{self, Laps};
use super::persistence::Persistence;
use super::reports::Question;
use super::rings::Rings;
use engine::counters::{SocketCounters, TurnCounters, TurnMost, Written};
use engine::fanout::subscribers::Outlet;
use engine::id::{Monotonic, Now, Timestamp};
use engine::limits::{PARCEL_REQUESTS_TURN_MAX, RECEIPTS_TURN_MAX};
use engine::query::QueryAnswer;
use engine::shard::SocketEffect;
use engine::shard::{Effects, Input, Shard};

/// How often a shard checks its connections' deadlines and pings.
pub const TICK: Duration = Duration::from_millis(100);

/// Slices of a pass between two looks at rings, timers and HTTP. A look costs about 40 µs.
const SLICES_PER_LOOK: u32 = 2;

/// The sleep of a look. Its length hardly matters: the cost is in waking up.
const LOOK: Duration = Duration::from_micros(1);

/// How many ticks an orderly stop waits for clients to take their close frames.
const STOP_TICKS_MAX: u32 = 50;

/// The connections of a shard, as the gateway keeps them.
pub trait Sockets: Outlet {
    /// Takes in what the sockets have, without waiting. Returns whether there may be more.
    fn gather(&mut self, shard: &mut Shard, now: Timestamp, reading: Reading) -> bool;

    /// Does what the shard asks about a connection.
    fn carry_out(&mut self, effect: SocketEffect, shard: &mut Shard);

    /// Hands the answer of a channel query to the visitor that asked under this number.
    fn found(&mut self, number: u64, answer: QueryAnswer);

    /// Checks deadlines and sends pings. Called once every `TICK`.
    fn tick(&mut self, shard: &mut Shard, now: Timestamp);

    /// Ready when `gather` would find something.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Begins a drain: accepts no new connection, opens no new session, and closes the sessions evenly over this time.
    /// Everything else goes on.
    fn drain(&mut self, shard: &mut Shard, now: Timestamp, time: Duration);

    /// Begins an orderly stop: accepts no new connection, reads nothing new, and tells all clients.
    fn stop(&mut self, shard: &mut Shard, now: Timestamp);

    /// Whether no connection is left.
    fn is_empty(&self) -> bool;

    /// The counters of connections.
    fn counters(&self) -> SocketCounters;

    /// What was written to sessions so far.
    fn written(&self) -> Written;
}

/// Whether requests may be read. If a ring is full, they must wait in their sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    On,
    Off,
}

/// An order to a shard from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Accept no new connection, and close the sessions evenly over this time.
    Drain { time: Duration },
    /// Take no new work, finish the accepted work, and report when that is done.
    Stop,
    /// All shards have stopped: end.
    End,
}

/// A shard, and all that connects it to the outside.
pub struct Turning<S> {
    pub shard: Shard,
    pub sockets: S,
    pub rings: Rings,
    pub persistence: Persistence,
    pub bell: Bell,
    pub orders: flume::Receiver<Order>,
    /// Questions for the counters.
    pub questions: flume::Receiver<Question>,
    pub counters: TurnCounters,
    /// Where to report that the shard has nothing left to do.
    pub stopped: flume::Sender<()>,
}

/// How far an orderly stop has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Not,
    Stopping { ticks: u32 },
    Stopped,
}

impl<S: Sockets> Turning<S> {
    /// Turns until the order to end comes.
    pub async fn run(mut self) {
        let (ticks, late) = (Rc::new(Cell::new(0u32)), Rc::new(Cell::new(Duration::ZERO)));
        let _ticker = ticker(ticks.clone(), late.clone(), self.bell.clone());
        let (order, question) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
        let _listening = listen(self.orders.clone(), order.clone(), self.bell.clone());
        let _asked = listen(self.questions.clone(), question.clone(), self.bell.clone());
        let mut laps = Laps::begin();
        let mut effects = Effects::default();
        let mut stop = Stop::Not;
        let mut slices = 0u32;
        loop {
            let Now { wall: now, monotonic } = clock::now();
            self.shard.begin_turn(monotonic);
            let written = self.sockets.written();
            let ticked = ticks.take();
            if ticked > 0 {
                self.counters.paused(late.take());
                self.sockets.tick(&mut self.shard, now);
                if cfg!(debug_assertions) {
                    self.invariants();
                }
            }
            match order.take() {
                Some(Order::End) => return,
                Some(Order::Drain { time }) => self.sockets.drain(&mut self.shard, now, time),
                Some(Order::Stop) => {
                    assert!(stop == Stop::Not, "a shard is told to stop once");
                    self.sockets.stop(&mut self.shard, now);
                    stop = Stop::Stopping { ticks: 0 };
                }
                None => {}
            }
            if let Some(question) = question.take() {
                self.answer(&question);
            }
            let more = self.take_in(now);
            self.carry_out(&mut effects, now);
            self.shard.flush(&mut self.sockets);
            self.shard.pass(clock::monotonic(), &mut self.sockets);
            self.shard.passed(clock::wall());
            stop = self.check_stop(stop, ticked);
            self.counters.turned(laps.end());
            self.counters.did(self.sockets.written().since(written), self.shard.worked());
            if more || self.is_busy() {
                slices += 1;
                if slices.is_multiple_of(SLICES_PER_LOOK) {
                    sleep(LOOK).await;
                    self.counters.looked(laps.end());
                }
            } else {
                self.wait(clock::monotonic()).await;
                self.counters.waiting_nanos += laps.end().as_nanos() as u64;
            }
        }
    }

    /// Takes in what has happened since the last turn, as much as a turn may. Returns whether there may be more.
    fn take_in(&mut self, now: Timestamp) -> bool {
        let (mut requests, mut receipts) = (0, 0);
        while requests < PARCEL_REQUESTS_TURN_MAX
            && let Some(parcel) = self.rings.take()
        {
            self.counters.parcels_received += 1;
            requests += parcel.requests();
            self.shard.step(Input::Parcel(parcel), now);
        }
        while receipts < RECEIPTS_TURN_MAX
            && let Some((ticket, outcome)) = self.persistence.take()
        {
            receipts += 1;
            self.shard.step(Input::Receipt { ticket, outcome }, now);
        }
        let more = requests >= PARCEL_REQUESTS_TURN_MAX || receipts >= RECEIPTS_TURN_MAX;
        let reading = if self.rings.is_full() { Reading::Off } else { Reading::On };
        self.sockets.gather(&mut self.shard, now, reading) || more
    }

    fn carry_out(&mut self, effects: &mut Effects, now: Timestamp) {
        self.shard.finish_turn(now, effects);
        for (to, parcel) in effects.parcels.drain(..) {
            self.counters.parcels_sent += 1;
            self.rings.send(to, parcel);
        }
        self.rings.flush();
        self.persistence.request(effects.store.drain(..));
        for (number, answer) in effects.answers.drain(..) {
            self.sockets.found(number, answer);
        }
        for effect in effects.sockets.drain(..) {
            self.sockets.carry_out(effect, &mut self.shard);
        }
    }

    /// Asserts what the shard promises, and that no receipt is here without a request.
    fn invariants(&self) {
        self.shard.invariants();
        let (arrived, requests) = (self.persistence.arrived(), self.shard.store_requests());
        assert!(arrived <= requests, "{arrived} receipts have come for {requests} requests");
    }

    /// Answers with the counters. The requester may not be waiting any more, so a failed send is ignored.
    fn answer(&mut self, question: &Question) {
        let mut report = self.shard.report();
        report.sockets = self.sockets.counters();
        report.levels.parcels_waiting = self.rings.waiting() as u64;
        report.turn = self.counters.clone();
        (self.counters.longest, self.counters.longest_pause, self.counters.most) = (0, 0, TurnMost::default());
        let _ = question.try_send(Box::new(report));
    }

    /// Waits until there is something to take in, or a pass may go on.
    async fn wait(&mut self, now: Monotonic) {
        let due = self.shard.next_due().map(|due| due.since(now));
        let mut timer = due.map(Timer::new);
        let (bell, sockets) = (&self.bell, &mut self.sockets);
        poll_fn(|context| {
            let due = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready());
            if due || bell.poll(context).is_ready() { Poll::Ready(()) } else { sockets.poll_ready(context) }
        })
        .await;
    }

    fn is_busy(&self) -> bool {
        self.shard.is_busy() || self.persistence.has_arrived() || self.rings.is_full()
    }

    /// Reports once that the shard has nothing left to do: all connections have ended and the store has answered all requests, or
    /// the time is up.
    fn check_stop(&self, stop: Stop, ticked: u32) -> Stop {
        let Stop::Stopping { ticks } = stop else { return stop };
        let ticks = ticks + ticked;
        if (self.sockets.is_empty() && self.shard.store_requests() == 0) || ticks > STOP_TICKS_MAX {
            // The receiver is gone only if the process is ending anyway.
            let _ = self.stopped.try_send(());
            return Stop::Stopped;
        }
        Stop::Stopping { ticks }
    }
}

/// Counts ticks, and puts into `late` by how much the newest came too late. While the shard waits for its sockets, a
/// late tick is the only sign that other tasks kept it from looking at them.
fn ticker(ticks: Rc<Cell<u32>>, late: Rc<Cell<Duration>>, bell: Bell) -> Task<()> {
    glommio::spawn_local(async move {
        loop {
            let mut laps = Laps::begin();
            sleep(TICK).await;
            late.set(late.get().max(laps.end().saturating_sub(TICK)));
            ticks.set(ticks.get() + 1);
            bell.ring();
        }
    })
}

/// Puts the newest incoming value into the place where the loop looks.
fn listen<T: 'static>(incoming: flume::Receiver<T>, place: Rc<Cell<Option<T>>>, bell: Bell) -> Task<()> {
    glommio::spawn_local(async move {
        while let Ok(next) = incoming.recv_async().await {
            place.set(Some(next));
            bell.ring();
        }
    })
}
