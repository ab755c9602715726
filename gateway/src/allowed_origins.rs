//! The origins whose pages may ask this server, if the operator names some (RFC 6454; RFC 6455, section 4.2.2).
//!
//! A browser says in the header `Origin` of which origin a page is. Other clients send no such header, and pass. The header
//! keeps out pages, not programs: a program may write what it wants.

use std::fmt;
use std::str::FromStr;

/// Most origins that an operator may name: each request with an `Origin` is compared with all of them.
pub const ORIGINS_MAX: usize = 64;

/// A longer `Origin` is no allowed one. A host's name has 253 bytes at most.
const ORIGIN_BYTES_MAX: usize = 512;

/// Longest origin that an operator may name: with a label of 63 bytes for the star it is shorter than the longest `Origin`.
const NAMED_BYTES_MAX: usize = 320;

/// The origin of pages that have none, such as files.
const NULL: &str = "null";

/// The ports that browsers leave out.
const USUAL_PORTS: [(&str, &str); 2] = [("http", ":80"), ("https", ":443")];

/// An origin, or origins that differ in one label of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowedOrigin {
    /// In lower case, without a usual port. What stands before the label, or everything.
    before: String,
    /// What stands behind the label that may be any.
    after: Option<String>,
}

impl AllowedOrigin {
    /// Whether an origin in lower case and without a usual port is allowed.
    fn allows(&self, origin: &str) -> bool {
        let Some(after) = &self.after else { return self.before == origin };
        let label = origin.strip_prefix(&self.before).and_then(|rest| rest.strip_suffix(after.as_str()));
        label.is_some_and(|label| !label.is_empty() && label.bytes().all(is_of_a_label))
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        self.after.as_ref().map_or(Ok(()), |after| write!(f, "*{after}"))
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "write an origin as browsers send it, such as https://chat.example.org or https://*.example.org";
        let written = text.to_ascii_lowercase();
        let origin = comparable(&written);
        if origin == NULL {
            return Ok(Self { before: origin, after: None });
        }
        let Some((scheme, rest)) = written.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Err(format!("{EXAMPLE}: the scheme and :// come first"));
        };
        if rest.contains(['/', '?', '#']) {
            return Err(format!("{EXAMPLE}: an origin ends with its host or port, and has no path"));
        }
        if rest.contains('@') {
            return Err(format!("{EXAMPLE}: an origin has no user"));
        }
        if !origin.is_ascii() {
            return Err(format!("{EXAMPLE}: browsers send the ASCII form of a name, which begins with xn--"));
        }
        let (host, port) = split_port(rest);
        if !port.is_none_or(is_port) {
            return Err(format!("{EXAMPLE}: a port is a number from 1 to 65535"));
        }
        if origin.len() > NAMED_BYTES_MAX {
            return Err(format!("{EXAMPLE}: it has at most {NAMED_BYTES_MAX} bytes"));
        }
        if host.starts_with('[') {
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let is_address = address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
            return if is_address {
                Ok(Self { before: origin, after: None })
            } else {
                Err(format!("{EXAMPLE}: {host} is no IPv6 address"))
            };
        }
        let labels: Vec<&str> = host.split('.').collect();
        if labels.iter().any(|label| *label != "*" && (label.is_empty() || !label.bytes().all(is_of_a_label))) {
            return Err(format!("{EXAMPLE}: {host:?} is no name of a host; a * stands for a whole label"));
        }
        match labels.iter().filter(|label| **label == "*").count() {
            0 => return Ok(Self { before: origin, after: None }),
            1 => {}
            _ => return Err(format!("{EXAMPLE}: one label may be *, no more")),
        }
        if labels.last() == Some(&"*") {
            return Err(format!("{EXAMPLE}: the last label may not be *, because everybody can have such a name"));
        }
        let (before, after) = origin.split_once('*').unwrap_or((&origin, ""));
        debug_assert!(before.starts_with(scheme), "the scheme has no *");
        Ok(Self { before: before.to_owned(), after: Some(after.to_owned()) })
    }
}

/// The origins that an operator has named. If there are none, all are allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedOrigins(Vec<AllowedOrigin>);

impl AllowedOrigins {
    /// These origins.
    pub fn new(origins: Vec<AllowedOrigin>) -> Self {
        Self(origins)
    }

    /// Whether a request with these values of `Origin` is let in.
    pub fn allow<'a>(&self, mut origins: impl Iterator<Item = &'a [u8]>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) if origin.len() <= ORIGIN_BYTES_MAX => {
                std::str::from_utf8(origin).is_ok_and(|origin| {
                    let origin = comparable(origin);
                    self.0.iter().any(|allowed| allowed.allows(&origin))
                })
            }
            _ => false,
        }
    }
}

/// The origin in lower case, without a port that browsers leave out.
fn comparable(origin: &str) -> String {
    let mut origin = origin.to_ascii_lowercase();
    for (scheme, port) in USUAL_PORTS {
        let is_of_scheme = origin.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"));
        if is_of_scheme && origin.ends_with(port) {
            origin.truncate(origin.len() - port.len());
        }
    }
    origin
}

