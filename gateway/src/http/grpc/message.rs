//! How gRPC frames a message: a byte that says whether it is compressed, its length in four bytes, and its bytes.
//!
//! A call of this service has one message in each direction, and a call's body is collected whole before it is read. So
//! nothing here waits, and no length that a client announces makes the server set bytes aside.

use std::borrow::Cow;

/// Bytes before a message.
pub const PREFIX_BYTES: usize = 5;

/// Why a body is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageFault {
    #[error("a call has one message, and its body ends before the message does")]
    Short,
    #[error("a call has one message, and its body has bytes behind it")]
    Long,
    #[error("the first byte of a message is 0, or 1 if it is compressed")]
    Flag,
    #[error("the message is compressed, and grpc-encoding does not say how")]
    NoEncoding,
}

/// A body as one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framed<'a> {
    pub is_compressed: bool,
    pub bytes: &'a [u8],
}

/// Reads the body of a call. Fails if it is not exactly one message.
pub fn read(body: &[u8]) -> Result<Framed<'_>, MessageFault> {
    let (prefix, bytes) = body.split_first_chunk::<PREFIX_BYTES>().ok_or(MessageFault::Short)?;
    let [flag, length @ ..] = *prefix;
    let is_compressed = match flag {
        0 => false,
        1 => true,
        _ => return Err(MessageFault::Flag),
    };
    match bytes.len().cmp(&(u32::from_be_bytes(length) as usize)) {
        std::cmp::Ordering::Less => Err(MessageFault::Short),
        std::cmp::Ordering::Greater => Err(MessageFault::Long),
        std::cmp::Ordering::Equal => Ok(Framed { is_compressed, bytes }),
    }
}

/// The bytes of a message that is not compressed, framed. A message has less than 4 GiB.
pub fn framed(message: &[u8]) -> Vec<u8> {
    debug_assert!(u32::try_from(message.len()).is_ok(), "an answer of {} bytes", message.len());
    let mut body = Vec::with_capacity(PREFIX_BYTES + message.len());
    body.push(0);
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    body
}

/// A text as the value of `grpc-message`: what is not a printable character of ASCII is percent-encoded, and the percent
/// sign too.
pub fn encoded_text(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let encode = |byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Cow::Owned(text.bytes().map(encode).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_is_one_message() {
        assert_eq!(read(b"\0\0\0\0\x02hi"), Ok(Framed { is_compressed: false, bytes: b"hi" }));
        assert_eq!(read(b"\x01\0\0\0\0"), Ok(Framed { is_compressed: true, bytes: b"" }));
        for (body, fault) in [
            (&b""[..], MessageFault::Short),
            (b"\0\0\0\0", MessageFault::Short),
            (b"\0\0\0\0\x03hi", MessageFault::Short),
            (b"\0\xff\xff\xff\xffhi", MessageFault::Short),
            (b"\0\0\0\0\x01hi", MessageFault::Long),
            (b"\0\0\0\0\0\0\0\0\0\0", MessageFault::Long),
            (b"\x02\0\0\0\x02hi", MessageFault::Flag),
        ] {
            assert_eq!(read(body), Err(fault), "{body:?}");
        }
    }

    #[test]
    fn texts_are_encoded_for_a_header() {
        for (text, encoded) in [("", ""), ("not found", "not found"), ("100%", "100%25"), ("é\n", "%C3%A9%0A")] {
            assert_eq!(encoded_text(text), encoded);
        }
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read_to_the_same(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let body = framed(&message);
            prop_assert_eq!(read(&body), Ok(Framed { is_compressed: false, bytes: &message }));
            prop_assert_eq!(read(&body[..body.len() - 1]), Err(MessageFault::Short));
        }
    }
}
