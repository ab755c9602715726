//! The leaves that a channel's members were told of last. A home that has missed the batch with a leave would keep the
//! member in its clients' lists. So the owner remembers the newest leaves, and tells them again when the home catches
//! up.

use std::collections::VecDeque;

use crate::limits::DEPARTURES_KEPT_MAX;
use crate::message::Presence;
use crate::parcel::BatchNumber;

/// The newest leaves, oldest first.
#[derive(Default)]
pub struct Departures {
    /// Each leave with the last batch number before the turn in which it was told. So all batches that tell it have
    /// greater numbers, and all batches of earlier turns have not.
    told: VecDeque<(BatchNumber, Presence)>,
    /// Leaves told in this turn.
    fresh: Vec<Presence>,
    /// The number of the newest leave that is not kept any more.
    forgotten: Option<BatchNumber>,
}

impl Departures {
    /// Notes leaves that are told in this turn.
    pub fn note(&mut self, leaves: &[Presence]) {
        self.fresh.extend_from_slice(leaves);
    }

    /// Ends the turn. `before` is the last batch number that was given out before it.
    pub fn end_turn(&mut self, before: BatchNumber) {
        debug_assert!(self.told.back().is_none_or(|(last, _)| *last <= before), "batch numbers rise");
        self.told.extend(self.fresh.drain(..).map(|presence| (before, presence)));
        let surplus = self.told.len().saturating_sub(DEPARTURES_KEPT_MAX);
        if let Some((newest, _)) = self.told.drain(..surplus).next_back() {
            self.forgotten = Some(newest);
        }
    }

    /// The leaves told after a batch; `None` if some of them are not kept any more.
    pub fn since(&self, batch: BatchNumber) -> Option<impl Iterator<Item = &Presence>> {
        let kept = self.forgotten.is_none_or(|forgotten| forgotten < batch);
        kept.then(|| self.told.iter().filter(move |(before, _)| *before >= batch).map(|(_, presence)| presence))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::id::{SessionId, UserId};

    fn presence(number: usize) -> Presence {
        let id = Uuid::from_u128(number as u128);
        Presence { user: UserId(id), session: SessionId(id), username: "ada".into(), persistence: true }
    }

    fn since(departures: &Departures, batch: u64) -> Option<Vec<u128>> {
        let told = departures.since(BatchNumber(batch))?;
        Some(told.map(|presence| presence.session.0.as_u128()).collect())
    }

    #[test]
    fn a_home_is_told_the_leaves_of_the_batches_that_it_has_missed() {
        let mut departures = Departures::default();
        departures.note(&[presence(1)]);
        departures.end_turn(BatchNumber(4));
        departures.note(&[presence(2)]);
        departures.end_turn(BatchNumber(7));
        assert_eq!(since(&departures, 4), Some(vec![1, 2]), "batch 5 or later tells the first leave");
        assert_eq!(since(&departures, 5), Some(vec![2]));
        assert_eq!(since(&departures, 7), Some(vec![2]));
        assert_eq!(since(&departures, 8), Some(vec![]));
    }

    #[test]
    fn leaves_that_are_not_kept_are_not_passed_over_in_silence() {
        let mut departures = Departures::default();
        for number in 0..=DEPARTURES_KEPT_MAX {
            departures.note(&[presence(number)]);
            departures.end_turn(BatchNumber(number as u64));
        }
        assert_eq!(since(&departures, 0), None);
        assert_eq!(since(&departures, 1).map(|told| told.len()), Some(DEPARTURES_KEPT_MAX));
    }
}
