//! A worker process: it reads orders from standard input, runs the users of its assignment on threads, and answers on
//! standard output. It ends when its orders end, so no worker outlives its coordinator. If the coordinator is on
//! another machine, `host.rs` passes orders and words on.

mod threads;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::base::clock;
use crate::checks::figures::Figures;
use crate::clients::client::Due;
use crate::clients::idlers;
use crate::clients::page_readers;
use crate::clients::stages::{self, Outbox, Share, ThreadWord};
use crate::costs::gauges::Gauges;
use crate::costs::lag;
use crate::costs::progress::Progress;
use crate::costs::series::{Expenses, Second};
use crate::orders::history_reads::Reading;
use crate::orders::idle_users::Holding;
use crate::orders::{Assignment, Order, Publishes, Word};
use crate::plan::run_plan::Plan;
use crate::team::lines::LINE_BYTES_MAX;

/// How often progress is reported.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Stages are ordered one after another, so an order never waits long behind another.
pub const ORDERS_MAX: usize = 4;
/// At most this many publishers get their own thread, so that their sends do not wait behind thousands of reads.
const PUBLISHERS_APART_MAX: usize = 256;

/// Serves the coordinator until the end of the run, on the coordinator's clock.
pub fn run(clock_offset_ns: i64) -> Result<(), String> {
    clock::follow(clock_offset_ns);
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report_panic(panic);
        // A thread that panicked has lost its users, and a worker that waits for its word would wait for ever.
        std::process::exit(101);
    }));
    let runtime = runtime()?;
    let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
    std::thread::spawn(move || read_orders(&orders_in));
    let outcome = runtime.block_on(serve(orders));
    if let Err(what) = &outcome {
        say(&Word::Failed { what: what.clone() })?;
    }
    outcome
}

pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start a runtime: {error}"))
}

/// The number of cores that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

fn read_orders(orders: &mpsc::Sender<Order>) {
    let mut lines = io::stdin().lock();
    let mut line = Vec::new();
    // When the input ends, or ends in the middle of an order, the coordinator is gone and there is no more work.
    while let Ok(1..) = (&mut lines).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)
        && line.last() == Some(&b'\n')
    {
        let order = match serde_json::from_slice(&line) {
            Ok(order) => order,
            Err(error) => {
                let what = format!("an unreadable order: {error}; coordinator and worker must be the same program");
                // If sending this fails too, the coordinator notices that the process has ended.
                let _ = say(&Word::Failed { what });
                break;
            }
        };
        if orders.blocking_send(order).is_err() {
            return;
        }
        line.clear();
    }
    std::process::exit(1);
}

pub fn say(word: &Word) -> Result<(), String> {
    let line = serde_json::to_string(word).map_err(|error| format!("cannot write a word: {error}"))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("the coordinator is gone: {error}"))
}

/// The first order determines the kind of run.
async fn serve(mut orders: mpsc::Receiver<Order>) -> Result<(), String> {
    match orders.recv().await {
        Some(Order::SignIn(assignment)) => serve_rooms(assignment, orders).await,
        Some(Order::Read(reading)) => serve_readers(reading, orders).await,
        Some(Order::Hold(holding)) => serve_idle_users(holding, orders).await,
        _ => Err("no assignment came first".to_owned()),
    }
}

async fn serve_readers(reading: Reading, orders: mpsc::Receiver<Order>) -> Result<(), String> {
    let (readers, threads) = (reading.readers.clone(), reading.threads);
    let first = Order::Read(reading.clone());
    let reading = Arc::new(reading);
    threads::serve(first, orders, readers, threads, move |thread| page_readers::live(reading.clone(), thread)).await
}

async fn serve_idle_users(holding: Holding, orders: mpsc::Receiver<Order>) -> Result<(), String> {
    let (users, threads, first) = (holding.users.clone(), holding.threads, Order::Hold(holding.clone()));
    threads::serve(first, orders, users, threads, move |thread| idlers::live(holding.clone(), thread)).await
}

