//! Makes the ids of one channel's messages: UUIDs of version 7 that rise strictly, whatever the clock does.
//!
//! `48 bits ms | 7 | 12 bits counter | variant | 35 bits ms since the bucket's start | 27 random bits`
//!
//! The counter orders the messages of one millisecond. The bucket's start lets a store find a message's partition from
//! its id alone. The clock's reading and the random bits are arguments: nothing here reads a clock or makes random
//! numbers.

use uuid::Uuid;

use crate::id::{MessageId, Timestamp};

const MS_MAX: u64 = (1 << 48) - 1;
const COUNTER_MAX: u16 = (1 << 12) - 1;
const SINCE_START_BITS: u32 = 35;
const RANDOM_BITS: u32 = 27;
const VERSION: u128 = 7;
const VARIANT: u128 = 0b10;

/// A bucket is closed at this age, well within the 397 days that 35 bits of milliseconds can hold.
pub const BUCKET_AGE_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000;
const _: () = assert!(BUCKET_AGE_MS_MAX < 1 << SINCE_START_BITS);

/// There are no more ids: the last one has the greatest time that 48 bits of milliseconds can hold, in the year 10889.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndOfTime;

/// One channel's ids, at its owner.
#[derive(Clone, Debug)]
pub struct MessageIds {
    last: Place,
    bucket_start_ms: Option<u64>,
}

/// The place of an id among all ids of its channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    ms: u64,
    counter: u16,
}

impl MessageIds {
    /// Continues after `last`, the newest id of the channel, and in its bucket if that is young enough.
    pub fn after(last: Option<MessageId>) -> Self {
        // There is no id yet: the first place of any millisecond except 0 comes after this place.
        let Some(last) = last else {
            return Self { last: Place { ms: 0, counter: COUNTER_MAX }, bucket_start_ms: None };
        };
        let fields = Fields::of(last);
        // If the id has another form, only its milliseconds can be relied on.
        let counter = fields.map_or(COUNTER_MAX, |fields| fields.counter);
        let ms = milliseconds(last);
        Self {
            last: Place { ms, counter },
            bucket_start_ms: fields.and_then(|fields| ms.checked_sub(fields.since_start_ms)),
        }
    }

    /// The next id, when the clock reads `now`. The lowest bits of `random` make it hard to guess.
    ///
    /// Ids can be ahead of the clock: if more than 4,096 messages a millisecond use up the counter, or if the server
    /// that gave the last id had a clock that was ahead. They then continue by counting up from the last id until the
    /// clock has caught up. However far ahead they are, no message is refused for this reason.
    pub fn next(&mut self, now: Timestamp, random: u32) -> Result<MessageId, EndOfTime> {
        let place = self.last.following(u64::try_from(now.milliseconds()).unwrap_or(0));
        if place.ms > MS_MAX {
            return Err(EndOfTime);
        }
        self.last = place;
        let bucket_start_ms = match self.bucket_start_ms {
            Some(start_ms) if place.ms - start_ms < BUCKET_AGE_MS_MAX => start_ms,
            // The new bucket begins later than every id before: only the first id of a new millisecond can be too old
            // for the last bucket.
            _ => place.ms,
        };
        self.bucket_start_ms = Some(bucket_start_ms);
        let fields = Fields { counter: place.counter, since_start_ms: place.ms - bucket_start_ms };
        Ok(fields.id(place.ms, random))
    }
}

impl Place {
    /// The first place of the clock's millisecond, or the place after this one if that is later.
    fn following(self, clock_ms: u64) -> Self {
        let following = if self.counter < COUNTER_MAX {
            Self { ms: self.ms, counter: self.counter + 1 }
        } else {
            Self { ms: self.ms + 1, counter: 0 }
        };
        following.max(Self { ms: clock_ms, counter: 0 })
    }
}

/// The fields of an id other than its time and random bits.
#[derive(Clone, Copy)]
struct Fields {
    counter: u16,
    since_start_ms: u64,
}

impl Fields {
    /// Reads an id's fields; `None` if its version and variant show that this server did not make it.
    fn of(id: MessageId) -> Option<Self> {
        let bits = id.0.as_u128();
        let (version, variant) = ((bits >> 76) & 0xf, (bits >> 62) & 0b11);
        if (version, variant) != (VERSION, VARIANT) {
            return None;
        }
        Some(Self {
            counter: (bits >> 64) as u16 & COUNTER_MAX,
            since_start_ms: (bits as u64 >> RANDOM_BITS) & ((1 << SINCE_START_BITS) - 1),
        })
    }

    fn id(self, ms: u64, random: u32) -> MessageId {
        assert!(ms <= MS_MAX && self.counter <= COUNTER_MAX && self.since_start_ms < 1 << SINCE_START_BITS);
        let random = random & ((1 << RANDOM_BITS) - 1);
        let bits = u128::from(ms) << 80
            | VERSION << 76
            | u128::from(self.counter) << 64
            | VARIANT << 62
            | u128::from(self.since_start_ms) << RANDOM_BITS
            | u128::from(random);
        MessageId(Uuid::from_u128(bits))
    }
}

/// When the bucket of this message began; `None` for ids that this server did not make, which clients may send.
pub fn bucket_start(id: MessageId) -> Option<Timestamp> {
    let start_ms = milliseconds(id).checked_sub(Fields::of(id)?.since_start_ms)?;
    i64::try_from(start_ms).ok()?.checked_mul(1_000_000).map(Timestamp)
}

