//! The target of a request, as path and query, in each form that a request line allows (RFC 9112, section 3.2).

use crate::percent::{self, UrlPart};

/// The path of WebSocket openings.
const SOCKET: &str = "/ws";

/// A request's target. Path and query are still percent-encoded; both may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    pub path: &'a str,
    pub query: &'a str,
}

impl<'a> Target<'a> {
    /// Reads the origin form (`/ws?a=b`) and the absolute form (`http://host/ws?a=b`), which clients of a forward proxy
    /// send. A fragment is not part of a target and is left out.
    pub fn of(written: &'a str) -> Self {
        let written = written.split('#').next().unwrap_or_default();
        let origin = match written.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
            _ => written,
        };
        let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
        Self { path, query }
    }

    /// Whether the authority of an absolute form is a host, perhaps with a port (RFC 3986, section 3.2; RFC 9110, section
    /// 4.2.1, wants a host that is not empty). Other forms have none that could be wrong.
    pub fn has_good_authority(written: &str) -> bool {
        let Some((_, rest)) = written.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return !written.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && rest.starts_with('/'));
        };
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        is_host(host.as_bytes())
    }

    /// Whether this is the path of WebSocket openings.
    pub fn is_socket(&self) -> bool {
        self.path == SOCKET
            || (self.path.starts_with('/')
                && self.path.contains('%')
                && percent::decode(self.path, UrlPart::Path).is_some_and(|path| path == SOCKET))
    }
}

/// Whether this is a host, perhaps with a port: what `Host` may hold (RFC 9110, section 7.2).
pub fn is_host(written: &[u8]) -> bool {
    let (host, port) = match written {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => return false,
        },
        _ => written.split_at(written.iter().position(|&byte| byte == b':').unwrap_or(written.len())),
    };
    let is_address = written.starts_with(b"[");
    let of_a_host = |&byte: &u8| match byte {
        b':' => is_address,
        b'%' => true,
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
    };
    let mut escapes = host.split(|&byte| byte == b'%').skip(1);
    let escaped = escapes.all(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit));
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && host.iter().all(of_a_host) && (escaped || is_address) && port_is_good
}

fn is_scheme(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_the_same_path_and_query() {
        for (written, path, query) in [
            ("/ws?a=b", "/ws", "a=b"),
            ("/ws", "/ws", ""),
            ("/", "/", ""),
            ("http://host/ws?a=b", "/ws", "a=b"),
            ("HTTP://user@host:7350/ws?a=b", "/ws", "a=b"),
            ("ws://[::1]:7350/ws?a=b?c", "/ws", "a=b?c"),
            ("http://host?a=b", "", "a=b"),
            ("http://host", "", ""),
            ("/ws?to=http://host/x", "/ws", "to=http://host/x"),
            ("/ws?a=b#c?d", "/ws", "a=b"),
            ("*", "*", ""),
            ("host:80", "host:80", ""),
            ("", "", ""),
            ("://x", "://x", ""),
        ] {
            assert_eq!(Target::of(written), Target { path, query }, "{written}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in ["host", "host:80", "host:", "127.0.0.1:7350", "[::1]", "[::1]:7350", "h%41st", "a_b-c.d~"] {
            assert!(is_host(good.as_bytes()), "{good}");
            assert!(Target::has_good_authority(&format!("http://{good}/ws?a")), "{good}");
            assert!(Target::has_good_authority(&format!("ws://user:pass@{good}")), "{good}");
        }
        for bad in ["", ":80", "[::1", "h:80:80", "%zz", "h%4", "é", "\"h\"", "h\\x", "a b", "h:8o", "[::1]x", "h@"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
            assert!(!Target::has_good_authority(&format!("http://{bad}/healthcheck")), "{bad}");
        }
        for other in ["/ws", "/http://[x/", "*", "host:80", "", "?a"] {
            assert!(Target::has_good_authority(other), "{other}");
        }
        assert!(!Target::has_good_authority("http:/x"), "an absolute form without an authority");
    }

    #[test]
    fn the_socket_is_known_in_every_spelling() {
        for (written, expected) in [
            ("/ws", true),
            ("/ws?token=x", true),
            ("/%77s", true),
            ("/w%73?x", true),
            ("%2Fws", false),
            ("http://host/%77%73", true),
            ("/%2577s", false),
            ("/ws/", false),
            ("/wsx", false),
            ("/WS", false),
            ("/ws%", false),
            ("/ws%zz", false),
            ("//ws", false),
            ("http://ws", false),
            ("http://host", false),
            ("*", false),
        ] {
            assert_eq!(Target::of(written).is_socket(), expected, "{written}");
        }
    }
}
