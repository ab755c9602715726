//! A shard's largest and busiest channels, for operators. They are kept up to date while channels change, so that a page of
//! them costs as much as it has entries, however many channels there are.
//!
//! A ranking keeps `RANKED_MAX` channels. With more, the least is left out, and comes in again when it changes. How busy a
//! channel is counts in windows of `RATE_WINDOW`; what is told is the newest window that is over.

use std::collections::BTreeSet;

use crate::id::{ChannelId, Monotonic};
use crate::limits::{RANKED_MAX, RATE_WINDOW, RETIRED_TURN_MAX};

/// Channels by a number, the least first.
#[derive(Default)]
pub struct Ranking(BTreeSet<(u32, ChannelId)>);

impl Ranking {
    /// The number of a channel has changed. A channel whose number is zero is not ranked.
    pub fn change(&mut self, id: &ChannelId, before: u32, now: u32) {
        if before == now {
            return;
        }
        if before > 0 {
            self.0.remove(&(before, id.clone()));
        }
        if now > 0 {
            self.0.insert((now, id.clone()));
            if self.0.len() > RANKED_MAX {
                self.0.pop_first();
            }
        }
    }

    /// The greatest that come behind this one, at most so many, the greatest first.
    pub fn below(&self, place: Option<&(u32, ChannelId)>, limit: usize) -> Vec<(u32, ChannelId)> {
        match place {
            None => self.0.iter().rev().take(limit).cloned().collect(),
            Some(place) => self.0.range(..place).rev().take(limit).cloned().collect(),
        }
    }
}

/// What one channel has shown in the newest windows in which it has shown something.
#[derive(Clone, Copy, Default)]
pub struct Shown {
    window: u64,
    count: u32,
    /// The count of the window before `window`.
    before: u32,
}

impl Shown {
    /// The count of the last window that is over.
    pub fn last_window(&self, now: Monotonic) -> u32 {
        match window_of(now) - self.window.min(window_of(now)) {
            0 => self.before,
            1 => self.count,
            _ => 0,
        }
    }
}

/// The channels that have shown most, in windows of time.
#[derive(Default)]
pub struct Busiest {
    window: u64,
    present: Ranking,
    /// The newest window that is over.
    past: Ranking,
    /// Older windows, which are forgotten a little in each turn.
    retired: BTreeSet<(u32, ChannelId)>,
}

impl Busiest {
    /// Goes on to the window of this moment. Call it once a turn.
    pub fn turn(&mut self, now: Monotonic) {
        for _ in 0..RETIRED_TURN_MAX.min(self.retired.len()) {
            self.retired.pop_first();
        }
        let window = window_of(now);
        if window == self.window {
            return;
        }
        let over = std::mem::take(&mut self.present);
        let over = if window == self.window + 1 { over } else { Ranking::default() };
        // A window lasts for many turns, so nothing is left of the one before unless the shard has hardly turned.
        self.retired = std::mem::replace(&mut self.past, over).0;
        self.window = window;
    }

    /// A channel has shown so many messages now.
    pub fn count(&mut self, id: &ChannelId, shown: &mut Shown, more: u64) {
        if more == 0 {
            return;
        }
        if shown.window != self.window {
            let before = if shown.window + 1 == self.window { shown.count } else { 0 };
            *shown = Shown { window: self.window, count: 0, before };
        }
        let before = shown.count;
        shown.count = before.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.present.change(id, before, shown.count);
    }

    /// The ranking of the newest window that is over.
    pub fn past(&self) -> &Ranking {
        &self.past
    }
}

fn window_of(now: Monotonic) -> u64 {
    now.since(Monotonic::default()).as_secs() / RATE_WINDOW.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(number: usize) -> ChannelId {
        ChannelId::room(&format!("room-{number}")).unwrap()
    }

    #[test]
    fn pages_go_from_the_greatest_to_the_least() {
        let mut ranking = Ranking::default();
        for number in 1..=10 {
            ranking.change(&channel(number), 0, number as u32 / 2);
        }
        ranking.change(&channel(10), 5, 1);
        ranking.change(&channel(9), 4, 0);
        let (mut place, mut seen) = (None, Vec::new());
        loop {
            let page = ranking.below(place.as_ref(), 3);
            seen.extend(page.iter().map(|(members, _)| *members));
            let Some(last) = page.last() else { break };
            place = Some(last.clone());
        }
        assert_eq!(seen, [4, 3, 3, 2, 2, 1, 1, 1], "room 1 has none, room 9 has none any more");
    }

    #[test]
    fn the_greatest_are_kept_and_a_change_brings_others_in_again() {
        let mut ranking = Ranking::default();
        for number in 0..RANKED_MAX + 10 {
            ranking.change(&channel(number), 0, number as u32 + 1);
        }
        assert_eq!(ranking.0.len(), RANKED_MAX);
        assert_eq!(ranking.0.first().map(|(members, _)| *members), Some(11));
        ranking.change(&channel(0), 1, 1_000_000);
        assert_eq!(ranking.below(None, 1), [(1_000_000, channel(0))]);
        assert_eq!(ranking.0.len(), RANKED_MAX);
    }

    #[test]
    fn what_is_told_is_the_newest_window_that_is_over() {
        let (mut busiest, mut hall, mut lobby) = (Busiest::default(), Shown::default(), Shown::default());
        let at = |windows: u32| Monotonic::default().plus(RATE_WINDOW * windows);
        busiest.turn(at(0));
        busiest.count(&channel(1), &mut hall, 20);
        busiest.count(&channel(2), &mut lobby, 30);
        busiest.count(&channel(1), &mut hall, 40);
        assert!(busiest.past().below(None, 9).is_empty() && hall.last_window(at(0)) == 0);
        busiest.turn(at(1));
        busiest.count(&channel(2), &mut lobby, 1);
        assert_eq!(busiest.past().below(None, 9), [(60, channel(1)), (30, channel(2))]);
        assert_eq!((hall.last_window(at(1)), lobby.last_window(at(1))), (60, 30));
        busiest.turn(at(2));
        assert_eq!(busiest.past().below(None, 9), [(1, channel(2))]);
        assert_eq!((hall.last_window(at(2)), lobby.last_window(at(2))), (0, 1));
        busiest.turn(at(9));
        assert!(busiest.past().below(None, 9).is_empty(), "nothing was said for long");
    }

    #[test]
    fn old_windows_are_forgotten_a_little_in_each_turn() {
        let mut busiest = Busiest::default();
        for number in 0..3 * RETIRED_TURN_MAX {
            busiest.count(&channel(number), &mut Shown::default(), 1);
        }
        for window in 1..=2 {
            busiest.turn(Monotonic::default().plus(RATE_WINDOW * window));
        }
        let mut left = vec![busiest.retired.len()];
        while !busiest.retired.is_empty() {
            busiest.turn(Monotonic::default().plus(RATE_WINDOW * 2));
            left.push(busiest.retired.len());
        }
        assert_eq!(left, [3, 2, 1, 0].map(|turns| turns * RETIRED_TURN_MAX));
    }
}
