//! Makes the ids of one channel's messages: UUIDs of version 7 (RFC 9562, section 5.7) that rise strictly, whatever the clock
//! does.
//!
//! `48 bits ms | 7 | 12 bits counter | variant | 62 random bits`
//!
//! The counter orders the messages of one millisecond. The clock's reading and the random bits are arguments: nothing here
//! reads a clock or makes random numbers. Earlier programs put the time since a bucket's start into 35 of the random bits;
//! nothing reads them, and such ids continue like all others.

use uuid::Uuid;

use crate::id::{MessageId, Timestamp};

const MS_MAX: u64 = (1 << 48) - 1;
const COUNTER_MAX: u16 = (1 << 12) - 1;
const RANDOM_BITS: u32 = 62;
const VERSION: u128 = 7;
const VARIANT: u128 = 0b10;

/// There are no more ids: the last one has the greatest time that 48 bits of milliseconds can hold, in the year 10889.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndOfTime;

/// One channel's ids, at its owner.
#[derive(Clone, Debug)]
pub struct MessageIds {
    last: IdOrder,
}

/// Where an id stands among all ids of its channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct IdOrder {
    ms: u64,
    counter: u16,
}

impl MessageIds {
    /// Continues after `last`, the newest id of the channel.
    pub fn after(last: Option<MessageId>) -> Self {
        // There is no id yet: the first id of any millisecond except 0 comes after this.
        let Some(last) = last else {
            return Self { last: IdOrder { ms: 0, counter: COUNTER_MAX } };
        };
        // If the id has another form, only its milliseconds can be relied on.
        let counter = counter(last).unwrap_or(COUNTER_MAX);
        Self { last: IdOrder { ms: milliseconds(last), counter } }
    }

    /// The next id, when the clock reads `now`. The lowest 62 bits of `random` make it hard to guess.
    ///
    /// Ids can be ahead of the clock: if more than 4,096 messages a millisecond use up the counter, or if the server
    /// that gave the last id had a clock that was ahead. They then continue by counting up from the last id until the
    /// clock has caught up. However far ahead they are, no message is refused for this reason.
    pub fn next(&mut self, now: Timestamp, random: u64) -> Result<MessageId, EndOfTime> {
        let next = self.last.following(u64::try_from(now.milliseconds()).unwrap_or(0));
        if next.ms > MS_MAX {
            return Err(EndOfTime);
        }
        self.last = next;
        Ok(next.id(random))
    }
}

impl IdOrder {
    /// The first id of the clock's millisecond, or the one after this if that is later.
    fn following(self, clock_ms: u64) -> Self {
        let following = if self.counter < COUNTER_MAX {
            Self { ms: self.ms, counter: self.counter + 1 }
        } else {
            Self { ms: self.ms + 1, counter: 0 }
        };
        following.max(Self { ms: clock_ms, counter: 0 })
    }

    fn id(self, random: u64) -> MessageId {
        assert!(self.ms <= MS_MAX && self.counter <= COUNTER_MAX);
        let bits = u128::from(self.ms) << 80
            | VERSION << 76
            | u128::from(self.counter) << 64
            | VARIANT << RANDOM_BITS
            | u128::from(random & ((1 << RANDOM_BITS) - 1));
        MessageId(Uuid::from_u128(bits))
    }
}

/// The end of the id's millisecond. The message's time is not later. `None` for ids that this server did not make.
pub fn latest_time(id: MessageId) -> Option<Timestamp> {
    counter(id)?;
    let end_ms = i64::try_from(milliseconds(id)).ok()?.checked_add(1)?;
    Some(Timestamp(end_ms.checked_mul(1_000_000)? - 1))
}

/// The counter in an id; `None` if its version and variant show that this server did not make it.
fn counter(id: MessageId) -> Option<u16> {
    let bits = id.0.as_u128();
    let (version, variant) = ((bits >> 76) & 0xf, (bits >> RANDOM_BITS) & 0b11);
    ((version, variant) == (VERSION, VARIANT)).then_some((bits >> 64) as u16 & COUNTER_MAX)
}

