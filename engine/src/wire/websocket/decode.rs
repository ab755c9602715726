//! Decodes a client's frames in place.
//!
//! Nearly every frame is whole in the given bytes. Such a frame is not copied and needs no allocation: its payload is
//! unmasked in place and borrowed. Only fragmented messages are collected, in a buffer that exists while a message is
//! unfinished and never exceeds the limit. Lengths are checked as soon as the header is there, before the payload.

use std::borrow::Cow;

use super::{
    BINARY, CLOSE, CONTINUATION, CONTROL_BYTES_MAX, CloseCode, FIN, LENGTH_BITS, LENGTH_IS_U16, LENGTH_IS_U64, MASKED,
    OPCODE_BITS, PING, PONG, RESERVED_BITS, TEXT, Violation,
};

const MASK_BYTES: usize = 4;

/// The result of decoding the front of the bytes.
#[derive(PartialEq, Eq, Debug)]
pub enum Decoded<'a> {
    /// The bytes begin with an unfinished frame, and are unchanged. Call again with the same bytes and those that
    /// follow, once there are at least `needed` bytes in all. The whole frame may need even more bytes, but never
    /// fewer.
    Incomplete { needed: usize },
    /// The first `consumed` bytes were a frame. They are unmasked now, and must not be decoded again.
    Frame { consumed: usize, incoming: Incoming<'a> },
}

/// The content of a frame. It is borrowed, except if the frame is the last piece of a fragmented message.
#[derive(PartialEq, Eq, Debug)]
pub enum Incoming<'a> {
    /// A piece of a message, which is kept until the last piece arrives. The caller has nothing to do.
    Fragment,
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// The caller must answer with a pong with the same payload.
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The caller must answer with a close frame with the same code, and ignore everything after this frame.
    Close {
        code: Option<CloseCode>,
        reason: &'a str,
    },
}

/// The pieces of a fragmented message so far, if one is unfinished. Otherwise this takes only a pointer.
#[derive(Default, Debug)]
pub struct Assembly(Option<Box<Pieces>>);

#[derive(Debug)]
struct Pieces {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Pieces {
    /// Grows by doubling like any `Vec`, so that many small pieces cost little, but never reserves more than the limit.
    fn append(&mut self, payload: &[u8], limit: usize) {
        let length = self.bytes.len() + payload.len();
        if length > self.bytes.capacity() {
            let capacity = length.max(2 * self.bytes.capacity()).min(limit);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
    }
}

impl Assembly {
    /// Bytes held for the unfinished message.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |pieces| pieces.bytes.len())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |pieces| pieces.bytes.capacity())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Binary,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opcode {
    Continuation,
    Data(Kind),
    Close,
    Ping,
    Pong,
}

/// What the first bytes of a frame say.
enum Front {
    Header(Header),
    /// The header is valid so far, but incomplete.
    CutOff {
        needed: usize,
    },
}

struct Header {
    fin: bool,
    opcode: Opcode,
    payload_bytes: usize,
    mask: [u8; MASK_BYTES],
    /// Where the payload begins.
    bytes: usize,
}

/// Decodes the frame at the front of `bytes`, which must begin where a frame begins.
///
/// `limit` bounds the size of a message, in one frame or in many. After a `Violation` the connection must be closed,
/// because no later byte can be understood. A violation is the first rule of RFC 6455 or of this server that the frame
/// breaks.
pub fn decode<'a>(bytes: &'a mut [u8], assembly: &mut Assembly, limit: usize) -> Result<Decoded<'a>, Violation> {
    let header = match Front::read(bytes, assembly, limit)? {
        Front::Header(header) => header,
        Front::CutOff { needed } => return Ok(Decoded::Incomplete { needed }),
    };
    // Both are bounded: the header is 14 bytes at most, and the payload was checked against the limit.
    let consumed = header.bytes + header.payload_bytes;
    let Some(payload) = bytes.get_mut(header.bytes..consumed) else {
        return Ok(Decoded::Incomplete { needed: consumed });
    };
    unmask(payload, header.mask);
    let incoming = match header.opcode {
        Opcode::Data(kind) if header.fin => whole(kind, payload)?,
        Opcode::Data(kind) => {
            assembly.0 = Some(Box::new(Pieces { kind, bytes: payload.to_vec() }));
            Incoming::Fragment
        }
        Opcode::Continuation => continued(assembly, header.fin, payload, limit)?,
        Opcode::Ping => Incoming::Ping(payload),
        Opcode::Pong => Incoming::Pong(payload),
        Opcode::Close => close(payload)?,
    };
    Ok(Decoded::Frame { consumed, incoming })
}

