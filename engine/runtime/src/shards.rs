//! Starts and stops the shards: one executor for each, pinned to a core.

use std::time::Duration;

use glommio::timer::sleep;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, Task};

use super::bell::Bell;
use super::persistence::Persistence;
use super::reports::Observer;
use super::rings::{Rings, rings};
use super::turn::{Order, Sockets, TICK, Turning};
use engine::chart::Chart;
use engine::counters::TurnCounters;
use engine::id::{Epoch, ShardId};
use engine::limits::Rules;
use engine::session::shared_budgets::SharedBudgets;
use engine::shard::Shard;
use storage::bridge::StoreQueue;

/// Memory that each glommio executor registers for file I/O, which shards do not use.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// How long `stop` waits for each shard to say that it has nothing left to do. A shard's own deadline is shorter.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Orders that a shard may not have taken: to drain, to stop, and to end.
const ORDERS_MAX: usize = 3;

/// Running shards.
pub struct Running {
    threads: Vec<ExecutorJoinHandle<()>>,
    orders: Vec<flume::Sender<Order>>,
    observer: Observer,
    stopped: flume::Receiver<()>,
}

/// What a shard is made of.
pub struct Part<F> {
    /// The core it is pinned to.
    pub core: usize,
    pub store: StoreQueue,
    /// The seed of the random bits in message ids.
    pub seed: u64,
    /// Makes the shard's sockets, on the shard's own thread. It is given the budgets of the shard's users.
    pub sockets: F,
}

/// Reports whether a shard has begun to turn. Its thread can also end before that, if its executor or its sockets
/// cannot be made.
struct Beginning {
    number: usize,
    told: flume::Sender<Result<(), usize>>,
    turning: bool,
}

impl Beginning {
    fn turns(&mut self) {
        self.turning = true;
        // The queue has room for one report of each shard.
        let _ = self.told.try_send(Ok(()));
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if !self.turning {
            let _ = self.told.try_send(Err(self.number));
        }
    }
}

/// Starts one shard for each part, and waits until all of them turn.
///
/// Fails if a shard cannot be started. The other shards then wait for it forever, so the caller can only end the
/// process.
pub fn start<F, S>(epoch: Epoch, rules: Rules, parts: Vec<Part<F>>) -> Result<Running, String>
where
    F: FnOnce(ShardId, SharedBudgets) -> S + Send + 'static,
    S: Sockets + 'static,
{
    assert!(!parts.is_empty(), "a server has at least one shard");
    let count = u16::try_from(parts.len()).map_err(|_| "too many shards".to_owned())?;
    let chart = Chart::alone(count, epoch);
    let (stopped_sender, stopped) = flume::bounded(parts.len());
    let (begun_sender, begun) = flume::bounded(parts.len());
    let mut running =
        Running { threads: Vec::new(), orders: Vec::new(), observer: Observer { questions: Vec::new() }, stopped };
    for ((number, part), ends) in (0..count).zip(parts).zip(rings(count)) {
        let Part { core, store, seed, sockets } = part;
        let (orders_sender, orders) = flume::bounded(ORDERS_MAX);
        // A queue apart from the orders, so that a question cannot delay the order to end.
        let (question_sender, questions) = flume::bounded(1);
        let stopped = stopped_sender.clone();
        let mut beginning = Beginning { number: usize::from(number), told: begun_sender.clone(), turning: false };
        let chart = chart.clone();
        let turn = move || async move {
            let bell = Bell::default();
            // Needed until the shard turns: from then on its own ticker wakes the executor.
            let _alarm = alarm();
            let rings = Rings::connect(ends, &bell).await;
            let id = ShardId::alone(number);
            let shard = Shard::new(id, chart, rules, seed);
            let turning = Turning {
                sockets: sockets(id, shard.shared_budgets()),
                shard,
                rings,
                persistence: Persistence::new(store, &bell),
                bell,
                orders,
                questions,
                counters: TurnCounters::default(),
                stopped,
            };
            beginning.turns();
            turning.run().await;
        };
        // The preempt timer keeps its default of 100 ms. With a shorter one the executor would park more often while a
        // task is runnable (see `alarm`). It does not need to be shorter, because no task stays runnable: passes sleep
        // between their slices, and HTTP connections wait for turns.
        let thread = LocalExecutorBuilder::new(Placement::Fixed(core))
            .name(&format!("shard-{number}"))
            .io_memory(IO_MEMORY_BYTES)
            .spawn(turn)
            .map_err(|error| format!("shard {number} could not be started on core {core}: {error}"))?;
        running.threads.push(thread);
        running.orders.push(orders_sender);
        running.observer.questions.push(question_sender);
    }
    for _ in 0..running.threads.len() {
        if let Ok(Err(number)) = begun.recv() {
            let error = running.threads.swap_remove(number).join().err();
            let error = error.map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            return Err(format!("shard {number} could not be started: {error}"));
        }
    }
    Ok(running)
}

/// Wakes the executor every `TICK`. If an executor is interrupted for longer than its preempt timer just before it runs
/// a task, it parks although tasks are runnable. Without this it would then sleep forever, and the start would hang.
fn alarm() -> Task<()> {
    glommio::spawn_local(async {
        loop {
            sleep(TICK).await;
        }
    })
}

impl Running {
    /// Returns an observer, which asks the shards for their counters from any thread.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Begins a drain: all shards accept no new connection, and close their sessions evenly over this time. `stop` ends the
    /// rest. Call it once.
    pub fn drain(&self, time: Duration) {
        self.tell(Order::Drain { time });
    }

    /// Stops all shards in an orderly way: they take no new work, finish all accepted work and tell all clients; then
    /// the threads end. Fails if a shard's thread ended early.
    pub fn stop(self) -> Result<(), String> {
        self.tell(Order::Stop);
        for _ in &self.threads {
            // A shard that has already ended never reports that it has stopped. Joining its thread below reports the
            // error.
            if self.stopped.recv_timeout(STOP_MAX).is_err() {
                break;
            }
        }
        self.tell(Order::End);
        let mut outcome = Ok(());
        for (number, thread) in self.threads.into_iter().enumerate() {
            if let Err(error) = thread.join() {
                outcome = Err(format!("shard {number} ended early: {error}"));
            }
        }
        outcome
    }

    fn tell(&self, order: Order) {
        for orders in &self.orders {
            let _ = orders.try_send(order);
        }
    }
}
