//! Decompressed keys of recent signers. Decompressing takes about a third of a
//! batched verification; what the cache holds never changes what is accepted.

use std::sync::{Mutex, PoisonError};

use curve25519_dalek::edwards::EdwardsPoint;

use super::PublicKey;

/// Keys of a set: with fewer, more of those that would fit push one another out.
const SET_KEYS: usize = 4;

/// A bounded cache of negated points for any number of threads, each key in the one set that its
/// bytes choose. A set takes memory once a key is in it.
#[derive(Debug)]
pub struct KeyCache {
    /// A power of two many.
    sets: Vec<Mutex<Vec<(PublicKey, EdwardsPoint)>>>,
}

impl KeyCache {
    /// A cache for at least `keys` keys, 200 bytes each.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        let count = keys.div_ceil(SET_KEYS).next_power_of_two();
        Self { sets: (0..count).map(|_| Mutex::default()).collect() }
    }

    /// The negated point of a key; none if it is not the encoding of a point.
    pub(super) fn negated_point(&self, key: &PublicKey) -> Option<EdwardsPoint> {
        // The low bits of a point's y are as good as random, and who grinds them only evicts.
        let bytes = key.0.first_chunk::<8>().copied().unwrap_or_default();
        let number = usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        let [.., last] = bytes;
        let mask = self.sets.len().saturating_sub(1);
        let Some(set) = self.sets.get(number & mask) else { return key.point().map(|p| -p) };
        let lock = || set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, point)) = lock().iter().find(|(known, _)| known == key) {
            return Some(*point);
        }
        let point = -key.point()?;
        let mut known = lock();
        if known.len() < SET_KEYS {
            known.push((*key, point));
        } else if let Some(other) = known.get_mut(usize::from(last) % SET_KEYS) {
            *other = (*key, point);
        }
        Some(point)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::crypto::SecretKey;

    #[test]
    fn it_gives_what_decompressing_gives_and_keeps_no_more_than_it_may() {
        let keys: Vec<PublicKey> =
            (0..200).map(|n| SecretKey::from_seed([n; 32]).public_key()).collect();
        let cache = KeyCache::new(16);
        let kept = || -> usize { cache.sets.iter().map(|set| set.lock().unwrap().len()).sum() };
        for key in keys.iter().chain(&keys) {
            assert_eq!(cache.negated_point(key), key.point().map(|point| -point));
            // Whoever came last is known.
            assert!(cache.sets.iter().any(|set| set.lock().unwrap().iter().any(|(k, _)| k == key)));
        }
        assert_eq!(kept(), 16);
        let mut others = (0..=255).map(|n| PublicKey([n; 32]));
        let no_point = others.find(|key| key.point().is_none()).unwrap();
        assert_eq!((cache.negated_point(&no_point), kept()), (None, 16));
    }
}
