//! What a link holds for its peer: frames in order, the first of them sent and not acknowledged, the others waiting.

use std::collections::VecDeque;

use engine::id::Monotonic;

use crate::limits::{FRAME_COST, HOLD_PATIENCE, Limits, PATIENCE, PROBE_INTERVAL};
use crate::packet::{Content, FrameNumber};
use crate::pieces::{Filling, PIECE_HEAD_BYTES, Payload};

/// One direction of a link, at its sender.
///
/// Invariant: `next <= sent <= frames.len()`.
#[derive(Debug)]
pub struct Sending {
    /// The number of the first of `frames`.
    first: FrameNumber,
    /// Frames that are not acknowledged, oldest first.
    frames: VecDeque<Payload>,
    /// The frame that takes in the next parcel. Its number comes after those of `frames`.
    filling: Filling,
    /// How many of `frames` have been sent at least once.
    sent: usize,
    /// How many of `frames` need not be sent (again).
    next: usize,
    /// The bytes of all `frames`, and of the first `sent` of them.
    frames_bytes: usize,
    sent_bytes: usize,
    /// All frames up to this one have arrived at the peer.
    arrived: FrameNumber,
    /// Since when the peer has made no progress although something that was sent is not acknowledged.
    owed_since: Option<Monotonic>,
    /// The frame behind which everything was sent again because the peer missed it.
    repeated_behind: Option<FrameNumber>,
    flow: Flow,
    /// Probes sent over all link numbers.
    probes: u64,
}

/// Whether frames are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Flowing,
    /// Only probes are sent, the next one at `due`, until one from number `from` on is answered.
    Probing {
        from: u64,
        due: Monotonic,
    },
}

impl Sending {
    /// Nothing is held, and the peer is asked first, at `due`. `probes` were sent before.
    pub fn new(probes: u64, due: Monotonic) -> Self {
        Self {
            first: FrameNumber(1),
            frames: VecDeque::new(),
            filling: Filling::default(),
            sent: 0,
            next: 0,
            frames_bytes: 0,
            sent_bytes: 0,
            arrived: FrameNumber(0),
            owed_since: None,
            repeated_behind: None,
            flow: Flow::Probing { from: probes + 1, due },
            probes,
        }
    }

    /// How many probes were sent.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// What is held for the peer, in bytes.
    pub fn held(&self) -> usize {
        let filling = if self.filling.is_empty() { 0 } else { self.filling.len() + FRAME_COST };
        self.frames_bytes + self.frames.len() * FRAME_COST + filling
    }

    /// The most by which a parcel of so many bytes can make `held` grow.
    pub fn growth(parcel_bytes: usize, limits: &Limits) -> usize {
        let frames = parcel_bytes / limits.frame_bytes_max.saturating_sub(PIECE_HEAD_BYTES).max(1) + 2;
        parcel_bytes + frames * (PIECE_HEAD_BYTES + FRAME_COST)
    }

    /// Puts a parcel behind those that are held.
    pub fn push(&mut self, parcel: &[u8], limits: &Limits) {
        let mut rest = parcel;
        loop {
            match self.filling.add(rest, limits.frame_bytes_max) {
                Some(length) if length == rest.len() => return,
                Some(length) => rest = &rest[length..],
                None => self.finish(),
            }
        }
    }

    fn finish(&mut self) {
        let payload = self.filling.finish();
        self.frames_bytes += payload.bytes().len();
        self.frames.push_back(payload);
    }

    /// Takes the peer's word for what has arrived and what need not be held any more. Returns `false`, and changes
    /// nothing, if the peer speaks of frames that were never sent.
    pub fn acknowledged(&mut self, acknowledged: FrameNumber, arrived: FrameNumber, now: Monotonic) -> bool {
        let last_sent = self.first.0 - 1 + self.sent as u64;
        if acknowledged > arrived || arrived.0 > last_sent {
            return false;
        }
        let progress = arrived > self.arrived || acknowledged >= self.first;
        self.arrived = self.arrived.max(arrived);
        while self.first <= acknowledged {
            let Some(frame) = self.frames.pop_front() else { break };
            self.frames_bytes -= frame.bytes().len();
            self.sent_bytes -= frame.bytes().len();
            self.sent -= 1;
            self.next = self.next.saturating_sub(1);
            self.first = self.first.next();
        }
        // What has arrived meanwhile need not be sent again.
        self.next = self.next.max((self.arrived.0 + 1).saturating_sub(self.first.0) as usize);
        if progress {
            self.owed_since = (self.sent > 0).then_some(now);
        }
        true
    }