async fn serve_rooms(assignment: Assignment, mut orders: mpsc::Receiver<Order>) -> Result<(), String> {
    let mut threads = Threads::start(&assignment)?;
    threads.pass_on(&Order::SignIn(assignment)).await;
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            _ = progress.tick() => {
                threads.say_seconds()?;
                say(&Word::Progress(threads.progress()))?;
            }
            Some(order) = orders.recv() => threads.obey(order).await,
            Some(word) = threads.words.recv() => {
                let Some(word) = threads.combine(word)? else { continue };
                // The last seconds and the last progress before the end of a stage must be exact.
                threads.say_seconds()?;
                say(&Word::Progress(threads.progress()))?;
                say(&word)?;
                if matches!(word, Word::Figures(_)) {
                    return threads.finish();
                }
            }
        }
    }
}

/// The threads of this worker, and their words in the current stage.
struct Threads {
    plan: Arc<Plan>,
    orders: Vec<mpsc::Sender<Order>>,
    words: mpsc::Receiver<ThreadWord>,
    gauges: Vec<Arc<Gauges>>,
    joins: Vec<JoinHandle<()>>,
    /// How many threads have not answered in this stage yet.
    awaited: usize,
    outboxes: HashMap<u32, Outbox>,
    answers: Publishes,
    figures: Figures,
    expenses: Expenses,
}

impl Threads {
    fn start(assignment: &Assignment) -> Result<Self, String> {
        let plan = Arc::new(assignment.plan.clone());
        let threads = plan.threads.unwrap_or_else(cores);
        let shares = deal(assignment.users.clone(), |user| plan.publishes(user), threads);
        let in_flight = (assignment.in_flight as usize).div_ceil(shares.len());
        let (words_in, words) = mpsc::channel(shares.len());
        let mut threads = Self {
            plan,
            orders: Vec::new(),
            words,
            gauges: Vec::new(),
            joins: Vec::new(),
            awaited: 0,
            outboxes: HashMap::new(),
            answers: Publishes::default(),
            figures: Figures::default(),
            expenses: Expenses::new(),
        };
        let mut writers = Vec::new();
        for users in shares {
            let (writer, stamps) = lag::line().map_err(|error| format!("cannot make a socket pair: {error}"))?;
            writers.push(writer);
            let share = Share { users, in_flight, sources: assignment.sources };
            threads.spawn(share, stamps, words_in.clone())?;
        }
        // This thread is not joined: it has nothing to do once the other threads are gone, and it ends with the
        // process.
        std::thread::spawn(move || lag::keep(writers));
        Ok(threads)
    }

    fn spawn(&mut self, share: Share, stamps: UnixStream, words: mpsc::Sender<ThreadWord>) -> Result<(), String> {
        let plan = self.plan.clone();
        let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
        let gauges = Arc::<Gauges>::default();
        self.gauges.push(gauges.clone());
        self.orders.push(orders_in);
        let runtime = runtime()?;
        self.joins.push(std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime, stages::live(plan, share, gauges, stamps, orders, words));
        }));
        Ok(())
    }

    async fn obey(&mut self, order: Order) {
        self.pass_on(&order).await;
        if let Order::Begin { start_ns } = order {
            let (plan, outboxes) = (self.plan.clone(), std::mem::take(&mut self.outboxes));
            if !outboxes.is_empty() {
                // This thread is not joined: if a run is stopped early, messages still due are dropped with the
                // process.
                std::thread::spawn(move || keep_time(&plan, start_ns, &outboxes));
            }
        }
    }

    async fn pass_on(&mut self, order: &Order) {
        self.awaited = self.orders.len();
        for thread in &self.orders {
            // A thread that has ended has sent the reason, or `combine` will miss its word.
            let _ = thread.send(order.clone()).await;
        }
    }

    fn progress(&self) -> Progress {
        let mut sum = Progress::default();
        self.gauges.iter().for_each(|gauges| sum.add(&gauges.progress()));
        sum
    }

    /// Passes on what the threads have recorded about the seconds that have ended.
    fn say_seconds(&mut self) -> Result<(), String> {
        let of_threads = self.gauges.iter().flat_map(|gauges| gauges.closed.take());
        let seconds: Vec<Second> = of_threads.chain(self.expenses.since_last()).collect();
        seconds.into_iter().try_for_each(|second| say(&Word::Second(Box::new(second))))
    }

    /// Adds a thread's word to the other words of its stage. The last one completes the worker's word.
    fn combine(&mut self, word: ThreadWord) -> Result<Option<Word>, String> {
        self.awaited = self.awaited.saturating_sub(1);
        let stage_done = self.awaited == 0;
        let kind = match word {
            ThreadWord::Failed(what) => return Err(what),
            ThreadWord::SignedIn => Word::SignedIn,
            ThreadWord::Joined(outboxes) => {
                self.outboxes.extend(outboxes);
                Word::Joined
            }
            ThreadWord::Answers(answers) => {
                self.answers.add(answers);
                if !stage_done {
                    return Ok(None);
                }
                Word::Answers(std::mem::take(&mut self.answers))
            }
            ThreadWord::Figures(figures) => {
                self.figures.add(*figures);
                if !stage_done {
                    return Ok(None);
                }
                Word::Figures(Box::new(std::mem::take(&mut self.figures)))
            }
        };
        Ok(stage_done.then_some(kind))
    }

    fn finish(self) -> Result<(), String> {
        drop(self.orders);
        for thread in self.joins {
            thread.join().map_err(|_| "a thread panicked".to_owned())?;
        }
        Ok(())
    }
}

