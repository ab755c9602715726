//! The part of a channel's history that a read is about, and the buckets that may have something of it. Ids are
//! compared as the database compares them: it orders UUIDs by version first.

use engine::id::MessageId;
use engine::message::Message;
use storage::PageStart;
use uuid::Uuid;

use crate::channel::milliseconds;

/// The part of history from which a page is read. Both ends are ids of version 7, because the database orders UUIDs by
/// version first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub low: u128,
    pub high: u128,
    pub rising: bool,
}

impl Span {
    /// `None` if no id of version 7 is there.
    pub fn of(from: PageStart) -> Option<Self> {
        let (low, high) = match from {
            PageStart::Oldest | PageStart::Newest => (0, u128::MAX),
            PageStart::After(id) => (id.0.as_u128().checked_add(1)?, u128::MAX),
            PageStart::Before(id) => (0, id.0.as_u128().checked_sub(1)?),
        };
        let rising = matches!(from, PageStart::Oldest | PageStart::After(_));
        let span = Self { low: first_of_ours(low)?, high: last_of_ours(high)?, rising };
        (span.low <= span.high).then_some(span)
    }

    /// Whether messages are within this span, and in the order of reading.
    pub fn is_in_order(self, messages: &[Message]) -> bool {
        let within = |message: &Message| (self.low..=self.high).contains(&message.id.0.as_u128());
        let follows = |one: &Message, next: &Message| if self.rising { one.id < next.id } else { one.id > next.id };
        messages.iter().all(within) && messages.is_sorted_by(follows)
    }

    /// Whether this span has everything that a bucket may hold, and no more messages will come into the bucket.
    pub fn covers(self, bucket: i64, starts: &[i64]) -> bool {
        let Some(&next) = starts.get(starts.partition_point(|&start| start <= bucket)) else { return false };
        Some(self.low) <= first_of_ours(first_at(bucket)) && Some(self.high) >= last_of_ours(first_at(next) - 1)
    }

    /// The place between two buckets that follow each other in the order of reading, as if a message were there.
    pub fn border(self, read: i64, next: i64) -> MessageId {
        MessageId(Uuid::from_u128(if self.rising { first_at(next) - 1 } else { first_at(read) }))
    }

    /// The buckets that may hold messages of this span, in the order of reading.
    pub fn buckets(self, starts: &[i64]) -> Vec<i64> {
        let ms = |id: u128| milliseconds(MessageId(Uuid::from_u128(id)));
        let first = starts.partition_point(|&start| start <= ms(self.low)).saturating_sub(1);
        let last = starts.partition_point(|&start| start <= ms(self.high));
        let within = &starts[first.min(last)..last];
        if self.rising { within.to_vec() } else { within.iter().rev().copied().collect() }
    }
}

/// The number before which all ids of earlier milliseconds are.
pub fn first_at(ms: i64) -> u128 {
    (ms as u128) << 80
}

const VERSION_BITS: u32 = 76;
const VERSION: u128 = 7;
/// The bits of an id below its version.
const BELOW: u128 = (1 << VERSION_BITS) - 1;
const STEP: u128 = 1 << 80;

/// The least id of version 7 that is not less than `bound`.
pub fn first_of_ours(bound: u128) -> Option<u128> {
    let (ms, version) = (bound & !(STEP - 1), (bound >> VERSION_BITS) & 0xf);
    match version.cmp(&VERSION) {
        std::cmp::Ordering::Equal => Some(bound),
        std::cmp::Ordering::Less => Some(ms | VERSION << VERSION_BITS),
        std::cmp::Ordering::Greater => Some(ms.checked_add(STEP)? | VERSION << VERSION_BITS),
    }
}

/// The greatest id of version 7 that is not greater than `bound`.
fn last_of_ours(bound: u128) -> Option<u128> {
    let (ms, version) = (bound & !(STEP - 1), (bound >> VERSION_BITS) & 0xf);
    match version.cmp(&VERSION) {
        std::cmp::Ordering::Equal => Some(bound),
        std::cmp::Ordering::Greater => Some(ms | VERSION << VERSION_BITS | BELOW),
        std::cmp::Ordering::Less => Some(ms.checked_sub(STEP)? | VERSION << VERSION_BITS | BELOW),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_those_that_may_have_something() {
        let id = |ms: u128| MessageId(Uuid::from_u128(ms << 80 | 7 << 76 | 0b10 << 62));
        let starts = [10, 20, 30];
        let of = |from| Span::of(from).map_or(Vec::new(), |span| span.buckets(&starts));
        assert_eq!(of(PageStart::Oldest), [10, 20, 30]);
        assert_eq!(of(PageStart::Newest), [30, 20, 10]);
        assert_eq!(of(PageStart::After(id(5))), [10, 20, 30]);
        assert_eq!(of(PageStart::After(id(20))), [20, 30]);
        assert_eq!(of(PageStart::After(id(99))), [30]);
        assert_eq!(of(PageStart::Before(id(20))), [20, 10]);
        assert_eq!(of(PageStart::Before(id(9))), [0; 0]);
        assert_eq!(of(PageStart::Before(MessageId(Uuid::nil()))), [0; 0]);
        assert_eq!(of(PageStart::After(MessageId(Uuid::max()))), [0; 0]);
    }

    #[test]
    fn a_part_goes_on_at_the_border_of_two_buckets() {
        let starts = [10, 20, 30];
        for (from, on) in [(PageStart::Oldest, vec![20, 30]), (PageStart::Newest, vec![10])] {
            let span = Span::of(from).unwrap();
            let buckets = span.buckets(&starts);
            let (read, next) = if span.rising { (buckets[0], buckets[1]) } else { (buckets[1], buckets[2]) };
            let rest = Span::of(from.behind(span.border(read, next))).unwrap();
            assert!(rest.covers(next, &starts) && !rest.covers(read, &starts) && !rest.covers(30, &starts));
            assert!(rest.buckets(&starts).ends_with(&on), "{:?}", rest.buckets(&starts));
        }
        let half = Span::of(PageStart::After(MessageId(Uuid::from_u128(25 << 80 | 7 << 76)))).unwrap();
        assert!(!half.covers(20, &starts));
    }

    proptest! {
        #[test]
        fn bounds_of_our_form_let_the_same_ids_in(bound: u128, id: u128) {
            let id = id & !(0xf << VERSION_BITS) | VERSION << VERSION_BITS;
            prop_assert_eq!(first_of_ours(bound).is_some_and(|first| id >= first), id >= bound);
            prop_assert_eq!(last_of_ours(bound).is_some_and(|last| id <= last), id <= bound);
        }
    }
}
