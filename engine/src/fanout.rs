//! The log that a channel's subscribers read: frames end to end in one piece of memory, each byte kept once.
//!
//! A subscriber is a cursor into it (`subscribers.rs`), so what it owes is a range, and writing that range copies nothing
//! on our side. Positions count all bytes ever appended, so they never move when the log is trimmed.

/// A place in a log: bytes appended before it since the log began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position(pub u64);

/// Frames end to end.
///
/// Invariant: `base <= start <= end`, where `end = base + bytes.len()`; `base` and `end` are borders between frames.
#[derive(Default)]
pub struct FrameLog {
    bytes: Vec<u8>,
    /// The position of `bytes[0]`.
    base: u64,
    /// Nothing before this will be read again.
    start: u64,
}

/// Read bytes that are kept before they are moved away: moving costs as much as it frees, at most.
const COMPACTION_BYTES_MIN: usize = 64 * 1024;

impl FrameLog {
    /// Puts whole frames at the end.
    pub fn append(&mut self, frames: &[u8]) {
        self.bytes.extend_from_slice(frames);
    }

    pub fn start(&self) -> Position {
        Position(self.start)
    }

    pub fn end(&self) -> Position {
        Position(self.base + self.bytes.len() as u64)
    }

    /// The bytes from `from` to `to`. Both lie in the log; anything else is a bug, and stops the process here.
    pub fn range(&self, from: Position, to: Position) -> &[u8] {
        debug_assert!(from.0 >= self.start, "cursor {} lies before the log's start {}", from.0, self.start);
        &self.bytes[(from.0 - self.base) as usize..(to.0 - self.base) as usize]
    }

    /// Forgets all before `to`: nobody will read it again. An empty log gives its memory back.
    pub fn trim(&mut self, to: Position) {
        debug_assert!(to <= self.end());
        self.start = self.start.max(to.0);
        let read = (self.start - self.base) as usize;
        if read == self.bytes.len() {
            self.bytes = Vec::new();
            self.base = self.start;
        } else if read >= COMPACTION_BYTES_MIN && read >= self.bytes.len() / 2 {
            // The border of frames is found again from `base`, so the move must end at one.
            let border = self.border_at_or_before(self.start);
            self.bytes.drain(..(border - self.base) as usize);
            self.base = border;
        }
    }

    /// The end of the frame that `cursor` is inside of; `cursor` itself when it lies between two frames.
    ///
    /// Walks the log from its beginning: for the rare moment when a reader is let go in the middle of a frame.
    pub fn border_at_or_after(&self, cursor: Position) -> Position {
        let mut at = self.base;
        while at < cursor.0 {
            at += self.frame_bytes_at(at);
        }
        Position(at)
    }

    fn border_at_or_before(&self, position: u64) -> u64 {
        let mut at = self.base;
        loop {
            if at >= position {
                return at;
            }
            let next = at + self.frame_bytes_at(at);
            if next > position {
                return at;
            }
            at = next;
        }
    }

    fn frame_bytes_at(&self, at: u64) -> u64 {
        let rest = &self.bytes[(at - self.base) as usize..];
        crate::wire::websocket::frame_length(rest).expect("the log holds whole frames") as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload_bytes: usize, fill: u8) -> Vec<u8> {
        let mut out = Vec::new();
        crate::wire::websocket::text_frame(&mut out, |out| out.extend(std::iter::repeat_n(fill, payload_bytes)));
        out
    }

    #[test]
    fn ranges_keep_their_positions_when_the_log_is_trimmed() {
        let mut log = FrameLog::default();
        let mut model: Vec<u8> = Vec::new();
        let mut trimmed = 0;
        for i in 0..2000usize {
            let frame = frame(i * 7 % 900, i as u8);
            log.append(&frame);
            model.extend_from_slice(&frame);
            // Trim into the middle of frames as well: a slow reader's cursor stands anywhere.
            if i % 3 == 0 {
                trimmed = (trimmed + i * 11 % 2000).min(model.len());
                log.trim(Position(trimmed as u64));
            }
            assert_eq!(log.end(), Position(model.len() as u64));
            assert_eq!(log.range(Position(trimmed as u64), log.end()), &model[trimmed..]);
        }
        assert!(log.bytes.len() < 3 * COMPACTION_BYTES_MIN.max(model.len() - trimmed), "read bytes are given back");
    }

    #[test]
    fn an_idle_log_owns_no_memory() {
        let mut log = FrameLog::default();
        log.append(&frame(5000, 1));
        log.trim(log.end());
        assert_eq!(log.bytes.capacity(), 0);
        assert_eq!(log.start(), log.end());
    }

    #[test]
    fn finds_the_border_after_a_cursor_in_the_middle_of_a_frame() {
        let mut log = FrameLog::default();
        let mut borders = vec![0u64];
        for size in [0, 5, 125, 126, 300, 70_000] {
            log.append(&frame(size, 9));
            borders.push(log.end().0);
        }
        for cursor in 0..=log.end().0 {
            let expected = *borders.iter().find(|&&b| b >= cursor).expect("the end is a border");
            if cursor < 800 || cursor % 997 == 0 || cursor > log.end().0 - 20 {
                assert_eq!(log.border_at_or_after(Position(cursor)), Position(expected));
            }
        }
    }
}
