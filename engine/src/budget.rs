//! Budgets of work: what requests cost is taken from a bucket, which a rate fills again.
//!
//! Work is measured by the time that it takes of a shard on an ordinary core. A request is judged before its work begins.
//! It is let in whole as long as the bucket is not empty, so a request may cost more than the bucket holds. What is known
//! only afterwards is charged afterwards. So a bucket may go into debt. The debt is bounded, and so is the time until
//! requests are let in again. What goes into the bucket beyond the bound is forgiven.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use crate::id::Monotonic;
use crate::limits::{BUDGET_BURST, BUDGET_DEBT_MAX, BUDGET_FAR, BUDGETS_MAX, BUDGETS_SWEPT_MAX};
use crate::rate::Used;
use crate::table::give_back;

/// The time that work takes of a shard on an ordinary core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Work {
    nanos: u64,
}

impl Work {
    /// Work of so many microseconds.
    pub const fn micros(micros: u64) -> Self {
        Self { nanos: micros * 1000 }
    }

    /// What it takes to write an answer of so many bytes.
    pub const fn bytes(bytes: usize) -> Self {
        Self { nanos: bytes as u64 }
    }

    /// So many times this work.
    pub const fn times(self, count: usize) -> Self {
        Self { nanos: self.nanos.saturating_mul(count as u64) }
    }

    /// This work without some of it.
    pub const fn without(self, some: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(some.nanos) }
    }

    /// An equal part of this work, if so many share it. At least one does.
    pub fn shared_by(self, count: usize) -> Self {
        Self { nanos: self.nanos / (count.max(1) as u64) }
    }

    /// This work in whole microseconds.
    pub const fn as_micros(self) -> u64 {
        self.nanos / 1000
    }

    /// The time in which a bucket gets so much back, at this rate of milliseconds a second.
    fn at(self, rate: NonZeroU32) -> Duration {
        Duration::from_nanos(self.nanos.saturating_mul(1000) / u64::from(rate.get()))
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(more.nanos) }
    }
}

/// How the work so far stands to a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Within,
    /// Requests that may be refused are refused. If nothing is added, the bucket is within its budget after this time.
    Beyond(Duration),
    /// Sockets are read later, too.
    FarBeyond(Duration),
}

impl Standing {
    /// The time until the bucket is within its budget again, if nothing is added.
    pub fn debt(self) -> Duration {
        match self {
            Self::Within => Duration::ZERO,
            Self::Beyond(debt) | Self::FarBeyond(debt) => debt,
        }
    }

    /// Whether sockets are to be read later.
    pub fn is_far_beyond(self) -> bool {
        matches!(self, Self::FarBeyond(_))
    }
}

/// The work of one session or user, and what has been given back of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket(Used);

impl Bucket {
    /// How the work so far stands to the budget.
    pub fn standing(self, now: Monotonic) -> Standing {
        match self.0.beyond(BUDGET_BURST, now) {
            Duration::ZERO => Standing::Within,
            debt if debt <= BUDGET_FAR => Standing::Beyond(debt),
            debt => Standing::FarBeyond(debt),
        }
    }

    /// Charges work, at a rate of `rate` milliseconds a second.
    pub fn spend(&mut self, work: Work, rate: NonZeroU32, now: Monotonic) {
        let most = BUDGET_BURST + BUDGET_DEBT_MAX;
        self.0 = self.0.spending(work.at(rate), now).given_back_in(most, now);
    }

    /// Takes back a charge that was made for work that was not done. Time has given back a part of it since.
    fn take_back(&mut self, work: Work, charged: Monotonic, rate: NonZeroU32, now: Monotonic) {
        self.0 = self.0.without(work.at(rate).saturating_sub(now.since(charged)));
    }

    /// Whether all work is given back. Then it is as good as a new one.
    pub fn is_full(self, now: Monotonic) -> bool {
        self.0.is_nothing(now)
    }
}

/// Buckets by key, such as the user. A bucket whose work is all given back is removed, because a new one is as good.
///
/// There are at most `BUDGETS_MAX` buckets. When one more is needed, the bucket that `sweep` looked at longest ago is
/// removed, even if it is in debt.
pub struct Budgets<K> {
    /// Milliseconds of work a second; `None`: no limit.
    rate: Option<NonZeroU32>,
    buckets: HashMap<K, Bucket>,
    /// The keys of `buckets`, in the order in which `sweep` looks at them.
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash> Budgets<K> {
    /// Has no buckets yet. Each key may spend `rate` milliseconds of work a second; `None`: no limit, and no bucket is ever
    /// made.
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        Self { rate, buckets: HashMap::new(), order: VecDeque::new() }
    }

    /// Gives each key another rate. What was spent at the old one is still to be given back, unless there is no limit any
    /// more.
    pub fn set_rate(&mut self, rate: Option<NonZeroU32>) {
        self.rate = rate;
        if rate.is_none() && !self.order.is_empty() {
            *self = Self::new(None);
        }
    }

    /// Whether there is a limit.
    pub fn is_bounded(&self) -> bool {
        self.rate.is_some()
    }

    /// How the work under this key stands to its budget.
    pub fn standing(&self, key: &K, now: Monotonic) -> Standing {
        self.buckets.get(key).map_or(Standing::Within, |bucket| bucket.standing(now))
    }

