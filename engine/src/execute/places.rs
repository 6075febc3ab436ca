//! Where the slot of a key is: a table with open addressing over a list of slots.
//!
//! Only looked into, never walked, so that nothing follows from its order: what is walked is
//! the list, which is in the order in which the keys were first asked for. Which place a key
//! is tried at first follows from the key and a seed. Whoever chooses keys does not know the
//! seed, the id of a block that is not yet made; and if they did, a block's bounds leave
//! them some ten thousand keys, which is slow, but no more.

use crate::state::Key;

/// Empty places are as many as full ones at least.
const PLACES_MIN: usize = 64;
const EMPTY: u32 = u32::MAX;

/// Numbers of slots by key.
#[derive(Debug)]
pub(super) struct Places {
    seed: u64,
    /// A power of two many.
    places: Vec<u32>,
    used: usize,
}

impl Places {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, places: vec![EMPTY; PLACES_MIN], used: 0 }
    }

    /// The bits of a place: there are a power of two many.
    fn mask(&self) -> usize {
        self.places.len().saturating_sub(1)
    }

    fn first(&self, key: &Key) -> usize {
        // Mixed by products that wrap, as hash functions do; the low bits mix least.
        let (words, _) = key.0.as_chunks::<8>();
        let mixed = words.iter().fold(self.seed, |sum, word| {
            (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        });
        usize::try_from((mixed >> 24) & self.mask() as u64).unwrap_or(0)
    }

    /// The slot of a key; `key_of` gives the key of a slot.
    pub(super) fn find(&self, key: &Key, key_of: impl Fn(u32) -> Option<Key>) -> Option<u32> {
        let mut at = self.first(key);
        loop {
            let slot = *self.places.get(at)?;
            if slot == EMPTY {
                return None;
            }
            if key_of(slot).as_ref() == Some(key) {
                return Some(slot);
            }
            at = at.wrapping_add(1) & self.mask();
        }
    }

    /// Makes room for as many keys more.
    pub(super) fn reserve(&mut self, count: usize, key_of: impl Fn(u32) -> Option<Key>) {
        let wanted = self.used.saturating_add(count).saturating_mul(2);
        if wanted <= self.places.len() {
            return;
        }
        let larger = vec![EMPTY; wanted.checked_next_power_of_two().unwrap_or(wanted)];
        let old = std::mem::replace(&mut self.places, larger);
        for slot in old.into_iter().filter(|slot| *slot != EMPTY) {
            if let Some(key) = key_of(slot) {
                self.put(&key, slot);
            }
        }
    }

    /// Notes the slot of a key that has none yet.
    pub(super) fn insert(&mut self, key: &Key, slot: u32, key_of: impl Fn(u32) -> Option<Key>) {
        self.reserve(1, key_of);
        self.used = self.used.saturating_add(1);
        self.put(key, slot);
    }

    fn put(&mut self, key: &Key, slot: u32) {
        let mut at = self.first(key);
        while let Some(place) = self.places.get_mut(at) {
            if *place == EMPTY {
                *place = slot;
                return;
            }
            at = at.wrapping_add(1) & self.mask();
        }
    }
}
