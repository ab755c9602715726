//! What has arrived over a link: parcels in order, until the shards take them, and the acknowledgements that are owed.

use std::collections::VecDeque;

use bytes::Bytes;
use engine::id::Monotonic;

use crate::limits::{ACKNOWLEDGE_AFTER, Limits};
use crate::packet::{Content, FrameNumber};
use crate::pieces::{Joining, Payload, TooLong};

/// One direction of a link, at its receiver.
#[derive(Debug, Default)]
pub struct Receiving {
    /// All frames up to this one have arrived.
    arrived: FrameNumber,
    /// All frames up to this one were taken. `frames` are those between.
    taken: FrameNumber,
    frames: VecDeque<Payload>,
    /// The bytes of `frames`.
    inbox: usize,
    joining: Joining,
    /// What the peer was last told: taken and arrived.
    told: (FrameNumber, FrameNumber),
    /// Since when the peer is owed an acknowledgement, and for how many bytes taken.
    owed_since: Option<Monotonic>,
    owed_bytes: usize,
    /// Tell the peer at once.
    at_once: bool,
    /// The frame behind which the peer was told that one is missing.
    missing_behind: Option<FrameNumber>,
    tell_missing: bool,
    /// The newest probe that is not answered.
    probe: Option<u64>,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    InOrder,
    /// It had arrived before.
    Duplicate,
    /// A frame before it is missing, so it is dropped.
    Gap,
    /// There is no room for it, so it is dropped.
    NoRoom,
}

impl Receiving {
    /// A frame. `room` is how many bytes may be kept.
    pub fn frame(&mut self, number: FrameNumber, payload: Payload, room: usize, now: Monotonic) -> Arrival {
        let length = payload.bytes().len();
        if number <= self.arrived {
            // The peer would not have sent it again if it knew.
            self.at_once = true;
            return Arrival::Duplicate;
        }
        if number > self.arrived.next() {
            self.tell_missing |= self.missing_behind != Some(self.arrived);
            self.missing_behind = Some(self.arrived);
            return Arrival::Gap;
        }
        if length > room {
            // It would be sent at once if the peer were told that it is missing. The peer asks when it has waited.
            self.missing_behind = Some(self.arrived);
            return Arrival::NoRoom;
        }
        self.arrived = number;
        self.frames.push_back(payload);
        self.inbox += length;
        self.owed_since.get_or_insert(now);
        Arrival::InOrder
    }

    /// The peer asks for an answer.
    pub fn probed(&mut self, number: u64) {
        self.probe = self.probe.max(Some(number));
    }

    /// The next parcel. Fails if it is longer than any parcel may be.
    pub fn take(&mut self, now: Monotonic, limits: &Limits) -> Result<Option<Bytes>, TooLong> {
        while let Some(frame) = self.frames.front_mut() {
            let before = frame.bytes().len();
            let piece = frame.take();
            self.inbox -= before - frame.bytes().len();
            self.owed_bytes += before - frame.bytes().len();
            if frame.is_empty() {
                self.frames.pop_front();
                self.taken = self.taken.next();
                self.owed_since.get_or_insert(now);
                // The peer's window opens again before it is full.
                self.at_once |= self.owed_bytes >= limits.window_bytes / 4;
            }
            let Some(piece) = piece else { continue };
            if let Some(parcel) = self.joining.add(piece, limits.parcel_bytes_max)? {
                return Ok(Some(parcel));
            }
        }
        Ok(None)
    }

    /// All frames up to the first were taken, all up to the second have arrived. The peer is told of both now.
    pub fn tell(&mut self) -> (FrameNumber, FrameNumber) {
        self.told = (self.taken, self.arrived);
        (self.owed_since, self.owed_bytes, self.at_once) = (None, 0, false);
        self.told
    }

    /// An answer that is owed at once.
    pub fn urgent(&mut self) -> Option<Content> {
        if let Some(probe) = self.probe.take() {
            return Some(Content::Answer { probe });
        }
        std::mem::take(&mut self.tell_missing).then_some(Content::Missing)
    }

    /// An acknowledgement that no frame has taken along.
    pub fn acknowledgement(&mut self, now: Monotonic) -> Option<Content> {
        let owed = self.told != (self.taken, self.arrived);
        let due = self.at_once || owed && self.owed_since.is_some_and(|since| now >= since.plus(ACKNOWLEDGE_AFTER));
        due.then_some(Content::Acknowledgement)
    }

    /// When `acknowledgement` has something next because time passes.
    pub fn timeout(&self) -> Option<Monotonic> {
        let owed = self.told != (self.taken, self.arrived);
        self.owed_since.filter(|_| owed).map(|since| since.plus(ACKNOWLEDGE_AFTER))
    }

    /// The bytes that have arrived and were not taken.
    pub fn inbox(&self) -> usize {
        self.inbox
    }

    /// The bytes of a parcel of which pieces are missing.
    pub fn unfinished(&self) -> usize {
        self.joining.unfinished()
    }

    /// Whether something can be taken.
    pub fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// What `inbox` must be, counted anew.
    #[cfg(test)]
    pub fn measured(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes().len()).sum()
    }
}
