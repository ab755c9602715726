//! The client whose request a proxy passes on, as the headers `X-Forwarded-For` and `Forwarded` (RFC 7239) name it.
//!
//! Each proxy appends the address of its own peer. So the list is read from its end: what a trusted proxy has written
//! counts, and the first address that is no trusted proxy's is the client's. All before it may be the client's own
//! invention, and is not looked at.
//!
//! If a request has both headers, `X-Forwarded-For` counts. It is what almost all proxies write, and they pass a
//! `Forwarded` on that a client has made up. A proxy that writes `Forwarded` must take `X-Forwarded-For` away.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use httparse::Header;
use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};

use crate::trusted_proxies::TrustedProxies;

/// Most elements of the list that are read: one for each trusted proxy between the client and the server, and some that
/// are empty.
pub const ELEMENTS_MAX: usize = 32;

/// Longest address that is read, with its port and brackets.
const NODE_BYTES_MAX: usize = 64;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The values of the headers of a request in which proxies name its client, in their order.
pub trait ForwardingHeaders {
    /// All values of this header.
    fn values_of(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]>;
}

impl ForwardingHeaders for HeaderMap {
    fn values_of(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// A head that hyper has not read.
impl ForwardingHeaders for [Header<'_>] {
    fn values_of(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let of_name = self.iter().filter(move |header| header.name.eq_ignore_ascii_case(name.as_str()));
        of_name.map(|header| header.value)
    }
}

/// The address of the client that has sent a request with these headers over a connection of this peer. It is the last
/// good address if an element cannot be read or hides its address, and the peer's if the peer is no trusted proxy.
pub fn client(peer: IpAddr, headers: &(impl ForwardingHeaders + ?Sized), proxies: &TrustedProxies) -> IpAddr {
    if !proxies.trust(peer) {
        return peer;
    }
    let mut lines = headers.values_of(&X_FORWARDED_FOR).rev().peekable();
    if lines.peek().is_some() {
        walk(peer, lines.flat_map(addresses), proxies)
    } else {
        walk(peer, headers.values_of(&FORWARDED).rev().flat_map(elements), proxies)
    }
}

/// One element of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Element {
    Address(IpAddr),
    /// The address is hidden, left out, or cannot be read.
    Unknown,
    /// Nothing between two commas. It has no meaning (RFC 9110, section 5.6.1).
    Empty,
}

/// Walks from a peer towards the client, as long as trusted proxies show the way.
fn walk(peer: IpAddr, elements: impl Iterator<Item = Element>, proxies: &TrustedProxies) -> IpAddr {
    let mut client = peer;
    for element in elements.take(ELEMENTS_MAX) {
        match element {
            Element::Empty => {}
            Element::Unknown => break,
            Element::Address(address) => {
                client = address;
                if !proxies.trust(address) {
                    break;
                }
            }
        }
    }
    client
}

/// The elements of a line of `X-Forwarded-For`, the last one first.
fn addresses(line: &[u8]) -> impl Iterator<Item = Element> {
    line.rsplit(|&byte| byte == b',').map(|part| match part.trim_ascii() {
        b"" => Element::Empty,
        node => address(node).map_or(Element::Unknown, Element::Address),
    })
}

/// The elements of a line of `Forwarded`, the last one first. They cannot be told apart from the end, because a quoted
/// text may contain commas. If a quoted text has no end, the whole line is one element that cannot be read.
fn elements(line: &[u8]) -> impl Iterator<Item = Element> {
    let parts = split(line, b',').unwrap_or_else(|| [&b"?"[..]].into());
    parts.into_iter().rev().map(|part| match part.trim_ascii() {
        b"" => Element::Empty,
        pairs => named(pairs).map_or(Element::Unknown, Element::Address),
    })
}

/// The address that the one `for` of an element names.
fn named(pairs: &[u8]) -> Option<IpAddr> {
    let pairs = split(pairs, b';')?;
    let mut values = pairs.iter().filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        pair[..at].trim_ascii().eq_ignore_ascii_case(b"for").then(|| pair[at + 1..].trim_ascii())
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    match value.strip_prefix(b"\"") {
        None => address(value),
        // No character of an address has to be escaped.
        Some(quoted) => address(quoted.strip_suffix(b"\"")?),
    }
}

/// The parts between separators that stand outside of quoted texts, and only the last `ELEMENTS_MAX` of them. Returns
/// `None` if a quoted text has no end.
fn split(text: &[u8], separator: u8) -> Option<VecDeque<&[u8]>> {
    let (mut parts, mut start) = (VecDeque::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted && byte == b'\\' {
            escaped = true;
        } else if byte == b'"' {
            quoted = !quoted;
        } else if !quoted && byte == separator {
            parts.push_back(&text[start..at]);
            start = at + 1;
            if parts.len() == ELEMENTS_MAX {
                parts.pop_front();
            }
        }
    }
    parts.push_back(&text[start..]);
    (!quoted).then_some(parts)
}

/// The address of a node (RFC 7239, section 6), with or without a port. An IPv6 address without a port may stand without
/// brackets, as proxies write it in `X-Forwarded-For`.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok().filter(|node| node.len() <= NODE_BYTES_MAX)?;
    let address = if let Some(bracketed) = node.strip_prefix('[') {
        let (address, behind) = bracketed.split_once(']')?;
        let is_whole = behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(address.parse::<Ipv6Addr>().ok().filter(|_| is_whole)?)
    } else if let Ok(address) = node.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = node.split_once(':')?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

/// Whether this is a port: up to five digits, or a name in its place that begins with `_`.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// The client of a request that comes from `peer`. Lines are `name: value`. All of 10.0.0.0/8 and fd00::/8 are
    /// proxies.
    fn found(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
        }
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        client(peer.parse().unwrap(), &headers, &TrustedProxies::new(networks)).to_string()
    }

    fn check(line: &str, expected: &str) {
        assert_eq!(found(PROXY, &[line]), expected, "{line}");
    }

    #[test]
    fn a_peer_that_is_no_proxy_speaks_for_itself() {
        for line in ["X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7", "X-Forwarded-For: 10.0.0.2"] {
            assert_eq!(found("203.0.113.5", &[line]), "203.0.113.5", "{line}");
            assert_eq!(found("::ffff:10.0.0.1", &[line]), line.rsplit([' ', '=']).next().unwrap(), "{line}");
        }
        assert_eq!(found(PROXY, &[]), PROXY);
    }

    #[test]
    fn x_forwarded_for() {
        for (value, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
            ("198.51.100.1,192.0.2.7 ,\t10.0.0.9,10.1.1.1", "192.0.2.7"),
            ("made up, 192.0.2.7, fd00::1", "192.0.2.7"),
            ("192.0.2.7, , ,10.0.0.9,", "192.0.2.7"),
            ("10.0.0.9", "10.0.0.9"),
            ("192.0.2.7, unknown, 10.0.0.9", "10.0.0.9"),
            ("192.0.2.7, unknown", PROXY),
            ("192.0.2.7, 999.1.1.1", PROXY),
            ("192.0.2.7, 192.0.2.8 192.0.2.9", PROXY),
            ("192.0.2.7, 192.0.2.8:", PROXY),
            ("192.0.2.7, 192.0.2.8:123456", PROXY),
            ("192.0.2.7, 192.0.2.8:http", PROXY),
            ("192.0.2.7, 2001:db8::7%eth0", PROXY),
            ("192.0.2.7, [192.0.2.8]", PROXY),
            ("192.0.2.7, [2001:db8::7", PROXY),
            ("192.0.2.7, [2001:db8::7]4711", PROXY),
            ("192.0.2.7, \"192.0.2.8\"", PROXY),
            ("192.0.2.7, \u{e9}", PROXY),
            ("", PROXY),
        ] {
            check(&format!("X-Forwarded-For: {value}"), expected);
        }
    }

    /// The examples are those of RFC 7239, sections 4, 6 and 7.
    #[test]
    fn forwarded() {
        for (value, expected) in [
            ("for=\"_gazonk\"", PROXY),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=_hidden, for=_SEVKISEK", PROXY),
            ("for=192.0.2.43, for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17"),
            ("for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown", PROXY),
            ("for=unknown, for=10.0.0.9", "10.0.0.9"),
            ("for=192.0.2.43, for=\"[fd00::17]:_port\";by=_me, proto=https;FOR=10.0.0.9", "192.0.2.43"),
            ("proto=http; for = \"192.0.2.43:80\" ; by=unknown", "192.0.2.43"),
            ("for=192.0.2.43;ext=\"a,b;for=10.0.0.3\\\"\", for=10.0.0.9,,", "192.0.2.43"),
            ("for=192.0.2.43, for=192.0.2.44;for=192.0.2.45", PROXY),
            ("for=192.0.2.43, by=192.0.2.44", PROXY),
            ("for=192.0.2.43, for", PROXY),
            ("for=192.0.2.43, for=", PROXY),
            ("for=192.0.2.43, for=\"", PROXY),
            ("for=\"192.0.2.43, for=192.0.2.44", PROXY),
            ("for=192.0.2.43, for=\"192.0.2.44\"5", PROXY),
            ("for=192.0.2.43, for=\"192\\.0.2.44\"", PROXY),
        ] {
            check(&format!("Forwarded: {value}"), expected);
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = ["X-Forwarded-For: made up", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 10.0.0.9, 10.0.0.8"];
        assert_eq!(found(PROXY, &lines), "192.0.2.7");
        let lines = ["Forwarded: for=\"made up", "Forwarded: for=192.0.2.7", "Forwarded: for=10.0.0.9"];
        assert_eq!(found(PROXY, &lines), "192.0.2.7");
        assert_eq!(found(PROXY, &lines[..1]), PROXY);
    }

    #[test]
    fn x_forwarded_for_counts_before_forwarded() {
        let lines = ["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.7"];
        assert_eq!(found(PROXY, &lines), "192.0.2.7");
        assert_eq!(found(PROXY, &["Forwarded: for=192.0.2.1", "X-Forwarded-For: unknown"]), PROXY);
    }

    #[test]
    fn so_many_elements_and_no_more() {
        let list = |before: &str, proxies: usize| format!("{before}{}", ",10.0.0.9".repeat(proxies));
        check(&format!("X-Forwarded-For: {}", list("192.0.2.7", ELEMENTS_MAX - 1)), "192.0.2.7");
        check(&format!("X-Forwarded-For: {}", list("192.0.2.7", ELEMENTS_MAX)), "10.0.0.9");
        check(&format!("X-Forwarded-For: 192.0.2.7{}", ",".repeat(ELEMENTS_MAX - 1)), "192.0.2.7");
        check(&format!("X-Forwarded-For: 192.0.2.7{}", ",".repeat(ELEMENTS_MAX)), PROXY);
        let list = |proxies: usize| format!("for=192.0.2.7{}", ",for=10.0.0.9".repeat(proxies));
        check(&format!("Forwarded: {}", list(ELEMENTS_MAX - 1)), "192.0.2.7");
        check(&format!("Forwarded: {}", list(ELEMENTS_MAX)), "10.0.0.9");
    }

    proptest! {
        /// What stands before the client's own address changes nothing.
        #[test]
        fn a_client_cannot_name_another(made_up in "[ -~]{0,60}") {
            prop_assert_eq!(found(PROXY, &[&format!("X-Forwarded-For: {made_up}, 192.0.2.7")]), "192.0.2.7");
            let lines = [&format!("Forwarded: {made_up}")[..], "Forwarded: for=192.0.2.7"];
            prop_assert_eq!(found(PROXY, &lines), "192.0.2.7");
            let joined = found(PROXY, &[&format!("Forwarded: {made_up}, for=192.0.2.7")]);
            prop_assert!(joined == "192.0.2.7" || joined == PROXY, "{joined}");
        }
    }
}
