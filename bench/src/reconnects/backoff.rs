//! When a client whose connection was cut tries again: exponential backoff with full jitter, as users of the JavaScript
//! client write it.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The longest wait before the first try; before each further one it doubles.
pub const FIRST_WAIT_MAX: Duration = Duration::from_millis(500);
/// No wait is longer.
pub const WAIT_MAX: Duration = Duration::from_secs(8);

/// The wait before the next try, after `try_number` failed tries since the client was last connected. `draw` is uniform
/// between 0 and 1, and the wait is this part of the longest wait.
pub fn wait(try_number: u32, draw: f64) -> Duration {
    let doubled = FIRST_WAIT_MAX.saturating_mul(1 << try_number.min(16));
    doubled.min(WAIT_MAX).mul_f64(draw.clamp(0.0, 1.0))
}

/// The point at which a client that aborts an opening on purpose hangs up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortPoint {
    /// When half of the request has been sent.
    InTheHead,
    /// When the session is open.
    Opened,
    /// When the answer to the join has come.
    Joined,
}

/// What one client draws: its waits, and how its openings are spoiled.
#[derive(Clone)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    pub fn new(seed: u64) -> Draws {
        Draws(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A wait before a try.
    pub fn wait(&mut self, try_number: u32) -> Duration {
        // 53 bits are what a float between 0 and 1 holds.
        wait(try_number, (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    pub fn spoiled(&mut self) -> AbortPoint {
        [AbortPoint::InTheHead, AbortPoint::Opened, AbortPoint::Joined][(self.0.next_u32() % 3) as usize]
    }
}

/// How long a client waits in all until the opening that lasts, if so many openings before it are spoiled, none fails
/// otherwise, and all of them take no time.
pub fn planned(draws: &Draws, spoiled: u32) -> Duration {
    let mut draws = draws.clone();
    let waits = (0..=spoiled).map(|try_number| {
        let wait = draws.wait(try_number);
        if try_number < spoiled {
            draws.spoiled();
        }
        wait
    });
    waits.sum()
}

/// How many openings of client `index` are spoiled, so that `clients` clients try `openings` openings in all, with the
/// one of each that lasts.
pub fn spoiled_of(index: usize, clients: usize, openings: usize) -> u32 {
    let spoiled = openings.saturating_sub(clients);
    (spoiled / clients + usize::from(index < spoiled % clients)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let check = |try_number, draw, expected| {
            assert_eq!(wait(try_number, draw), Duration::from_millis(expected), "{try_number} {draw}");
        };
        check(0, 1.0, 500);
        check(0, 0.5, 250);
        check(1, 1.0, 1_000);
        check(4, 1.0, 8_000);
        check(5, 1.0, 8_000);
        check(u32::MAX, 0.25, 2_000);
        check(3, 0.0, 0);
    }

    #[test]
    fn clients_with_the_same_seed_draw_the_same() {
        let drawn = |seed| {
            let mut draws = Draws::new(seed);
            (0..50).map(|number| (draws.wait(number), draws.spoiled())).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert!(drawn(3).iter().all(|(wait, _)| *wait <= WAIT_MAX));
        for kind in [AbortPoint::InTheHead, AbortPoint::Opened, AbortPoint::Joined] {
            assert!(drawn(3).iter().any(|(_, spoiled)| *spoiled == kind), "{kind:?}");
        }
    }

    #[test]
    fn a_plan_is_the_sum_of_the_waits_to_come() {
        let mut draws = Draws::new(9);
        let planned_before = planned(&draws, 2);
        let first = draws.wait(0);
        draws.spoiled();
        let second = draws.wait(1);
        draws.spoiled();
        assert_eq!(planned_before, first + second + draws.wait(2));
    }

    #[test]
    fn all_clients_together_try_as_many_openings_as_were_asked_for() {
        let check = |clients, openings, expected: usize| {
            let sum: usize = (0..clients).map(|index| spoiled_of(index, clients, openings) as usize + 1).sum();
            assert_eq!(sum, expected, "{clients} clients, {openings} openings");
        };
        check(17_500, 100_000, 100_000);
        check(3, 10, 10);
        check(7, 7, 7);
        check(7, 3, 7);
    }
}