    /// The peer has answered a probe. If it is one of those that are waited for, everything that has not arrived is sent
    /// again: it was sent before the probe.
    pub fn answered(&mut self, probe: u64, now: Monotonic) {
        if let Flow::Probing { from, .. } = self.flow
            && (from..=self.probes).contains(&probe)
        {
            self.flow = Flow::Flowing;
            self.repeat();
            self.owed_since = (self.sent > 0).then_some(now);
        }
    }

    /// The peer is there, and nothing was sent yet.
    pub fn begin(&mut self) {
        debug_assert!(self.sent == 0, "a link opens before anything is sent");
        self.flow = Flow::Flowing;
    }

    /// The peer misses the frame behind `arrived`.
    pub fn missing(&mut self, arrived: FrameNumber) {
        // The bus may repeat a packet: once is enough, and if that is lost too, a probe finds it.
        if self.flow == Flow::Flowing && arrived == self.arrived && self.repeated_behind != Some(arrived) {
            self.repeated_behind = Some(arrived);
            self.repeat();
        }
    }

    fn repeat(&mut self) {
        self.next = (self.arrived.0 + 1).saturating_sub(self.first.0) as usize;
    }

    /// The way to the peer may have been cut: if something is held, the peer is asked first what has arrived.
    pub fn doubt(&mut self, now: Monotonic) {
        if let Flow::Probing { due, .. } = &mut self.flow {
            *due = now;
        } else if self.held() > 0 {
            self.flow = Flow::Probing { from: self.probes + 1, due: now };
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Monotonic) {
        if self.flow == Flow::Flowing && self.owed_since.is_some_and(|since| now >= since.plus(PATIENCE)) {
            self.doubt(now);
        }
    }

    /// When `tick` or `next` has something to do next because time passes.
    pub fn timeout(&self) -> Option<Monotonic> {
        match self.flow {
            Flow::Flowing => self.owed_since.map(|since| since.plus(PATIENCE)),
            Flow::Probing { due, .. } => Some(due),
        }
    }

    /// The next probe or frame to send, and whether it was sent before.
    pub fn next(&mut self, now: Monotonic, limits: &Limits) -> Option<(Content, bool)> {
        if let Flow::Probing { from, due } = self.flow {
            if due > now {
                return None;
            }
            self.probes += 1;
            self.flow = Flow::Probing { from, due: now.plus(PROBE_INTERVAL) };
            return Some((Content::Probe { number: self.probes }, false));
        }
        let again = self.next < self.sent;
        if !again && self.sent_bytes >= limits.window_bytes {
            return None;
        }
        if self.next == self.frames.len() {
            if self.filling.is_empty() {
                return None;
            }
            self.finish();
        }
        let payload = self.frames[self.next].clone();
        let number = FrameNumber(self.first.0 + self.next as u64);
        self.next += 1;
        if !again {
            self.sent += 1;
            self.sent_bytes += payload.bytes().len();
            self.owed_since.get_or_insert(now);
        }
        debug_assert!(self.next <= self.sent && self.sent <= self.frames.len());
        Some((Content::Frame { number, payload }, again))
    }

    /// Whether too much waits for a peer that makes progress.
    pub fn is_full(&self, now: Monotonic, limits: &Limits) -> bool {
        let waiting = self.frames_bytes - self.sent_bytes + self.filling.len();
        self.flow == Flow::Flowing
            && waiting > limits.waiting_bytes_high
            && self.owed_since.is_some_and(|since| now < since.plus(HOLD_PATIENCE))
    }

    /// What `held` must be, counted anew.
    #[cfg(test)]
    pub fn measured(&self) -> usize {
        let frames = self.frames.iter().map(|frame| frame.bytes().len() + FRAME_COST).sum::<usize>();
        frames + if self.filling.is_empty() { 0 } else { self.filling.len() + FRAME_COST }
    }
}
