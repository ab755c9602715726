//! How many connects may be under way at once, so that many new users do not overload the server.
//!
//! A window limits the connects. It grows while the server keeps up: at first it doubles each round, later it grows by
//! one. In a round that takes much longer than the best one so far, further connects only wait in the server's queue. A
//! failed connect means that the queue is full. In both cases the window shrinks. So the server stays busy and is not
//! overloaded. `ConnectWindow` decides and is pure; `admit` runs the connects.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::base::clock;

/// The window at the start, for every thread. A server that cannot take this many connects cannot be measured.
const WINDOW_FIRST: f64 = 8.0;
/// A round this many times slower than the best round means that connects wait in a queue.
const SLOW_FACTOR: u64 = 4;
/// A shorter round is never slow: the scheduler of a busy machine alone takes this long.
const SLOW_NS_MIN: u64 = 5_000_000;
/// The part of the window that remains after a slow round, and after a failure.
const AFTER_SLOWNESS: f64 = 0.75;
const AFTER_FAILURE: f64 = 0.5;

/// How often one connect is tried, and the first pause between two attempts; each further pause is twice as long.
const ATTEMPTS_MAX: u32 = 6;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// When this many connects in a row have failed for good, the server is full or gone, and the rest are not tried.
const FAILURES_IN_A_ROW_MAX: u32 = 64;

/// The window, and the counts of the current round.
#[derive(Clone, Debug)]
pub struct ConnectWindow {
    window: f64,
    window_max: f64,
    window_most: f64,
    /// Whether no round was slow and no connect has failed yet: while so, the window doubles each round.
    fast: bool,
    /// The mean duration of the fastest round.
    best_ns: u64,
    round: Round,
}

#[derive(Clone, Copy, Default, Debug)]
struct Round {
    done: u32,
    sum_ns: u64,
    /// The window shrinks once a round: connects that fail together were started together.
    failed: bool,
}

impl ConnectWindow {
    pub fn new(window_max: usize) -> Self {
        let window_max = (window_max as f64).max(1.0);
        let window = WINDOW_FIRST.min(window_max);
        Self { window, window_max, window_most: window, fast: true, best_ns: u64::MAX, round: Round::default() }
    }

    /// How many connects may be under way now.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// The largest window so far.
    pub fn window_most(&self) -> usize {
        self.window_most as usize
    }

    pub fn succeeded(&mut self, took_ns: u64) {
        self.round.done += 1;
        self.round.sum_ns = self.round.sum_ns.saturating_add(took_ns);
        self.end_round();
    }

    pub fn failed(&mut self) {
        if !self.round.failed {
            self.round.failed = true;
            self.shrink(AFTER_FAILURE);
        }
        self.round.done += 1;
        self.end_round();
    }

    fn end_round(&mut self) {
        if self.round.done < self.window as u32 {
            return;
        }
        let Round { done, sum_ns, failed } = std::mem::take(&mut self.round);
        if failed {
            return;
        }
        let mean_ns = sum_ns / u64::from(done);
        self.best_ns = self.best_ns.min(mean_ns);
        let slow_ns = self.best_ns.saturating_mul(SLOW_FACTOR).max(SLOW_NS_MIN);
        if mean_ns > slow_ns {
            self.shrink(AFTER_SLOWNESS);
        } else {
            let grown = if self.fast { self.window * 2.0 } else { self.window + 1.0 };
            self.window = grown.min(self.window_max);
            self.window_most = self.window_most.max(self.window);
        }
        assert!((1.0..=self.window_max).contains(&self.window), "a window of {} connects", self.window);
    }

    fn shrink(&mut self, to: f64) {
        self.fast = false;
        self.window = (self.window * to).max(1.0);
    }
}

/// The outcome of all the connects.
#[derive(Clone, Debug)]
pub struct Admitted<E> {
    /// The users that never connected, each with the last attempt's error; `None` for users that were not tried.
    pub failed: Vec<(usize, Option<E>)>,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    pub connect_window: ConnectWindow,
}

/// Runs `work` for each of `count` users: at most `window_max` at once, and only as many as the server handles well.
pub async fn admit<E>(
    count: usize,
    window_max: usize,
    work: impl AsyncFn(usize) -> Result<(), E>,
    may_pass: impl Fn(&E) -> bool,
) -> Admitted<E> {
    let mut connect_window = ConnectWindow::new(window_max);
    let mut waiting: VecDeque<(usize, u32)> = (0..count).map(|number| (number, 0)).collect();
    let mut under_way = FuturesUnordered::new();
    let (mut failed, mut retries, mut in_a_row) = (Vec::new(), 0, 0);
    loop {
        while under_way.len() < connect_window.window().max(1)
            && let Some((number, attempts)) = waiting.pop_front()
        {
            under_way.push(attempt(number, attempts, &work));
        }
        debug_assert!(under_way.len() <= window_max.max(1), "{} connects are under way", under_way.len());
        let Some((number, attempts, outcome)) = under_way.next().await else { break };
        assert!((1..=ATTEMPTS_MAX).contains(&attempts), "user {number} has tried {attempts} times");
        match outcome {
            Ok(took_ns) => {
                in_a_row = 0;
                connect_window.succeeded(took_ns);
            }
            Err(error) => {
                connect_window.failed();
                if attempts < ATTEMPTS_MAX && may_pass(&error) {
                    retries += 1;
                    waiting.push_back((number, attempts));
                    continue;
                }
                failed.push((number, Some(error)));
                in_a_row += 1;
                if in_a_row >= FAILURES_IN_A_ROW_MAX {
                    failed.extend(waiting.drain(..).map(|(number, _)| (number, None)));
                }
            }
        }
    }
    drop(under_way);
    assert!(waiting.is_empty() && failed.len() <= count, "each user has connected or failed");
    Admitted { failed, retries, connect_window }
}

