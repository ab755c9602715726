//! Descriptions of what went wrong. Faults are counted without a limit, but only the first few are described.

use serde::{Deserialize, Serialize};

/// How many faults are described.
const SAMPLES_MAX: usize = 8;

/// At most `SAMPLES_MAX` descriptions; further ones are dropped.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(Vec<String>);

impl Samples {
    /// Adds a description; it is written only if it is kept.
    pub fn put(&mut self, describe: impl FnOnce() -> String) {
        if self.0.len() < SAMPLES_MAX {
            self.0.push(describe());
        }
    }

    pub fn add(&mut self, other: Samples) {
        other.0.into_iter().for_each(|text| self.put(|| text));
        debug_assert!(self.0.len() <= SAMPLES_MAX, "{} descriptions are kept", self.0.len());
    }

    pub fn into_texts(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_kept() {
        let mut sum = Samples::default();
        for part in 0..3 {
            let mut samples = Samples::default();
            (0..5).for_each(|number| samples.put(|| format!("{part}.{number}")));
            sum.add(samples);
        }
        assert_eq!(sum.into_texts(), ["0.0", "0.1", "0.2", "0.3", "0.4", "1.0", "1.1", "1.2"]);
    }
}
