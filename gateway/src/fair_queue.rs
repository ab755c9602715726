//! A bounded queue that clients share fairly, for work that is worth waiting for.
//!
//! Who puts work in is known by a *lane* and, within the lane, by a *track*: for sign-ins a network, and an account
//! within the network. The lanes take turns, and within a lane its tracks do. So work waits only for the work under
//! way, for one piece of each other lane, and for what waits before it in its own lane.
//!
//! Nothing is refused while there is room. When there is none, the lane that has most waiting gives way to a lane that
//! has less, and within a lane the track that has most waiting gives way: its newest work is handed back. If work comes
//! for the very lane and track that have most, this work is handed back. So one lane cannot keep the others out, however
//! much it asks for.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Work of type `T` by lane `L` and track `K`. Taking takes constant time. Putting takes constant time while there is
/// room, and otherwise time in the number of lanes and of tracks in one lane, which are at most as many as the places.
pub struct FairQueue<L, K, T> {
    places_max: usize,
    lanes: Turns<L, Lane<K, T>>,
    len: usize,
}

/// The work of one lane.
struct Lane<K, T> {
    tracks: Turns<K, VecDeque<T>>,
    len: usize,
}

impl<L: Clone + Eq + Hash, K: Clone + Eq + Hash, T> FairQueue<L, K, T> {
    /// A queue with so many places.
    pub fn new(places_max: usize) -> Self {
        assert!(places_max > 0, "a queue has a place");
        Self { places_max, lanes: Turns::default(), len: 0 }
    }

    /// How much work waits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no work waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts work behind what waits on the same track. Returns the work that finds no place, if the queue is full: this
    /// work or the newest of the track that has most waiting.
    #[must_use]
    pub fn put(&mut self, lane: L, track: K, work: T) -> Option<T> {
        let mut displaced = None;
        if self.len >= self.places_max {
            match self.displace_for(&lane, &track) {
                Some(other) => displaced = Some(other),
                None => return Some(work),
            }
        }
        let lane = self.lanes.get_or_insert_with(lane, Lane::default);
        lane.tracks.get_or_insert_with(track, VecDeque::new).push_back(work);
        lane.len += 1;
        self.len += 1;
        assert!(self.len <= self.places_max, "{} wait in {} places", self.len, self.places_max);
        displaced
    }

    /// Takes the oldest work of the track whose turn it is, in the lane whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let (name, mut lane) = self.lanes.take_first()?;
        let work = lane.take();
        assert!(work.is_some(), "a lane in the queue has work");
        self.len -= work.iter().len();
        if lane.len > 0 {
            self.lanes.put_last(name, lane);
        }
        work
    }

    /// Makes room for work of this lane and track. Returns `None` if no other lane or track has more work
    /// waiting than this one.
    fn displace_for(&mut self, lane: &L, track: &K) -> Option<T> {
        let waiting = self.lanes.get(lane).map_or(0, |lane| lane.len);
        let (longest, most) = self.lanes.greatest(|lane| lane.len)?;
        // With one piece less, the longest lane must still have as much as this lane with one more. Otherwise two lanes
        // would displace each other's work in turns.
        let from = if most > waiting + 1 { longest.clone() } else { lane.clone() };
        let own_track = (from == *lane).then_some(track);
        let lane = self.lanes.get_mut(&from)?;
        let displaced = lane.displace_for(own_track)?;
        let is_empty = lane.len == 0;
        if is_empty {
            self.lanes.remove(&from);
        }
        self.len -= 1;
        Some(displaced)
    }
}

impl<K, T> Default for Lane<K, T> {
    fn default() -> Self {
        Self { tracks: Turns::default(), len: 0 }
    }
}

impl<K: Clone + Eq + Hash, T> Lane<K, T> {
    fn take(&mut self) -> Option<T> {
        let (name, mut track) = self.tracks.take_first()?;
        let work = track.pop_front();
        assert!(work.is_some(), "a track in its lane has work");
        self.len -= work.iter().len();
        if !track.is_empty() {
            self.tracks.put_last(name, track);
        }
        work
    }

    /// Takes the newest work of the track that has most waiting. If the room is for a track of this lane, that other
    /// track must have more waiting than the track.
    fn displace_for(&mut self, own: Option<&K>) -> Option<T> {
        let waiting = own.and_then(|own| self.tracks.get(own)).map_or(0, VecDeque::len);
        let (longest, most) = self.tracks.greatest(VecDeque::len)?;
        if own.is_some() && most <= waiting + 1 {
            return None;
        }
        let longest = longest.clone();
        let track = self.tracks.get_mut(&longest)?;
        let displaced = track.pop_back();
        if track.is_empty() {
            self.tracks.remove(&longest);
        }
        self.len -= displaced.iter().len();
        displaced
    }
}

/// Values by name, which take turns.
struct Turns<N, V> {
    values: HashMap<N, V>,
    /// The names of all values, each once, in the order of their turns.
    order: VecDeque<N>,
}

impl<N, V> Default for Turns<N, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<N: Clone + Eq + Hash, V> Turns<N, V> {
    fn get(&self, name: &N) -> Option<&V> {
        self.values.get(name)
    }

    fn get_mut(&mut self, name: &N) -> Option<&mut V> {
        self.values.get_mut(name)
    }

    fn get_or_insert_with(&mut self, name: N, make: impl FnOnce() -> V) -> &mut V {
        if !self.values.contains_key(&name) {
            self.order.push_back(name.clone());
        }
        self.values.entry(name).or_insert_with(make)
    }

    fn take_first(&mut self) -> Option<(N, V)> {
        let name = self.order.pop_front()?;
        let value = self.values.remove(&name)?;
        Some((name, value))
    }

