//! The log that a channel's subscribers read: frames end to end in one piece of memory, each byte kept once.
//!
//! A subscriber is a cursor into it (`subscribers.rs`). So what a subscriber is owed is a range of bytes, and writing
//! that range needs no copy in this process. A position counts all bytes ever appended, so it does not change when the
//! log is trimmed. The log also remembers where messages begin, so that a subscriber that skips a part can be told what
//! it missed.

use std::collections::VecDeque;

use crate::id::MessageId;

/// A place in a log: the number of bytes appended before it since the log began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position(pub u64);

/// Where a message's frame begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub at: Position,
    pub id: MessageId,
}

/// Frames of one format.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Run {
    pub bytes: Vec<u8>,
    /// Where messages begin. Updates and removals get no mark, because they are no new messages.
    pub marks: Vec<Mark>,
}

/// Frames end to end.
///
/// Invariant: `base <= start <= end`, where `end = base + bytes.len()`. `base` and `end` are borders between frames.
#[derive(Default)]
pub struct FrameLog {
    bytes: Vec<u8>,
    /// The position of `bytes[0]`.
    base: u64,
    /// Nothing before this will be read again.
    start: u64,
    /// One mark for each message that begins at `start` or later: 24 bytes, beside a frame of about ten times as many.
    marks: VecDeque<Mark>,
    /// The last message that began before `start`.
    before: Option<MessageId>,
}

/// The log is compacted only if at least this many bytes at its front are not needed any more, and at least half of it:
/// then moving the rest costs no more than it frees.
const COMPACTION_BYTES_MIN: usize = 64 * 1024;

impl FrameLog {
    /// Appends whole frames.
    pub fn append(&mut self, run: &Run) {
        debug_assert!(run.marks.iter().is_sorted_by_key(|mark| mark.at), "marks rise within a run");
        debug_assert!(run.marks.last().is_none_or(|mark| (mark.at.0 as usize) < run.bytes.len()), "a mark has a frame");
        let end = self.end().0;
        self.marks.extend(run.marks.iter().map(|mark| Mark { at: Position(end + mark.at.0), ..*mark }));
        self.bytes.extend_from_slice(&run.bytes);
    }

    /// The last message that begins before a place.
    pub fn message_before(&self, place: Position) -> Option<MessageId> {
        match self.marks_before(place) {
            0 => self.before,
            count => Some(self.marks[count - 1].id),
        }
    }

    /// The first message that begins at this place or after it.
    pub fn message_from(&self, place: Position) -> Option<Mark> {
        self.marks.get(self.marks_before(place)).copied()
    }

    /// The newest message of which the whole frame is still here.
    pub fn newest(&self) -> Option<Mark> {
        self.marks.back().copied()
    }

    fn marks_before(&self, place: Position) -> usize {
        self.marks.partition_point(|mark| mark.at < place)
    }

    /// The position of the oldest byte that is still kept.
    pub fn start(&self) -> Position {
        Position(self.start)
    }

    /// The position after the newest byte: where the next frame will begin.
    pub fn end(&self) -> Position {
        Position(self.base + self.bytes.len() as u64)
    }

    /// The memory that the log holds.
    pub fn bytes_held(&self) -> u64 {
        (self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>()) as u64
    }

    /// The bytes from `from` to `to`. Both must be in the log; anything else is a bug in the caller, and panics.
    pub fn range(&self, from: Position, to: Position) -> &[u8] {
        debug_assert!(from.0 >= self.start, "cursor {} lies before the log's start {}", from.0, self.start);
        debug_assert!(
            from <= to && to <= self.end(),
            "{} to {} is no range of a log that ends at {}",
            from.0,
            to.0,
            self.end().0
        );
        &self.bytes[(from.0 - self.base) as usize..(to.0 - self.base) as usize]
    }

