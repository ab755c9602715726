//! What was measured of one server in one round.

use serde::Serialize;

use crate::run::Run;
use crate::server::Kind;

/// All results of one server in one round.
#[derive(Serialize)]
pub struct Visit {
    pub server: Kind,
    pub members: usize,
    pub round: usize,
    pub joins_per_second: f64,
    /// Of the first and of the last thousand joins, if the room is large enough to compare them.
    pub joins_per_second_first: Option<f64>,
    pub joins_per_second_last: Option<f64>,
    pub resident_bytes_per_connection: f64,
    pub time_to_last_ms: Option<f64>,
    pub max: Option<Run>,
    pub beyond: Option<Run>,
    pub at_rates: Vec<Run>,
    /// Runs that ended because the server closed a connection or refused a request.
    pub broken: Vec<String>,
}

impl Visit {
    /// Whether every message of every run that counts arrived once and in order. Runs of a search that exceeded the
    /// maximum do not count. Runs that were carried count, and so do the runs that exceeded the maximum on purpose.
    pub fn nothing_lost(&self) -> bool {
        self.runs().all(Run::nothing_lost)
    }

    /// The runs that count.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.max.iter().chain(&self.beyond).chain(&self.at_rates)
    }
}
