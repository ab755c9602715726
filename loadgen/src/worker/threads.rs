//! The threads of a worker. Each thread has a part of the users, and answers each order that is answered.
//!
//! The threads' answers are added up to the worker's answer. In between, the worker passes on the threads' progress
//! and what they have recorded about each second.

use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::clients::thread_users::{Share, ThreadUsers};
use crate::costs::gauges::Gauges;
use crate::costs::lag;
use crate::costs::progress::Progress;
use crate::costs::recorder::Recorder;
use crate::costs::series::{Expenses, Second};
use crate::orders::{Order, Word};
use crate::worker::{self, ORDERS_MAX, PROGRESS_EVERY};

/// At most this many publishers get their own thread, so that their sends do not wait behind thousands of reads.
const PUBLISHERS_APART_MAX: usize = 256;

/// Serves the coordinator with a thread for each part of the users, until the threads have sent their last word.
/// `settle` makes the users of one thread, on that thread.
pub async fn serve<U: ThreadUsers>(
    parts: Vec<Vec<u32>>,
    first: Arc<Order>,
    mut orders: mpsc::Receiver<Order>,
    settle: impl Fn(Share) -> U + Clone + Send + 'static,
) -> Result<(), String> {
    let mut threads = Threads::start(parts, settle)?;
    threads.pass_on(first).await;
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            _ = progress.tick() => threads.say_progress()?,
            Some(order) = orders.recv() => threads.pass_on(Arc::new(order)).await,
            word = threads.words.recv() => {
                let word = word.ok_or("its threads have ended before their work was done")?;
                let Some(answer) = threads.add_up(word)? else { continue };
                // The last seconds and the last progress before the end of a stage must be exact.
                threads.say_progress()?;
                worker::say(&answer)?;
                if answer.is_last() {
                    return threads.finish();
                }
            }
        }
    }
}

/// Assigns users to threads in turn. Consecutive users share a source address, so they are spread over the threads. A
/// few publishers get an extra thread of their own; many publishers are assigned like all other users.
pub fn deal(users: Range<u32>, publishes: impl Fn(u32) -> bool, threads: u32) -> Vec<Vec<u32>> {
    let count = users.len();
    let (mut apart, mut dealt): (Vec<u32>, Vec<u32>) = users.clone().partition(|user| publishes(*user));
    if apart.len() > PUBLISHERS_APART_MAX {
        (apart, dealt) = (Vec::new(), users.collect());
    }
    let hands = (threads.max(1) as usize).min(dealt.len());
    let hand = |number: usize| dealt.iter().copied().skip(number).step_by(hands.max(1)).collect();
    let mut parts: Vec<Vec<u32>> = (0..hands).map(hand).collect();
    if !apart.is_empty() || parts.is_empty() {
        parts.push(apart);
    }
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), count, "each user is on one thread");
    parts
}

/// The running threads, and their answers in the current stage.
struct Threads {
    orders: Vec<mpsc::Sender<Arc<Order>>>,
    words: mpsc::Receiver<Word>,
    gauges: Vec<Arc<Gauges>>,
    joins: Vec<JoinHandle<()>>,
    expenses: Expenses,
    /// How many threads have answered in this stage, and the sum of their answers.
    answered: usize,
    sum: Option<Word>,
}

impl Threads {
    fn start<U: ThreadUsers>(
        parts: Vec<Vec<u32>>,
        settle: impl Fn(Share) -> U + Clone + Send + 'static,
    ) -> Result<Self, String> {
        let (words_in, words) = mpsc::channel(parts.len());
        let mut threads = Self {
            orders: Vec::new(),
            words,
            gauges: Vec::new(),
            joins: Vec::new(),
            expenses: Expenses::new(),
            answered: 0,
            sum: None,
        };
        let (mut writers, count) = (Vec::new(), parts.len());
        for users in parts {
            let (writer, stamps) = lag::line().map_err(|error| format!("cannot make a socket pair: {error}"))?;
            writers.push(writer);
            let settle = settle.clone();
            let settle = move |recorder| settle(Share { users, recorder, threads: count });
            threads.spawn(settle, stamps, words_in.clone())?;
        }
        // This thread is not joined: it has nothing to do once the other threads are gone, and it ends with the
        // process.
        std::thread::spawn(move || lag::keep(writers));
        Ok(threads)
    }

