//! How long the HTTP tasks of a shard run between two of its turns.
//!
//! All tasks that are ready run between two turns, one after the other: thousands of connections that end together, or
//! some hundred answers that the store gives at once, would keep the sessions waiting. So a task asks here each time it
//! is polled. When the tasks have had `TASKS_TIME_MAX`, those that are left wait until the next turn is over, in their
//! order. A task that becomes ready meanwhile waits behind them: the answers of the store wake as many tasks as there is
//! time for, and a connection that has to give its memory back must not wait for all of them. Requests are also counted
//! before they begin (`http/request_turns.rs`): that bounds the work that is asked of the store, and shares it between
//! sites.
//!
//! Bounded by the number of HTTP connections of a shard, each of which waits once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use runtime::bell::Bell;

/// The time that HTTP tasks have between two turns: a fifth of what a session may wait. A task that is polled last may go
/// on beyond it, by the time of one answer.
pub const TASKS_TIME_MAX: Duration = Duration::from_millis(10);

/// The time of one shard's tasks.
#[derive(Default)]
pub struct TaskTime {
    /// The number of the turn.
    turn: Cell<u64>,
    /// When the first task was polled after the turn.
    begun: Cell<Option<Instant>>,
    /// The tasks that go on after the next turn.
    waiting: RefCell<Vec<Waker>>,
    /// How many tasks wait, with those that were woken and have not been polled.
    in_line: Cell<usize>,
    bell: Bell,
}

impl TaskTime {
    /// Begins a turn. The tasks that wait go on after it.
    pub fn begin_turn(&self) {
        self.turn.set(self.turn.get() + 1);
        self.begun.set(None);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Ready if tasks have begun to wait for a turn since this was last ready.
    pub fn poll_waiting(&self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }

    /// Whether the tasks have had their time at `now`.
    fn is_over(&self, now: Instant) -> bool {
        let begun = self.begun.get().unwrap_or(now);
        self.begun.set(Some(begun));
        now.duration_since(begun) >= TASKS_TIME_MAX
    }
}

/// A task that gives way when the tasks have had their time.
pub struct GivingWay<F> {
    task: Pin<Box<F>>,
    time: Rc<TaskTime>,
    /// The turn since which it waits for the next one.
    waits: Option<u64>,
}

impl<F: Future<Output = ()>> GivingWay<F> {
    /// The task, which shares this time with others.
    pub fn new(task: F, time: Rc<TaskTime>) -> Self {
        Self { task: Box::pin(task), time, waits: None }
    }

    fn poll_time(&mut self, now: Instant, context: &Context<'_>) -> Poll<()> {
        let turn = self.time.turn.get();
        let is_next = match self.waits {
            Some(since) => since != turn,
            None => self.time.in_line.get() == 0,
        };
        if is_next && !self.time.is_over(now) {
            self.leave_line();
            return Poll::Ready(());
        }
        if self.waits.is_none() {
            self.time.in_line.set(self.time.in_line.get() + 1);
        }
        // A task that is woken by something else meanwhile is in the line already.
        if self.waits.replace(turn) != Some(turn) {
            self.time.waiting.borrow_mut().push(context.waker().clone());
            self.time.bell.ring();
        }
        Poll::Pending
    }
}

impl<F> GivingWay<F> {
    fn leave_line(&mut self) {
        if self.waits.take().is_some() {
            self.time.in_line.set(self.time.in_line.get() - 1);
        }
    }
}

impl<F> Drop for GivingWay<F> {
    fn drop(&mut self) {
        self.leave_line();
    }
}

impl<F: Future<Output = ()>> Future for GivingWay<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_time(Instant::now(), context));
        self.task.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn tasks_that_had_their_time_wait_for_a_turn_once_each() {
        let (time, woken) = (Rc::<TaskTime>::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let context = Context::from_waker(&waker);
        let (begun, late) = (Instant::now(), Instant::now() + TASKS_TIME_MAX);
        let mut tasks: Vec<_> = (0..3).map(|_| GivingWay::new(pending(), time.clone())).collect();
        let mut poll = |now| tasks.iter_mut().map(|task| task.poll_time(now, &context).is_ready()).collect::<Vec<_>>();
        assert_eq!(poll(begun), [true; 3]);
        assert_eq!(poll(late), [false; 3]);
        assert_eq!(poll(late), [false; 3], "they are woken by something else");
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        time.begin_turn();
        assert_eq!(woken.0.load(Ordering::Relaxed), 3, "each stands in the line once");
        assert_eq!(poll(late), [true; 3], "the time begins with the first poll after the turn");
        time.begin_turn();
        assert_eq!(woken.0.load(Ordering::Relaxed), 3, "nobody waits");
    }

    #[test]
    fn a_task_that_becomes_ready_waits_behind_those_that_wait() {
        let time = Rc::<TaskTime>::default();
        let context = Context::from_waker(Waker::noop());
        let (begun, late) = (Instant::now(), Instant::now() + TASKS_TIME_MAX);
        let mut tasks: Vec<_> = (0..5).map(|_| GivingWay::new(pending(), time.clone())).collect();
        let mut poll = |task: usize, now| tasks[task].poll_time(now, &context).is_ready();
        assert_eq!([poll(0, begun), poll(1, late), poll(2, late)], [true, false, false]);
        time.begin_turn();
        assert!(!poll(3, late), "two wait since before");
        assert!(poll(1, late));
        assert!(!poll(4, late), "one waits since before, and another behind it");
        assert!(poll(2, late));
        time.begin_turn();
        assert!(poll(3, late));
        tasks.remove(4);
        assert_eq!(time.in_line.get(), 0, "a task that is dropped leaves the line");
    }
}
