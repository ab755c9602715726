//! A shard's part of a rate of the whole process, or another rate of the shard.
//!
//! Each shard has an equal part of each rate and counts for itself. The part of one second may come at once. If that is less
//! than one, one may come at once.
//!
//! Every refused client is told another time at which to come back: the times follow each other as fast as the rate allows. So
//! clients that were refused together do not come back together. The times go on until `RETURNS_MAX`, and then begin again.
//!
//! No guest, a network or a user, uses a rate up for the others. If others have come within `RETURNS_MAX`, a guest that was
//! let in for more than its share in a second (`SHARES`) leaves half of what may come at once to them. Of what they leave it
//! gets all, so a venue behind one address may have nearly the whole rate.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::id::{Monotonic, NetworkKey, UserId};
use crate::limits::RETURNS_MAX;
use crate::rate::{Used, WINDOW};

/// The share of a guest is this part of what a second lets in, and at least one.
const SHARES: u32 = 8;

/// Guests that a gate counts in one second. Beyond it the others count as guests within their share.
const GUESTS_MAX: usize = 4096;

/// Who comes through a gate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Guest {
    Network(NetworkKey),
    User(UserId),
}

/// A shard's part of a rate, and how much of it is used.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The time in which the part lets one in; `None`: no limit.
    each: Option<Duration>,
    used: Used,
    /// When the client that was refused last is to come back.
    last_return: Monotonic,
    refused: u64,
    /// How often guests were let in since `counts_since`, which is a second ago at most.
    guests: HashMap<Guest, u32>,
    counts_since: Monotonic,
    /// The guest that has asked last, and the last one before it that was another; each with the time.
    newest: Option<(Guest, Monotonic)>,
    other: Option<(Guest, Monotonic)>,
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
    pub fn has_room(&mut self, guest: Option<Guest>, now: Monotonic) -> Result<(), Duration> {
        let Some(each) = self.each else { return Ok(()) };
        let at_once = WINDOW.max(each);
        let room = if self.is_beyond_its_share(guest, each, now) { at_once / 2 } else { at_once };
        let full_for = self.used.spending(each, now).beyond(room, now);
        if full_for.is_zero() {
            return Ok(());
        }
        self.refused += 1;
        let soonest = now.plus(full_for);
        let next = self.last_return.plus(each);
        self.last_return = if next < soonest || next > now.plus(RETURNS_MAX.max(full_for)) { soonest } else { next };
        Err(self.last_return.since(now))
    }

    fn is_beyond_its_share(&mut self, guest: Option<Guest>, each: Duration, now: Monotonic) -> bool {
        if now.since(self.counts_since) >= WINDOW.max(each) {
            (self.guests, self.counts_since) = (HashMap::new(), now);
        }
        let Some(guest) = guest else { return false };
        if let Some(before) = self.newest.replace((guest, now))
            && before.0 != guest
        {
            self.other = Some(before);
        }
        let share = (WINDOW.as_nanos() / each.as_nanos().max(1)) as u32 / SHARES;
        let others_come = self.other.is_some_and(|(other, at)| other != guest && now.since(at) < RETURNS_MAX);
        others_come && self.guests.get(&guest).is_some_and(|count| *count >= share.max(1))
    }

    /// Counts a client that was let in.
    pub fn count(&mut self, guest: Option<Guest>, now: Monotonic) {
        let Some(each) = self.each else { return };
        self.used = self.used.spending(each, now);
        let has_room = self.guests.len() < GUESTS_MAX;
        if let Some(guest) = guest.filter(|guest| has_room || self.guests.contains_key(guest)) {
            *self.guests.entry(guest).or_default() += 1;
        }
    }

    /// Lets one in, or refuses it.
    pub fn let_in(&mut self, guest: Option<Guest>, now: Monotonic) -> Result<(), Duration> {
        self.has_room(guest, now)?;
        self.count(guest, now);
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
        (0..asked).filter(|_| gate.let_in(None, now).is_ok()).count()
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
        assert_eq!(gate.has_room(None, start), Err(Duration::from_secs(24)), "the third that is refused");
        assert_eq!(let_in(&mut gate, 3, start.plus(Duration::from_millis(7_999))), 0);
        assert_eq!(let_in(&mut gate, 3, start.plus(Duration::from_secs(8))), 1);
    }

    #[test]
    fn refused_clients_come_back_one_after_another() {
        let (mut gate, start) = (gate(100, 1), Monotonic(7));
        assert_eq!(let_in(&mut gate, 100, start), 100);
        let mut returns: Vec<Duration> =
            (0..1_000).map(|_| gate.let_in(None, start).expect_err("it is full")).collect();
        assert!(returns.is_sorted() && returns[0] == Duration::from_millis(10), "{:?}", returns[0]);
        returns.dedup();
        assert_eq!(returns.len(), 1_000, "each is told another time");
        assert_eq!(returns.last(), Some(&Duration::from_secs(10)), "as many in a second as the rate lets in");
        // All of them come when they are told to, and no other client does.
        let refused = returns.iter().filter(|time| gate.let_in(None, start.plus(**time)).is_err()).count();
        assert_eq!(refused, 0);
    }

    #[test]
    fn times_to_come_back_are_bounded_and_begin_again() {
        let (mut gate, start) = (gate(1, 1), Monotonic(7));
        assert_eq!(let_in(&mut gate, 1, start), 1);
        let seconds = |gate: &mut Gate| gate.let_in(None, start).expect_err("it is full").as_secs();
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

    fn network(number: u64) -> Option<Guest> {
        Some(Guest::Network(NetworkKey(std::num::NonZeroU64::new(number).expect("it is not 0"))))
    }

    #[test]
    fn a_guest_who_asks_all_the_time_leaves_half_to_the_others() {
        let (mut gate, mut now) = (gate(20, 1), Monotonic(7));
        let alone = (0..100).filter(|_| gate.let_in(network(1), now).is_ok()).count();
        assert_eq!(alone, 20, "all of it while no other comes");
        assert!(gate.let_in(network(2), now).is_err(), "the first other comes too late");
        now = now.plus(Duration::from_secs(1));
        for _ in 0..100 {
            now = now.plus(Duration::from_millis(100));
            let greedy = (0..100).filter(|_| gate.let_in(network(1), now).is_ok()).count();
            assert!(greedy >= 1, "what the others leave is its own");
        }
        let others = (3..100).filter(|number| gate.let_in(network(*number), now).is_ok()).count();
        assert!(others >= 8, "{others} others find room at once");
        assert!(gate.let_in(network(1), now).is_err());
        // The others ask for all of the rate. The first one gets what is its share at most.
        let (mut of_first, mut of_others) = (0, 0);
        for step in 0..100 {
            now = now.plus(Duration::from_millis(100));
            of_first += (0..100).filter(|_| gate.let_in(network(1), now).is_ok()).count();
            of_others += (0..100).filter(|asked| gate.let_in(network(1000 + 100 * step + asked), now).is_ok()).count();
        }
        assert!(of_others >= 170 && of_first <= 30, "{of_first} of the first and {of_others} of the others");
    }

    #[test]
    fn a_crowd_of_guests_is_counted_up_to_a_bound() {
        let (mut gate, now) = (gate(1_000_000, 1), Monotonic(7));
        for number in 1..=2 * GUESTS_MAX as u64 {
            assert_eq!(gate.let_in(network(number), now), Ok(()));
        }
        assert_eq!(gate.guests.len(), GUESTS_MAX);
        assert_eq!(gate.let_in(network(1), now.plus(WINDOW)), Ok(()));
        assert_eq!(gate.guests.len(), 1, "a new second begins");
    }

    proptest! {
        /// However clients come, all shards together let in no more than a second's worth and the rate.
        #[test]
        fn no_more_is_let_in_than_the_rate(
            steps in proptest::collection::vec((0..400_u64, 0..4_usize, 1..20_usize), 1..200), rate in 1..200_u32
        ) {
            const SHARDS: u16 = 4;
            let mut gates: [Gate; SHARDS as usize] = std::array::from_fn(|_| gate(rate, SHARDS));
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
