//! A run second by second: what every thread saw in each second, added up over threads and processes.
//!
//! The seconds are those of the clock that all processes share, so the parts of one second can be matched. A recorder
//! (`recorder.rs`) belongs to one thread. The worker takes the seconds that the recorder has closed and sends them to
//! the coordinator as `Word::Second`; this file adds them up.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::base::clock::{self, SECOND_NS};
use crate::checks::latency::Latency;
use crate::costs::closes::Closes;
use crate::costs::progress::Progress;
use crate::costs::server::ServerProbe;

/// Two hours, at some KB a second. Later seconds are in the totals but not in the series, and the series says so.
const SECONDS_MAX: usize = 7_200;
/// How many seconds the progress display averages: a single second varies too much.
const RECENT: usize = 3;

/// One second of a run, or a thread's or process's part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Second {
    /// The number of the second on the shared clock.
    pub at: u64,
    /// What was added to the running totals.
    pub progress: Progress,
    /// The latencies of the deliveries that arrived, from their intended time.
    pub delivery: Latency,
    /// The connections that ended although their clients had not ended them.
    #[serde(default)]
    pub closes: Closes,
    /// The longest time by which a message was sent late, and the longest time a frame may have waited in the client.
    pub lateness_max_us: u64,
    pub lag_max_us: u64,
    /// CPU time of the generator's busiest thread, and of all its processes.
    pub thread_cpu_us: u64,
    pub generator_cpu_us: u64,
    pub generator_resident_bytes: u64,
    pub server: Option<ServerSecond>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSecond {
    pub cpu_us: u64,
    pub resident_bytes: u64,
}

impl Second {
    pub fn new(at: u64) -> Self {
        Self {
            at,
            progress: Progress::default(),
            delivery: Latency::coarse(),
            closes: Closes::default(),
            lateness_max_us: 0,
            lag_max_us: 0,
            thread_cpu_us: 0,
            generator_cpu_us: 0,
            generator_resident_bytes: 0,
            server: None,
        }
    }

    /// Adds another part of the same second.
    pub fn add(&mut self, other: &Second) {
        self.progress.add(&other.progress);
        self.delivery.add(&other.delivery);
        self.closes.add(&other.closes);
        self.lateness_max_us = self.lateness_max_us.max(other.lateness_max_us);
        self.lag_max_us = self.lag_max_us.max(other.lag_max_us);
        self.thread_cpu_us = self.thread_cpu_us.max(other.thread_cpu_us);
        self.generator_cpu_us += other.generator_cpu_us;
        self.generator_resident_bytes += other.generator_resident_bytes;
        self.server = self.server.or(other.server);
    }
}

/// The seconds of a whole run, in order.
#[derive(Clone, Default, Debug)]
pub struct Series {
    seconds: BTreeMap<u64, Second>,
    /// Whether the run was longer than the series.
    cut: bool,
}

impl Series {
    /// Adds a thread's or process's part of a second.
    pub fn add(&mut self, part: Second) {
        if let Some(found) = self.seconds.get_mut(&part.at) {
            found.add(&part);
        } else if self.seconds.len() < SECONDS_MAX {
            self.seconds.insert(part.at, part);
        } else {
            self.cut = true;
        }
        debug_assert!(self.seconds.len() <= SECONDS_MAX, "{} seconds are kept", self.seconds.len());
    }

    pub fn merge(&mut self, other: Series) {
        self.cut |= other.cut;
        other.seconds.into_values().for_each(|second| self.add(second));
    }

    /// Whether the run was longer than what `seconds` returns.
    pub fn is_cut(&self) -> bool {
        let ends = self.seconds.keys().next().zip(self.seconds.keys().next_back());
        self.cut || ends.is_some_and(|(first, last)| last - first >= SECONDS_MAX as u64)
    }

    /// Every second from the first to the last. A second without a report is empty.
    pub fn seconds(&self) -> Vec<Second> {
        let (Some(first), Some(last)) = (self.seconds.keys().next(), self.seconds.keys().next_back()) else {
            return Vec::new();
        };
        let second = |at| self.seconds.get(&at).cloned().unwrap_or_else(|| Second::new(at));
        (*first..=*last).take(SECONDS_MAX).map(second).collect()
    }

    /// The sum of the last few seconds, and how many they are. The newest second is left out, because some threads have
    /// not reported it yet.
    pub fn recent(&self) -> (Second, usize) {
        let recent = self.seconds.values().rev().skip(1).take(RECENT);
        let sum = |(mut sum, count): (Second, usize), second: &Second| {
            sum.add(second);
            (sum, count + 1)
        };
        recent.fold((Second::new(0), 0), sum)
    }
}

/// What this process costs, second by second.
pub struct Expenses {
    /// The second that has not ended yet, and the CPU time at its beginning.
    at: u64,
    cpu_ns: u64,
}

impl Expenses {
    pub fn new() -> Self {
        Self { at: clock::now_ns() / SECOND_NS, cpu_ns: clock::process_cpu_ns() }
    }

