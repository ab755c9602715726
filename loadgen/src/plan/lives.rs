//! What each member of a live event does and when: it comes, leaves and returns, drops its connection, reads slowly.
//!
//! Pure: a life follows from the seed, the member's number and the conduct in the plan. So every worker knows the lives
//! of its members without communication. Times are offsets from the start.

use serde::{Deserialize, Serialize};

use crate::base::clock::SECOND_NS;
use crate::plan::draws::Draws;

/// The purposes for which lives and ways of reading are drawn.
const LIVES: u64 = 3;
const READING_MODES: u64 = 4;
/// A member that has done this many acts stays from then on.
pub const ACTS_MAX: usize = 1_000;

/// How the members of a live event behave. Publishers come first and stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    /// Members join evenly over this time.
    pub ramp_ns: u64,
    /// Members stop coming and going at this time.
    pub end_ns: u64,
    /// The share of the members that leave or drop in each second, and come again.
    pub churn_a_second: f64,
    /// The longest time that they stay away.
    pub away_max_ns: u64,
    /// When a share of all connections is dropped at once, and how large the share is.
    pub reconnect_ns: u64,
    pub reconnect_share: f64,
    /// The share of the members that read slowly, and how many frames these read a second.
    pub slow_share: f64,
    pub slow_frames_a_second: f64,
    /// The share of the slow members that ask the server to skip messages instead of closing the connection.
    pub skip_share: f64,
    /// History pages read each second, by all members of a room together.
    pub history_reads_a_second: f64,
    /// The time over which the server is expected to drain; `None` if no drain is expected.
    pub drain_secs: Option<f64>,
}

/// One step of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Act {
    pub at_ns: u64,
    pub step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Enter the room, on a new connection if there is none.
    Join,
    /// Leave the room, and keep the connection.
    Leave,
    /// Drop the connection without a close frame.
    Drop,
}

/// How a member reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadingMode {
    Prompt,
    /// Too slowly; `skips` says whether the member asked the server to skip messages for it.
    Slow {
        skips: bool,
    },
}

impl Conduct {
    /// How the member reads. This does not change during its life.
    pub fn reading_mode(&self, seed: u64, user: u32) -> ReadingMode {
        let mut draws = Draws::new(seed, READING_MODES, user.into());
        if draws.fraction() >= self.slow_share {
            return ReadingMode::Prompt;
        }
        ReadingMode::Slow { skips: draws.fraction() < self.skip_share }
    }

    /// The member's life. It is the `nth` of `members` to come. A slow member only joins and reads.
    pub fn life(&self, seed: u64, user: u32, nth: u32, members: u32) -> Vec<Act> {
        let come_ns = (u128::from(self.ramp_ns) * u128::from(nth) / u128::from(members.max(1))) as u64;
        debug_assert!(come_ns <= self.ramp_ns, "member {nth} of {members} comes within the ramp");
        let mut acts = vec![Act { at_ns: come_ns, step: Step::Join }];
        if self.reading_mode(seed, user) != ReadingMode::Prompt {
            return acts;
        }
        let mut draws = Draws::new(seed, LIVES, user.into());
        let mut reconnect = (draws.fraction() < self.reconnect_share).then_some(self.reconnect_ns);
        let mut now_ns = come_ns.max(self.ramp_ns);
        while acts.len() < ACTS_MAX {
            let next_ns = now_ns.saturating_add(self.until_next(&mut draws));
            if let Some(at_ns) = reconnect.take_if(|at_ns| *at_ns <= next_ns) {
                // A member that is away at that time has no connection to lose.
                if at_ns >= now_ns && at_ns < self.end_ns {
                    acts.extend([Act { at_ns, step: Step::Drop }, Act { at_ns, step: Step::Join }]);
                    now_ns = at_ns;
                }
                continue;
            }
            let return_ns = next_ns.saturating_add(draws.below(self.away_max_ns + 1));
            if return_ns >= self.end_ns {
                break;
            }
            let step = if draws.below(2) == 0 { Step::Leave } else { Step::Drop };
            acts.extend([Act { at_ns: next_ns, step }, Act { at_ns: return_ns, step: Step::Join }]);
            now_ns = return_ns;
        }
        debug_assert!(acts.is_sorted_by_key(|act| act.at_ns), "a life goes on: {acts:?}");
        debug_assert!(acts.last().is_some_and(|act| act.step == Step::Join), "a life ends in the room: {acts:?}");
        acts
    }

