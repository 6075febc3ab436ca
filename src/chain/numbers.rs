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

impl Line {
    fn hints(&self) -> [u64; 8] {
        self.0.each_ref().map(|place| place.load(Ordering::Relaxed))
    }
}

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

    /// The line of a key, the one beside it, and its bits in a hint. The last bytes of every key
    /// are those of a hash; who grinds them only puts others out.
    fn lines(&self, key: &Key) -> Option<([&Line; 2], u64)> {
        let bits = u64::from_le_bytes(*key.0.last_chunk::<8>()?);
        let mask = (self.lines.len() as u64).checked_sub(1)?;
        let own = usize::try_from(bits & mask).ok()?;
        // A processor often reads lines in pairs.
        let lines = [self.lines.get(own)?, self.lines.get(own ^ 1)?];
        Some((lines, bits & !NUMBER_MASK))
    }

    /// Numbers that may be the key's; mostly one or none.
    pub(super) fn candidates(&self, key: &Key) -> impl Iterator<Item = u64> {
        let found = self.lines(key).into_iter();
        found.flat_map(|([own, beside], bits)| {
            let own = own.hints();
            // No hint is ever taken away: with room in its own line the key has none beside it.
            let beside = (!own.contains(&0)).then(|| beside.hints());
            let fits = move |hint: &u64| *hint != 0 && *hint & !NUMBER_MASK == bits;
            let hints = own.into_iter().chain(beside.into_iter().flatten());
            hints.filter(fits).map(|hint| hint & NUMBER_MASK)
        })
    }

    /// Reads a word of the key's line, and waits for nothing else.
    pub(super) fn touch(&self, key: &Key) -> u64 {
        let line = self.lines(key).and_then(|([own, _], _)| own.0.first());
        line.map_or(0, |place| place.load(Ordering::Relaxed))
    }

    /// Keeps the number of a key.
    pub(super) fn put(&self, key: &Key, number: u64) {
        let Some((lines, bits)) = self.lines(key).filter(|_| number & !NUMBER_MASK == 0) else {
            return;
        };
        let hint = bits | number;
        let find = |wanted: u64| {
            let mut places = lines.iter().flat_map(|line| &line.0);
            places.find(|place| place.load(Ordering::Relaxed) == wanted)
        };
        if hint == 0 || find(hint).is_some() {
            return;
        }
        // Where both lines are full, the key's own loses the hint whose place the number chooses.
        let unlucky = usize::try_from(number % 8).ok().and_then(|at| lines[0].0.get(at));
        if let Some(place) = find(0).or(unlucky) {
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

    /// With much room, and as full as ten million entries make the greatest cache.
    #[test]
    fn with_room_for_all_it_keeps_nearly_all() {
        for (entries, count) in [(100_000, 100_000), (100_000, 156_000)] {
            let numbers = Numbers::new(entries);
            (1..=count).for_each(|n| numbers.put(&key(n), n));
            let has = |n: &u64| numbers.candidates(&key(*n)).any(|number| number == *n);
            let lost = (1..=count).filter(|n| !has(n)).count();
            // In lines of their own alone a fiftieth of the latter would have no room.
            assert!((lost as u64) * 200 < count, "{lost} of {count}");
        }
    }

    #[test]
    fn a_number_beyond_a_hint_is_not_kept() {
        let numbers = Numbers::new(0);
        numbers.put(&key(1), 1 << NUMBER_BITS);
        assert_eq!(numbers.candidates(&key(1)).count(), 0);
    }
}
