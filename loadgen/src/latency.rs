//! Latencies of one kind, in a histogram that threads and processes can hand over and add up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HistogramReader, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longer than any run waits; what is longer still counts as this.
const LONGEST_US: u64 = 600_000_000;
/// Three digits are right at every magnitude.
const DIGITS: u8 = 3;
/// Where there is one histogram for each second, two must do.
const DIGITS_COARSE: u8 = 2;

/// Durations from nanoseconds on, kept in microseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("constant bounds, valid for the library"))
    }
}

impl Latency {
    /// A smaller one, for one of many: it grows with what is recorded.
    pub fn coarse() -> Self {
        Self(Histogram::new(DIGITS_COARSE).expect("constant digits, valid for the library"))
    }

    pub fn record_ns(&mut self, duration_ns: u64) {
        let duration_us = (duration_ns / 1_000).min(LONGEST_US);
        self.0.record(duration_us).expect("within the bounds, or within what the histogram grows to");
    }

    pub fn add(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("within the same bounds, or within what the histogram grows to");
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Percentiles {
            count: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        }
    }
}

/// The figures people ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        let mut histogram: Histogram<u64> =
            HistogramReader::new().deserialize(&mut bytes.as_slice()).map_err(serde::de::Error::custom)?;
        // Which is not written down; and what is added may be longer than what there is.
        histogram.auto(true);
        Ok(Self(histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(microseconds: impl Iterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        microseconds.for_each(|us| latency.record_ns(us * 1_000));
        latency
    }

    #[test]
    fn parts_that_travelled_add_up_to_the_whole() {
        let whole = of((1..=100_000).map(|n| n * 7 % 50_021));
        let mut merged = Latency::default();
        for part in 0..4 {
            let part = of((1..=100_000).filter(|n| n % 4 == part).map(|n| n * 7 % 50_021));
            let text = serde_json::to_string(&part).expect("a string");
            merged.add(&serde_json::from_str(&text).expect("what was written"));
        }
        assert_eq!(merged.percentiles(), whole.percentiles());
        assert_eq!(merged.percentiles().count, 100_000);
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let percentiles = of(1..=1000).percentiles();
        let found = [percentiles.p50_us, percentiles.p90_us, percentiles.p99_us, percentiles.p999_us];
        assert_eq!(found, [500, 900, 990, 999]);
        assert_eq!(percentiles.max_us, 1000);
        assert_eq!(Latency::default().percentiles().max_us, 0);
    }

    #[test]
    fn what_takes_longer_than_the_longest_is_not_lost() {
        let latency = of([u64::MAX / 1_000].into_iter());
        assert_eq!(latency.percentiles().count, 1);
        assert!(latency.percentiles().max_us >= LONGEST_US);
    }
}
