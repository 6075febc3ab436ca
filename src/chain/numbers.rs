//! Numbers of keys that were asked for lately.
//!
//! A key keeps its number for ever. What is kept are hints: a number and a few bits of the
//! key, eight to a line of the processor's cache. Whoever takes one looks at the leaf of that
//! number, which has the key. So no lock is needed, and nothing here can be wrong for long.

use std::sync::atomic::{AtomicU64, Ordering};

use ait_engine::state::Key;

/// Hints in all, of 8 bytes each: at least, and at most.
const HINTS_MIN: u64 = 1 << 14;
const HINTS_MAX: u64 = 1 << 24;
/// Bits of a hint that are the number; the others are the key's.
const NUMBER_BITS: u32 = 48;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// Hints whose keys share a line. None is 0, because nobody asks for the sentinel, number 0.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// A bounded cache of hints.
#[derive(Debug)]
pub(super) struct Numbers {
    /// A power of two many.
    lines: Vec<Line>,
}

impl Numbers {
    /// A cache for a state of about this many entries.
    pub(super) fn new(entry_count: u64) -> Self {
        let hints = entry_count.saturating_mul(2).clamp(HINTS_MIN, HINTS_MAX);
        let lines = usize::try_from(hints.next_power_of_two() / 8).unwrap_or(1);
        Self { lines: (0..lines).map(|_| Line::default()).collect() }
    }

    /// The line of a key, and its bits in a hint. The last bytes of every key are those of a
    /// hash; who grinds them only puts others out.
    fn line(&self, key: &Key) -> Option<(&Line, u64)> {
        let bits = u64::from_le_bytes(*key.0.last_chunk::<8>()?);
        let mask = (self.lines.len() as u64).checked_sub(1)?;
        let line = self.lines.get(usize::try_from(bits & mask).ok()?)?;
        Some((line, bits & !NUMBER_MASK))
    }

    /// Numbers that may be the key's; mostly one or none.
    pub(super) fn candidates(&self, key: &Key) -> impl Iterator<Item = u64> {
        let line = self.line(key);
        line.into_iter().flat_map(|(line, bits)| {
            let hints = line.0.iter().map(|place| place.load(Ordering::Relaxed));
            let fits = move |hint: &u64| *hint != 0 && *hint & !NUMBER_MASK == bits;
            hints.filter(fits).map(|hint| hint & NUMBER_MASK)
        })
    }

    /// Reads a word of the key's line, and waits for nothing else.
    pub(super) fn touch(&self, key: &Key) -> u64 {
        self.line(key).and_then(|(line, _)| line.0.first()).map_or(0, |p| p.load(Ordering::Relaxed))
    }

    /// Keeps the number of a key.
    pub(super) fn put(&self, key: &Key, number: u64) {
        let Some((line, bits)) = self.line(key).filter(|_| number & !NUMBER_MASK == 0) else {
            return;
        };
        let hint = bits | number;
        let held = |wanted: u64| line.0.iter().find(|p| p.load(Ordering::Relaxed) == wanted);
        if hint == 0 || held(hint).is_some() {
            return;
        }
        // A full line loses the hint whose place the number chooses.
        let unlucky = usize::try_from(number % 8).ok().and_then(|at| line.0.get(at));
        if let Some(place) = held(0).or(unlucky) {
            place.store(hint, Ordering::Relaxed);
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
    fn gives_what_was_put_as_long_as_there_is_room() {
        let numbers = Numbers::new(0);
        assert_eq!(numbers.candidates(&Key::SENTINEL).count(), 0);
        let has = |n: u64| numbers.candidates(&key(n)).any(|number| number == n);
        for n in 1..=100_000 {
            assert!(!has(n));
            numbers.put(&key(n), n);
            numbers.put(&key(n), n);
            assert!(has(n));
        }
        let kept = (1..=100_000).filter(|n| has(*n)).count() as u64;
        // Few lines have had fewer than eight keys by now.
        assert!(kept > HINTS_MIN * 9 / 10 && kept <= HINTS_MIN, "{kept}");
    }

    #[test]
    fn half_full_it_keeps_nearly_all() {
        let numbers = Numbers::new(100_000);
        (1..=100_000).for_each(|n| numbers.put(&key(n), n));
        let has = |n: &u64| numbers.candidates(&key(*n)).any(|number| number == *n);
        assert!((1..=100_000).filter(has).count() > 99_000);
    }

    #[test]
    fn a_number_beyond_a_hint_is_not_kept() {
        let numbers = Numbers::new(0);
        numbers.put(&key(1), 1 << NUMBER_BITS);
        assert_eq!(numbers.candidates(&key(1)).count(), 0);
    }
}