    /// Forgets all before `to`, which no subscriber will read again. An empty log frees its memory.
    pub fn trim(&mut self, to: Position) {
        debug_assert!(to <= self.end(), "only what was appended can be forgotten");
        self.start = self.start.max(to.0);
        while let Some(mark) = self.marks.front().filter(|mark| mark.at.0 < self.start) {
            self.before = Some(mark.id);
            self.marks.pop_front();
        }
        let read = (self.start - self.base) as usize;
        if read == self.bytes.len() {
            self.bytes = Vec::new();
            self.marks = VecDeque::new();
            self.base = self.start;
        } else if read >= COMPACTION_BYTES_MIN && read >= self.bytes.len() / 2 {
            // Borders between frames are searched from `base` on, so `base` must be such a border.
            let border = self.border_at_or_before(self.start);
            self.bytes.drain(..(border - self.base) as usize);
            self.base = border;
            // The log was long because a member was far behind: it is not likely to grow so long again soon.
            if self.bytes.capacity() / 4 > self.bytes.len().max(COMPACTION_BYTES_MIN) {
                self.bytes.shrink_to(2 * self.bytes.len());
                self.marks.shrink_to(2 * self.marks.len());
            }
        }
    }

    /// The end of the frame that `cursor` is in; `cursor` itself if it is between two frames.
    ///
    /// Walks the log from the last message that begins before the cursor. This is fast enough, because it is needed
    /// only in the rare case that a subscriber leaves the log in the middle of a frame.
    pub fn border_at_or_after(&self, cursor: Position) -> Position {
        let known = self.marks_before(cursor).checked_sub(1).map(|index| self.marks[index].at.0);
        let mut at = known.unwrap_or(self.base);
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

    /// Asserts what the type promises. Looks at every mark.
    pub fn invariants(&self) {
        assert!(self.base <= self.start && self.start <= self.end().0, "{} {} {}", self.base, self.start, self.end().0);
        assert!(!self.bytes.is_empty() || self.base == self.start, "an empty log begins where it ends");
        assert!(self.marks.iter().is_sorted_by_key(|mark| mark.at), "marks rise");
        let inside = |mark: &Mark| mark.at.0 >= self.start && mark.at < self.end();
        assert!(self.marks.front().is_none_or(inside) && self.marks.back().is_none_or(inside), "marks are in the log");
    }

    fn frame_bytes_at(&self, at: u64) -> u64 {
        let rest = &self.bytes[(at - self.base) as usize..];
        crate::wire::websocket::frame_length(rest).expect("the log holds whole frames") as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload_bytes: usize, fill: u8) -> Run {
        let mut bytes = Vec::new();
        crate::wire::websocket::text_frame(&mut bytes, |out| out.extend(std::iter::repeat_n(fill, payload_bytes)));
        Run { bytes, marks: Vec::new() }
    }

    fn message(number: u128) -> Run {
        Run { marks: vec![Mark { at: Position(0), id: id(number) }], ..frame(50, 1) }
    }

    fn id(number: u128) -> MessageId {
        MessageId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn knows_the_messages_around_a_place() {
        let mut log = FrameLog::default();
        assert_eq!((log.message_before(log.end()), log.newest()), (None, None));
        let mut places = Vec::new();
        for number in 1..=5 {
            places.push(log.end());
            log.append(&message(number));
            log.append(&frame(20, 2));
        }
        let check = |log: &FrameLog, place: Position, before: Option<u128>, from: Option<u128>| {
            assert_eq!(log.message_before(place), before.map(id));
            assert_eq!(log.message_from(place).map(|mark| mark.id), from.map(id));
        };
        check(&log, places[0], None, Some(1));
        check(&log, places[2], Some(2), Some(3));
        check(&log, Position(places[2].0 + 1), Some(3), Some(4));
        log.trim(Position(places[2].0 + 1));
        check(&log, Position(places[2].0 + 52), Some(3), Some(4));
        check(&log, places[4], Some(4), Some(5));
        log.trim(log.end());
        check(&log, log.end(), Some(5), None);
        assert_eq!((log.newest(), log.marks.capacity()), (None, 0));
    }

    #[test]
    fn ranges_keep_their_positions_when_the_log_is_trimmed() {
        let mut log = FrameLog::default();
        let mut model: Vec<u8> = Vec::new();
        let mut trimmed = 0;
        for i in 0..2000usize {
            let frame = frame(i * 7 % 900, i as u8);
            log.append(&frame);
            model.extend_from_slice(&frame.bytes);
            // Also trims in the middle of frames, because a slow subscriber's cursor may stand anywhere.
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