/// Makes one attempt, after a pause when it is not the first. Returns the user's number, how many attempts it has made,
/// and the attempt's duration.
async fn attempt<E>(
    number: usize,
    before: u32,
    work: &impl AsyncFn(usize) -> Result<(), E>,
) -> (usize, u32, Result<u64, E>) {
    if before > 0 {
        tokio::time::sleep(PAUSE_FIRST * 2_u32.pow(before - 1)).await;
    }
    let begun_ns = clock::now_ns();
    let outcome = work(number).await.map(|()| clock::now_ns().saturating_sub(begun_ns));
    (number, before + 1, outcome)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Rounds against a server that serves `capacity` connects at once, a millisecond each, and queues the others.
    fn rounds(capacity: u64, rounds: u32, window_max: usize) -> ConnectWindow {
        let mut connect_window = ConnectWindow::new(window_max);
        for _ in 0..rounds {
            let window = connect_window.window() as u64;
            let took_ns = 1_000_000 * window.div_ceil(capacity).max(1);
            (0..window).for_each(|_| connect_window.succeeded(took_ns));
        }
        connect_window
    }

    #[test]
    fn the_window_finds_what_the_server_takes() {
        // A round is slow from five milliseconds on, that is five rounds of one millisecond: so many connects wait in
        // the queue, and no more.
        for capacity in [10, 40, 200] {
            let window = rounds(capacity, 2_000, 100_000).window() as u64;
            assert!((capacity..=8 * capacity).contains(&window), "{window} for {capacity}");
        }
        assert_eq!(rounds(1_000_000, 20, 128).window(), 128, "a server that takes all is not held back");
        assert_eq!(rounds(1, 5, 1).window(), 1);
    }

    #[test]
    fn a_failure_halves_the_window_once_a_round() {
        let mut connect_window = rounds(1_000_000, 20, 64);
        connect_window.failed();
        connect_window.failed();
        assert_eq!(connect_window.window(), 32);
        (0..30).for_each(|_| connect_window.succeeded(1));
        connect_window.failed();
        assert_eq!(connect_window.window(), 16, "the next round may shrink it again");
        (0..1_000).for_each(|_| connect_window.failed());
        assert_eq!(connect_window.window(), 1, "somebody is always tried");
        (0..40).for_each(|_| connect_window.succeeded(1_000));
        assert!((2..=40).contains(&connect_window.window()), "growing again, by one a round");
        assert_eq!(connect_window.window_most(), 64);
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Refusal {
        Passing,
        Final,
    }

    /// Tries every user. A user is refused at the attempts for which `refuse` gives a refusal.
    async fn run(
        count: usize,
        window: usize,
        refuse: impl Fn(usize, u32) -> Option<Refusal>,
    ) -> (Admitted<Refusal>, u32, usize) {
        let attempts = RefCell::new(vec![0; count]);
        let (now, most) = (Cell::new(0), Cell::new(0));
        let work = async |number: usize| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            let attempt = attempts.borrow()[number] + 1;
            attempts.borrow_mut()[number] = attempt;
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            refuse(number, attempt).map_or(Ok(()), Err)
        };
        let admitted = admit(count, window, work, |refusal| *refusal == Refusal::Passing).await;
        let total = attempts.borrow().iter().sum();
        (admitted, total, most.get())
    }

    #[tokio::test]
    async fn all_users_are_let_in_and_never_more_at_once_than_allowed() {
        let (admitted, attempts, most) = run(500, 16, |_, _| None).await;
        assert_eq!((admitted.failed.len(), admitted.retries, attempts), (0, 0, 500));
        assert!((8..=16).contains(&most), "{most} at once");
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_is_final_is_not() {
        let (admitted, attempts, _) = run(20, 4, |number, attempt| match number {
            3 => (attempt < 3).then_some(Refusal::Passing),
            7 => Some(Refusal::Final),
            _ => None,
        })
        .await;
        assert_eq!(admitted.failed, [(7, Some(Refusal::Final))]);
        assert_eq!((admitted.retries, attempts), (2, 22));
    }

    #[tokio::test]
    async fn a_server_that_lets_no_user_in_is_left_alone() {
        let (admitted, attempts, _) = run(1_000, 8, |number, _| (number >= 100).then_some(Refusal::Final)).await;
        assert_eq!(admitted.failed.len(), 900, "everybody is accounted for");
        assert!((164..=180).contains(&attempts), "{attempts} attempts");
    }
}
