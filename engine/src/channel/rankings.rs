//! A shard's largest and busiest channels, for operators. They are kept up to date while channels change, so that a page of
//! them costs as much as it has entries, however many channels there are.
//!
//! A ranking keeps `RANKED_MAX` channels. With more, the least is left out, and comes in again when it changes. How busy a
//! channel is counts in windows of `RATE_WINDOW`; what is told is the newest window that is over and ranked.

use std::collections::BTreeSet;

use crate::id::{ChannelId, Monotonic};
use crate::limits::{RANKED_MAX, RANKED_TURN_MAX, RATE_WINDOW};

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
///
/// A message costs nothing here but its channel's first one in a window. When the window is over, its channels are ranked
/// some in each turn, and the ranking before it is told until all are ranked.
#[derive(Default)]
pub struct Busiest {
    window: u64,
    /// The channels that have shown something in this window: the first `RANKED_MAX` of them.
    present: Vec<ChannelId>,
    /// Channels of the window that is over, which are not ranked yet, and the ranking of the others.
    unranked: Vec<ChannelId>,
    ranked: Ranking,
    /// The newest ranking that is complete.
    past: Ranking,
    /// An older ranking, which is forgotten a little in each turn.
    retired: BTreeSet<(u32, ChannelId)>,
}

impl Busiest {
    /// Goes on to the window of this moment. `shown` says how many messages a channel has shown in the last window that is
    /// over. Call it once a turn.
    pub fn turn(&mut self, now: Monotonic, shown: impl Fn(&ChannelId) -> u32) {
        let window = window_of(now);
        if window != self.window {
            let over = std::mem::take(&mut self.present);
            self.unranked = if window == self.window + 1 { over } else { Vec::new() };
            self.ranked = Ranking::default();
            self.window = window;
            if self.unranked.is_empty() {
                self.complete();
            }
        }
        for _ in 0..RANKED_TURN_MAX.min(self.retired.len()) {
            self.retired.pop_first();
        }
        if self.unranked.is_empty() {
            return;
        }
        let rest = self.unranked.len().saturating_sub(RANKED_TURN_MAX);
        for channel in self.unranked.drain(rest..) {
            self.ranked.change(&channel, 0, shown(&channel));
        }
        if self.unranked.is_empty() {
            self.complete();
        }
    }

    /// The ranking of the window that is over is complete, and the one before it is not told any more.
    fn complete(&mut self) {
        let complete = std::mem::take(&mut self.ranked);
        // A window lasts for many turns, so nothing is left of the ranking before unless the shard has hardly turned.
        self.retired = std::mem::replace(&mut self.past, complete).0;
    }

    /// A channel has shown so many messages now.
    pub fn count(&mut self, id: &ChannelId, shown: &mut Shown, more: u64) {
        if more == 0 {
            return;
        }
        if shown.window != self.window || shown.count == 0 {
            let before = if shown.window + 1 == self.window { shown.count } else { 0 };
            *shown = Shown { window: self.window, count: 0, before };
            if self.present.len() < RANKED_MAX {
                self.present.push(id.clone());
            }
        }
        shown.count = shown.count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    }

    /// The newest ranking that is complete.
    pub fn past(&self) -> &Ranking {
        &self.past
    }
}

fn window_of(now: Monotonic) -> u64 {
    now.since(Monotonic::default()).as_secs() / RATE_WINDOW.as_secs()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    /// Channels and what they have shown.
    struct Halls {
        busiest: Busiest,
        shown: BTreeMap<ChannelId, Shown>,
    }

    impl Halls {
        fn turn(&mut self, now: Monotonic) {
            let shown = &self.shown;
            self.busiest.turn(now, |channel| shown.get(channel).map_or(0, |shown| shown.last_window(now)));
        }

        fn count(&mut self, number: usize, more: u64) {
            self.busiest.count(&channel(number), self.shown.entry(channel(number)).or_default(), more);
        }

        fn told(&self) -> Vec<(u32, ChannelId)> {
            self.busiest.past().below(None, 9)
        }
    }

    #[test]
    fn what_is_told_is_the_newest_window_that_is_over() {
        let mut halls = Halls { busiest: Busiest::default(), shown: BTreeMap::new() };
        let at = |windows: u32| Monotonic::default().plus(RATE_WINDOW * windows);
        halls.turn(at(0));
        halls.count(1, 20);
        halls.count(2, 30);
        halls.count(1, 40);
        assert!(halls.told().is_empty() && halls.shown[&channel(1)].last_window(at(0)) == 0);
        halls.turn(at(1));
        halls.count(2, 1);
        assert_eq!(halls.told(), [(60, channel(1)), (30, channel(2))]);
        assert_eq!(halls.shown[&channel(2)].last_window(at(1)), 30);
        halls.turn(at(2));
        assert_eq!(halls.told(), [(1, channel(2))]);
        assert_eq!(halls.shown[&channel(1)].last_window(at(2)), 0);
        halls.turn(at(3));
        assert!(halls.told().is_empty(), "nothing was said");
        halls.count(1, 7);
        halls.turn(at(9));
        assert!(halls.told().is_empty(), "nothing was said for long");
    }

    #[test]
    fn a_window_is_ranked_and_forgotten_a_little_in_each_turn() {
        const CHANNELS: usize = 3 * RANKED_TURN_MAX;
        let mut halls = Halls { busiest: Busiest::default(), shown: BTreeMap::new() };
        let at = |windows: u32| Monotonic::default().plus(RATE_WINDOW * windows);
        (0..CHANNELS).for_each(|number| halls.count(number, 1));
        for left in [2, 1, 0] {
            halls.turn(at(1));
            assert_eq!(halls.busiest.unranked.len(), left * RANKED_TURN_MAX);
            assert_eq!(halls.told().is_empty(), left > 0, "a ranking is told when it is complete");
        }
        halls.count(0, 5);
        halls.turn(at(2));
        assert_eq!(halls.told(), [(5, channel(0))]);
        for left in [2, 1, 0] {
            halls.turn(at(2));
            assert_eq!(halls.busiest.retired.len(), left * RANKED_TURN_MAX);
        }
    }

    #[test]
    fn channels_beyond_those_that_are_ranked_are_left_out() {
        let mut busiest = Busiest::default();
        for number in 0..RANKED_MAX + 10 {
            busiest.count(&channel(number), &mut Shown::default(), 1);
        }
        assert_eq!(busiest.present.len(), RANKED_MAX);
    }
}
