//! The header of the PROXY protocol, versions 1 and 2, with which a proxy begins a connection. It says whose connection
//! this is (haproxy's `doc/proxy-protocol.txt`).
//!
//! Pure: bytes in, a verdict out. The verdict does not depend on how the bytes were split, and later bytes never change
//! it. The caller asks trusted peers only, and bounds the time. The destination and the additional values (TLVs) are not
//! read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header of version 1, with its line end.
const LINE_BYTES_MAX: usize = 107;
/// Most bytes of addresses and additional values in a header of version 2. The protocol asks senders to keep the header
/// within one segment of the smallest network, so that it comes whole.
pub const PAYLOAD_BYTES_MAX: usize = 536;
/// Signature, version and command, family, and length.
const PREAMBLE_BYTES: usize = 16;
/// Longest header. Of an unfinished header no more is kept.
pub const HEADER_BYTES_MAX: usize = PREAMBLE_BYTES + PAYLOAD_BYTES_MAX;

const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the first bytes of a proxy's connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// Not decided yet: call again with these bytes and more.
    NeedMore,
    /// The header is whole, and the first request begins at byte `read`. Without a client the proxy speaks for itself
    /// (`LOCAL`, as its health checks do), or does not know an IP address (`UNKNOWN`, or a local socket).
    Whole { read: usize, client: Option<IpAddr> },
    /// Close the connection.
    Bad(ProxyHeaderFault),
}

/// Why a connection does not begin with a header that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyHeaderFault {
    #[error("there is no header of the PROXY protocol")]
    Missing,
    #[error("the header of the PROXY protocol is malformed")]
    Malformed,
    #[error("the header of the PROXY protocol has more than {PAYLOAD_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads the header at the beginning of a connection.
pub fn read(bytes: &[u8]) -> ProxyHeader {
    let begins_with = |start: &[u8]| bytes.iter().zip(start).all(|(one, other)| one == other);
    let read = if begins_with(SIGNATURE) {
        binary(bytes)
    } else if begins_with(LINE_START) {
        line(bytes)
    } else {
        Err(ProxyHeaderFault::Missing)
    };
    match read {
        Ok(Some((read, client))) => ProxyHeader::Whole { read, client },
        Ok(None) => ProxyHeader::NeedMore,
        Err(fault) => ProxyHeader::Bad(fault),
    }
}

/// The length of a header and the client's address; `None` while bytes are missing.
type Read = Result<Option<(usize, Option<IpAddr>)>, ProxyHeaderFault>;

/// Version 1, which is one line of text.
fn line(bytes: &[u8]) -> Read {
    let bytes = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyHeaderFault::TooLong) };
    };
    let words = std::str::from_utf8(&bytes[..end]).map_err(|_| ProxyHeaderFault::Malformed)?.split(' ');
    let client = named(&words.collect::<Vec<_>>()).ok_or(ProxyHeaderFault::Malformed)?;
    Ok(Some((end + 2, client)))
}

/// The client that a line of these words names; `None` if the line is malformed.
fn named(words: &[&str]) -> Option<Option<IpAddr>> {
    match words {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", "TCP4", from, to, ports @ ..] => {
            let (from, _) = (from.parse::<Ipv4Addr>().ok()?, to.parse::<Ipv4Addr>().ok()?);
            are_ports(ports).then_some(Some(from.into()))
        }
        ["PROXY", "TCP6", from, to, ports @ ..] => {
            let (from, _) = (from.parse::<Ipv6Addr>().ok()?, to.parse::<Ipv6Addr>().ok()?);
            are_ports(ports).then_some(Some(from.into()))
        }
        _ => None,
    }
}

/// Whether these are the source's and the destination's port, without leading zeros.
fn are_ports(words: &[&str]) -> bool {
    let is_port = |word: &&str| word.parse::<u16>().is_ok_and(|port| port.to_string() == **word);
    words.len() == 2 && words.iter().all(is_port)
}

