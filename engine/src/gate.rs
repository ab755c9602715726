//! A shard's part of a rate of the whole process, or another rate of the shard.
//!
//! Each shard has an equal part of each rate and counts for itself. The part of one second may come at once. If that is less
//! than one, one may come at once.
//!
//! Every refused client is told another time at which to come back: the times follow each other as fast as the rate allows. So
//! clients that were refused together do not come back together. The times go on until `RETURNS_MAX`, and then begin again.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::id::Monotonic;
use crate::limits::RETURNS_MAX;
use crate::rate::{Used, WINDOW};

/// A shard's part of a rate, and how much of it is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// The time in which the part lets one in; `None`: no limit.
    each: Option<Duration>,
    used: Used,
    /// When the client that was refused last is to come back.
    last_return: Monotonic,
    refused: u64,
}

impl Gate {
    /// A gate that lets so many in in a second.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { each: Some(WINDOW / per_second.get()), ..Self::default() }
    }

    /// Sets the part of a shard, if so many shards share the rate. What is used up already stays so.
    pub fn set(&mut self, per_second: Option<NonZeroU32>, shards: NonZeroU16) {
        self.each = per_second.map(|rate| WINDOW * u32::from(shards.get()) / rate.get());
    }

    /// Whether one would be let in now. If not, counts it as refused, and returns the time after which its client is to come
    /// back.
    pub fn has_room(&mut self, now: Monotonic) -> Result<(), Duration> {
        let Some(each) = self.each else { return Ok(()) };
        let full_for = self.used.spending(each, now).beyond(WINDOW.max(each), now);
        if full_for.is_zero() {
            return Ok(());
        }
        self.refused += 1;
        let soonest = now.plus(full_for);
        let next = self.last_return.plus(each);
        self.last_return = if next < soonest || next > now.plus(RETURNS_MAX.max(full_for)) { soonest } else { next };
        Err(self.last_return.since(now))
    }

    /// Counts a client that was let in.
    pub fn count(&mut self, now: Monotonic) {
        if let Some(each) = self.each {
            self.used = self.used.spending(each, now);
        }
    }

    /// Lets one in, or refuses it.
    pub fn let_in(&mut self, now: Monotonic) -> Result<(), Duration> {
        self.has_room(now)?;
        self.count(now);
        Ok(())
    }

    /// How many were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gate(per_second: u32, shards: u16) -> Gate {
        let mut gate = Gate::default();
        gate.set(NonZeroU32::new(per_second), NonZeroU16::new(shards).expect("there is a shard"));
        gate
    }

    /// How many of `asked` are let in at one moment.
    fn let_in(gate: &mut Gate, asked: usize, now: Monotonic) -> usize {
        (0..asked).filter(|_| gate.let_in(now).is_ok()).count()
    }

    #[test]
    fn a_second_s_part_comes_at_once_and_then_the_rate() {
        let (mut gate, start) = (gate(10, 2), Monotonic(7));
        assert_eq!(let_in(&mut gate, 100, start), 5);
        assert_eq!(let_in(&mut gate, 100, start.plus(Duration::from_millis(399))), 1);
        assert_eq!(let_in(&mut gate, 100, start.plus(Duration::from_millis(400))), 1);
        assert_eq!(let_in(&mut gate, 100, start.plus(Duration::from_secs(60))), 5);
        assert_eq!(gate.refused(), 95 + 99 + 99 + 95);
    }

    #[test]
    fn a_part_of_less_than_one_lets_one_in_and_the_next_in_its_time() {
        let (mut gate, start) = (gate(1, 8), Monotonic(7));
        assert_eq!(let_in(&mut gate, 3, start), 1);
        assert_eq!(gate.has_room(start), Err(Duration::from_secs(24)), "the third that is refused");
        assert_eq!(let_in(&mut gate, 3, start.plus(Duration::from_millis(7_999))), 0);
        assert_eq!(let_in(&mut gate, 3, start.plus(Duration::from_secs(8))), 1);
    }

    #[test]
    fn refused_clients_come_back_one_after_another() {
        let (mut gate, start) = (gate(100, 1), Monotonic(7));
        assert_eq!(let_in(&mut gate, 100, start), 100);
        let mut returns: Vec<Duration> = (0..1_000).map(|_| gate.let_in(start).expect_err("it is full")).collect();
        assert!(returns.is_sorted() && returns[0] == Duration::from_millis(10), "{:?}", returns[0]);
        returns.dedup();
        assert_eq!(returns.len(), 1_000, "each is told another time");
        assert_eq!(returns.last(), Some(&Duration::from_secs(10)), "as many in a second as the rate lets in");
        // All of them come when they are told to, and no other client does.
        let refused = returns.iter().filter(|time| gate.let_in(start.plus(**time)).is_err()).count();
        assert_eq!(refused, 0);
    }

    #[test]
    fn times_to_come_back_are_bounded_and_begin_again() {
        let (mut gate, start) = (gate(1, 1), Monotonic(7));
        assert_eq!(let_in(&mut gate, 1, start), 1);
        let seconds = |gate: &mut Gate| gate.let_in(start).expect_err("it is full").as_secs();
        let most = RETURNS_MAX.as_secs();
        let told: Vec<u64> = (0..2 * most).map(|_| seconds(&mut gate)).collect();
        assert_eq!(told, (1..=most).chain(1..=most).collect::<Vec<_>>());
    }

    #[test]
    fn another_rate_holds_at_once() {
        let (mut gate, start) = (gate(1, 1), Monotonic(7));
        assert_eq!(let_in(&mut gate, 10, start), 1);
        gate.set(NonZeroU32::new(5), NonZeroU16::MIN);
        assert_eq!(let_in(&mut gate, 10, start.plus(Duration::from_secs(1))), 5);
        gate.set(None, NonZeroU16::MIN);
        assert_eq!(let_in(&mut gate, 10, start.plus(Duration::from_secs(1))), 10);
    }

    proptest! {
        /// However clients come, all shards together let in no more than a second's worth and the rate.
        #[test]
        fn no_more_is_let_in_than_the_rate(
            steps in proptest::collection::vec((0..400_u64, 0..4_usize, 1..20_usize), 1..200), rate in 1..200_u32
        ) {
            const SHARDS: u16 = 4;
            let mut gates = [gate(rate, SHARDS); SHARDS as usize];
            let (start, mut now, mut admitted) = (Monotonic(5), Monotonic(5), 0);
            for (pause, shard, asked) in steps {
                now = now.plus(Duration::from_millis(pause));
                admitted += let_in(&mut gates[shard], asked, now);
                let seconds = 1.0 + now.since(start).as_secs_f64();
                // A shard whose part is less than one lets one in.
                let allowed = f64::from(rate) * seconds + f64::from(SHARDS);
                prop_assert!(admitted as f64 <= allowed, "{admitted} of {allowed}");
            }
        }
    }
}
