//! Latencies of one kind, in a histogram. Threads and processes can send their histograms and add them up.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HistogramReader, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longer than any run waits. A longer duration is counted as this one.
const LONGEST_US: u64 = 600_000_000;
/// Values are exact to three digits at every magnitude.
const DIGITS: u8 = 3;
/// The sub-buckets that the library uses for three digits.
const SUB_BUCKETS: u32 = 2048;
/// How many points lie between one quantile and the next that is half as far from 1.
const TICKS_A_HALVING: u32 = 5;
/// Used where there is one histogram for each second; two digits are enough there.
const DIGITS_COARSE: u8 = 2;

/// Durations, given in nanoseconds and kept in microseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("constant bounds, valid for the library"))
    }
}

impl Latency {
    /// A smaller histogram, for use in large numbers. It grows with what is recorded.
    pub fn coarse() -> Self {
        Self(Histogram::new(DIGITS_COARSE).expect("constant digits, valid for the library"))
    }

    pub fn record_ns(&mut self, duration_ns: u64) {
        let duration_us = (duration_ns / 1_000).min(LONGEST_US);
        self.0.record(duration_us).expect("within the bounds, or within what the histogram grows to");
    }

    pub fn add(&mut self, other: &Latency) {
        let together = self.0.len() + other.0.len();
        self.0.add(&other.0).expect("within the same bounds, or within what the histogram grows to");
        debug_assert_eq!(self.0.len(), together, "no sample is lost");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn at_quantile_us(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// Quantiles with their values in microseconds. The steps become smaller towards 1.
    pub fn quantiles(&self) -> impl Iterator<Item = (f64, u64)> {
        self.0.iter_quantiles(TICKS_A_HALVING).map(|step| (step.quantile_iterated_to(), step.value_iterated_to()))
    }

    /// The distribution in HdrHistogram's text format, in milliseconds, as its plotters expect it.
    pub fn distribution(&self) -> String {
        let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
        let mut count = 0;
        for step in self.0.iter_quantiles(TICKS_A_HALVING) {
            let (ms, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
            count += step.count_since_last_iteration();
            // Writing to a String cannot fail.
            let _ = write!(text, "{ms:12.3} {quantile:14.12} {count:10}");
            let _ = if quantile < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
        }
        let (mean, deviation, max) = (self.0.mean() / 1e3, self.0.stdev() / 1e3, self.0.max() as f64 / 1e3);
        let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
        let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {:12}]", self.0.len());
        let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {SUB_BUCKETS:12}]", self.0.buckets());
        text
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

/// The percentiles that a report shows.
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
        // The serialised form does not contain this setting, and a histogram added later may have larger values.
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
    fn a_distribution_is_what_plotters_of_histograms_read() {
        let text = of(1..=1000).distribution();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
        assert!(rows.iter().any(|row| row[..3] == [0.5, 0.5, 500.0]), "{text}");
        assert_eq!(rows.last().map(|row| row[..].to_vec()), Some(vec![1.0, 1.0, 1000.0]));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }

    #[test]
    fn what_takes_longer_than_the_longest_is_not_lost() {
        let latency = of([u64::MAX / 1_000].into_iter());
        assert_eq!(latency.percentiles().count, 1);
        assert!(latency.percentiles().max_us >= LONGEST_US);
    }
}
