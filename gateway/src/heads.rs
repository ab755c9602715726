//! What the head of a request says, for `upgrade` and `http/framing`, which read it before hyper does.
//!
//! httparse parses the head, as it does for hyper. These functions read the result.

use httparse::Header;

/// More headers than any client or proxy sends. It is hyper's own bound.
pub const HEADERS_MAX: usize = 100;

/// The minor version of the HTTP version that the server supports, as httparse returns it.
pub const HTTP_1_1: Option<u8> = Some(1);

/// How a request gives the length of its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    Bytes(u64),
    /// In chunks, which end with a chunk of size zero.
    Chunked,
}

impl BodyLength {
    /// A request without a body.
    pub const NONE: Self = Self::Bytes(0);
}

/// Why the end of a request's body cannot be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFault {
    Malformed,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// Both a transfer coding and a length. A proxy that goes by the other one reads the next request elsewhere (RFC
    /// 9112, section 6.1).
    CodingAndLength,
}

/// The length of the body that follows this head (RFC 9112, section 6.3). Fails if parsers may disagree about it.
pub fn body(version: Option<u8>, headers: &[Header<'_>]) -> Result<BodyLength, BodyFault> {
    let mut codings = Vec::new();
    for value in values(headers, "transfer-encoding") {
        codings.extend(value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
    }
    let mut length = None;
    for value in values(headers, "content-length") {
        let announced = decimal(value).ok_or(BodyFault::Malformed)?;
        if length.is_some_and(|length| length != announced) {
            return Err(BodyFault::Malformed);
        }
        length = Some(announced);
    }
    match codings.as_slice() {
        [] => Ok(BodyLength::Bytes(length.unwrap_or(0))),
        _ if length.is_some() => Err(BodyFault::CodingAndLength),
        // HTTP/1.0 has no transfer codings, so the length of such a body is unknown.
        _ if version != HTTP_1_1 => Err(BodyFault::Malformed),
        [coding] if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
        codings if codings.iter().all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked")) => {
            Err(BodyFault::Malformed)
        }
        _ => Err(BodyFault::UnknownCoding),
    }
}

/// Parses digits only: no sign, no blank, no list.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// All values of a header, in their order.
pub fn values<'a, 'h>(headers: &'a [Header<'h>], name: &'a str) -> impl Iterator<Item = &'h [u8]> + 'a {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.trim_ascii())
}

/// The value of a header that may appear only once.
pub fn one<'h>(headers: &[Header<'h>], name: &str) -> Option<&'h [u8]> {
    let mut all = values(headers, name);
    let value = all.next()?;
    all.next().is_none().then_some(value)
}

/// Whether these headers contain `word` as one of their comma-separated words.
pub fn lists(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// The credentials in an `Authorization` header of this scheme; `None` if there are none. Schemes may be written in any case (RFC 9110, section
/// 11.1).
pub fn credentials<'a>(header: &'a str, scheme: &str) -> Option<&'a str> {
    let (named, credentials) = header.split_once(' ')?;
    Some(credentials.trim_ascii()).filter(|credentials| named.eq_ignore_ascii_case(scheme) && !credentials.is_empty())
}

/// How many bytes of line ends stand before a request. They have no meaning (RFC 9112, section 2.2).
pub fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_body_ends() {
        use BodyFault::{CodingAndLength, Malformed, UnknownCoding};
        let check = |lines: &str, expected: Result<BodyLength, BodyFault>| {
            let head = format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n");
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut headers);
            request.parse(head.as_bytes()).unwrap();
            assert_eq!(body(request.version, request.headers), expected, "{head}");
        };
        check("Host: a", Ok(BodyLength::NONE));
        check("Content-Length: 0", Ok(BodyLength::NONE));
        check("content-length:  17 ", Ok(BodyLength::Bytes(17)));
        check("Content-Length: 5\r\nContent-Length: 5", Ok(BodyLength::Bytes(5)));
        check("Content-Length: 5\r\nContent-Length: 6", Err(Malformed));
        check("Content-Length: 5, 5", Err(Malformed));
        check("Content-Length: -1", Err(Malformed));
        check("Content-Length: +1", Err(Malformed));
        check("Content-Length: 0x5", Err(Malformed));
        check("Content-Length: 99999999999999999999", Err(Malformed));
        check("Content-Length:", Err(Malformed));
        check("Transfer-Encoding: chunked", Ok(BodyLength::Chunked));
        check("transfer-encoding: CHUNKED", Ok(BodyLength::Chunked));
        check("Transfer-Encoding: chunked\r\nContent-Length: 5", Err(CodingAndLength));
        check("Content-Length: 0\r\nTransfer-Encoding: chunked", Err(CodingAndLength));
        check("Content-Length: 5\r\nTransfer-Encoding: identity", Err(CodingAndLength));
        check("Content-Length: 5\r\nTransfer-Encoding:", Err(CodingAndLength));
        check("Transfer-Encoding: chunked\r\nContent-Length: five", Err(Malformed));
        check("Transfer-Encoding: gzip, chunked", Err(UnknownCoding));
        check("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Err(UnknownCoding));
        check("Transfer-Encoding: gzip", Err(UnknownCoding));
        check("Transfer-Encoding: identity", Err(UnknownCoding));
        check("Transfer-Encoding: chunked, identity", Err(UnknownCoding));
        check("Transfer-Encoding: xchunked", Err(UnknownCoding));
        check("Transfer-Encoding: chunked;x=y", Err(UnknownCoding));
        check("Transfer-Encoding: chunked, chunked", Err(Malformed));
        check("Transfer-Encoding: ,chunked", Err(Malformed));
        check("Transfer-Encoding:", Err(Malformed));
    }

    #[test]
    fn schemes_in_any_case() {
        for (header, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(credentials(header, "Bearer"), expected, "{header:?}");
        }
    }

    #[test]
    fn http_1_0_has_bodies_of_announced_length_only() {
        let headers = [Header { name: "Content-Length", value: b"7" }];
        assert_eq!(body(Some(0), &headers), Ok(BodyLength::Bytes(7)));
        let headers = [Header { name: "Transfer-Encoding", value: b"chunked" }];
        assert_eq!(body(Some(0), &headers), Err(BodyFault::Malformed));
    }
}
