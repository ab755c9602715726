//! What one thread records about every second while it runs: deliveries, its own lateness, its lag and its CPU time.
//!
//! The lag shows whether the generator itself was slow. Every few milliseconds a stamp is written into a socket pair
//! (`lag.rs`), whose other end the thread reads in the same runtime as the clients' sockets. Any frame may have waited
//! as long as a stamp waited there, and this wait would have been counted as the server's latency.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use procfs::FromRead;
use procfs::process::Schedstat;

use crate::base::clock::{self, SECOND_NS};
use crate::checks::figures::{Figures, ThreadFigures};
use crate::checks::latency::Latency;
use crate::costs::closes::PARTS;
use crate::costs::gauges::Gauges;
use crate::costs::progress::Progress;
use crate::costs::series::Second;

pub struct Recorder {
    gauges: Arc<Gauges>,
    state: RefCell<State>,
}

struct State {
    second: Second,
    /// The running totals and the thread's CPU time at the beginning of this second.
    before: Progress,
    cpu_before_ns: u64,
    /// The measured time; empty until it is known.
    window: Range<u64>,
    lag: Latency,
    /// The thread's account at the beginning and at the end of the measured time.
    window_began: Option<Account>,
    window_ended: Option<Account>,
}

/// The state of a thread at one time: its CPU time, and how long it was ready but had no core.
#[derive(Clone, Copy)]
struct Account {
    at_ns: u64,
    cpu_ns: u64,
    waited_ns: Option<u64>,
}

impl Account {
    fn now(at_ns: u64) -> Self {
        Self { at_ns, cpu_ns: clock::thread_cpu_ns(), waited_ns: waited_for_a_core_ns() }
    }
}

impl Recorder {
    pub fn new(gauges: Arc<Gauges>) -> Self {
        let state = State {
            second: Second::new(clock::now_ns() / SECOND_NS),
            before: gauges.progress(),
            cpu_before_ns: clock::thread_cpu_ns(),
            window: u64::MAX..u64::MAX,
            lag: Latency::default(),
            window_began: None,
            window_ended: None,
        };
        Self { gauges, state: RefCell::new(state) }
    }

    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Sets the measured time, which is known from now on.
    pub fn begin(&self, window: Range<u64>) {
        assert!(window.start <= window.end, "the measured time begins before it ends");
        self.state.borrow_mut().window = window;
    }

    /// Call this when something happens. It closes the seconds that have passed.
    pub fn turn(&self, now_ns: u64) {
        let state = &mut *self.state.borrow_mut();
        if now_ns / SECOND_NS > state.second.at {
            self.close(state, now_ns);
        }
    }

    /// Records the latencies of messages that a member received for the first time. The caller has called `turn` with
    /// the time of arrival.
    pub fn delivered(&self, latencies_ns: impl Iterator<Item = u64>) {
        let second = &mut self.state.borrow_mut().second;
        latencies_ns.for_each(|latency_ns| second.delivery.record_ns(latency_ns));
    }

    /// Records how long after its intended time a message was given to the socket.
    pub fn sent_late_by(&self, lateness_ns: u64) {
        let second = &mut self.state.borrow_mut().second;
        second.lateness_max_us = second.lateness_max_us.max(lateness_ns / 1_000);
    }

    /// Records that a connection ended with this close code although its client had not ended it.
    pub fn closed(&self, code: u16, now_ns: u64) {
        self.turn(now_ns);
        let second = &mut self.state.borrow_mut().second;
        let tenth = now_ns % SECOND_NS * PARTS as u64 / SECOND_NS;
        second.closes.count(code, tenth as usize);
    }

    /// Records a stamp that was read.
    pub fn stamped(&self, written_ns: u64, now_ns: u64) {
        assert!(written_ns <= now_ns, "a stamp is read after it was written");
        self.turn(now_ns);
        let state = &mut *self.state.borrow_mut();
        let lag_ns = now_ns.saturating_sub(written_ns);
        state.second.lag_max_us = state.second.lag_max_us.max(lag_ns / 1_000);
        // A stamp from before the measured time that is read within it has delayed frames of the measured time.
        if now_ns >= state.window.start && written_ns < state.window.end {
            state.lag.record_ns(lag_ns);
            state.window_began.get_or_insert_with(|| Account::now(now_ns));
        }
        if now_ns >= state.window.end {
            state.window_ended.get_or_insert_with(|| Account::now(now_ns));
        }
    }

    fn close(&self, state: &mut State, now_ns: u64) {
        assert!(now_ns / SECOND_NS >= state.second.at, "the clock does not go back");
        let (progress, cpu_ns) = (self.gauges.progress(), clock::thread_cpu_ns());
        let answered = progress.accepted + progress.refused;
        assert!(answered <= progress.sent, "{answered} answers to {} requests", progress.sent);
        let mut second = std::mem::replace(&mut state.second, Second::new(now_ns / SECOND_NS));
        second.progress = progress.minus(&state.before);
        second.thread_cpu_us = cpu_ns.saturating_sub(state.cpu_before_ns) / 1_000;
        (state.before, state.cpu_before_ns) = (progress, cpu_ns);
        self.gauges.closed.put(second);
    }

