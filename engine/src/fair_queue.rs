//! A bounded queue that clients share fairly, for work that is worth waiting for.
//!
//! Who puts work in is known by a path of names, the widest name first: for sign-ins a site, a network of the site, and
//! an account within the network. The sites take turns, within a site its networks do, and within a network its accounts
//! do. So work waits only for the work under way, for one piece of each other site, and for what waits before it within
//! its own site.
//!
//! Nothing is refused while there is room. When there is none, the site that has most waiting gives way to a site that
//! has less. If the work comes from the site that has most, the same holds for its networks, and then for the accounts.
//! What gives way is the newest work of the longest line. If work comes for the very line that is longest, this work is
//! handed back. So one site cannot keep the others out, however much it asks for, and however many names it has.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Work in lines. `L` is `Turns` for each name of a path, around a `VecDeque` for the line.
///
/// Taking takes constant time. Putting takes constant time while there is room, and otherwise time in the number of names
/// beside each name of the path, which are at most as many as the places.
pub struct FairQueue<L> {
    places_max: usize,
    lines: L,
}

impl<L: Lines> FairQueue<L> {
    /// A queue with so many places.
    pub fn new(places_max: usize) -> Self {
        assert!(places_max > 0, "a queue has a place");
        Self { places_max, lines: L::default() }
    }

    /// How much work waits.
    pub fn len(&self) -> usize {
        self.lines.waiting()
    }

    /// Whether no work waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts work behind what waits in the same line. Returns the work that finds no place, if the queue is full: this
    /// work, or the newest of a longer line.
    #[must_use]
    pub fn put(&mut self, path: L::Path, work: L::Work) -> Option<L::Work> {
        let (mut displaced, before) = (None, self.len());
        if before >= self.places_max {
            match self.lines.displace(Some(&path)) {
                Some(other) => displaced = Some(other),
                None => return Some(work),
            }
        }
        self.lines.put(path, work);
        assert!(self.len() <= self.places_max.max(before), "{} wait in {} places", self.len(), self.places_max);
        displaced
    }

    /// Puts work that was taken and is not finished at the end of its line again, even if its place was given away
    /// meanwhile. So the queue may have more work than places: at most as much as was taken and not finished.
    pub fn put_back(&mut self, path: L::Path, work: L::Work) {
        self.lines.put(path, work);
    }

    /// Takes the oldest work of the line whose turn it is.
    pub fn take(&mut self) -> Option<L::Work> {
        self.lines.take()
    }
}

impl<N: Clone + Eq + Hash, T> FairQueue<Turns<N, VecDeque<T>>> {
    /// Takes the newest work of this name's line, if there is any.
    pub fn take_newest(&mut self, name: &N) -> Option<T> {
        let newest = self.lines.lines.get_mut(name)?.pop_back();
        self.lines.take_away(name, newest)
    }
}

/// One line of work, or several that take turns.
pub trait Lines: Default {
    /// The names that lead to a line.
    type Path;
    /// What waits.
    type Work;

    /// How much work waits.
    fn waiting(&self) -> usize;

    /// Puts work at the end of the path's line.
    fn put(&mut self, path: Self::Path, work: Self::Work);

    /// Takes the oldest work of the line whose turn it is.
    fn take(&mut self) -> Option<Self::Work>;

    /// Takes the newest work of the longest line. If the room is for work of the path `own`, some other line must have
    /// more waiting; otherwise returns `None`.
    fn displace(&mut self, own: Option<&Self::Path>) -> Option<Self::Work>;
}

/// A single line.
impl<T> Lines for VecDeque<T> {
    type Path = ();
    type Work = T;

    fn waiting(&self) -> usize {
        self.len()
    }

    fn put(&mut self, (): (), work: T) {
        self.push_back(work);
    }

