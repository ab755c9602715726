//! Latencies as a few figures.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How latencies are distributed, in milliseconds.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Quantiles {
    pub fn of(histogram_us: &Histogram<u64>) -> Quantiles {
        let at = |quantile| histogram_us.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            count: histogram_us.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: histogram_us.max() as f64 / 1e3,
        }
    }
}
