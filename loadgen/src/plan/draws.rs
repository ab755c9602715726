//! Repeatable random numbers. They are drawn from the run's seed and from their purpose, so every process draws the
//! same numbers without communication.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A sequence of draws.
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// The sequence of one purpose and one number. Two such sequences are independent of each other.
    pub fn new(seed: u64, purpose: u64, number: u64) -> Self {
        let mut key = [0; 32];
        for (part, place) in [seed, purpose, number].into_iter().zip(key.as_chunks_mut::<8>().0) {
            *place = part.to_le_bytes();
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly from 0 up to, but not including, the bound. The bound is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "no number is below 0");
        // The high half of the product. Its unevenness is one part in 2^64 / bound.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Evenly from 0 up to, but not including, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_differ_by_seed_purpose_and_number() {
        let drawn = |seed, purpose, number| Draws::new(seed, purpose, number).next();
        assert_eq!(drawn(1, 2, 3), drawn(1, 2, 3));
        let all: std::collections::HashSet<u64> = (0..10)
            .flat_map(|seed| (0..10).flat_map(move |purpose| (0..10).map(move |number| drawn(seed, purpose, number))))
            .collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn draws_are_even() {
        let mut draws = Draws::new(7, 0, 0);
        let mut counts = [0_u32; 10];
        (0..100_000).for_each(|_| counts[draws.below(10) as usize] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        let mean = (0..100_000).map(|_| draws.fraction()).sum::<f64>() / 100_000.0;
        assert!((0.49..0.51).contains(&mean), "{mean}");
    }
}
