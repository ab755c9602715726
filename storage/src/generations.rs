//! A cache of two generations. New and used entries are in the young one. When it is full, it becomes the old one, and
//! what is left in the old one is dropped: the entries that were unused for longest. That costs a hash table more than a
//! list in order of use, and nothing for each entry.

use std::collections::HashMap;
use std::hash::Hash;

/// See the file's head.
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
    keep: fn(&V) -> bool,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// An empty cache. It has at most `generation_max` entries in each generation, and in the young one also those
    /// values that may not be dropped: `keep` says it of a value. It must be false for all but a few values at a time.
    pub fn new(generation_max: usize, keep: fn(&V) -> bool) -> Self {
        assert!(generation_max > 0, "a cache has room for something");
        Self { young: HashMap::new(), old: HashMap::new(), generation_max, keep }
    }

    /// The value of a key, if it is cached. The entry has been used: it is young now.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Caches a value, in place of the one that the key had.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_max {
            self.begin_generation();
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn begin_generation(&mut self) {
        let keep = self.keep;
        let kept: HashMap<K, V> = self.old.drain().filter(|(_, value)| keep(value)).collect();
        self.old = std::mem::replace(&mut self.young, kept);
        debug_assert!(self.young.keys().all(|key| !self.old.contains_key(key)), "an entry is in one generation");
    }

    /// Drops the entry of a key.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Drops the entries whose keys are not wanted. Looks at all keys.
    pub fn retain(&mut self, wanted: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| wanted(key));
        self.old.retain(|key, _| wanted(key));
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        (self.young, self.old) = (HashMap::new(), HashMap::new());
    }

    /// How many entries are cached.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers up to 9 may not be dropped.
    fn cache() -> Generations<u32, u32> {
        Generations::new(3, |value| *value < 10)
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_dropped() {
        let mut cache = cache();
        for number in 10..100 {
            assert_eq!(cache.get(&number), None, "{number}");
            cache.insert(number, number);
            assert_eq!(cache.get(&10), Some(&10), "{number}: it is used all the time");
            assert!(cache.len() <= 6, "{} entries", cache.len());
        }
        assert_eq!(cache.get(&99), Some(&99));
        assert_eq!(cache.get(&90), None);
    }

    #[test]
    fn an_entry_lives_through_a_whole_generation() {
        let mut cache = cache();
        for number in 10..16 {
            cache.insert(number, number);
        }
        assert_eq!(cache.len(), 6);
        cache.insert(16, 16);
        assert_eq!(cache.len(), 4, "10 to 12 are dropped");
        assert_eq!((10..17).filter(|number| cache.get(number).is_some()).collect::<Vec<_>>(), [13, 14, 15, 16]);
    }

    #[test]
    fn what_must_be_kept_is_never_dropped() {
        let mut cache = cache();
        for number in 0..4 {
            cache.insert(number, number);
        }
        for number in 10..100 {
            cache.insert(number, number);
            assert!(cache.len() <= 6 + 4, "{} entries", cache.len());
        }
        assert_eq!((0..4).filter(|number| cache.get(number).is_some()).count(), 4);
    }

    #[test]
    fn a_new_value_replaces_the_old_in_either_generation() {
        let mut cache = cache();
        for number in 10..14 {
            cache.insert(number, number);
        }
        cache.insert(10, 77);
        cache.insert(13, 78);
        assert_eq!((cache.get(&10).copied(), cache.len()), (Some(77), 4));
        assert_eq!(cache.get(&13), Some(&78));
    }

    /// If dropped entries still counted, the next generation would begin too early.
    #[test]
    fn entries_that_are_dropped_make_room() {
        let mut cache = cache();
        for number in 10..16 {
            cache.insert(number, number);
        }
        cache.retain(|number| number % 2 == 0);
        assert_eq!(cache.len(), 3);
        cache.insert(20, 20);
        cache.insert(22, 22);
        assert_eq!(cache.len(), 5, "10, 12, 14, 20 and 22");
        cache.clear();
        assert!(cache.is_empty());
    }
}
