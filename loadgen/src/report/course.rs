//! A run in time, counted from its first measured second; earlier times are negative.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::clock::SECOND_NS;
use crate::checks::latency::Latency;
use crate::costs::closes::Closes;
use crate::costs::progress::Progress;
use crate::costs::series::{Second, Series};
use crate::report::Spread;

/// How a run went, on the shared clock.
#[derive(Clone, Default, Debug)]
pub struct Course {
    pub series: Series,
    pub marks: Vec<Mark>,
    /// The measured time.
    pub window: Range<u64>,
    /// The time over which the server was expected to drain; `None` if no drain was expected.
    pub drain_secs: Option<f64>,
}

/// The time at which a new part of the run began.
#[derive(Clone, Debug)]
pub struct Mark {
    pub at_ns: u64,
    pub what: String,
}

impl Mark {
    pub fn new(at_ns: u64, what: impl Into<String>) -> Self {
        Self { at_ns, what: what.into() }
    }
}

/// A course in the form in which it is shown and sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timeline {
    /// Whether the run was longer than what is kept.
    pub cut: bool,
    /// The beginning and the end of the measured time; `None` if nothing was measured.
    pub measured_secs: Option<[f64; 2]>,
    pub marks: Vec<TimelineMark>,
    /// How the closes of a drain that was expected were spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Spread>,
    pub seconds: Vec<Point>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimelineMark {
    pub at_secs: f64,
    pub what: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    pub at_secs: i64,
    /// Whether the whole second is in the measured time.
    pub measured: bool,
    /// How many users were in their rooms at the end of the second.
    pub present: u64,
    #[serde(flatten)]
    pub second: Second,
}

impl Point {
    /// Whether every process has reported the whole second. A process reports it when the second has ended.
    pub fn is_whole(&self) -> bool {
        self.second.generator_resident_bytes > 0
    }
}

impl Course {
    /// What the generator's processes cost: CPU seconds in the measured time, and the largest memory.
    pub fn generator(&self) -> (f64, u64) {
        let seconds = self.series.seconds();
        let measured = |second: &&Second| self.window.contains(&(second.at * SECOND_NS));
        let cpu_us: u64 = seconds.iter().filter(measured).map(|second| second.generator_cpu_us).sum();
        let resident_bytes = seconds.iter().map(|second| second.generator_resident_bytes).max().unwrap_or_default();
        (cpu_us as f64 / 1e6, resident_bytes)
    }

    /// The connections that ended although their clients had not ended them.
    pub fn closes(&self) -> Closes {
        let mut sum = Closes::default();
        self.series.seconds().iter().for_each(|second| sum.add(&second.closes));
        sum
    }

    /// How the closes of a drain were spread, if one was expected and came.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.series.seconds(), self.drain_secs?, self.window.start / SECOND_NS * SECOND_NS)
    }

    /// The course as a timeline; without the latencies if these are the generator's own.
    pub fn timeline(&self, with_latencies: bool) -> Timeline {
        assert!(self.window.start <= self.window.end, "the measured time begins before it ends");
        let zero = self.window.start / SECOND_NS;
        let zero_ns = zero * SECOND_NS;
        let secs = |at_ns: u64| (at_ns as f64 - zero_ns as f64) / SECOND_NS as f64;
        let mark = |mark: &Mark| TimelineMark { at_secs: secs(mark.at_ns), what: mark.what.clone() };
        let mut progress = Progress::default();
        let point = |mut second: Second| {
            progress.add(&second.progress);
            if !with_latencies {
                second.delivery = Latency::coarse();
            }
            let measured = self.window.start <= second.at * SECOND_NS && (second.at + 1) * SECOND_NS <= self.window.end;
            Point { at_secs: second.at as i64 - zero as i64, measured, present: progress.present(), second }
        };
        Timeline {
            cut: self.series.is_cut(),
            measured_secs: (!self.window.is_empty()).then(|| [secs(self.window.start), secs(self.window.end)]),
            marks: self.marks.iter().map(mark).collect(),
            drain: self.spread(),
            seconds: self.series.seconds().into_iter().map(point).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_the_first_measured_second() {
        let mut course = Course { window: 103 * SECOND_NS..105 * SECOND_NS, ..Course::default() };
        course.marks.push(Mark::new(102 * SECOND_NS + SECOND_NS / 2, "warm-up"));
        for (at, joined, disconnected) in [(101, 5, 0), (103, 0, 1), (104, 0, 0), (105, 0, 2)] {
            let mut second = Second::new(at);
            (second.progress.joined, second.progress.disconnected) = (joined, disconnected);
            second.delivery.record_ns(1_000_000);
            course.series.add(second);
        }
        let timeline = course.timeline(true);
        let points: Vec<_> = timeline.seconds.iter().map(|p| (p.at_secs, p.measured, p.present)).collect();
        assert_eq!(points, [(-2, false, 5), (-1, false, 5), (0, true, 4), (1, true, 4), (2, false, 2)]);
        assert_eq!((timeline.marks[0].at_secs, timeline.marks[0].what.as_str()), (-0.5, "warm-up"));
        assert_eq!(timeline.seconds[0].second.delivery.percentiles().count, 1);
        assert_eq!(course.timeline(false).seconds[0].second.delivery.percentiles().count, 0);
    }

    #[test]
    fn a_timeline_travels_unchanged() {
        let mut course = Course::default();
        course.series.add(Second::new(3));
        let text = serde_json::to_string(&course.timeline(true)).expect("text");
        let read: Timeline = serde_json::from_str(&text).expect("what was written");
        assert_eq!((read.seconds.len(), read.seconds[0].at_secs), (1, 3));
    }
}
