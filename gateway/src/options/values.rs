//! The forms of values: each reads one text, which a flag, a variable or the file gives, and says what to write instead.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use engine::id::parse_uuid;
use uuid::Uuid;

use super::span::Span;
use crate::identity::CLOCK_SKEW_MAX;
use crate::listen_address::ListenAddress;

/// Longest lifetime of a token. Revocations are kept as long as tokens live.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest keep-alive time.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Parses an id.
pub fn uuid(text: &str) -> Result<Uuid, String> {
    parse_uuid(text).ok_or_else(|| "write a UUID, such as 0192f5f8-2c3e-7a41-9ea1-a4af5c6ac433".to_owned())
}

/// Parses an address. The error shows an example, because many users write a port alone, or a name.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:7350".to_owned())
}

/// A parser of whole numbers from `least` to `most`.
pub(crate) fn whole<N>(least: N, most: N) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + fmt::Display + Copy,
{
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {least} to {most}")),
    }
}

/// Parses the time for which idle connections are kept.
pub(super) fn keep_alive(text: &str) -> Result<Ttl, String> {
    let parsed: Ttl = text.parse().map_err(|_| "write a time from 1s to 24h, such as 90s, 2m or plain seconds")?;
    if parsed.0 > KEEP_ALIVE_MAX {
        return Err("write a time from 1s to 24h".into());
    }
    Ok(parsed)
}

/// The address for operators, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AdminAddress {
    At(SocketAddr),
    Off,
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => address(text).map(Self::At).map_err(|error| format!("{error}, or off")),
        }
    }
}

/// The address of gRPC, or `off`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum GrpcAddress {
    At(ListenAddress),
    Off,
}

impl FromStr for GrpcAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|error| format!("{error}; or off")),
        }
    }
}

/// A lifetime in whole seconds: `90s`, `2m`, `1h 30m` or plain seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ttl(pub Duration);

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => humantime::parse_duration(text).map_err(|_| "write a time: 90s, 2m, 1h or plain seconds")?,
        };
        if duration < Duration::from_secs(1) || duration > TTL_MAX {
            return Err("write a time from 1s to 366 days".into());
        }
        // Tokens have times in whole seconds.
        Ok(Self(Duration::from_secs(duration.as_secs())))
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A moment in UTC, in seconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment(pub i64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time =
            humantime::parse_rfc3339_weak(text).map_err(|_| "write a time in UTC, such as 2026-12-31T18:00:00Z")?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| "write a time after 1970")?;
        Ok(Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
    }
}

/// Parses how far another clock may differ.
pub(super) fn clock_skew(text: &str) -> Result<Span, String> {
    let parsed: Span = text.parse()?;
    if parsed.0 > CLOCK_SKEW_MAX { Err("write a time from 0 to 5m".into()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("1h 30m", 5400), ("1500ms", 1)] {
            assert_eq!(text.parse::<Ttl>(), Ok(Ttl(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "soon", "0", "-1", "999ms", "367d", "90 s x"] {
            assert!(text.parse::<Ttl>().is_err(), "{text}");
        }
        assert_eq!(Ttl(Duration::from_secs(180)).to_string(), "3m");
    }

    #[test]
    fn moments() {
        for text in ["2026-12-31T18:00:00Z", "2026-12-31T18:00:00", "2026-12-31 18:00:00"] {
            assert_eq!(text.parse::<Moment>(), Ok(Moment(1_798_740_000)), "{text}");
        }
        for text in ["", "tomorrow", "1798740000", "2026-12-31", "2026-13-01T00:00:00Z", "2026-12-31T18:00:00+02:00"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers() {
        let parse = whole::<u16>(1, 256);
        assert_eq!((parse("1"), parse("256")), (Ok(1), Ok(256)));
        for text in ["0", "257", "-1", "1.5", "many", "", "65537"] {
            assert_eq!(parse(text), Err("write a whole number from 1 to 256".into()), "{text}");
        }
    }
}