    /// The seconds that have ended since the last call. When there are several, each gets an equal part of the costs.
    pub fn since_last(&mut self) -> impl Iterator<Item = Second> + use<> {
        let now = clock::now_ns() / SECOND_NS;
        assert!(now >= self.at, "the clock does not go back");
        let over = self.at..now;
        let (mut generator_cpu_us, mut generator_resident_bytes) = (0, 0);
        if !over.is_empty() {
            let cpu_ns = clock::process_cpu_ns();
            generator_cpu_us = cpu_ns.saturating_sub(self.cpu_ns) / 1_000 / (over.end - over.start);
            // Without /proc the memory is unknown, but the run can go on.
            generator_resident_bytes =
                ServerProbe::new(std::process::id()).and_then(|own| own.resident_bytes()).unwrap_or(0);
            (self.at, self.cpu_ns) = (now, cpu_ns);
        }
        over.take(SECONDS_MAX).map(move |at| Second { generator_cpu_us, generator_resident_bytes, ..Second::new(at) })
    }
}

/// The server's costs, second by second. A task of the coordinator collects them during the run.
pub struct ServerWatch {
    series: Arc<Mutex<Series>>,
    task: tokio::task::JoinHandle<()>,
}

impl ServerWatch {
    pub fn start(probe: ServerProbe) -> Self {
        let series = Arc::<Mutex<Series>>::default();
        Self { task: tokio::spawn(watch_server(probe, series.clone())), series }
    }

    pub fn finish(self) -> Series {
        self.task.abort();
        std::mem::take(&mut self.series.lock())
    }
}

/// Reads the costs at the end of each second, until the server's process has ended.
async fn watch_server(probe: ServerProbe, series: Arc<Mutex<Series>>) {
    let mut before = probe.cpu();
    loop {
        let at = clock::now_ns() / SECOND_NS;
        tokio::time::sleep(clock::until((at + 1) * SECOND_NS)).await;
        let (Ok(last), Ok(now), Ok(resident_bytes)) = (before, probe.cpu(), probe.resident_bytes()) else { return };
        let computed_secs = now.user_secs + now.system_secs - last.user_secs - last.system_secs;
        let server = ServerSecond { cpu_us: (computed_secs * 1e6) as u64, resident_bytes };
        let second = Second { server: Some(server), ..Second::new(at) };
        series.lock().add(second);
        before = Ok(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(at: u64, delivered: u64, lag_max_us: u64) -> Second {
        let mut second = Second::new(at);
        second.progress.delivered = delivered;
        second.lag_max_us = lag_max_us;
        (0..delivered).for_each(|_| second.delivery.record_ns(1_000_000));
        second
    }

    #[test]
    fn parts_find_their_second_in_whatever_order_they_come() {
        let mut series = Series::default();
        for (at, delivered, lag) in [(12, 5, 10), (10, 1, 3), (12, 2, 30), (10, 4, 1)] {
            series.add(part(at, delivered, lag));
        }
        let seconds: Vec<_> = series
            .seconds()
            .iter()
            .map(|second| {
                (second.at, second.progress.delivered, second.delivery.percentiles().count, second.lag_max_us)
            })
            .collect();
        assert_eq!(seconds, [(10, 5, 5, 3), (11, 0, 0, 0), (12, 7, 7, 30)]);
        let (recent, count) = series.recent();
        assert_eq!((recent.progress.delivered, count), (5, 1), "the newest second is not whole yet");
    }

    #[test]
    fn a_run_too_long_is_cut_and_says_so() {
        let mut series = Series::default();
        (0..SECONDS_MAX as u64).for_each(|at| series.add(part(at, 1, 0)));
        assert!(!series.is_cut());
        series.add(part(SECONDS_MAX as u64, 1, 0));
        series.add(part(0, 1, 0));
        assert!(series.is_cut());
        assert_eq!(series.seconds().len(), SECONDS_MAX);
        assert_eq!(series.seconds()[0].progress.delivered, 2);
    }

    #[test]
    fn seconds_without_a_report_count_for_the_length_too() {
        let mut series = Series::default();
        [0, SECONDS_MAX as u64 - 1].into_iter().for_each(|at| series.add(part(at, 1, 0)));
        assert!(!series.is_cut());
        series.add(part(SECONDS_MAX as u64, 1, 0));
        assert!(series.is_cut(), "the last second is not returned");
        assert_eq!(series.seconds().len(), SECONDS_MAX);
        let mut other = Series::default();
        other.merge(series);
        assert!(other.is_cut());
    }

    #[test]
    fn parts_travel_unchanged() {
        let line = serde_json::to_string(&part(7, 3, 9)).expect("text");
        let read: Second = serde_json::from_str(&line).expect("what was written");
        assert_eq!((read.at, read.progress.delivered, read.delivery.percentiles().count), (7, 3, 3));
    }
}
