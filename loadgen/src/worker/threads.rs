//! The threads of a worker in the simpler scenarios. Each thread does the same for a part of the users, and answers
//! each order.
//!
//! The threads' answers are added up to the worker's answer. The threads record their seconds and their lag like the
//! threads of a room.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::clients::thread_users::ThreadUsers;
use crate::costs::gauges::Gauges;
use crate::costs::lag;
use crate::costs::progress::Progress;
use crate::costs::recorder::Recorder;
use crate::costs::series::Expenses;
use crate::orders::{Order, Word};
use crate::worker::{self, ORDERS_MAX, PROGRESS_EVERY};

/// Assigns users to threads in turn. Consecutive users share a source address, so they are spread over the threads.
fn deal(users: Range<u32>, hands: u32) -> Vec<Vec<u32>> {
    let hands = hands.clamp(1, users.len().max(1) as u32);
    (0..hands).map(|hand| users.clone().skip(hand as usize).step_by(hands as usize).collect()).collect()
}

/// Serves the coordinator with threads that run `live`, until they have sent their last word.
pub async fn serve<L: Future<Output = ()>>(
    first: Order,
    mut orders: mpsc::Receiver<Order>,
    users: Range<u32>,
    threads: Option<u32>,
    live: impl Fn(ThreadUsers) -> L + Clone + Send + 'static,
) -> Result<(), String> {
    let shares = deal(users, threads.unwrap_or_else(worker::cores));
    let mut expenses = Expenses::new();
    let (mut voices, mut gauges, mut joins, mut writers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (words_in, mut words) = mpsc::channel(shares.len());
    let threads = shares.len();
    for users in shares {
        let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
        let own = Arc::<Gauges>::default();
        let (writer, stamps) = lag::line().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        let (runtime, live, words) = (worker::runtime()?, live.clone(), words_in.clone());
        voices.push(orders_in);
        gauges.push(own.clone());
        writers.push(writer);
        joins.push(std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                let recorder = Rc::new(Recorder::new(own));
                let watching = lag::watch(stamps, recorder.clone());
                let failed = words.clone();
                tokio::select! {
                    () = live(ThreadUsers { users, recorder, orders, words, threads }) => {}
                    _ = watching => {
                        // Sending fails only when the whole worker is ending.
                        let _ = failed.send(Word::Failed { what: lag::NOT_WATCHED.to_owned() }).await;
                    }
                }
            });
        }));
    }
    // This thread is not joined: it has nothing to do once the other threads are gone, and it ends with the process.
    std::thread::spawn(move || lag::keep(writers));
    drop(words_in);

    let pass_on = async |order: Order| {
        for voice in &voices {
            // A thread that has ended has sent the reason.
            let _ = voice.send(order.clone()).await;
        }
    };
    let mut say_seconds = || -> Result<(), String> {
        let closed = gauges.iter().flat_map(|gauges| gauges.closed.take()).chain(expenses.since_last());
        closed.map(|second| Word::Second(Box::new(second))).try_for_each(|word| worker::say(&word))?;
        let mut sum = Progress::default();
        gauges.iter().for_each(|gauges| sum.add(&gauges.progress()));
        worker::say(&Word::Progress(sum))
    };
    pass_on(first).await;
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    let mut answers: Vec<Word> = Vec::new();
    loop {
        tokio::select! {
            _ = progress.tick() => say_seconds()?,
            Some(order) = orders.recv() => pass_on(order).await,
            word = words.recv() => match word {
                None => return Err("its threads have ended before their work was done".to_owned()),
                Some(Word::Failed { what }) => return Err(what),
                Some(word) => answers.push(word),
            }
        }
        if answers.len() < threads {
            continue;
        }
        let Some(together) = answers.drain(..).reduce(Word::and) else { continue };
        // The last progress before the end of a stage must be exact.
        say_seconds()?;
        worker::say(&together)?;
        if together.is_last() {
            break;
        }
    }
    drop(voices);
    joins.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_dealt_once() {
        for (users, hands, expected) in
            [(0..10, 3, &[4, 3, 3][..]), (5..6, 8, &[1]), (7..7, 2, &[0]), (0..4, 0, &[4]), (100..104, 2, &[2, 2])]
        {
            let shares = deal(users.clone(), hands);
            assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{users:?}");
            let mut all = shares.concat();
            all.sort_unstable();
            assert_eq!(all, users.collect::<Vec<_>>());
        }
    }
}
