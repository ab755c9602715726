//! One pinned executor a core: starts them, and stops them in order.

use std::time::Duration;

use glommio::timer::sleep;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, Task};

use super::bell::Bell;
use super::persistence::Persistence;
use super::reports::Observer;
use super::rings::{Rings, rings};
use super::turn::{Order, Sockets, TICK, Turning};
use engine::counters::TurnCounters;
use engine::id::{Epoch, ShardId};
use engine::shard::{Rules, Shard};
use storage::bridge::StoreQueue;

/// Memory a ring of glommio's registers for files, which shards do not touch.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// How long a shard may take to say that it has drained, past its own deadline.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Shards that turn.
pub struct Running {
    threads: Vec<ExecutorJoinHandle<()>>,
    orders: Vec<flume::Sender<Order>>,
    observer: Observer,
    drained: flume::Receiver<()>,
}

/// What a shard is made of.
pub struct Part<F> {
    /// The core it is pinned to.
    pub core: usize,
    pub store: StoreQueue,
    /// Random bits of message ids.
    pub seed: u64,
    /// Makes the shard's sockets, on its own thread.
    pub sockets: F,
}

/// Tells whether a shard came to turn: a thread can also end before, when its executor or its sockets cannot be made.
struct Beginning {
    number: usize,
    told: flume::Sender<Result<(), usize>>,
    turning: bool,
}

impl Beginning {
    fn turns(&mut self) {
        self.turning = true;
        // Room for one word of each shard.
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
/// Fails when one cannot be started. The others then wait for it without an end, so all that is left is to end the
/// process.
pub fn start<F, S>(epoch: Epoch, rules: Rules, parts: Vec<Part<F>>) -> Result<Running, String>
where
    F: FnOnce(ShardId) -> S + Send + 'static,
    S: Sockets + 'static,
{
    let count = u16::try_from(parts.len()).map_err(|_| "too many shards".to_owned())?;
    let (drained_sender, drained) = flume::bounded(parts.len());
    let (begun_sender, begun) = flume::bounded(parts.len());
    let mut running =
        Running { threads: Vec::new(), orders: Vec::new(), observer: Observer { questions: Vec::new() }, drained };
    for ((number, part), ends) in (0..count).zip(parts).zip(rings(count)) {
        let Part { core, store, seed, sockets } = part;
        let (orders_sender, orders) = flume::bounded(2);
        // Apart from the orders, so that no question stands in the way of an end.
        let (question_sender, questions) = flume::bounded(1);
        let drained = drained_sender.clone();
        let mut beginning = Beginning { number: usize::from(number), told: begun_sender.clone(), turning: false };
        let turn = move || async move {
            let bell = Bell::default();
            // Until it turns, and ticks.
            let _alarm = alarm();
            let rings = Rings::connect(ends, &bell).await;
            let id = ShardId(number);
            let turning = Turning {
                shard: Shard::new(id, count, epoch, rules, seed),
                sockets: sockets(id),
                rings,
                persistence: Persistence::new(store, &bell),
                bell,
                orders,
                questions,
                counters: TurnCounters::default(),
                drained,
            };
            beginning.turns();
            turning.run().await;
        };
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

/// Wakes the executor now and then. One that is interrupted for longer than its preempt timer, just before it runs a task,
/// parks although tasks are runnable; without this, it would sleep for good, and with it the start.
fn alarm() -> Task<()> {
    glommio::spawn_local(async {
        loop {
            sleep(TICK).await;
        }
    })
}

impl Running {
    /// A way to ask the shards what they have counted, from any thread.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Stops all shards in order: no new work, everything accepted is finished, everybody is told; then the threads end.
    pub fn stop(self) -> Result<(), String> {
        self.tell(Order::Drain);
        for _ in &self.threads {
            // A shard that has already ended will never say so; its thread's end is reported below.
            if self.drained.recv_timeout(DRAIN_MAX).is_err() {
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
