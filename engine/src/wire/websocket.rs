//! WebSocket frames: the server's side of RFC 6455, without a socket.
//!
//! `decode` reads a client's frames strictly, and unmasks them in place. The encoders append frames to a buffer.
//! Extensions are not negotiated, so reserved bits are errors. `json` and `protobuf` handle what a message contains.

use std::fmt;

mod decode;
mod encode;

pub use decode::{Assembly, Decoded, Incoming, decode, unmask};
pub use encode::{
    binary_frame, close_frame, frame_length, front_of_binary_frame, front_of_text_frame, ping_frame, pong_frame,
    text_frame,
};

/// Longest message of a client, all its fragments together (docs/protocol.md, section 1.3).
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Two bytes, the longest form of the length, and the mask.
pub const HEADER_BYTES_MAX: usize = 2 + 8 + 4;
/// The most bytes that are ever kept of an unfinished frame: one less than the largest whole frame has.
pub const UNFINISHED_BYTES_MAX: usize = HEADER_BYTES_MAX + MESSAGE_BYTES_MAX - 1;
/// Longest payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH_BITS: u8 = 0x7f;
/// The values of the seven-bit length that mean: the length follows in two bytes, or in eight.
const LENGTH_IS_U16: u8 = 126;
const LENGTH_IS_U64: u8 = 127;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a connection ends: the code in its close frame (RFC 6455, section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: all was as it should be, or a rule of the protocol above WebSocket ends the session.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server stops.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the client broke the rules of frames.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1007: a text message or a close reason was not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: an operator has closed the session.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message was longer than the protocol allows.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1012: the server restarts, and the client may connect again at once. The code is in IANA's registry of close codes.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the reader is too far behind, and may come back. The code is in IANA's registry of close codes, not in the
    /// RFC.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Whether a close frame may carry this code. The others are reserved, unassigned or for local use only.
    fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What is wrong with a client's frames. The connection must be closed, because no later byte can be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    ReservedBits,
    ReservedOpcode,
    NotMasked,
    LengthNotMinimal,
    FragmentedControlFrame,
    LongControlFrame,
    NothingToContinue,
    MessageNotFinished,
    BadCloseCode,
    InvalidUtf8,
    TooBig,
}

impl Violation {
    /// The code to close with.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::TooBig => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The reason for the close frame. It is empty for a message that is too big, as clients expect (docs/protocol.md,
    /// section 1.3).
    pub fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits are set, but no extension was agreed on",
            Self::ReservedOpcode => "unknown opcode",
            Self::NotMasked => "frames of a client must be masked",
            Self::LengthNotMinimal => "the frame's length is not in its shortest form",
            Self::FragmentedControlFrame => "control frames must not be fragmented",
            Self::LongControlFrame => "control frames carry at most 125 bytes",
            Self::NothingToContinue => "continuation frame without a message to continue",
            Self::MessageNotFinished => "new message before the fragmented one was finished",
            Self::BadCloseCode => "close frame with a code that must not be sent",
            Self::InvalidUtf8 => "text is not valid UTF-8",
            Self::TooBig => "",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooBig => f.write_str("message too big"),
            _ => f.write_str(self.reason()),
        }
    }
}

#[cfg(test)]
mod tests;