/// The end of the id's millisecond. The message's time is not later. `None` for ids that this server did not make.
pub fn latest_time(id: MessageId) -> Option<Timestamp> {
    Fields::of(id)?;
    let end_ms = i64::try_from(milliseconds(id)).ok()?.checked_add(1)?;
    Some(Timestamp(end_ms.checked_mul(1_000_000)? - 1))
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

    fn start_ms(id: MessageId) -> Option<u64> {
        bucket_start(id).map(|start| start.milliseconds() as u64)
    }

    fn text(id: MessageId) -> String {
        id.to_string()
    }

    #[test]
    fn each_field_is_where_it_belongs() {
        let mut ids = MessageIds::after(None);
        let first = ids.next(at(NOW_MS), 0).unwrap();
        assert_eq!(text(first), "01a20280-1a97-7000-8000-000000000000");
        assert_eq!(text(ids.next(at(NOW_MS), u32::MAX).unwrap()), "01a20280-1a97-7001-8000-000007ffffff");
        assert_eq!(text(ids.next(at(NOW_MS + 1), 1).unwrap()), "01a20280-1a98-7000-8000-000008000001");
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
        assert_eq!(start_ms(newest), start_ms(last), "in the same bucket");
        let id = ids.next(at(NOW_MS + 3 * HOUR_MS), 0).unwrap();
        assert_eq!(milliseconds(id), NOW_MS + 3 * HOUR_MS, "the clock is there");
    }

    #[test]
    fn the_latest_time_of_an_id_is_that_of_its_message_or_later() {
        let id = MessageIds::after(None).next(at(NOW_MS), 0).unwrap();
        assert_eq!(latest_time(id), Some(Timestamp(NOW_MS as i64 * 1_000_000 + 999_999)));
        assert_eq!(latest_time(MessageId(Uuid::max())), None);
        let far = Fields { counter: 0, since_start_ms: 0 }.id(MS_MAX, 0);
        assert_eq!(latest_time(far), None, "beyond what times can say");
    }

    #[test]
    fn a_bucket_lasts_365_days_across_restarts() {
        let mut ids = MessageIds::after(None);
        let first = ids.next(at(NOW_MS), 0).unwrap();
        assert_eq!(start_ms(first), Some(NOW_MS));

        let mut ids = MessageIds::after(Some(first));
        let last_of_it = ids.next(at(NOW_MS + BUCKET_AGE_MS_MAX - 1), 0).unwrap();
        assert_eq!(start_ms(last_of_it), Some(NOW_MS));

        let mut ids = MessageIds::after(Some(last_of_it));
        let first_of_next = ids.next(at(NOW_MS + BUCKET_AGE_MS_MAX), 0).unwrap();
        assert_eq!(start_ms(first_of_next), Some(NOW_MS + BUCKET_AGE_MS_MAX));
        assert_eq!(start_ms(ids.next(at(NOW_MS), 0).unwrap()), Some(NOW_MS + BUCKET_AGE_MS_MAX));

        let mut years_later = MessageIds::after(Some(first));
        assert_eq!(start_ms(years_later.next(at(5 * NOW_MS), 0).unwrap()), Some(5 * NOW_MS));
    }

    #[test]
    fn ids_of_others_have_no_bucket_and_are_passed_all_the_same() {
        let version_4 = MessageId(Uuid::from_u128(0xf4f9926e_0877_4a3f_9db2_d506c0f311d1));
        let nil = MessageId(Uuid::nil());
        let all = MessageId(Uuid::max());
        // Version 7, but its bucket would have begun before the epoch.
        let too_early = Fields { counter: 0, since_start_ms: 2 }.id(1, 0);
        for id in [version_4, nil, all, too_early] {
            assert_eq!(bucket_start(id), None, "{id}");
        }
        for id in [nil, too_early] {
            assert!(MessageIds::after(Some(id)).next(at(NOW_MS), 0).unwrap() > id);
        }
        assert_eq!(MessageIds::after(Some(all)).next(at(NOW_MS), 0), Err(EndOfTime));
    }

    /// Readings of a clock that may stand still, advance, jump and go back.
    fn clock() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let year_ms = BUCKET_AGE_MS_MAX;
        let reading = prop_oneof![
            4 => NOW_MS..NOW_MS + 5,
            2 => NOW_MS..NOW_MS + 100_000,
            1 => NOW_MS - year_ms..NOW_MS + 4 * year_ms,
        ];
        prop::collection::vec((reading, any::<u32>()), 1..200)
    }

    proptest! {
        #[test]
        fn ids_rise_strictly_under_any_clock(readings in clock(), restart in any::<prop::sample::Index>()) {
            let restart = restart.index(readings.len());
            let (mut ids, mut last, mut last_start) = (MessageIds::after(None), None, None);
            for (number, (ms, random)) in readings.into_iter().enumerate() {
                if number == restart {
                    ids = MessageIds::after(last);
                }
                let id = ids.next(at(ms), random).unwrap();
                prop_assert!(Some(id) > last);
                let start = start_ms(id);
                prop_assert!(start >= last_start, "buckets rise");
                prop_assert!(milliseconds(id) - start.unwrap() < BUCKET_AGE_MS_MAX);
                (last, last_start) = (Some(id), start);
            }
        }

        #[test]
        fn what_is_put_in_is_read_out(ms in 0_u64..1 << 48, counter in 0..=COUNTER_MAX, since in 0_u64..1 << 35, random: u32) {
            let id = Fields { counter, since_start_ms: since }.id(ms, random);
            let fields = Fields::of(id).unwrap();
            prop_assert_eq!((milliseconds(id), fields.counter, fields.since_start_ms), (ms, counter, since));
        }

        #[test]
        fn any_uuid_may_be_asked_about(bits: u128) {
            let id = MessageId(Uuid::from_u128(bits));
            let _ = (bucket_start(id), latest_time(id));
            let mut ids = MessageIds::after(Some(id));
            if let Ok(next) = ids.next(at(NOW_MS), 0) {
                prop_assert!(next > id);
            }
        }
    }
}