impl Front {
    /// Checks as much of the header as there is.
    fn read(bytes: &[u8], assembly: &Assembly, limit: usize) -> Result<Self, Violation> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(Self::CutOff { needed: 2 + MASK_BYTES });
        };
        let fin = first & FIN != 0;
        let opcode = opcode(first)?;
        if second & MASKED == 0 {
            return Err(Violation::NotMasked);
        }
        let short_length = second & LENGTH_BITS;
        check_sequence(fin, opcode, short_length, assembly)?;

        let (payload_bytes, length_bytes) = match short_length {
            LENGTH_IS_U16 => match rest.first_chunk() {
                Some(&length) => (minimal(u16::from_be_bytes(length).into(), u64::from(LENGTH_IS_U16))?, 2),
                None => return Ok(Self::CutOff { needed: 2 + 2 + MASK_BYTES }),
            },
            LENGTH_IS_U64 => match rest.first_chunk() {
                Some(&length) => (minimal(u64::from_be_bytes(length), 1 << 16)?, 8),
                None => return Ok(Self::CutOff { needed: 2 + 8 + MASK_BYTES }),
            },
            length => (u64::from(length), 0),
        };
        let payload_bytes = within(limit, payload_bytes, opcode, assembly)?;

        let header_bytes = 2 + length_bytes + MASK_BYTES;
        match rest.get(length_bytes..).and_then(|rest| rest.first_chunk()) {
            Some(&mask) => Ok(Self::Header(Header { fin, opcode, payload_bytes, mask, bytes: header_bytes })),
            None => Ok(Self::CutOff { needed: header_bytes + payload_bytes }),
        }
    }
}

fn opcode(first: u8) -> Result<Opcode, Violation> {
    if first & RESERVED_BITS != 0 {
        return Err(Violation::ReservedBits);
    }
    Ok(match first & OPCODE_BITS {
        CONTINUATION => Opcode::Continuation,
        TEXT => Opcode::Data(Kind::Text),
        BINARY => Opcode::Data(Kind::Binary),
        CLOSE => Opcode::Close,
        PING => Opcode::Ping,
        PONG => Opcode::Pong,
        _ => return Err(Violation::ReservedOpcode),
    })
}

/// Whether a frame of this kind may come now.
fn check_sequence(fin: bool, opcode: Opcode, short_length: u8, assembly: &Assembly) -> Result<(), Violation> {
    match opcode {
        Opcode::Continuation if assembly.0.is_none() => Err(Violation::NothingToContinue),
        Opcode::Data(_) if assembly.0.is_some() => Err(Violation::MessageNotFinished),
        Opcode::Continuation | Opcode::Data(_) => Ok(()),
        _ if !fin => Err(Violation::FragmentedControlFrame),
        _ if usize::from(short_length) > CONTROL_BYTES_MAX => Err(Violation::LongControlFrame),
        _ => Ok(()),
    }
}

/// Checks a length in an extended form. A length that would fit the shorter form is refused.
fn minimal(length: u64, least: u64) -> Result<u64, Violation> {
    // The 64-bit form's highest bit must be clear (RFC 6455, section 5.2).
    if length < least || length > i64::MAX as u64 { Err(Violation::LengthNotMinimal) } else { Ok(length) }
}

/// The payload's length, if its message stays within the limit.
fn within(limit: usize, payload_bytes: u64, opcode: Opcode, assembly: &Assembly) -> Result<usize, Violation> {
    let room = match opcode {
        Opcode::Data(_) | Opcode::Continuation => limit.saturating_sub(assembly.bytes()),
        _ => CONTROL_BYTES_MAX,
    };
    usize::try_from(payload_bytes).ok().filter(|&length| length <= room).ok_or(Violation::TooBig)
}

fn whole(kind: Kind, payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    Ok(match kind {
        Kind::Text => Incoming::Text(text(payload)?.into()),
        Kind::Binary => Incoming::Binary(payload.into()),
    })
}

fn continued<'a>(assembly: &mut Assembly, fin: bool, payload: &[u8], limit: usize) -> Result<Incoming<'a>, Violation> {
    let mut pieces = assembly.0.take().ok_or(Violation::NothingToContinue)?;
    pieces.append(payload, limit);
    if !fin {
        assembly.0 = Some(pieces);
        return Ok(Incoming::Fragment);
    }
    Ok(match pieces.kind {
        Kind::Text => Incoming::Text(String::from_utf8(pieces.bytes).map_err(|_| Violation::InvalidUtf8)?.into()),
        Kind::Binary => Incoming::Binary(pieces.bytes.into()),
    })
}

fn close(payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    let (code, reason) = match payload {
        [] => (None, ""),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.may_be_sent() {
                return Err(Violation::BadCloseCode);
            }
            (Some(code), text(reason)?)
        }
        [_] => return Err(Violation::BadCloseCode),
    };
    Ok(Incoming::Close { code, reason })
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| Violation::InvalidUtf8)
}

/// Removes a client's mask, or applies it: both are the same operation.
pub fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    // Eight bytes at a time: the compiler turns this form into operations on whole vector registers.
    let [a, b, c, d] = mask;
    let wide_mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide_mask).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}
