//! What was seen before, forgotten by age: a bounded map without a clock.

use std::collections::BTreeMap;

/// What two generations of a map remember: the older is forgotten whole. The age of what
/// is remembered is between one and two turns.
#[derive(Debug)]
pub struct Aging<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    turn_ms: u64,
    count_max: usize,
    turned_ms: u64,
}

impl<K: Ord + Copy, V: Copy> Aging<K, V> {
    /// A map of generations of `turn_ms` milliseconds and `count_max` keys at most.
    #[must_use]
    pub const fn new(turn_ms: u64, count_max: usize) -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), turn_ms, count_max, turned_ms: 0 }
    }

    /// Forgets what is old by now, in milliseconds of any clock that does not go back.
    pub fn age(&mut self, now_ms: u64) {
        let since = now_ms.saturating_sub(self.turned_ms);
        if since >= self.turn_ms {
            // After a pause of two turns the young are old, too.
            let is_long = since >= self.turn_ms.saturating_mul(2);
            self.turned_ms = now_ms;
            self.old = std::mem::take(&mut self.young);
            if is_long {
                self.old.clear();
            }
        }
    }

    /// What is remembered of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Adds a key; whether it is new. What is remembered of a known key stays.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        if self.get(&key).is_some() {
            return false;
        }
        if self.young.len() >= self.count_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
        true
    }

    /// Forgets a key, so that it counts as new again.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_one_turn_at_least_and_two_at_most() {
        let mut aging = Aging::new(100, 1_000);
        aging.age(1_000);
        assert!(aging.insert(1, 'a'));
        assert!(!aging.insert(1, 'b'), "it is known");
        aging.age(1_099);
        aging.age(1_100);
        assert_eq!(aging.get(&1), Some('a'), "one turn later, with what was said first");
        aging.age(1_200);
        assert_eq!(aging.get(&1), None);
        assert!(aging.insert(2, 'a'));
        aging.age(9_000);
        assert_eq!(aging.get(&2), None, "a long pause makes all of it old");
        assert!(aging.insert(3, 'a'));
        aging.remove(&3);
        assert!(aging.insert(3, 'a'));
    }

    #[test]
    fn holds_two_generations_of_keys_at_most() {
        let mut aging = Aging::new(u64::MAX, 10);
        for key in 0..1_000 {
            assert!(aging.insert(key, ()));
            assert!(aging.young.len() + aging.old.len() <= 20);
            assert!(aging.get(&key).is_some());
        }
    }
}
