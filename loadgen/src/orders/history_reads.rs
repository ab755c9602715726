//! Reading a history: one worker's part, and its results.

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::checks::figures::ThreadFigures;
use crate::checks::known_pages::{KnownPage, PageKind};
use crate::checks::latency::Latency;
use crate::checks::samples::Samples;
use crate::plan::target::Target;
use crate::plan::timetable::Timetable;

/// One worker's part of the reading.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub target: Target,
    pub run: u32,
    pub seed: u64,
    pub channel_id: String,
    /// The most items of a page.
    pub limit: u32,
    pub pages: Vec<KnownPage>,
    /// The part of the reads that are of the newest page, as a part of 1.
    pub newest: f64,
    pub timetable: Timetable,
    /// The readers of this worker, and the number of readers in all workers: reads are assigned to the readers in turn.
    pub readers: Range<u32>,
    pub readers_total: u32,
    pub threads: Option<u32>,
    /// How many reads may be under way at once.
    pub in_flight: u32,
}

/// The results of the reads of one thread, or of several.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Fetched {
    pub asked: u64,
    pub answered: u64,
    /// Reads that were answered with an error, and reads that were not answered at all.
    pub refused: u64,
    pub failed: u64,
    /// Pages that were not what they must be, and the items on them whose content no run wrote.
    pub wrong: u64,
    pub corrupt: u64,
    pub items: u64,
    /// Answers that came in the measured time.
    pub answered_in_window: u64,
    pub latencies: HashMap<PageKind, Latency>,
    pub lateness: Latency,
    pub lag: Latency,
    pub threads: Vec<ThreadFigures>,
    pub samples: Samples,
}

impl Fetched {
    pub fn add(&mut self, other: Fetched) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.corrupt += other.corrupt;
        self.items += other.items;
        self.answered_in_window += other.answered_in_window;
        other.latencies.into_iter().for_each(|(kind, latency)| self.latencies.entry(kind).or_default().add(&latency));
        self.lateness.add(&other.lateness);
        self.lag.add(&other.lag);
        self.threads.extend(other.threads);
        self.samples.add(other.samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let mut latency = Latency::default();
        latency.record_ns(1_000_000);
        let one = || Fetched {
            asked: 2,
            wrong: 1,
            latencies: HashMap::from([(PageKind::Back, latency.clone())]),
            ..Fetched::default()
        };
        let mut sum = one();
        sum.add(one());
        assert_eq!((sum.asked, sum.wrong), (4, 2));
        assert_eq!(sum.latencies[&PageKind::Back].percentiles().count, 2);
    }
}
