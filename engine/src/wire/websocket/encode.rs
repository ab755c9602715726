//! Writes a server's frames end to end: unmasked, never fragmented.

use super::{
    BINARY, CLOSE, CONTROL_BYTES_MAX, CloseCode, FIN, LENGTH_BITS, LENGTH_IS_U16, LENGTH_IS_U64, MASKED, PING, PONG,
    TEXT,
};

const SHORT_HEADER_BYTES: usize = 2;
const USUAL_HEADER_BYTES: usize = 4;
const LONG_HEADER_BYTES: usize = 10;

/// Appends a text frame whose payload is what `write_payload` appends.
pub fn text_frame(out: &mut Vec<u8>, write_payload: impl FnOnce(&mut Vec<u8>)) {
    data_frame(TEXT, out, write_payload);
}

/// Appends a binary frame whose payload is what `write_payload` appends.
pub fn binary_frame(out: &mut Vec<u8>, write_payload: impl FnOnce(&mut Vec<u8>)) {
    data_frame(BINARY, out, write_payload);
}

/// A text frame up to the end of `front`, the beginning of its payload. So many bytes of payload follow.
pub fn front_of_text_frame(front: &[u8], behind: usize) -> Vec<u8> {
    front_of_frame(TEXT, front, behind)
}

/// A binary frame up to the end of `front`, the beginning of its payload. So many bytes of payload follow.
pub fn front_of_binary_frame(front: &[u8], behind: usize) -> Vec<u8> {
    front_of_frame(BINARY, front, behind)
}

/// Appends a ping. Its payload must fit into a control frame.
pub fn ping_frame(out: &mut Vec<u8>, payload: &[u8]) {
    control_frame(PING, out, payload, &[]);
}

/// Appends the answer to a ping with this payload.
pub fn pong_frame(out: &mut Vec<u8>, payload: &[u8]) {
    control_frame(PONG, out, payload, &[]);
}

/// Appends a close frame. The reason is cut to what fits, and is sent only if there is a code.
pub fn close_frame(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let Some(code) = code else {
        return control_frame(CLOSE, out, &[], &[]);
    };
    let code = code.0.to_be_bytes();
    let room = CONTROL_BYTES_MAX - code.len();
    let end = (0..=room).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
    control_frame(CLOSE, out, &code, &reason.as_bytes()[..end]);
}

/// The length of the server's frame at the front of `bytes`, including its header; `None` if the header is incomplete.
pub fn frame_length(bytes: &[u8]) -> Option<usize> {
    let &[_, second, ref rest @ ..] = bytes else {
        return None;
    };
    debug_assert!(second & MASKED == 0, "servers do not mask");
    Some(match second & LENGTH_BITS {
        LENGTH_IS_U16 => USUAL_HEADER_BYTES + usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
        LENGTH_IS_U64 => {
            let payload_bytes = usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?;
            LONG_HEADER_BYTES.checked_add(payload_bytes)?
        }
        length => SHORT_HEADER_BYTES + usize::from(length),
    })
}

/// The payload's length is known only after it is written. Nearly all payloads need the header of four bytes, so that
/// much room is left for it. Other payloads are moved by a few bytes.
fn data_frame(opcode: u8, out: &mut Vec<u8>, write_payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[FIN | opcode, LENGTH_IS_U16, 0, 0]);
    let payload_start = out.len();
    write_payload(out);
    let payload_bytes = out.len() - payload_start;
    if payload_bytes < usize::from(LENGTH_IS_U16) {
        out[start + 1] = payload_bytes as u8;
        out.copy_within(payload_start.., start + SHORT_HEADER_BYTES);
        out.truncate(start + SHORT_HEADER_BYTES + payload_bytes);
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out[start + 2..payload_start].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = (payload_bytes as u64).to_be_bytes();
        out[start + 1] = LENGTH_IS_U64;
        out.splice(start + 2..payload_start, length);
    }
    debug_assert_eq!(frame_length(&out[start..]), Some(out.len() - start), "the log finds the borders by this length");
}

/// The header of a data frame and the front of its payload, if `behind` further bytes follow it.
fn front_of_frame(opcode: u8, front: &[u8], behind: usize) -> Vec<u8> {
    let payload_bytes = front.len() + behind;
    let mut out = Vec::with_capacity(LONG_HEADER_BYTES + front.len());
    out.push(FIN | opcode);
    if payload_bytes < usize::from(LENGTH_IS_U16) {
        out.push(payload_bytes as u8);
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out.push(LENGTH_IS_U16);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(LENGTH_IS_U64);
        out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
    out.extend_from_slice(front);
    out
}

fn control_frame(opcode: u8, out: &mut Vec<u8>, front: &[u8], back: &[u8]) {
    let payload_bytes = front.len() + back.len();
    assert!(payload_bytes <= CONTROL_BYTES_MAX, "a control frame carries at most 125 bytes");
    out.extend_from_slice(&[FIN | opcode, payload_bytes as u8]);
    out.extend_from_slice(front);
    out.extend_from_slice(back);
}
