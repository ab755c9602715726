//! Counts the frames of HTTP/2 that a client sends, from the bytes as they come.
//!
//! The library answers each PING and each SETTINGS frame, and has no bound for their number. A client that sends nothing
//! else would make the shard work without a request that is charged. So there is a bound for the frames between two
//! calls, and what is counted is charged to the client's network (`serve.rs`).

/// The bytes with which a connection begins, before its first frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;

/// Most frames that a connection may send beyond those that its calls have given back. A client that reads the longest answers
/// on all streams of a connection, and tells of room after each of their frames, sends fewer.
pub const FRAMES_BETWEEN_CALLS_MAX: usize = 10_000;

/// Frames that a call gives back of those that were counted: more than its own answer needs.
const FRAMES_OF_CALL: usize = 2_000;

/// What has come of a client's frames.
#[derive(Default)]
pub struct FrameCount {
    /// Bytes of the preface that have come.
    preface: usize,
    /// The beginning of a frame's head.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the frame that have not come.
    left: usize,
    /// All frames whose heads have come.
    frames: u64,
    /// Those since a call began.
    since_call: usize,
}

/// There were more frames between two calls than may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a client has sent {FRAMES_BETWEEN_CALLS_MAX} frames of HTTP/2 more than its calls need")]
pub struct TooManyFrames;

impl FrameCount {
    /// Takes in the next bytes of a connection. Fails if they have too many frames.
    pub fn take_in(&mut self, mut bytes: &[u8]) -> Result<(), TooManyFrames> {
        let preface = bytes.len().min(PREFACE_BYTES - self.preface);
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.left);
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEAD_BYTES - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes == HEAD_BYTES {
                self.begin_frame()?;
            }
        }
        Ok(())
    }

    /// All frames whose heads have come.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    fn begin_frame(&mut self) -> Result<(), TooManyFrames> {
        let [a, b, c, kind, ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.head_bytes = 0;
        self.frames += 1;
        self.since_call =
            if kind == HEADERS { self.since_call.saturating_sub(FRAMES_OF_CALL) } else { self.since_call + 1 };
        if self.since_call > FRAMES_BETWEEN_CALLS_MAX { Err(TooManyFrames) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 6;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = (length as u32).to_be_bytes();
        [&[a, b, c, kind, 0, 0, 0, 0, 0][..], &vec![HEADERS; length]].concat()
    }

    #[test]
    fn frames_without_a_call_are_bounded() {
        let mut count = FrameCount::default();
        count.take_in(PREFACE).unwrap();
        count.take_in(&frame(PING, 8).repeat(FRAMES_BETWEEN_CALLS_MAX)).unwrap();
        count.take_in(&frame(HEADERS, 30)).unwrap();
        count.take_in(&frame(PING, 8).repeat(FRAMES_OF_CALL)).unwrap();
        assert_eq!(count.take_in(&frame(PING, 8)), Err(TooManyFrames));
        assert_eq!(count.frames(), (FRAMES_BETWEEN_CALLS_MAX + FRAMES_OF_CALL) as u64 + 2);
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_split(
            lengths in proptest::collection::vec(0_usize..40, 0..20),
            piece in 1_usize..30,
        ) {
            let sent: Vec<u8> = PREFACE.iter().copied().chain(lengths.iter().flat_map(|length| frame(PING, *length))).collect();
            let mut count = FrameCount::default();
            sent.chunks(piece).for_each(|bytes| count.take_in(bytes).unwrap());
            prop_assert_eq!((count.frames(), count.since_call, count.left), (lengths.len() as u64, lengths.len(), 0));
        }
    }
}
