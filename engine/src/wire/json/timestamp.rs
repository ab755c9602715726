//! Timestamps as RFC 3339 text in UTC, with 0, 3, 6 or 9 fraction digits, as few as are exact.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::id::Timestamp;

/// `2026-11-22T09:04:39.575385013Z`
const TEXT_BYTES_MAX: usize = 30;
const NANOSECONDS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// A timestamp's text, ready to write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimestampText {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

/// The text of a timestamp. Every timestamp has one: the years from 1677 to 2262.
pub fn timestamp(timestamp: Timestamp) -> TimestampText {
    let seconds = timestamp.0.div_euclid(NANOSECONDS);
    let nanoseconds = timestamp.0.rem_euclid(NANOSECONDS);
    let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS));
    let second_of_day = seconds.rem_euclid(DAY_SECONDS);

    let mut text = TimestampText { bytes: [0; TEXT_BYTES_MAX], length: 0 };
    text.number(year, 4, b'-');
    text.number(month, 2, b'-');
    text.number(day, 2, b'T');
    text.number(second_of_day / 3600, 2, b':');
    text.number(second_of_day / 60 % 60, 2, b':');
    let (fraction, digits) = match nanoseconds {
        0 => (0, 0),
        _ if nanoseconds % 1_000_000 == 0 => (nanoseconds / 1_000_000, 3),
        _ if nanoseconds % 1_000 == 0 => (nanoseconds / 1_000, 6),
        _ => (nanoseconds, 9),
    };
    if digits == 0 {
        text.number(second_of_day % 60, 2, b'Z');
    } else {
        text.number(second_of_day % 60, 2, b'.');
        text.number(fraction, digits, b'Z');
    }
    text
}

/// Year, month and day in the Gregorian calendar of a day that is counted from the epoch.
///
/// Years are counted from March, so that the leap day comes last in its year. All eras of 400 years have the same
/// calendar.
fn date(epoch_day: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    const EPOCH_OFFSET_DAYS: i64 = 719_468;
    let day = epoch_day + EPOCH_OFFSET_DAYS;
    let (era, day_of_era) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day_of_month)
}

impl TimestampText {
    /// The text without quotes, such as `2026-01-02T03:04:05Z`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("digits and punctuation are ASCII")
    }

    /// Appends a number with leading zeros, and the character after it.
    fn number(&mut self, mut number: i64, digits: usize, end: u8) {
        let start = self.length;
        for at in (start..start + digits).rev() {
            self.bytes[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.bytes[start + digits] = end;
        self.length = start + digits + 1;
    }
}

impl fmt::Display for TimestampText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TimestampText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TimestampText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
