//! The target of a request, as path and query, in each form that a request line allows (RFC 9112, section 3.2).

use crate::percent::{self, Part};

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

    /// Whether this is the path of WebSocket openings.
    pub fn is_socket(&self) -> bool {
        self.path == SOCKET
            || (self.path.contains('%') && percent::decode(self.path, Part::Path).is_some_and(|path| path == SOCKET))
    }
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
    fn the_socket_is_known_in_every_spelling() {
        for (written, expected) in [
            ("/ws", true),
            ("/ws?token=x", true),
            ("/%77s", true),
            ("/w%73?x", true),
            ("%2Fws", true),
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
