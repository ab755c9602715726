//! Finds the frames of a server without keeping large ones: of each payload only the beginning is shown.
//!
//! Clients that join rooms visibly get lists of members that are larger than any message. Such a client needs the
//! message, the answer and the error, and of a list only that it came. What is kept between two reads is bounded.
//!
//! `frames` finds the same headers for clients that get no such list: it shows whole payloads without copying them, and
//! refuses large frames. That is what the fastest client needs, and this one cannot have.

use crate::frames::{Header, IllegalFrame};

/// So much of a payload is shown: any message of the bench, and any error.
pub const SHOWN_BYTES_MAX: usize = 1 << 10;

/// One frame, or its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skimmed<'a> {
    pub opcode: u8,
    /// The first bytes of the payload, `SHOWN_BYTES_MAX` at most.
    pub payload: &'a [u8],
    /// The size of the frame on the wire, including its header.
    pub wire_bytes: usize,
}

/// What one connection keeps between two reads.
#[derive(Default, Debug)]
pub struct Skimmer {
    /// The beginning of a frame that has not been shown.
    begun: Vec<u8>,
    /// How many bytes follow of a frame that has been shown.
    skip: usize,
}

impl Skimmer {
    /// Shows every frame of which enough has come.
    pub fn take_in(&mut self, bytes: &[u8], show: impl FnMut(Skimmed<'_>)) -> Result<(), IllegalFrame> {
        let mut begun = std::mem::take(&mut self.begun);
        if begun.is_empty() {
            begun.extend_from_slice(self.walk(bytes, show)?);
            self.begun = begun;
        } else {
            begun.extend_from_slice(bytes);
            self.begun = self.walk(&begun, show)?.to_vec();
        }
        Ok(())
    }

    /// Returns the bytes from the first frame on that cannot be shown yet.
    fn walk<'a>(&mut self, mut bytes: &'a [u8], mut show: impl FnMut(Skimmed<'_>)) -> Result<&'a [u8], IllegalFrame> {
        loop {
            let skipped = bytes.len().min(self.skip);
            bytes = &bytes[skipped..];
            self.skip -= skipped;
            let Some(header) = Header::read_of_any_size(bytes)? else { return Ok(bytes) };
            let shown = header.payload_bytes.min(SHOWN_BYTES_MAX);
            let end = header.header_bytes + shown;
            let Some(payload) = bytes.get(header.header_bytes..end) else { return Ok(bytes) };
            show(Skimmed { opcode: header.opcode, payload, wire_bytes: header.wire_bytes() });
            assert_eq!(self.skip, 0, "a frame begins when the one before has ended");
            self.skip = header.payload_bytes - shown;
            bytes = &bytes[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{TEXT, put_server_text};

    #[test]
    fn pieces_of_every_size_show_the_same_beginnings() {
        let sizes = [0, 5, 125, 126, SHOWN_BYTES_MAX, SHOWN_BYTES_MAX + 1, 70_000, 3];
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (number, size) in sizes.into_iter().enumerate() {
            let payload = vec![b'a' + number as u8; size];
            let before = stream.len();
            put_server_text(&payload, &mut stream);
            expected.push((TEXT, payload[..size.min(SHOWN_BYTES_MAX)].to_vec(), stream.len() - before));
        }
        for size in (1..300).chain([1_000, 10_000, 100_000]) {
            let (mut skimmer, mut seen) = (Skimmer::default(), Vec::new());
            for piece in stream.chunks(size) {
                let show = |frame: Skimmed<'_>| seen.push((frame.opcode, frame.payload.to_vec(), frame.wire_bytes));
                skimmer.take_in(piece, show).unwrap();
                assert!(skimmer.begun.len() < SHOWN_BYTES_MAX + 10, "what is kept between reads is bounded");
            }
            assert_eq!(seen, expected, "pieces of {size}");
            assert_eq!((skimmer.begun.len(), skimmer.skip), (0, 0));
        }
    }

    #[test]
    fn frames_that_no_server_sends_are_refused() {
        let taken = Skimmer::default().take_in(&[0x81, 0x80], |_| ());
        assert_eq!(taken, Err(IllegalFrame::Masked));
    }
}