fn milliseconds(id: MessageId) -> u64 {
    (id.0.as_u128() >> 80) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: u64 = 1_795_338_279_575;

    fn at(ms: u64) -> Timestamp {
        Timestamp(ms as i64 * 1_000_000 + 385_013)
    }

    fn text(id: MessageId) -> String {
        id.to_string()
    }

    #[test]
    fn each_field_is_where_it_belongs() {
        let mut ids = MessageIds::after(None);
        let first = ids.next(at(NOW_MS), 0).unwrap();
        assert_eq!(text(first), "01a20280-1a97-7000-8000-000000000000");
        assert_eq!(text(ids.next(at(NOW_MS), u64::MAX).unwrap()), "01a20280-1a97-7001-bfff-ffffffffffff");
        assert_eq!(text(ids.next(at(NOW_MS + 1), 1).unwrap()), "01a20280-1a98-7000-8000-000000000001");
        assert_eq!(first.0.get_version_num(), 7);
        assert_eq!(first.0.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn a_clock_that_steps_back_is_not_believed() {
        let mut ids = MessageIds::after(None);
        let before = ids.next(at(NOW_MS), 5).unwrap();
        let after = ids.next(at(NOW_MS - 3_600_000), 4).unwrap();
        assert!(after > before);
        assert_eq!(milliseconds(after), NOW_MS);
        assert!(ids.next(Timestamp(i64::MIN), 0).unwrap() > after);
    }

    #[test]
    fn a_used_up_millisecond_borrows_from_the_next_ones() {
        let mut ids = MessageIds::after(None);
        let mut last = ids.next(at(NOW_MS), 0).unwrap();
        for _ in 1..10 * (u64::from(COUNTER_MAX) + 1) {
            let id = ids.next(at(NOW_MS), 0).unwrap();
            assert!(id > last);
            last = id;
        }
        assert_eq!(milliseconds(last), NOW_MS + 9);
        let id = ids.next(at(NOW_MS + 20), 0).unwrap();
        assert_eq!((id > last, milliseconds(id)), (true, NOW_MS + 20));
    }

    #[test]
    fn a_history_that_lies_ahead_of_the_clock_goes_on() {
        const HOUR_MS: u64 = 3_600_000;
        let last = MessageIds::after(None).next(at(NOW_MS + 2 * HOUR_MS), 0).unwrap();
        let mut ids = MessageIds::after(Some(last));
        let mut newest = last;
        // More than a second's worth of ids.
        for number in 0..5_000_000_u64 {
            let id = ids.next(at(NOW_MS + number / 1_000), 0).unwrap();
            assert!(id > newest);
            newest = id;
        }
        let id = ids.next(at(NOW_MS + 3 * HOUR_MS), 0).unwrap();
        assert_eq!(milliseconds(id), NOW_MS + 3 * HOUR_MS, "the clock is there");
    }

    #[test]
    fn the_latest_time_of_an_id_is_that_of_its_message_or_later() {
        let id = MessageIds::after(None).next(at(NOW_MS), 0).unwrap();
        assert_eq!(latest_time(id), Some(Timestamp(NOW_MS as i64 * 1_000_000 + 999_999)));
        assert_eq!(latest_time(MessageId(Uuid::max())), None);
        let far = IdOrder { ms: MS_MAX, counter: 0 }.id(0);
        assert_eq!(latest_time(far), None, "beyond what times can say");
    }

    #[test]
    fn ids_of_earlier_programs_go_on() {
        // 35 of its bits are the time since the start of a bucket.
        let earlier = MessageId(Uuid::from_u128(0x01a2_0280_1a97_7002_8000_0010_0712_3456));
        assert_eq!((milliseconds(earlier), counter(earlier)), (NOW_MS, Some(2)));
        assert_eq!(latest_time(earlier), Some(Timestamp(NOW_MS as i64 * 1_000_000 + 999_999)));
        let next = MessageIds::after(Some(earlier)).next(at(NOW_MS), 0).unwrap();
        assert_eq!((milliseconds(next), counter(next)), (NOW_MS, Some(3)));
    }

    #[test]
    fn ids_of_others_are_passed_all_the_same() {
        let version_4 = MessageId(Uuid::from_u128(0xf4f9926e_0877_4a3f_9db2_d506c0f311d1));
        let (nil, all) = (MessageId(Uuid::nil()), MessageId(Uuid::max()));
        for id in [version_4, nil, all] {
            assert_eq!(latest_time(id), None, "{id}");
        }
        assert!(MessageIds::after(Some(nil)).next(at(NOW_MS), 0).unwrap() > nil);
        assert_eq!(MessageIds::after(Some(all)).next(at(NOW_MS), 0), Err(EndOfTime));
    }

    /// Readings of a clock that may stand still, advance, jump and go back.
    fn clock() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let year_ms = 365 * 24 * 3_600_000;
        let reading = prop_oneof![
            4 => NOW_MS..NOW_MS + 5,
            2 => NOW_MS..NOW_MS + 100_000,
            1 => NOW_MS - year_ms..NOW_MS + 4 * year_ms,
        ];
        prop::collection::vec((reading, any::<u64>()), 1..200)
    }

    proptest! {
        #[test]
        fn ids_rise_strictly_under_any_clock(readings in clock(), restart in any::<prop::sample::Index>()) {
            let restart = restart.index(readings.len());
            let (mut ids, mut last) = (MessageIds::after(None), None);
            for (number, (ms, random)) in readings.into_iter().enumerate() {
                if number == restart {
                    ids = MessageIds::after(last);
                }
                let id = ids.next(at(ms), random).unwrap();
                prop_assert!(Some(id) > last);
                last = Some(id);
            }
        }

        #[test]
        fn what_is_put_in_is_read_out(ms in 0_u64..1 << 48, given in 0..=COUNTER_MAX, random: u64) {
            let id = IdOrder { ms, counter: given }.id(random);
            prop_assert_eq!((milliseconds(id), counter(id)), (ms, Some(given)));
            prop_assert_eq!(id.0.as_u128() as u64 & (u64::MAX >> 2), random & (u64::MAX >> 2));
        }

        #[test]
        fn any_uuid_may_be_asked_about(bits: u128) {
            let id = MessageId(Uuid::from_u128(bits));
            let _ = latest_time(id);
            let mut ids = MessageIds::after(Some(id));
            if let Ok(next) = ids.next(at(NOW_MS), 0) {
                prop_assert!(next > id);
            }
        }
    }
}
