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
pub struct FrameCount {
    /// Bytes of the preface that have not come.
    preface_left: usize,
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

impl Default for FrameCount {
    fn default() -> Self {
        let head = [0; HEAD_BYTES];
        Self { preface_left: PREFACE_BYTES, head, head_bytes: 0, left: 0, frames: 0, since_call: 0 }
    }
}

impl FrameCount {
    /// Takes in the next bytes of a connection, up to where more than `frames_max` frames would begin in them. Returns how
    /// many bytes it took. Fails if they have too many frames.
    pub fn take_in(&mut self, bytes: &[u8], frames_max: usize) -> Result<usize, TooManyFrames> {
        let (mut rest, mut frames_left) = (bytes, frames_max);
        skip(&mut rest, &mut self.preface_left);
        while !rest.is_empty() {
            skip(&mut rest, &mut self.left);
            if self.head_bytes == 0 && frames_left == 0 {
                break;
            }
            let (taken, behind) = rest.split_at(rest.len().min(HEAD_BYTES - self.head_bytes));
            self.head[self.head_bytes..self.head_bytes + taken.len()].copy_from_slice(taken);
            self.head_bytes += taken.len();
            rest = behind;
            if self.head_bytes == HEAD_BYTES {
                self.begin_frame()?;
                frames_left = frames_left.saturating_sub(1);
            }
        }
        Ok(bytes.len() - rest.len())
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

/// Removes up to so many bytes from the front, and counts them off.
fn skip(bytes: &mut &[u8], left: &mut usize) {
    let skipped = bytes.len().min(*left);
    *left -= skipped;
    *bytes = &bytes[skipped..];
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
        let mut take_in = |bytes: &[u8]| count.take_in(bytes, usize::MAX);
        take_in(PREFACE).unwrap();
        take_in(&frame(PING, 8).repeat(FRAMES_BETWEEN_CALLS_MAX)).unwrap();
        take_in(&frame(HEADERS, 30)).unwrap();
        take_in(&frame(PING, 8).repeat(FRAMES_OF_CALL)).unwrap();
        assert_eq!(take_in(&frame(PING, 8)), Err(TooManyFrames));
        assert_eq!(count.frames(), (FRAMES_BETWEEN_CALLS_MAX + FRAMES_OF_CALL) as u64 + 2);
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_split(
            lengths in proptest::collection::vec(0_usize..40, 0..20),
            piece in 1_usize..30,
            most in 1_usize..5,
        ) {
            let frames = lengths.iter().flat_map(|length| frame(PING, *length));
            let sent: Vec<u8> = PREFACE.iter().copied().chain(frames).collect();
            let mut count = FrameCount::default();
            for mut bytes in sent.chunks(piece) {
                while !bytes.is_empty() {
                    let before = count.frames();
                    let taken = count.take_in(bytes, most).unwrap();
                    prop_assert!(count.frames() - before <= most as u64);
                    prop_assert!(taken > 0, "{} bytes stay", bytes.len());
                    bytes = &bytes[taken..];
                }
            }
            prop_assert_eq!((count.frames(), count.since_call, count.left), (lengths.len() as u64, lengths.len(), 0));
        }
    }
}