    fn put_last(&mut self, name: N, value: V) {
        self.order.push_back(name.clone());
        let before = self.values.insert(name, value);
        assert!(before.is_none(), "a name has one turn");
    }

    fn remove(&mut self, name: &N) {
        self.values.remove(name);
        self.order.retain(|other| other != name);
        assert_eq!(self.order.len(), self.values.len(), "each value has one turn");
    }

    /// The name of the value that measures most, and its measure.
    fn greatest(&self, measure: impl Fn(&V) -> usize) -> Option<(&N, usize)> {
        self.order.iter().filter_map(|name| Some((name, measure(self.values.get(name)?)))).max_by_key(|(_, size)| *size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Queue = FairQueue<char, u8, String>;

    /// Puts work named after its lane, track and number.
    fn put(queue: &mut Queue, lane: char, track: u8, number: usize) -> Option<String> {
        queue.put(lane, track, format!("{lane}{track}.{number}"))
    }

    fn taken(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn lanes_take_turns_and_tracks_within_them() {
        let mut queue = Queue::new(100);
        for (lane, track, count) in [('a', 1, 3), ('a', 2, 1), ('b', 1, 2)] {
            (0..count).for_each(|number| assert_eq!(put(&mut queue, lane, track, number), None));
        }
        assert_eq!(queue.len(), 6);
        assert_eq!(taken(&mut queue), ["a1.0", "b1.0", "a2.0", "b1.1", "a1.1", "a1.2"]);
        assert!(queue.is_empty() && queue.lanes.order.is_empty());
    }

    #[test]
    fn one_lane_alone_is_a_queue_like_any_other() {
        let mut queue = Queue::new(3);
        (0..3).for_each(|number| assert_eq!(put(&mut queue, 'a', 1, number), None));
        assert_eq!(put(&mut queue, 'a', 1, 3).as_deref(), Some("a1.3"), "full");
        assert_eq!(taken(&mut queue), ["a1.0", "a1.1", "a1.2"]);
        let mut queue = Queue::new(3);
        (0..3).for_each(|track| assert_eq!(put(&mut queue, 'a', track, 0), None));
        assert_eq!(put(&mut queue, 'a', 3, 0).as_deref(), Some("a3.0"), "nobody has more than one");
    }

    #[test]
    fn the_lane_with_most_gives_way_and_its_newest_work_first() {
        let mut queue = Queue::new(4);
        (0..4).for_each(|number| assert_eq!(put(&mut queue, 'a', 1, number), None));
        assert_eq!(put(&mut queue, 'b', 1, 0).as_deref(), Some("a1.3"));
        assert_eq!(put(&mut queue, 'a', 1, 4).as_deref(), Some("a1.4"), "it has most itself");
        assert_eq!(put(&mut queue, 'b', 1, 1).as_deref(), Some("a1.2"));
        assert_eq!(put(&mut queue, 'b', 1, 2).as_deref(), Some("b1.2"), "the shares are equal");
        assert_eq!(put(&mut queue, 'c', 1, 0).as_deref(), Some("b1.1"), "the shares of others are greater by two");
        assert_eq!(put(&mut queue, 'd', 1, 0).as_deref(), Some("a1.1"));
        assert_eq!(put(&mut queue, 'e', 1, 0).as_deref(), Some("e1.0"), "every lane has one");
        assert_eq!(taken(&mut queue), ["a1.0", "b1.0", "c1.0", "d1.0"]);
    }

    #[test]
    fn within_a_lane_the_track_with_most_gives_way() {
        let mut queue = Queue::new(4);
        (0..4).for_each(|number| assert_eq!(put(&mut queue, 'a', 1, number), None));
        assert_eq!(put(&mut queue, 'a', 2, 0).as_deref(), Some("a1.3"), "the account of another user");
        assert_eq!(put(&mut queue, 'a', 1, 4).as_deref(), Some("a1.4"));
        assert_eq!(queue.take().as_deref(), Some("a1.0"));
        assert_eq!(queue.take().as_deref(), Some("a2.0"), "served before what has waited longer on the longer track");
        assert_eq!(taken(&mut queue), ["a1.1", "a1.2"]);
    }

    proptest! {
        /// Nothing is lost or doubled, the bound holds, and a lane is refused work only if it has as much as any other
        /// may keep.
        #[test]
        fn shares_are_kept(
            steps in prop::collection::vec((prop::char::range('a', 'e'), 0..3_u8, 0..10_u8), 0..300),
        ) {
            let mut queue = Queue::new(8);
            let mut waiting: HashMap<String, char> = HashMap::new();
            for (number, (lane, track, turn)) in steps.into_iter().enumerate() {
                if turn < 3 {
                    let work = queue.take();
                    prop_assert_eq!(work.is_some(), !waiting.is_empty());
                    if let Some(work) = work {
                        prop_assert!(waiting.remove(&work).is_some());
                    }
                    continue;
                }
                let work = format!("{lane}{track}.{number}");
                waiting.insert(work.clone(), lane);
                if let Some(refused) = queue.put(lane, track, work.clone()) {
                    let count = |lane| waiting.values().filter(|other| **other == lane).count();
                    let most = ('a'..='e').map(count).max().unwrap_or(0);
                    let refused_lane = waiting[&refused];
                    prop_assert!(count(refused_lane) + 1 >= most, "{refused} went although another lane has {most}");
                    prop_assert_eq!(waiting.len(), 9, "the queue was full");
                    waiting.remove(&refused);
                }
                prop_assert_eq!(queue.len(), waiting.len());
                prop_assert!(queue.len() <= 8);
            }
            let rest = std::iter::from_fn(|| queue.take()).count();
            prop_assert_eq!(rest, waiting.len());
        }
    }
}
