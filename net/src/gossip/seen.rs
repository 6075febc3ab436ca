//! What was seen before: a bounded set that forgets the oldest.

use std::collections::BTreeSet;

/// A set of the last keys. Holds at least `count` of them and at most twice as many: two
/// generations, of which the older is forgotten whole.
#[derive(Debug, Clone)]
pub struct Seen<K> {
    count: usize,
    young: BTreeSet<K>,
    old: BTreeSet<K>,
}

impl<K: Ord> Seen<K> {
    /// A set that remembers the last `count` keys at least.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count: count.max(1), young: BTreeSet::new(), old: BTreeSet::new() }
    }

    /// Adds a key; whether it is new.
    pub fn insert(&mut self, key: K) -> bool {
        if self.contains(&key) {
            return false;
        }
        self.young.insert(key);
        if self.young.len() >= self.count {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }

    /// Whether the key is remembered.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.young.contains(key) || self.old.contains(key)
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
    fn remembers_at_least_the_last_and_is_bounded() {
        let mut seen = Seen::new(100);
        for key in 0..10_000_u32 {
            assert!(seen.insert(key));
            assert!(!seen.insert(key));
            assert!(seen.contains(&key.saturating_sub(99)));
            assert!(seen.young.len() + seen.old.len() <= 200);
        }
        assert!(!seen.contains(&0));
        seen.remove(&9_999);
        assert!(seen.insert(9_999));
    }
}
