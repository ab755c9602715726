//! Connections that ended although their clients had not ended them, by the code of the server's close frame.

use serde::{Deserialize, Serialize};

/// The close codes that are told apart.
pub const GOING_AWAY: u16 = 1001;
/// A connection that ended without a close frame. No server sends this code; browsers call such an end so.
pub const NO_FRAME: u16 = 1006;
pub const RESTART: u16 = 1012;
pub const TRY_LATER: u16 = 1013;

/// In how many parts of a second the closes of a drain are counted.
pub const PARTS: usize = 10;

/// How many connections ended in one second, or in a whole run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Closes {
    #[serde(rename = "1001")]
    pub going_away: u64,
    #[serde(rename = "1006")]
    pub no_frame: u64,
    #[serde(rename = "1012")]
    pub restart: u64,
    #[serde(rename = "1013")]
    pub try_later: u64,
    pub other: u64,
    /// The closes with 1012 in each tenth of the second.
    #[serde(rename = "1012_by_tenth")]
    pub restart_by_tenth: [u64; PARTS],
}

impl Closes {
    /// Counts a connection that ended with this code, in this tenth of the second.
    pub fn count(&mut self, code: u16, tenth: usize) {
        match code {
            GOING_AWAY => self.going_away += 1,
            NO_FRAME => self.no_frame += 1,
            RESTART => {
                self.restart += 1;
                self.restart_by_tenth[tenth.min(PARTS - 1)] += 1;
            }
            TRY_LATER => self.try_later += 1,
            _ => self.other += 1,
        }
    }

    pub fn add(&mut self, other: &Closes) {
        self.going_away += other.going_away;
        self.no_frame += other.no_frame;
        self.restart += other.restart;
        self.try_later += other.try_later;
        self.other += other.other;
        self.restart_by_tenth.iter_mut().zip(other.restart_by_tenth).for_each(|(sum, part)| *sum += part);
    }

    pub fn all(&self) -> u64 {
        self.going_away + self.no_frame + self.restart + self.try_later + self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_place_and_a_drain_its_tenths() {
        let mut closes = Closes::default();
        for (code, tenth) in [(1001, 0), (1006, 1), (1012, 3), (1012, 3), (1012, 99), (1013, 5), (1000, 0), (4000, 0)] {
            closes.count(code, tenth);
        }
        let mut sum = closes;
        sum.add(&closes);
        let Closes { going_away, no_frame, restart, try_later, other, restart_by_tenth } = sum;
        assert_eq!([going_away, no_frame, restart, try_later, other], [2, 2, 6, 2, 4]);
        assert_eq!(restart_by_tenth, [0, 0, 0, 4, 0, 0, 0, 0, 0, 2]);
        assert_eq!(sum.all(), 16);
        let text = serde_json::to_string(&sum).expect("text");
        assert_eq!(serde_json::from_str::<Closes>(&text).expect("what was written"), sum, "{text}");
    }
}