/// The host, and the port behind it if there is one.
fn split_port(rest: &str) -> (&str, Option<&str>) {
    let from = rest.rfind(']').map_or(0, |end| end + 1);
    match rest[from..].find(':') {
        Some(colon) => (&rest[..from + colon], Some(&rest[from + colon + 1..])),
        None => (rest, None),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

/// Labels of hosts have letters, digits and hyphens; some names in use have underscores.
fn is_of_a_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(allowed: &str, origin: &str) -> bool {
        AllowedOrigins::new(vec![allowed.parse().unwrap()]).allow([origin.as_bytes()].into_iter())
    }

    #[test]
    fn scheme_host_and_port_are_as_given() {
        for (allowed, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://A.example", "https://a.EXAMPLE", true),
            ("https://a.example:443", "https://a.example", true),
            ("https://a.example", "https://a.example:443", true),
            ("http://a.example", "http://a.example:80", true),
            ("https://a.example", "https://a.example:80", false),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example:8443", "https://a.example:8443", true),
            ("https://a.example:8443", "https://a.example", false),
            ("https://a.example", "https://b.a.example", false),
            ("https://a.example", "https://a.example.evil", false),
            ("https://a.example", "https://a.example/", false),
            ("https://a.example", "null", false),
            ("https://a.example", "", false),
            ("null", "null", true),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("capacitor://localhost", "capacitor://localhost", true),
        ] {
            assert_eq!(allows(allowed, origin), expected, "{allowed} and {origin}");
        }
    }

    #[test]
    fn a_star_is_one_label() {
        for (origin, expected) in [
            ("https://a.example.org", true),
            ("https://a-1.example.org:443", true),
            ("https://xn--bcher-kva.example.org", true),
            ("https://example.org", false),
            ("https://.example.org", false),
            ("https://a.b.example.org", false),
            ("https://a.example.org.evil", false),
            ("https://evil/.example.org", false),
            ("https://evil:1.example.org", false),
            ("https://evil?.example.org", false),
            ("https://user@a.example.org", false),
            ("https://é.example.org", false),
            ("https://*.example.org", false),
            ("https://a.example.org:8443", false),
        ] {
            assert_eq!(allows("https://*.example.org", origin), expected, "{origin}");
        }
        assert!(allows("https://chat.*.example:1", "https://chat.eu.example:1"));
        assert!(!allows("https://chat.*.example:1", "https://chat.eu.west.example:1"));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_to_write() {
        for (text, said) in [
            ("", "the scheme"),
            ("*", "the scheme"),
            ("a.example", "the scheme"),
            ("//a.example", "the scheme"),
            ("https:/a.example", "the scheme"),
            ("1http://a.example", "the scheme"),
            ("https://a.example/", "no path"),
            ("https://a.example/chat", "no path"),
            ("https://a.example?x", "no path"),
            ("https://me@a.example", "no user"),
            ("https://bücher.example", "xn--"),
            ("https://a.example:", "port"),
            ("https://a.example:0", "port"),
            ("https://a.example:65536", "port"),
            ("https://a.example:+1", "port"),
            ("https://a.example:*", "port"),
            ("https://a.example:443:443", "port"),
            ("https://", "no name of a host"),
            ("https://.example", "no name of a host"),
            ("https://a..example", "no name of a host"),
            ("https://a b.example", "no name of a host"),
            ("https://a*.example", "a whole label"),
            ("https://**.example", "a whole label"),
            ("https://*.*.example", "one label"),
            ("https://*", "last label"),
            ("https://a.*", "last label"),
            ("https://[::1", "port"),
            ("https://[::1]x", "IPv6"),
            ("https://[a]", "IPv6"),
            ("*://a.example", "the scheme"),
        ] {
            let refused = text.parse::<AllowedOrigin>().unwrap_err();
            assert!(refused.contains(said) && refused.contains("https://chat.example.org"), "{text:?}: {refused}");
        }
        assert!(format!("https://{}.example", "a".repeat(NAMED_BYTES_MAX)).parse::<AllowedOrigin>().is_err());
    }

    #[test]
    fn requests_without_an_origin_pass_and_two_origins_do_not() {
        let origins = AllowedOrigins::new(vec!["https://a.example".parse().unwrap(), "null".parse().unwrap()]);
        let (own, null) = (b"https://a.example".as_slice(), b"null".as_slice());
        assert!(origins.allow([].into_iter()));
        assert!(origins.allow([own].into_iter()) && origins.allow([null].into_iter()));
        assert!(!origins.allow([own, own].into_iter()), "a browser sends one");
        assert!(!origins.allow([b"\xff".as_slice()].into_iter()));
        let all = AllowedOrigins::default();
        assert!(all.allow([own, null].into_iter()) && all.allow([b"\xff".as_slice()].into_iter()));
    }

    proptest! {
        /// What is accepted says what it means: written out and read again it is the same, and without a star it allows
        /// itself.
        #[test]
        fn what_is_read_is_what_is_written(text in "[a-zA-Z]{1,6}://[a-z*.:0-9\\[\\]/@-]{0,20}") {
            if let Ok(allowed) = text.parse::<AllowedOrigin>() {
                let written = allowed.to_string();
                prop_assert_eq!(written.parse::<AllowedOrigin>(), Ok(allowed), "{}", written);
                prop_assert_eq!(allows(&text, &text), !text.contains('*'));
                prop_assert_eq!(allows(&text, &text.replace('*', "label")), true);
                prop_assert!(!allows(&text, &text.replace('*', "two.labels")) || !text.contains('*'));
            }
        }
    }
}