    /// Charges work under this key.
    pub fn spend(&mut self, key: K, work: Work, now: Monotonic) {
        let Some(rate) = self.rate else { return };
        match self.buckets.entry(key) {
            Entry::Occupied(mut bucket) => bucket.get_mut().spend(work, rate, now),
            Entry::Vacant(place) => {
                place.insert(Bucket::default()).spend(work, rate, now);
                self.order.push_back(key);
                if self.order.len() > BUDGETS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.buckets.remove(&oldest);
                }
            }
        }
    }

    /// Takes back what was charged at this time for work that was not done.
    pub fn take_back(&mut self, key: &K, work: Work, charged: Monotonic, now: Monotonic) {
        if let (Some(rate), Some(bucket)) = (self.rate, self.buckets.get_mut(key)) {
            bucket.take_back(work, charged, rate, now);
        }
    }

    /// Forgets buckets that are full again. Looks at a bounded number of them, so call it once a turn.
    pub fn sweep(&mut self, now: Monotonic) {
        for _ in 0..self.order.len().min(BUDGETS_SWEPT_MAX) {
            let Some(key) = self.order.pop_front() else { return };
            if self.buckets.get(&key).is_some_and(|bucket| !bucket.is_full(now)) {
                self.order.push_back(key);
            } else {
                self.buckets.remove(&key);
            }
        }
        give_back(&mut self.buckets);
        if self.order.is_empty() {
            self.order = VecDeque::new();
        }
    }

    /// Asserts what the tables promise each other.
    pub fn invariants(&self) {
        assert_eq!(self.order.len(), self.buckets.len(), "each bucket is looked at in turn");
        assert!(self.order.len() <= BUDGETS_MAX, "budgets are bounded");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(50).expect("it is not zero");

    /// Work that the rate gives back in this time.
    fn given_back_in(time: Duration) -> Work {
        Work { nanos: time.as_nanos() as u64 * u64::from(RATE.get()) / 1000 }
    }

    #[test]
    fn two_seconds_of_work_come_at_once_and_then_the_rate() {
        let (mut bucket, start) = (Bucket::default(), Monotonic(7));
        let second = given_back_in(Duration::from_secs(1));
        assert_eq!(second, Work::micros(50_000));
        bucket.spend(second.times(2), RATE, start);
        assert_eq!(bucket.standing(start), Standing::Within, "nothing is owed");
        bucket.spend(Work::micros(1), RATE, start);
        assert_eq!(bucket.standing(start), Standing::Beyond(Duration::from_micros(20)));
        assert_eq!(bucket.standing(start.plus(Duration::from_micros(20))), Standing::Within);
        bucket.spend(second, RATE, start);
        assert!(matches!(bucket.standing(start), Standing::FarBeyond(_)));
        assert!(!bucket.is_full(start) && bucket.is_full(start.plus(Duration::from_secs(4))));
    }

    proptest! {
        /// A client that asks at every chance is let in no more than the burst, the rate, and the end of one request.
        #[test]
        fn no_more_is_let_in_than_burst_and_rate(
            steps in proptest::collection::vec((0..200_000_000_u64, 0..60_000_u64), 1..200)
        ) {
            let (mut bucket, start, mut now) = (Bucket::default(), Monotonic(5), Monotonic(5));
            let (mut admitted, mut costliest) = (Work::default(), Work::default());
            for (pause, micros) in steps {
                now = now.plus(Duration::from_nanos(pause));
                let work = Work::micros(micros);
                if bucket.standing(now) == Standing::Within {
                    bucket.spend(work, RATE, now);
                    admitted = admitted + work;
                    costliest = costliest.max(work);
                }
                let allowed = given_back_in(BUDGET_BURST + now.since(start)) + costliest;
                prop_assert!(admitted <= allowed, "{admitted:?} of {allowed:?}");
            }
        }

        /// However much is charged, the debt is paid in a bounded time.
        #[test]
        fn recovery_is_bounded(work in proptest::collection::vec(any::<u64>(), 1..20), rate in 1..u32::MAX) {
            let (mut bucket, now) = (Bucket::default(), Monotonic(5));
            let rate = NonZeroU32::new(rate).expect("it is not zero");
            for nanos in work {
                bucket.spend(Work { nanos }, rate, now);
            }
            prop_assert_eq!(bucket.standing(now.plus(BUDGET_DEBT_MAX)), Standing::Within);
            prop_assert!(bucket.is_full(now.plus(BUDGET_DEBT_MAX + BUDGET_BURST)));
        }
    }

    #[test]
    fn keys_share_nothing_and_full_buckets_are_forgotten() {
        let mut budgets = Budgets::new(Some(RATE));
        let (start, far) = (Monotonic(0), given_back_in(BUDGET_BURST + 2 * BUDGET_FAR));
        for key in 0..3 * BUDGETS_SWEPT_MAX {
            budgets.spend(key, if key == 1 { far } else { Work::micros(1) }, start);
        }
        assert!(matches!(budgets.standing(&1, start), Standing::FarBeyond(_)));
        assert_eq!(budgets.standing(&2, start), Standing::Within);
        let later = start.plus(Duration::from_millis(1));
        for _ in 0..2 {
            budgets.sweep(later);
            budgets.invariants();
        }
        assert_eq!(budgets.order.len(), BUDGETS_SWEPT_MAX + 1, "one step looks at a bounded number");
        budgets.sweep(later);
        assert_eq!(budgets.order, [1], "the one that is not full stays");
        budgets.sweep(start.plus(Duration::from_secs(60)));
        assert!(budgets.buckets.is_empty() && budgets.order.is_empty());
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut budgets = Budgets::new(Some(RATE));
        for key in 0..BUDGETS_MAX + 10 {
            budgets.spend(key, Work::micros(1000), Monotonic(0));
        }
        budgets.invariants();
        assert!(!budgets.buckets.contains_key(&9) && budgets.buckets.contains_key(&10), "the oldest is forgotten");
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut budgets = Budgets::new(None);
        budgets.spend(1, Work::micros(u64::MAX / 1000), Monotonic(0));
        assert_eq!(budgets.standing(&1, Monotonic(0)), Standing::Within);
        assert!(budgets.buckets.is_empty());
    }
}
