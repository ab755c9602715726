//! Frames that one member of a crowd received and that were checked completely. They are kept for a while, so that the
//! other members only compare their bytes with them.
//!
//! A server sends the same bytes to every member. What a frame says depends on its bytes alone, so equal bytes have the
//! same meaning: the frame is readable, its checksum is right, and its message has the id that the others saw. Two
//! questions depend on the member: has it received this message before, and is the message the next one for it. These
//! are not kept here; they are checked for each member.
//!
//! Messages are kept in the order in which the room's order grew. A message's *place* is how many messages were kept
//! before it.

use std::collections::HashMap;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::base::content::ScheduleSlot;
use crate::wire::Frame;

/// How much is kept for each member that may compare. All of it takes no more than the members' own read buffers would.
const BYTES_A_MEMBER: usize = 4 * 1024;
/// No member is further than this behind the others: the socket buffers between it and the server hold less.
const BYTES_MAX: usize = 4 << 20;

/// The meaning of a frame that holds one message and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// The message's index in the schedule, and its publisher and number there.
    pub index: u32,
    pub slot: ScheduleSlot,
    pub intended_ns: u64,
}

/// A frame that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub said: Said,
    pub payload_bytes: u32,
    header_bytes: u32,
    /// Where the frame ends: how many bytes of all frames ever kept come before its end.
    end: u64,
}

impl Entry {
    /// The frame's size, header included.
    pub fn wire_bytes(&self) -> u64 {
        u64::from(self.header_bytes) + u64::from(self.payload_bytes)
    }
}

pub struct Record {
    bytes_max: usize,
    /// The frames that are kept, one after another as they come over the wire.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// How many entries, and how many bytes, are no longer kept.
    forgotten: u32,
    forgotten_bytes: u64,
    /// By the message's index: its place.
    places: HashMap<u32, u32>,
}

impl Record {
    /// For a crowd of this many members. A single member has no other to compare with, so nothing is kept.
    pub fn new(members: usize) -> Self {
        let bytes_max = if members > 1 { members.saturating_mul(BYTES_A_MEMBER).min(BYTES_MAX) } else { 0 };
        Self {
            bytes_max,
            bytes: Vec::new(),
            entries: Vec::new(),
            forgotten: 0,
            forgotten_bytes: 0,
            places: HashMap::new(),
        }
    }

    /// Keeps a frame after those that are kept. Returns its place, or `None` when the frame is too long to keep.
    pub fn keep(&mut self, frame: &Frame, said: Said) -> Option<u32> {
        let payload = frame.bytes();
        if frame.wire_bytes() > self.bytes_max as u64 / 2 {
            return None;
        }
        // Once is not always enough: a frame that begins in the older half and ends in the newer stays.
        while self.bytes.len() as u64 + frame.wire_bytes() > self.bytes_max as u64 {
            self.forget_half();
        }
        let data = match frame {
            Frame::Text(_) => Data::Text,
            Frame::Binary(_) => Data::Binary,
        };
        let header = FrameHeader { opcode: OpCode::Data(data), ..FrameHeader::default() };
        let begin = self.bytes.len();
        header.format(payload.len() as u64, &mut self.bytes).expect("writing to memory does not fail");
        let header_bytes = (self.bytes.len() - begin) as u32;
        self.bytes.extend_from_slice(payload);
        assert!(self.bytes.len() <= self.bytes_max, "{} bytes are kept of {}", self.bytes.len(), self.bytes_max);
        let place = self.forgotten + self.entries.len() as u32;
        let end = self.forgotten_bytes + self.bytes.len() as u64;
        self.entries.push(Entry { said, payload_bytes: payload.len() as u32, header_bytes, end });
        self.places.insert(said.index, place);
        Some(place)
    }

    /// Frees space by dropping the older half.
    fn forget_half(&mut self) {
        let middle = self.forgotten_bytes + self.bytes.len() as u64 / 2;
        let count = self.entries.iter().take_while(|entry| entry.end <= middle).count();
        let count = count.max(1).min(self.entries.len());
        let end = self.entries[..count].last().map_or(self.forgotten_bytes, |entry| entry.end);
        self.bytes.drain(..(end - self.forgotten_bytes) as usize);
        self.forgotten_bytes = end;
        for entry in self.entries.drain(..count) {
            self.places.remove(&entry.said.index);
        }
        self.forgotten += count as u32;
        debug_assert_eq!(self.places.len(), self.entries.len(), "each frame that is kept has a place");
    }

    /// The place of a message that is kept.
    pub fn place(&self, index: u32) -> Option<u32> {
        self.places.get(&index).copied()
    }

    /// The message at a place, while it is kept.
    pub fn at(&self, place: u32) -> Option<&Said> {
        let entry = self.entries.get(place.checked_sub(self.forgotten)? as usize)?;
        Some(&entry.said)
    }