    fn take(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn displace(&mut self, own: Option<&()>) -> Option<T> {
        if own.is_some() { None } else { self.pop_back() }
    }
}

/// Lines by name, which take turns.
pub struct Turns<N, L> {
    lines: HashMap<N, L>,
    /// The names of all lines, each once, in the order of their turns.
    order: VecDeque<N>,
    waiting: usize,
}

impl<N, L> Default for Turns<N, L> {
    fn default() -> Self {
        Self { lines: HashMap::new(), order: VecDeque::new(), waiting: 0 }
    }
}

impl<N: Clone + Eq + Hash, L: Lines> Lines for Turns<N, L> {
    type Path = (N, L::Path);
    type Work = L::Work;

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn put(&mut self, (name, path): Self::Path, work: L::Work) {
        if !self.lines.contains_key(&name) {
            self.order.push_back(name.clone());
        }
        self.lines.entry(name).or_default().put(path, work);
        self.waiting += 1;
    }

    fn take(&mut self) -> Option<L::Work> {
        let name = self.order.pop_front()?;
        let lines = self.lines.get_mut(&name)?;
        let work = lines.take();
        if lines.waiting() > 0 {
            self.order.push_back(name);
        } else {
            self.lines.remove(&name);
        }
        self.waiting -= work.iter().len();
        work
    }

    fn displace(&mut self, own: Option<&Self::Path>) -> Option<L::Work> {
        let (longest, most) = self.longest()?;
        // Displace only if the longest line is at least two pieces longer than this one. With a smaller difference the two
        // lines would displace each other in turns.
        let (name, own) = match own {
            Some((name, path)) if most <= self.lines.get(name).map_or(0, L::waiting) + 1 => (name.clone(), Some(path)),
            _ => (longest.clone(), None),
        };
        let displaced = self.lines.get_mut(&name)?.displace(own);
        self.take_away(&name, displaced)
    }
}

impl<N: Eq + Hash, L: Lines> Turns<N, L> {
    /// This work was taken from the lines of a name, out of turn.
    fn take_away(&mut self, name: &N, work: Option<L::Work>) -> Option<L::Work> {
        if self.lines.get(name).is_some_and(|lines| lines.waiting() == 0) {
            self.lines.remove(name);
            self.order.retain(|other| other != name);
        }
        self.waiting -= work.iter().len();
        work
    }
}

impl<N: Eq + Hash, L: Lines> Turns<N, L> {
    /// The name that has most waiting, and how much that is.
    fn longest(&self) -> Option<(&N, usize)> {
        let lines = self.order.iter().filter_map(|name| Some((name, self.lines.get(name)?.waiting())));
        lines.max_by_key(|(_, waiting)| *waiting)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each lane has tracks.
    type Queue = FairQueue<Turns<char, Turns<u8, VecDeque<String>>>>;

    /// Puts work named after its lane, track and number.
    fn put(queue: &mut Queue, lane: char, track: u8, number: usize) -> Option<String> {
        queue.put((lane, (track, ())), format!("{lane}{track}.{number}"))
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
        assert!(queue.is_empty() && queue.lines.order.is_empty());
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
    fn unfinished_work_comes_back_to_a_full_queue() {
        let mut queue = Queue::new(3);
        (0..3).for_each(|number| assert_eq!(put(&mut queue, 'a', 1, number), None));
        assert_eq!(queue.take().as_deref(), Some("a1.0"));
        assert_eq!(put(&mut queue, 'a', 1, 3), None);
        queue.put_back(('a', (1, ())), "a1.0".into());
        assert_eq!(queue.len(), 4);
        assert_eq!(put(&mut queue, 'a', 1, 4).as_deref(), Some("a1.4"), "no more work is let in");
        assert_eq!(put(&mut queue, 'b', 1, 0).as_deref(), Some("a1.0"));
        assert_eq!(taken(&mut queue), ["a1.1", "b1.0", "a1.2", "a1.3"]);
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
                if let Some(refused) = queue.put((lane, (track, ())), work.clone()) {
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
