//! How many connects may be under way at once, so that a crowd that comes does not attack the server.
//!
//! A window that grows for as long as the server keeps up: fast at the beginning, by one a round later. A round that takes
//! much longer than the best one so far says that further ones only wait in line, and a connect that fails says that the
//! line is full: then the window shrinks. So the server is kept busy, and is not buried. `Admission` decides and is pure;
//! `admit` carries it out.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::team::clock;

/// What every thread begins with; a server that cannot take that many cannot be measured.
const WINDOW_FIRST: f64 = 8.0;
/// A round this many times slower than the best is a line that has formed.
const SLOW_FACTOR: u64 = 4;
/// Below this nothing counts as slow: a busy machine's scheduler alone takes so long.
const SLOW_NS_MIN: u64 = 5_000_000;
/// What is left of the window after a slow round, and after a failure.
const AFTER_SLOWNESS: f64 = 0.75;
const AFTER_FAILURE: f64 = 0.5;

/// How often one of them is tried, and the first pause before trying again; each further one is twice as long.
const ATTEMPTS_MAX: u32 = 6;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// When so many in a row have failed for good, the server is full or gone, and the others are not tried.
const FAILURES_IN_A_ROW_MAX: u32 = 64;

/// The window, and what it knows of the current round.
#[derive(Clone, Debug)]
pub struct Admission {
    window: f64,
    window_max: f64,
    window_most: f64,
    /// Whether nothing has been slow or failed yet: then the window doubles each round.
    fast: bool,
    /// The quickest round's mean.
    best_ns: u64,
    round: Round,
}

#[derive(Clone, Copy, Default, Debug)]
struct Round {
    done: u32,
    sum_ns: u64,
    /// A window shrinks once a round: those that fail together were let in together.
    failed: bool,
}

impl Admission {
    pub fn new(window_max: usize) -> Self {
        let window_max = (window_max as f64).max(1.0);
        let window = WINDOW_FIRST.min(window_max);
        Self { window, window_max, window_most: window, fast: true, best_ns: u64::MAX, round: Round::default() }
    }

    /// How many may be under way.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// The most that ever were allowed.
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
    }

    fn shrink(&mut self, to: f64) {
        self.fast = false;
        self.window = (self.window * to).max(1.0);
    }
}

/// What became of those who were let in.
#[derive(Clone, Debug)]
pub struct Admitted<E> {
    /// Who never got in, and why the last attempt failed; nothing for those who were not tried any more.
    pub failed: Vec<(usize, Option<E>)>,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    pub admission: Admission,
}

/// Does the work for each of `count`, at most `window_max` at once and as many as the server takes well.
pub async fn admit<E>(
    count: usize,
    window_max: usize,
    work: impl AsyncFn(usize) -> Result<(), E>,
    may_pass: impl Fn(&E) -> bool,
) -> Admitted<E> {
    let mut admission = Admission::new(window_max);
    let mut waiting: VecDeque<(usize, u32)> = (0..count).map(|number| (number, 0)).collect();
    let mut under_way = FuturesUnordered::new();
    let (mut failed, mut retries, mut in_a_row) = (Vec::new(), 0, 0);
    loop {
        while under_way.len() < admission.window().max(1)
            && let Some((number, attempts)) = waiting.pop_front()
        {
            under_way.push(attempt(number, attempts, &work));
        }
        let Some((number, attempts, outcome)) = under_way.next().await else { break };
        match outcome {
            Ok(took_ns) => {
                in_a_row = 0;
                admission.succeeded(took_ns);
            }
            Err(error) => {
                admission.failed();
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
    Admitted { failed, retries, admission }
}

/// One attempt, after a pause when it is not the first: its number, how many there have been, and how long it took.
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

    /// Rounds against a server that serves so many at once in a millisecond each, and lets the others wait in line.
    fn rounds(capacity: u64, rounds: u32, window_max: usize) -> Admission {
        let mut admission = Admission::new(window_max);
        for _ in 0..rounds {
            let window = admission.window() as u64;
            let took_ns = 1_000_000 * window.div_ceil(capacity).max(1);
            (0..window).for_each(|_| admission.succeeded(took_ns));
        }
        admission
    }

    #[test]
    fn the_window_finds_what_the_server_takes() {
        // The floor of slowness is five rounds of a millisecond: so many stand in line, and no more.
        for capacity in [10, 40, 200] {
            let window = rounds(capacity, 2_000, 100_000).window() as u64;
            assert!((capacity..=8 * capacity).contains(&window), "{window} for {capacity}");
        }
        assert_eq!(rounds(1_000_000, 20, 128).window(), 128, "a server that takes all is not held back");
        assert_eq!(rounds(1, 5, 1).window(), 1);
    }

    #[test]
    fn a_failure_halves_the_window_once_a_round() {
        let mut admission = rounds(1_000_000, 20, 64);
        admission.failed();
        admission.failed();
        assert_eq!(admission.window(), 32);
        (0..30).for_each(|_| admission.succeeded(1));
        admission.failed();
        assert_eq!(admission.window(), 16, "the next round may shrink it again");
        (0..1_000).for_each(|_| admission.failed());
        assert_eq!(admission.window(), 1, "somebody is always tried");
        (0..40).for_each(|_| admission.succeeded(1_000));
        assert!((2..=40).contains(&admission.window()), "growing again, by one a round");
        assert_eq!(admission.window_most(), 64);
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Refusal {
        Passing,
        Final,
    }

    /// Everybody is tried; whoever `refuse` says is refused at that attempt.
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
    async fn everybody_is_let_in_and_never_more_at_once_than_allowed() {
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
    async fn a_server_that_lets_nobody_in_is_left_alone() {
        let (admitted, attempts, _) = run(1_000, 8, |number, _| (number >= 100).then_some(Refusal::Final)).await;
        assert_eq!(admitted.failed.len(), 900, "everybody is accounted for");
        assert!((164..=180).contains(&attempts), "{attempts} attempts");
    }
}
