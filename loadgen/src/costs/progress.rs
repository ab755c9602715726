//! Running totals of a run, which workers report and the progress display shows.

use serde::{Deserialize, Serialize};

/// Running totals, for the progress display.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    pub signed_in: u64,
    pub joined: u64,
    pub sent: u64,
    pub accepted: u64,
    pub refused: u64,
    /// Deliveries: each message once for each member.
    pub delivered: u64,
    /// Duplicates, disorder and corruption so far.
    pub faults: u64,
    pub disconnected: u64,
    /// Stays in a room that have ended, in any way.
    pub left: u64,
    pub presence_frames: u64,
}

impl Progress {
    pub fn add(&mut self, other: &Progress) {
        self.signed_in += other.signed_in;
        self.joined += other.joined;
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.faults += other.faults;
        self.disconnected += other.disconnected;
        self.left += other.left;
        self.presence_frames += other.presence_frames;
    }

    /// How many users are in their rooms. Where stays are recorded, a lost connection has also ended a stay.
    pub fn present(&self) -> u64 {
        self.joined.saturating_sub(self.left.max(self.disconnected))
    }

    /// What was added since an earlier reading.
    pub fn minus(&self, earlier: &Progress) -> Self {
        Self {
            signed_in: self.signed_in - earlier.signed_in,
            joined: self.joined - earlier.joined,
            sent: self.sent - earlier.sent,
            accepted: self.accepted - earlier.accepted,
            refused: self.refused - earlier.refused,
            delivered: self.delivered - earlier.delivered,
            faults: self.faults - earlier.faults,
            disconnected: self.disconnected - earlier.disconnected,
            left: self.left - earlier.left,
            presence_frames: self.presence_frames - earlier.presence_frames,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_adds_up() {
        let one = Progress { signed_in: 1, joined: 2, delivered: 3, ..Progress::default() };
        let mut sum = one;
        sum.add(&one);
        assert_eq!(sum, Progress { signed_in: 2, joined: 4, delivered: 6, ..Progress::default() });
        assert_eq!(sum.minus(&one), one);
        let stays = Progress { joined: 9, left: 4, disconnected: 1, ..Progress::default() };
        assert_eq!((stays.present(), Progress { left: 0, ..stays }.present()), (5, 8));
    }
}
