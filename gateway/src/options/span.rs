//! A length of time that may be none, as operators write it.

use std::str::FromStr;
use std::time::Duration;

/// Longest time.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// A time: `0`, `90s`, `2m`, `1m 30s`, `250ms` or plain seconds, at most a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => humantime::parse_duration(text)
                .map_err(|_| "write a time: 0, 90s, 2m, 1h or plain seconds".to_owned())?,
        };
        if time > SPAN_MAX {
            return Err("write a time from 0 to 24h".into());
        }
        Ok(Self(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_a_time() {
        for (text, milliseconds) in
            [("0", 0), ("0s", 0), ("10", 10_000), ("1m 30s", 90_000), ("250ms", 250), ("24h", 86_400_000)]
        {
            assert_eq!(text.parse::<Span>(), Ok(Span(Duration::from_millis(milliseconds))), "{text}");
        }
        for text in ["", "soon", "-1", "25h", "1 x"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