    /// How long a member stays until it leaves: it is as likely to leave in one second as in any other.
    fn until_next(&self, draws: &mut Draws) -> u64 {
        if self.churn_a_second <= 0.0 {
            return u64::MAX;
        }
        // A value too large for `u64` becomes the largest `u64`, which is longer than any run.
        (-(1.0 - draws.fraction()).ln() / self.churn_a_second * SECOND_NS as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: u32 = 10_000;

    fn conduct() -> Conduct {
        Conduct {
            ramp_ns: 10 * SECOND_NS,
            end_ns: 60 * SECOND_NS,
            churn_a_second: 0.02,
            away_max_ns: 2 * SECOND_NS,
            reconnect_ns: 40 * SECOND_NS,
            reconnect_share: 0.2,
            slow_share: 0.01,
            slow_frames_a_second: 10.0,
            skip_share: 0.5,
            history_reads_a_second: 1.0,
            drain_secs: None,
        }
    }

    fn lives(conduct: &Conduct, seed: u64) -> Vec<Vec<Act>> {
        (0..MEMBERS).map(|user| conduct.life(seed, user, user, MEMBERS)).collect()
    }

    #[test]
    fn lives_repeat_with_their_seed() {
        assert_eq!(lives(&conduct(), 5), lives(&conduct(), 5));
        assert_ne!(lives(&conduct(), 5), lives(&conduct(), 6));
    }

    #[test]
    fn every_life_alternates_in_time_and_ends_in_the_room() {
        for life in lives(&conduct(), 1) {
            assert!(life.len() % 2 == 1, "{life:?}");
            for (at, act) in life.iter().enumerate() {
                assert_eq!(act.step == Step::Join, at % 2 == 0, "{life:?}");
                assert!(at == 0 || life[at - 1].at_ns <= act.at_ns, "{life:?}");
                assert!(act.at_ns < 60 * SECOND_NS, "{life:?}");
            }
        }
    }

    #[test]
    fn as_many_come_go_reconnect_and_dawdle_as_asked_for() {
        let (conduct, lives) = (conduct(), lives(&conduct(), 1));
        let steps = |wanted: fn(&Act) -> bool| lives.iter().flatten().filter(|act| wanted(act)).count();
        let early = steps(|act| act.step == Step::Join && act.at_ns < 5 * SECOND_NS);
        assert_eq!(early, 5_000, "the ramp is even");
        // 2 % of about 9,800 members in the room, for 50 s without the end.
        let gone = steps(|act| act.step != Step::Join && act.at_ns != 40 * SECOND_NS);
        assert!((8_700..10_000).contains(&gone), "{gone}");
        let left = steps(|act| act.step == Step::Leave);
        assert!(left * 3 > gone && left * 3 < gone * 2, "{left} of {gone}");
        let dropped_at_once = steps(|act| act.step == Step::Drop && act.at_ns == 40 * SECOND_NS);
        assert!((1_800..2_050).contains(&dropped_at_once), "{dropped_at_once}");
        let slow = (0..MEMBERS).filter(|user| conduct.reading_mode(1, *user) != ReadingMode::Prompt).count();
        assert!((70..130).contains(&slow), "{slow}");
        let skipping =
            (0..MEMBERS).filter(|user| conduct.reading_mode(1, *user) == ReadingMode::Slow { skips: true }).count();
        assert!(skipping * 4 > slow && skipping * 4 < slow * 3, "{skipping} of {slow}");
    }

    #[test]
    fn without_churn_all_users_stay() {
        let conduct = Conduct { churn_a_second: 0.0, reconnect_share: 0.0, ..conduct() };
        assert!(lives(&conduct, 1).iter().all(|life| life.len() == 1));
    }

    #[test]
    fn a_life_has_an_end_to_its_acts() {
        let conduct = Conduct { churn_a_second: 1e9, away_max_ns: 0, ..conduct() };
        assert!(lives(&conduct, 1).iter().all(|life| life.len() <= ACTS_MAX + 1));
    }
}