    /// The kept frames right after this place that equal the beginning of these bytes.
    pub fn recognise(&self, place: u32, bytes: &[u8]) -> &[Entry] {
        let Some(before) = place.checked_sub(self.forgotten) else { return &[] };
        let Some((before, entries)) = self.entries.split_at_checked(before as usize + 1) else { return &[] };
        let Some(begin) = before.last().map(|entry| entry.end) else { return &[] };
        let kept = &self.bytes[(begin - self.forgotten_bytes) as usize..];
        // Usually all bytes are equal, and one comparison shows it.
        let common = kept.len().min(bytes.len());
        let same = bytes[..common] == kept[..common];
        let mut from = 0;
        let mut is_known = |entry: &Entry| {
            let frame = from..(entry.end - begin) as usize;
            from = frame.end;
            frame.end <= common && (same || bytes[frame.clone()] == kept[frame])
        };
        let count = entries.iter().take_while(|entry| is_known(entry)).count();
        debug_assert!(entries[..count].iter().all(|entry| entry.end <= self.forgotten_bytes + self.bytes.len() as u64));
        &entries[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frames::Whole;

    fn said(index: u32) -> Said {
        Said {
            index,
            slot: ScheduleSlot { publisher: index % 3, number: index / 3 },
            intended_ns: u64::from(index) * 10,
        }
    }

    /// The frame of a message; some frames are long enough for a longer header.
    fn frame(index: u32) -> Frame {
        Frame::Text(format!("{index} {}", "x".repeat(index as usize % 7 * 40)).into())
    }

    fn wire(index: u32) -> Vec<u8> {
        Whole { opcode: OpCode::Data(Data::Text), payload: frame(index).bytes().to_vec() }.written()
    }

    fn record_of(count: u32) -> Record {
        let mut record = Record::new(100);
        assert!((0..count).all(|index| record.keep(&frame(index), said(index)) == Some(index)));
        record
    }

    fn recognised(record: &Record, place: u32, bytes: &[u8]) -> Vec<u32> {
        record.recognise(place, bytes).iter().map(|entry| entry.said.index).collect()
    }

    #[test]
    fn whole_frames_that_are_the_same_are_recognised_wherever_the_bytes_end() {
        let record = record_of(20);
        let behind = 4;
        let bytes: Vec<u8> = (behind + 1..20).flat_map(wire).collect();
        for length in 0..=bytes.len() {
            let mut whole = Vec::new();
            let mut end = 0;
            for index in behind + 1..20 {
                end += wire(index).len();
                whole.extend((end <= length).then_some(index));
            }
            assert_eq!(recognised(&record, behind, &bytes[..length]), whole, "{length} bytes");
        }
        let longer = [bytes.as_slice(), b"more that nobody knows"].concat();
        assert_eq!(recognised(&record, behind, &longer).len(), 15);
    }

    #[test]
    fn every_changed_byte_ends_it_at_its_frame() {
        let record = record_of(6);
        let bytes: Vec<u8> = (1..6).flat_map(wire).collect();
        let mut end = 0;
        for index in 1..6 {
            let begin = end;
            end += wire(index).len();
            for at in begin..end {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert_eq!(recognised(&record, 0, &changed), (1..index).collect::<Vec<_>>(), "byte {at}");
            }
        }
    }

    #[test]
    fn what_stands_between_or_is_left_out_is_not_passed_over() {
        let record = record_of(6);
        let other = Whole { opcode: OpCode::Data(Data::Text), payload: b"ack".to_vec() }.written();
        assert_eq!(recognised(&record, 0, &[wire(1), other.clone(), wire(2)].concat()), [1]);
        assert_eq!(recognised(&record, 0, &[other, wire(1)].concat()), [0; 0]);
        assert_eq!(recognised(&record, 0, &[wire(1), wire(3)].concat()), [1]);
        assert_eq!(recognised(&record, 0, &[wire(1), wire(1)].concat()), [1]);
        assert_eq!(recognised(&record, 0, &wire(2)), [0; 0]);
        assert_eq!(recognised(&record, 5, &wire(6)), [0; 0], "nobody has heard it yet");
        assert_eq!(recognised(&record, 6, &wire(6)), [0; 0]);
        let binary = Whole { opcode: OpCode::Data(Data::Binary), payload: frame(1).bytes().to_vec() }.written();
        assert_eq!(recognised(&record, 0, &binary), [0; 0], "the same text as binary");
    }

    #[test]
    fn it_forgets_and_keeps_to_its_bound() {
        let mut record = Record::new(2);
        for index in 0..10_000 {
            assert_eq!(record.keep(&frame(index), said(index)), Some(index));
            assert!(record.bytes.len() <= 2 * BYTES_A_MEMBER && record.bytes.capacity() <= 4 * BYTES_A_MEMBER);
            assert_eq!(record.places.len(), record.entries.len());
            assert_eq!((record.place(index), record.at(index)), (Some(index), Some(&said(index))));
            let oldest = record.forgotten;
            assert_eq!(
                (record.at(oldest), oldest == 0 || record.at(oldest - 1).is_none()),
                (Some(&said(oldest)), true)
            );
            assert_eq!(recognised(&record, oldest, &wire(oldest + 1)).len(), usize::from(oldest < index));
            assert!(oldest == 0 || recognised(&record, oldest - 1, &wire(oldest)).is_empty());
        }
    }

    #[test]
    fn contents_that_are_too_long_or_not_compared_are_not_kept() {
        let long = Frame::Text("x".repeat(BYTES_A_MEMBER).into());
        assert_eq!(Record::new(2).keep(&long, said(0)), None);
        assert_eq!(Record::new(1).keep(&frame(0), said(0)), None);
    }
}