    fn spawn<U: ThreadUsers>(
        &mut self,
        settle: impl FnOnce(Rc<Recorder>) -> U + Send + 'static,
        stamps: UnixStream,
        words: mpsc::Sender<Word>,
    ) -> Result<(), String> {
        let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
        let gauges = Arc::<Gauges>::default();
        self.orders.push(orders_in);
        self.gauges.push(gauges.clone());
        let runtime = worker::runtime()?;
        self.joins.push(std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                let recorder = Rc::new(Recorder::new(gauges));
                // A task of its own: a stamp then waits in the same queue as the clients' frames.
                let watching = tokio::task::spawn_local(lag::watch(stamps, recorder.clone()));
                tokio::select! {
                    () = live(settle(recorder), orders, &words) => {}
                    _ = watching => tell(&words, Err(lag::NOT_WATCHED.to_owned())).await,
                }
            });
        }));
        Ok(())
    }

    async fn pass_on(&mut self, order: Arc<Order>) {
        for thread in &self.orders {
            // A thread that has ended has sent the reason.
            let _ = thread.send(order.clone()).await;
        }
    }

    /// Passes on the seconds that the threads have closed, and their progress.
    fn say_progress(&mut self) -> Result<(), String> {
        let of_threads = self.gauges.iter().flat_map(|gauges| gauges.closed.take());
        let seconds: Vec<Second> = of_threads.chain(self.expenses.since_last()).collect();
        seconds.into_iter().try_for_each(|second| worker::say(&Word::Second(Box::new(second))))?;
        let mut sum = Progress::default();
        self.gauges.iter().for_each(|gauges| sum.add(&gauges.progress()));
        worker::say(&Word::Progress(sum))
    }

    /// Adds a thread's answer to the other answers of its stage. The last one completes the worker's answer.
    fn add_up(&mut self, word: Word) -> Result<Option<Word>, String> {
        if let Word::Failed { what } = word {
            return Err(what);
        }
        assert!(self.answered < self.joins.len(), "a thread answers once in a stage");
        self.answered += 1;
        self.sum = Some(match self.sum.take() {
            None => word,
            Some(sum) => sum.and(word),
        });
        if self.answered < self.joins.len() {
            return Ok(None);
        }
        self.answered = 0;
        Ok(self.sum.take())
    }

    fn finish(self) -> Result<(), String> {
        drop(self.orders);
        self.joins.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned()))
    }
}

/// Lets the users of one thread carry out orders, until they have sent their last word or no order can come any more.
async fn live(mut users: impl ThreadUsers, mut orders: mpsc::Receiver<Arc<Order>>, words: &mpsc::Sender<Word>) {
    while let Some(order) = orders.recv().await {
        let answer = users.obey(&order).await;
        drop(order);
        let Some(answer) = answer.transpose() else { continue };
        let last = answer.as_ref().is_ok_and(Word::is_last);
        tell(words, answer).await;
        if last {
            break;
        }
    }
    users.leave().await;
}

async fn tell(words: &mpsc::Sender<Word>, answer: Result<Word, String>) {
    // Sending fails only when the whole worker is ending.
    let _ = words.send(answer.unwrap_or_else(|what| Word::Failed { what })).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_dealt_once() {
        let check = |users: Range<u32>, publishers, threads, expected: &[usize]| {
            let parts = deal(users.clone(), |user| user < publishers, threads);
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, users.clone().collect::<Vec<_>>(), "{users:?}");
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{users:?}");
        };
        check(0..5000, 10, 2, &[2495, 2495, 10]);
        check(0..5000, 10, 1, &[4990, 10]);
        check(5000..9000, 10, 3, &[1334, 1333, 1333]);
        check(0..4, 4, 2, &[4]);
        check(0..1, 1, 8, &[1]);
        check(0..2, 1, 8, &[1, 1]);
        check(0..1000, 1000, 2, &[500, 500]);
        check(0..10, 0, 3, &[4, 3, 3]);
        check(5..6, 0, 8, &[1]);
        check(7..7, 0, 2, &[0]);
        check(0..4, 0, 0, &[4]);
        check(100..104, 0, 2, &[2, 2]);
    }
}