/// Version 2, which is binary.
fn binary(bytes: &[u8]) -> Read {
    let Some((preamble, behind)) = bytes.split_first_chunk::<PREAMBLE_BYTES>() else { return Ok(None) };
    let [.., version_and_command, family_and_transport, high, low] = *preamble;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > PAYLOAD_BYTES_MAX {
        return Err(ProxyHeaderFault::TooLong);
    }
    let addresses = match version_and_command {
        // What the proxy says of itself has no meaning.
        0x20 => Addresses::None,
        0x21 => Addresses::of(family_and_transport).ok_or(ProxyHeaderFault::Malformed)?,
        _ => return Err(ProxyHeaderFault::Malformed),
    };
    if length < addresses.bytes() {
        return Err(ProxyHeaderFault::Malformed);
    }
    let Some(payload) = behind.get(..length) else { return Ok(None) };
    Ok(Some((PREAMBLE_BYTES + length, addresses.client(payload))))
}

/// The kind of addresses with which the payload begins.
#[derive(Clone, Copy)]
enum Addresses {
    None,
    V4,
    V6,
    Local,
}

impl Addresses {
    /// The kind that a byte of family and transport stands for; `None` if no version of the protocol has it.
    fn of(family_and_transport: u8) -> Option<Self> {
        match family_and_transport {
            0x00 => Some(Self::None),
            0x11 | 0x12 => Some(Self::V4),
            0x21 | 0x22 => Some(Self::V6),
            0x31 | 0x32 => Some(Self::Local),
            _ => None,
        }
    }

