//! Numbers of keys that were asked for lately.
//!
//! A key keeps its number for ever, so that nothing here is ever out of date: what is
//! cached cannot differ from what is stored. Absence is not cached.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ait_engine::state::Key;

/// Parts with a lock each, so that readers seldom meet.
const PART_COUNT: usize = 64;
/// Places in all, of 40 bytes each: at least, and at most.
const PLACES_MIN: u64 = 1 << 12;
const PLACES_MAX: u64 = 1 << 21;

/// A place is empty while it holds the sentinel's key, which nobody asks for.
type Place = (Key, u64);

/// A bounded cache, each key in the one place that its bytes choose.
pub(super) struct Numbers {
    parts: Vec<Mutex<Vec<Place>>>,
}

impl Numbers {
    /// A cache for a state of about this many entries.
    pub(super) fn new(entry_count: u64) -> Self {
        let places = entry_count.saturating_mul(2).clamp(PLACES_MIN, PLACES_MAX);
        let places = usize::try_from(places.next_power_of_two()).unwrap_or(PART_COUNT);
        let part = || Mutex::new(vec![(Key::SENTINEL, 0); places / PART_COUNT]);
        Self { parts: (0..PART_COUNT).map(|_| part()).collect() }
    }

    /// The part and the place in it. The last bytes of every key are those of a hash; who
    /// grinds them only puts others out.
    fn place(&self, key: &Key) -> Option<(MutexGuard<'_, Vec<Place>>, usize)> {
        let bytes = key.0.last_chunk::<8>()?;
        let bits = usize::try_from(u64::from_le_bytes(*bytes) & u64::from(u32::MAX)).ok()?;
        let part = self.parts.get(bits % PART_COUNT)?;
        let part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (bits / PART_COUNT).checked_rem(part.len())?;
        Some((part, at))
    }

    pub(super) fn get(&self, key: &Key) -> Option<u64> {
        let (part, at) = self.place(key)?;
        part.get(at).filter(|(found, number)| found == key && *number > 0).map(|place| place.1)
    }

    pub(super) fn put(&self, key: &Key, number: u64) {
        if let Some((mut part, at)) = self.place(key)
            && let Some(place) = part.get_mut(at)
        {
            *place = (*key, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn gives_what_was_put_or_nothing() {
        let numbers = Numbers::new(0);
        assert_eq!(numbers.get(&Key::SENTINEL), None);
        for n in 1..=100_000 {
            assert_eq!(numbers.get(&key(n)), None);
            numbers.put(&key(n), n);
            assert_eq!(numbers.get(&key(n)), Some(n));
        }
        let kept = (1..=100_000).filter(|n| {
            let found = numbers.get(&key(*n));
            assert!(found.is_none_or(|found| found == *n));
            found.is_some()
        });
        let kept = kept.count() as u64;
        assert!(kept > PLACES_MIN / 2 && kept <= PLACES_MIN, "{kept}");
    }
}