/// Assigns users to threads. A few publishers get an extra thread of their own; many publishers are assigned like all
/// other users.
fn deal(users: Range<u32>, publishes: impl Fn(u32) -> bool, threads: u32) -> Vec<Vec<u32>> {
    let (mut apart, mut dealt): (Vec<u32>, Vec<u32>) = users.clone().partition(|user| publishes(*user));
    if apart.len() > PUBLISHERS_APART_MAX {
        (apart, dealt) = (Vec::new(), users.collect());
    }
    let hands = (threads as usize).min(dealt.len());
    let hand = |number: usize| dealt.iter().copied().skip(number).step_by(hands.max(1)).collect();
    let mut shares: Vec<Vec<u32>> = (0..hands).map(hand).collect();
    if !apart.is_empty() {
        shares.push(apart);
    }
    shares
}

/// Queues each message at its time. It has its own thread, because the kernel's timer is far finer than the runtime's.
fn keep_time(plan: &Plan, start_ns: u64, outboxes: &HashMap<u32, Outbox>) {
    // The next message of each room, the earliest on top.
    let mut rooms: HashSet<usize> = outboxes.keys().map(|user| plan.room_of(*user)).collect();
    let first = |room: usize| Some(Reverse((plan.rooms.get(room)?.schedule.due_ns(0), room, 0)));
    let mut next: BinaryHeap<Reverse<(u64, usize, u32)>> = rooms.drain().filter_map(first).collect();
    while let Some(Reverse((due_ns, number, index))) = next.pop() {
        let room = &plan.rooms[number];
        if index + 1 < room.schedule.messages() {
            next.push(Reverse((room.schedule.due_ns(index + 1), number, index + 1)));
        }
        let slot = room.schedule.slot(index);
        let Some(outbox) = outboxes.get(&(room.users.start + slot.publisher)) else { continue };
        let intended_ns = start_ns + due_ns;
        let wait = clock::until(intended_ns);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        // An outbox has room for the whole schedule. It is closed if its user was disconnected, and the disconnection
        // is counted elsewhere.
        let _ = outbox.try_send(Due { number: slot.number, intended_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_dealt_once() {
        let check = |users: Range<u32>, publishers, threads, expected: &[usize]| {
            let shares = deal(users.clone(), |user| user < publishers, threads);
            let mut all: Vec<u32> = shares.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, users.clone().collect::<Vec<_>>(), "{users:?}");
            assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{users:?}");
        };
        check(0..5000, 10, 2, &[2495, 2495, 10]);
        check(0..5000, 10, 1, &[4990, 10]);
        check(5000..9000, 10, 3, &[1334, 1333, 1333]);
        check(0..4, 4, 2, &[4]);
        check(0..1, 1, 8, &[1]);
        check(0..2, 1, 8, &[1, 1]);
        check(0..1000, 1000, 2, &[500, 500]);
    }
}