    /// The bytes of both addresses, and of the ports.
    fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => 12,
            Self::V6 => 36,
            Self::Local => 216,
        }
    }

    /// The source, which comes first.
    fn client(self, payload: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => payload.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
            Self::V6 => payload.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
            Self::None | Self::Local => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    /// A header of version 2.
    fn written(version_and_command: u8, family_and_transport: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family_and_transport][..], &length, payload].concat()
    }

    /// The header that a proxy writes for a connection, in both versions.
    fn both_versions(from: SocketAddr, to: SocketAddr, additional: &[u8]) -> [Vec<u8>; 2] {
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (name, family) = if from.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
        let line = format!("PROXY {name} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        [line.into_bytes(), written(0x21, family, &[&octets(from), &octets(to), &ports, additional].concat())]
    }

    fn whole(read: usize, client: Option<&str>) -> ProxyHeader {
        ProxyHeader::Whole { read, client: client.map(|client| client.parse().unwrap()) }
    }

    #[test]
    fn lines() {
        use ProxyHeader::{Bad, NeedMore};
        use ProxyHeaderFault::{Malformed, Missing, TooLong};
        let all_ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY TCP6 {all_ones} {all_ones} 65535 65535\r\n");
        for (text, expected) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / ", whole(45, Some("192.0.2.7"))),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", whole(56, Some("255.255.255.255"))),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 0 1\r\n", whole(40, Some("2001:db8::7"))),
            (&*longest, whole(104, Some(all_ones))),
            ("PROXY UNKNOWN\r\n", whole(15, None)),
            ("PROXY UNKNOWN ff::1 anything at all\r\n", whole(37, None)),
            ("", NeedMore),
            ("PRO", NeedMore),
            ("PROXY ", NeedMore),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r", NeedMore),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n", NeedMore),
            ("GET / HTTP/1.1\r\n", Bad(Missing)),
            ("PROXYTCP4", Bad(Missing)),
            ("proxy TCP4", Bad(Missing)),
            ("\u{16}\u{3}\u{1}", Bad(Missing)),
            ("PROXY \r\n", Bad(Malformed)),
            ("PROXY TCP4\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n", Bad(Malformed)),
            ("PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 +5 443\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.07 198.51.100.1 1 443\r\n", Bad(Malformed)),
            ("PROXY TCP4 192.0.2.256 198.51.100.1 1 443\r\n", Bad(Malformed)),
            ("PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n", Bad(Malformed)),
            ("PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n", Bad(Malformed)),
            ("PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n", Bad(Malformed)),
        ] {
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
        }
        let padded = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        assert_eq!(read(padded(LINE_BYTES_MAX).as_bytes()), whole(LINE_BYTES_MAX, None));
        assert_eq!(read(padded(LINE_BYTES_MAX + 1).as_bytes()), Bad(TooLong));
        assert_eq!(read(&padded(LINE_BYTES_MAX + 1).as_bytes()[..LINE_BYTES_MAX - 1]), NeedMore);
    }

    #[test]
    fn binary_headers() {
        use ProxyHeader::{Bad, NeedMore};
        use ProxyHeaderFault::{Malformed, Missing, TooLong};
        let v4 = [&[192, 0, 2, 7, 198, 51, 100, 1][..], &[0xdc, 0x04, 0x01, 0xbb]].concat();
        let v6 = [&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 20]].concat();
        for (bytes, expected) in [
            (written(0x21, 0x11, &v4), whole(28, Some("192.0.2.7"))),
            (written(0x21, 0x12, &v4), whole(28, Some("192.0.2.7"))),
            (written(0x21, 0x21, &v6), whole(52, Some("2001:db8::7"))),
            (written(0x21, 0x11, &[&v4[..], &[0x04, 0, 1, 0]].concat()), whole(32, Some("192.0.2.7"))),
            (written(0x21, 0x31, &[b'/'; 216]), whole(232, None)),
            (written(0x21, 0x00, &[]), whole(16, None)),
            (written(0x21, 0x00, &v4), whole(28, None)),
            (written(0x20, 0x00, &[]), whole(16, None)),
            (written(0x20, 0x11, &v4), whole(28, None)),
            (written(0x20, 0xff, &[1]), whole(17, None)),
            (written(0x21, 0x11, &v4)[..27].to_vec(), NeedMore),
            (written(0x21, 0x11, &v4)[..15].to_vec(), NeedMore),
            (b"\r\n".to_vec(), NeedMore),
            (b"\r\nGET".to_vec(), Bad(Missing)),
            (written(0x22, 0x11, &v4), Bad(Malformed)),
            (written(0x11, 0x11, &v4), Bad(Malformed)),
            (written(0x21, 0x41, &v4), Bad(Malformed)),
            (written(0x21, 0x10, &v4), Bad(Malformed)),
            (written(0x21, 0x11, &v4[..11]), Bad(Malformed)),
            (written(0x21, 0x21, &v6[..35]), Bad(Malformed)),
            (written(0x21, 0x31, &[b'/'; 215]), Bad(Malformed)),
            (written(0x21, 0x00, &[0; PAYLOAD_BYTES_MAX]), whole(HEADER_BYTES_MAX, None)),
            (written(0x21, 0x00, &[0; PAYLOAD_BYTES_MAX + 1]), Bad(TooLong)),
            (written(0x20, 0x00, &[0; PAYLOAD_BYTES_MAX + 1]), Bad(TooLong)),
        ] {
            assert_eq!(read(&bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    fn address() -> impl Strategy<Value = [SocketAddr; 2]> {
        let v4 = any::<[([u8; 4], u16); 2]>().prop_map(|both| both.map(SocketAddr::from));
        let v6 = any::<[([u8; 16], u16); 2]>().prop_map(|both| both.map(SocketAddr::from));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_read(
            addresses in address(),
            additional in prop::collection::vec(any::<u8>(), 0..PAYLOAD_BYTES_MAX - 36),
            request in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let [from, to] = addresses;
            for header in both_versions(from, to, &additional) {
                let expected = ProxyHeader::Whole { read: header.len(), client: Some(from.ip()) };
                prop_assert_eq!(read(&[&header[..], &request].concat()), expected);
                for end in 0..header.len() {
                    prop_assert_eq!(read(&header[..end]), ProxyHeader::NeedMore);
                }
            }
        }

        #[test]
        fn no_bytes_panic_and_later_bytes_change_nothing(
            start in prop::sample::select(vec![&b""[..], LINE_START, SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            cut: prop::sample::Index,
        ) {
            let bytes = [start, &bytes].concat();
            let early = read(&bytes[..cut.index(bytes.len() + 1)]);
            prop_assert!(early == ProxyHeader::NeedMore || early == read(&bytes));
            if read(&bytes) == ProxyHeader::NeedMore {
                prop_assert!(bytes.len() < HEADER_BYTES_MAX);
            }
        }
    }
}