    /// Closes the last second, and adds the thread's own figures.
    pub fn account(&self, figures: &mut Figures) {
        let state = &mut *self.state.borrow_mut();
        let now_ns = clock::now_ns();
        self.close(state, now_ns);
        figures.lag.add(&state.lag);
        if let Some(began) = state.window_began {
            let ended = state.window_ended.unwrap_or_else(|| Account::now(now_ns));
            assert!(ended.cpu_ns >= began.cpu_ns, "a thread's CPU time does not fall");
            figures.threads.push(ThreadFigures::between(
                ended.at_ns.saturating_sub(began.at_ns),
                ended.cpu_ns.saturating_sub(began.cpu_ns),
                ended.waited_ns.zip(began.waited_ns).map(|(ended, began)| ended.saturating_sub(began)),
            ));
        }
    }
}

/// How long this thread was ready to run but had no core; `None` where the kernel does not count it.
fn waited_for_a_core_ns() -> Option<u64> {
    Schedstat::from_file("/proc/thread-self/schedstat").ok().map(|schedstat| schedstat.run_delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn recorder() -> (Recorder, u64) {
        let recorder = Recorder::new(Arc::default());
        // The first second after the one in which the recorder was made.
        let start_ns = (clock::now_ns() / SECOND_NS + 1) * SECOND_NS;
        (recorder, start_ns)
    }

    fn closed(recorder: &Recorder) -> Vec<(u64, u64, u64, u64)> {
        let seconds = recorder.gauges().closed.take();
        let of = |second: &Second| {
            (second.progress.delivered, second.delivery.percentiles().count, second.lateness_max_us, second.lag_max_us)
        };
        seconds.iter().map(of).collect()
    }

    #[test]
    fn a_second_holds_what_happened_in_it_and_the_longest_delays() {
        let (recorder, start_ns) = recorder();
        recorder.turn(start_ns);
        recorder.gauges().delivered.add(3);
        recorder.delivered([1, 2, 3].map(|ms| ms * MS).into_iter());
        [5, 9, 7].map(|ms| ms * MS).into_iter().for_each(|late_ns| recorder.sent_late_by(late_ns));
        recorder.stamped(start_ns + 10 * MS, start_ns + 14 * MS);
        recorder.stamped(start_ns + 20 * MS, start_ns + 21 * MS);
        recorder.turn(start_ns + SECOND_NS / 2);
        closed(&recorder);
        recorder.turn(start_ns + SECOND_NS);
        assert_eq!(closed(&recorder), [(3, 3, 9_000, 4_000)]);
        // A silent second leaves nothing behind, and what comes next is not counted twice.
        recorder.gauges().delivered.add(2);
        recorder.turn(start_ns + 5 * SECOND_NS);
        assert_eq!(closed(&recorder), [(2, 0, 0, 0)]);
    }

    #[test]
    fn a_close_counts_in_its_second_and_its_tenth() {
        let (recorder, start_ns) = recorder();
        for (offset_ms, code) in [(0, 1012), (250, 1012), (999, 1012), (500, 1006), (1_100, 1012)] {
            recorder.closed(code, start_ns + offset_ms * MS);
        }
        recorder.turn(start_ns + 2 * SECOND_NS);
        let seconds = recorder.gauges().closed.take();
        let of_second = |offset: u64| {
            let second = seconds.iter().find(|second| second.at == start_ns / SECOND_NS + offset);
            second.expect("the second is over").closes
        };
        assert_eq!((of_second(0).restart, of_second(0).no_frame), (3, 1));
        assert_eq!(of_second(0).restart_by_tenth, [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(of_second(1).restart_by_tenth, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_lag_is_that_of_the_measured_time() {
        let recorder = Recorder::new(Arc::default());
        // All of it is over, as the account closes the second of now.
        let start_ns = clock::now_ns() - 400 * MS;
        let stamped =
            |written_ms: u64, read_ms: u64| recorder.stamped(start_ns + written_ms * MS, start_ns + read_ms * MS);
        stamped(1, 90);
        recorder.begin(start_ns + 100 * MS..start_ns + 200 * MS);
        stamped(10, 99);
        // Written before the measured time and read in it: it held up frames of the measured time.
        stamped(95, 102);
        stamped(110, 113);
        stamped(199, 205);
        stamped(200, 290);
        let mut figures = Figures::default();
        recorder.account(&mut figures);
        let lag = figures.lag.percentiles();
        assert_eq!((lag.count, lag.max_us.abs_diff(7_000) < 10), (3, true), "{lag:?}");
        assert_eq!(figures.threads.len(), 1, "the thread was watched in the measured time");
        let before_anything = Recorder::new(Arc::default());
        let mut figures = Figures::default();
        before_anything.account(&mut figures);
        assert_eq!((figures.threads.len(), figures.lag.is_empty()), (0, true), "nothing was measured");
    }
}
